//! podman with CNI as its network backend, on a storage and a configuration of its own.

use std::fs;

use anyhow::Result;
use netns_tests::{Endpoint, Host, skip};

use crate::containerd::address_in;
use crate::place::{self, IMAGE, STATE};

pub(crate) const PROGRAMS: [&str; 2] = ["podman", "conmon"];

const CONTAINERS_CONF: &str = r#"
[containers]
cgroups = "disabled"
cgroupns = "host"
default_sysctls = []
default_ulimits = []
log_driver = "k8s-file"
pids_limit = 0
[network]
cni_plugin_dirs = ["/opt/cni/bin"]
default_network = "cbr0"
network_backend = "cni"
network_config_dir = "/etc/cni/net.d"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
"#;

pub(crate) struct Podman {
    host: Host,
}

impl Podman {
    /// Sets it up on a furnished host and gives it the image.
    pub(crate) fn start(host: &Host) -> Result<Self> {
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\nrunroot = \"{STATE}/run\"\ngraphroot = \"{STATE}/storage\"\n"
        );
        host.run(|| {
            fs::write(format!("{STATE}/containers.conf"), CONTAINERS_CONF)?;
            fs::write(format!("{STATE}/storage.conf"), storage)
        })??;
        let podman = Self { host: host.clone() };
        let backend = podman.call(&["info", "--format", "{{.Host.NetworkBackend}}"])?;
        if backend.trim() != "cni" {
            return skip(format!(
                "this podman has no CNI backend, but {}",
                backend.trim()
            ));
        }
        podman.call(&["load", "-i", &place::archive()])?;
        Ok(podman)
    }

    /// Starts a container.
    pub(crate) fn run(&self, name: &str) -> Result<()> {
        self.call(&["run", "-d", "--name", name, "--network", "cbr0", IMAGE])
            .map(drop)
    }

    /// Runs a command in a container.
    pub(crate) fn exec(&self, name: &str, command: &[&str]) -> Result<String> {
        let mut arguments = vec!["exec", name, "/bin/busybox"];
        arguments.extend(command);
        self.call(&arguments)
    }

    /// The address of a container's eth0.
    pub(crate) fn address(&self, name: &str) -> Result<String> {
        address_in(&self.exec(name, &["ip", "-o", "-4", "addr", "show", "dev", "eth0"])?)
    }

    /// Kills and removes a container.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        self.call(&["rm", "-f", "-t", "0", name]).map(drop)
    }

    pub(crate) fn call(&self, arguments: &[&str]) -> Result<String> {
        let environment = [
            "env".to_owned(),
            format!("CONTAINERS_CONF={STATE}/containers.conf"),
            format!("CONTAINERS_STORAGE_CONF={STATE}/storage.conf"),
            "podman".to_owned(),
        ];
        let arguments = arguments.iter().map(|argument| (*argument).to_owned());
        self.host.exec(environment.into_iter().chain(arguments))
    }
}
