//! A daemon's store in a process of its own, which is this program started again: for what belongs to a process, its files and its memory.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use flanneld::store::kube::{KubeAccess, KubeConfig, KubeStore, NodeName};
use flanneld::store::{LeaseStore, PeerEvent, wait_for_lease};
use tokio::sync::mpsc;

use crate::scene::record;

/// The variable that tells what to do; without it this is the test program.
const JOB: &str = "LODEN_TEST_CHILD";
const PREFIX: &str = "LODEN_TEST_PREFIX";
const NET_CONF: &str = "LODEN_TEST_NET_CONF";
const KUBECONFIG: &str = "LODEN_TEST_KUBECONFIG";

/// What such a process does.
#[derive(Clone, Copy)]
pub(crate) enum Job {
    /// Leases and prints the lease.
    Lease,
    /// Leases, waits for the other Nodes and prints their number and by how many KiB the largest memory grew.
    Measure,
}

impl Job {
    const ALL: [(&str, Self); 2] = [("lease", Self::Lease), ("measure", Self::Measure)];

    fn name(self) -> &'static str {
        match self {
            Self::Lease => "lease",
            Self::Measure => "measure",
        }
    }
}

/// Adds to the command that starts this program what the process is told. Without a kubeconfig it is in a pod.
pub(crate) fn tell(command: &mut Command, job: Job, config: &KubeConfig) -> Result<()> {
    let NodeName::Given(node) = &config.access.node else {
        anyhow::bail!("the Node has no name")
    };
    command
        .env(JOB, job.name())
        .env("NODE_NAME", node)
        .env(PREFIX, &config.prefix)
        .env(NET_CONF, &config.net_conf);
    if let Some(path) = &config.access.kubeconfig {
        command.env(KUBECONFIG, path);
    }
    Ok(())
}

/// Does the job that this process was started for, if there is one.
pub(crate) fn main() -> Option<ExitCode> {
    let job = std::env::var(JOB).ok()?;
    let (_, job) = Job::ALL.into_iter().find(|(name, _)| *name == job)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(work(job)));
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    })
}

async fn work(job: Job) -> Result<()> {
    let variable = |name: &str| std::env::var(name).ok();
    let store = KubeStore::new(KubeConfig {
        access: KubeAccess {
            api_url: None,
            kubeconfig: variable(KUBECONFIG).map(PathBuf::from),
            node: NodeName::from_variables(variable)?,
        },
        net_conf: variable(NET_CONF)
            .context("no network configuration")?
            .into(),
        prefix: variable(PREFIX).context("no prefix")?,
        set_condition: false,
    })?;
    let conf = store.net_conf().await?;
    let before = peak()?;
    let lease = wait_for_lease(&store, &conf, &record(1), None).await?;
    let Job::Measure = job else {
        println!("{}", lease.key);
        return Ok(());
    };
    let (events, mut peers) = mpsc::channel(64);
    let count = tokio::select! {
        () = store.watch_peers(events) => 0,
        event = peers.recv() => match event {
            Some(PeerEvent::Snapshot { peers, .. }) => peers.len(),
            other => anyhow::bail!("no snapshot but {other:?}"),
        },
    };
    println!("{count} {}", peak()?.saturating_sub(before));
    Ok(())
}

/// The most memory that this process had at a time, in KiB.
fn peak() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.unwrap_or_default().parse()?)
}

/// Whether this user may make namespaces for mounts.
pub(crate) fn may_mount() -> bool {
    let tried = Command::new("unshare")
        .args(["--map-root-user", "--mount", "true"])
        .output();
    tried.is_ok_and(|output| output.status.success())
}

/// A command that starts this program where the service account's files lie as in a pod.
pub(crate) fn in_a_pod(files: &Path) -> Result<Command> {
    // The directory is a fixed one of the machine's, so the process gets a view of the machine in which it is another.
    const SCRIPT: &str =
        "mount -t tmpfs loden /var/run/ && mkdir -p \"$1\" && cp \"$2\"/* \"$1\" && exec \"$3\"";
    const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
    let mut command = Command::new("unshare");
    command
        .args([
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            SCRIPT,
            "sh",
            ACCOUNT,
        ])
        .arg(files)
        .arg(std::env::current_exe()?)
        .env_remove(KUBECONFIG);
    Ok(command)
}

/// What the process prints.
pub(crate) async fn printed(mut command: Command) -> Result<String> {
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
