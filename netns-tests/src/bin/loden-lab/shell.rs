//! The lab with a shell in the middle: the same three hosts, to try things on.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, IsTerminal};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use netns_tests::{Address, Endpoint, Namespaces, isolation};

use crate::cluster::Cluster;
use crate::screen::Screen;

/// Where the helper programs of the shell are.
const HELPERS: &str = "bin";

pub(crate) fn run(screen: &Screen) -> Result<()> {
    screen.title("Loden: three hosts to play with");
    let mut cluster = Cluster::start(screen)?;
    cluster.attach_pods(screen)?;
    let helpers = write_helpers(&cluster)?;
    invite(screen, &cluster)?;
    let mut command = shell(&helpers)?;
    command
        .env("ETCDCTL_API", "3")
        .env(
            "PATH",
            env::join_paths(
                [helpers]
                    .into_iter()
                    .chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())),
            )?,
        )
        .current_dir("/");
    // How the last command of the shell ended is no matter of the lab's.
    command.status().context("the shell cannot be started")?;
    println!("The lab is gone.");
    Ok(())
}

fn invite(screen: &Screen, cluster: &Cluster) -> Result<()> {
    let address = |name: &str| -> Result<String> {
        let pod = cluster
            .pods()
            .find(|pod| pod.name() == name)
            .with_context(|| format!("there is no pod {name}"))?;
        Ok(pod.address().to_string())
    };
    let daemons: Vec<String> = cluster
        .nodes
        .iter()
        .map(|node| node.daemon.pid().to_string())
        .collect();
    let (b1, c1) = (address("b1")?, address("c1")?);
    screen.chapter(
        "Five things to try",
        "`on HOST COMMAND…` runs a command on a host (a, b, c, world, etcd), `on HOST/POD COMMAND…` in a pod (a/a1 … \
         c/c2). Without a command it opens a shell there. `exit` ends the lab.",
    );
    let things = [
        (
            "From pod to pod across hosts:",
            format!("on a/a1 ping -c 3 {c1}"),
        ),
        (
            "The data path of host a:",
            "on a ip -4 route; on a bridge fdb show dev flannel.1".to_owned(),
        ),
        (
            "Everything the hosts share:",
            "on etcd etcdctl get --prefix /coreos.com/network/".to_owned(),
        ),
        (
            "Break it; it repairs itself:",
            "on a ip link del flannel.1; sleep 1; on a ip -4 route".to_owned(),
        ),
        (
            "Stop every daemon; pods go on:",
            format!("kill {}; on a/a1 ping -c 3 {b1}", daemons.join(" ")),
        ),
    ];
    for (number, (purpose, command)) in things.iter().enumerate() {
        println!("  {}. {purpose}\n     {}", number + 1, screen.bold(command));
    }
    println!();
    Ok(())
}

/// Writes the program `on` and the shell's start file; the directory they are in.
fn write_helpers(cluster: &Cluster) -> Result<PathBuf> {
    // Under the lab's own directory: others may be the machine's.
    let directory = Path::new(isolation::PRIVATE_DIRECTORY).join(HELPERS);
    fs::create_dir_all(&directory)
        .with_context(|| format!("{} cannot be made", directory.display()))?;
    let mut places = String::new();
    let mut place = |name: &str, namespaces: &Namespaces| {
        writeln!(places, "{name}) where='{}' ;;", nsenter_options(namespaces)).ok();
    };
    for node in &cluster.nodes {
        place(node.name(), node.host.namespaces());
        for pod in &node.pods {
            place(&format!("{}/{}", node.name(), pod.name()), pod.namespaces());
        }
    }
    place("world", cluster.lab.world().namespaces());
    place("etcd", cluster.lab.etcd()?.host().namespaces());
    let on = format!(
        "#!/bin/sh\n\
         # Runs a command on a host or in a pod of the lab.\n\
         case \"$1\" in\n\
         {places}\
         *) echo 'Usage: on HOST[/POD] [COMMAND...]; hosts a b c world etcd, pods a/a1 a/a2 ... c/c2' >&2; exit 2 ;;\n\
         esac\n\
         name=$1; shift\n\
         if [ $# -eq 0 ]; then PS1=\"[$name] # \"; export PS1; set -- sh; fi\n\
         exec nsenter $where -- \"$@\"\n"
    );
    let path = directory.join("on");
    fs::write(&path, on)
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))?;
    fs::write(directory.join("bashrc"), "PS1='[lab] # '\n")?;
    Ok(directory)
}

/// Options that take `nsenter` to a place of the lab.
fn nsenter_options(place: &Namespaces) -> String {
    let (net, mount, uts) = (place.net_path(), place.mount_path(), place.uts_path());
    format!(
        "--net={} --mount={} --uts={}",
        net.display(),
        mount.display(),
        uts.display()
    )
}

/// bash where there is one; commands from standard input when that is no terminal.
fn shell(helpers: &Path) -> Result<Command> {
    if !io::stdin().is_terminal() {
        return Ok(Command::new("sh"));
    }
    let bash = env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .any(|path| path.join("bash").is_file());
    let mut command = Command::new(if bash { "bash" } else { "sh" });
    if bash {
        command.arg("--rcfile").arg(helpers.join("bashrc"));
    }
    Ok(command)
}
