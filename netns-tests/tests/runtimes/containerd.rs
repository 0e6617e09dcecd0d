//! containerd and its client `ctr`, which runs the CNI plugins for `ctr run --cni`.
//!
//! A container lives as long as its `ctr` stands in the foreground; that one also runs DEL, without a netns, when the
//! container has ended. For CNI the container is called `default-NAME` after containerd's namespace.
//!
//! Commands enter a container's namespaces by themselves: `ctr task exec` loses the output of a short one now and then
//! (it stops waiting for its end of the pipe when the command has ended), and enters tasks that are not started yet.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_tests::{Daemon, Endpoint, Host, eventually};

use crate::place::{self, IMAGE, STATE};

pub(crate) const PROGRAMS: [&str; 2] = ["containerd", "ctr"];

/// How long containerd or a container may take to start or end.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Containerd {
    pub(crate) host: Host,
    pub(crate) daemon: Daemon,
}

/// A running container.
pub(crate) struct Container {
    host: Host,
    name: String,
    /// Of its first process.
    pid: String,
    pub(crate) client: Daemon,
}

impl Containerd {
    /// Starts it on a furnished host and gives it the image.
    pub(crate) fn start(host: &Host) -> Result<Self> {
        let config = format!(
            "version = 2\nroot = \"{STATE}/root\"\nstate = \"{STATE}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n\
             [grpc]\naddress = \"{}\"\n",
            socket()
        );
        let path = format!("{STATE}/config.toml");
        host.run(|| fs::write(&path, config))??;
        let started = Self {
            daemon: host.start("containerd", &["-c", &path])?,
            host: host.clone(),
        };
        started.wait_ready()?;
        started.ctr(&[
            "images",
            "import",
            "--snapshotter",
            "native",
            &place::archive(),
        ])?;
        Ok(started)
    }

    pub(crate) fn wait_ready(&self) -> Result<()> {
        eventually("containerd answers", PATIENCE, || self.ctr(&["version"])).map(drop)
    }

    /// Starts a container and waits until it runs.
    pub(crate) fn run(&self, name: &str) -> Result<Container> {
        let (socket, runtime) = (socket(), place::oci_runtime().display().to_string());
        let mut container = Container {
            client: self.host.start(
                "ctr",
                &[
                    "-a",
                    &socket,
                    "run",
                    "--cni",
                    "--rm",
                    "--snapshotter",
                    "native",
                    "--runc-binary",
                    &runtime,
                    IMAGE,
                    name,
                ],
            )?,
            host: self.host.clone(),
            name: name.to_owned(),
            pid: String::new(),
        };
        let what = format!("container {name} runs");
        // Started by its client once CNI has made its network.
        let pid = eventually(&what, PATIENCE, || {
            let ended = !container.client.is_running()?;
            let tasks = self.ctr(&["task", "ls"])?;
            let pid = running(&tasks, name);
            ensure!(ended || pid.is_some(), "its task does not run: {tasks}");
            Ok(pid)
        })?;
        container.pid =
            pid.with_context(|| format!("`ctr run` ended: {}", container.client.log()))?;
        Ok(container)
    }

    pub(crate) fn ctr(&self, arguments: &[&str]) -> Result<String> {
        ctr(&self.host, arguments)
    }
}

impl Container {
    /// Runs a command in it.
    pub(crate) fn exec(&self, command: &[&str]) -> Result<String> {
        let enter = [
            "nsenter",
            "--target",
            &self.pid,
            "--mount",
            "--net",
            "--pid",
            "--root",
            "--wd",
            "/bin/busybox",
        ];
        self.host.exec(enter.iter().chain(command))
    }

    /// The address of its eth0.
    pub(crate) fn address(&self) -> Result<String> {
        address_in(&self.exec(&["ip", "-o", "-4", "addr", "show", "dev", "eth0"])?)
    }

    /// Kills it; then its client detaches it and ends.
    pub(crate) fn stop(mut self) -> Result<()> {
        ctr(&self.host, &["task", "kill", "-s", "SIGKILL", &self.name])?;
        self.client.wait_end()?;
        let log = self.client.log();
        ensure!(
            !log.contains("failed"),
            "the client of {} says: {log}",
            self.name
        );
        Ok(())
    }
}

/// The process of a container that `ctr task ls` shows as running: `NAME PID STATUS`.
fn running(tasks: &str, name: &str) -> Option<String> {
    tasks.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (task, pid, status) = (words.next()?, words.next()?, words.next()?);
        (task == name && status == "RUNNING").then(|| pid.to_owned())
    })
}

/// The address in a line of `ip -o addr`.
pub(crate) fn address_in(line: &str) -> Result<String> {
    let address = line
        .split_once("inet ")
        .and_then(|(_, rest)| rest.split('/').next());
    Ok(address
        .with_context(|| format!("no address in {line:?}"))?
        .to_owned())
}

fn ctr(host: &Host, arguments: &[&str]) -> Result<String> {
    let socket = socket();
    host.exec(["ctr", "-a", &socket].iter().chain(arguments))
}

fn socket() -> String {
    format!("{STATE}/sock")
}
