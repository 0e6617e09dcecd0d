//! Where a check takes place: a host of its own with an uplink and empty directories of state, and containers on it.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::conform::catalogue::{Verdict, fails};
use crate::endpoint::{Address, Endpoint};
use crate::host::SYSCTLS;
use crate::isolation::root;
use crate::namespaces::Namespaces;
use crate::pod::name_this_network;
use crate::snapshot::Snapshot;

/// The host's address on its uplink `eth0`.
pub(crate) const HOST_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);

/// The path under which plugins find the host's own network namespace.
pub(crate) const HOST_NETNS: &str = "/run/netns/host";

/// Directories that begin empty for every check. Only these are searched for what a plugin leaves: `/tmp` is not, which
/// may hold the plugin itself.
const OWN_DIRECTORIES: [&str; 4] = ["/run", "/etc/cni", "/var/lib", "/var/log"];

/// What the preparing shell says.
const SETUP_LOG: &str = "/run/cni-conform-setup.log";

const EXPECTED: [&str; 4] = ["/run/netns", "/run/lock", "/etc/cni/net.d", "/var/lib/cni"];

/// A veth pair whose far end is in the same namespace is a cable with somebody on it: enough for macvlan and for rules that
/// name the uplink.
const UPLINK: &str = "link set dev lo up\n\
    link add name eth0 type veth peer name uplink\n\
    link set dev uplink addrgenmode none up\n\
    link set dev eth0 addrgenmode none up\n\
    addr add 192.0.2.11/24 dev eth0\n\
    route add default via 192.0.2.1 dev eth0\n";

/// A host.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    namespaces: Namespaces,
}

/// A container: a network namespace with a name, and what a runtime calls its attachment.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) ifname: String,
    pub(crate) netns: PathBuf,
    namespaces: Namespaces,
}

impl Place {
    pub(super) fn new() -> Result<Self> {
        let namespaces = Namespaces::build(furnish).context("a host cannot be made")?;
        let place = Self { namespaces };
        place.ip_batch(UPLINK)?;
        Ok(place)
    }

    /// Runs the shell that prepares the host. What it starts in the background may keep its output open, so that goes to a file.
    pub(super) fn set_up(&self, shell: &str) -> Result<()> {
        if shell.trim().is_empty() {
            return Ok(());
        }
        let done = self.attempt(["sh", "-ec", &format!("exec >{SETUP_LOG} 2>&1\n{shell}")])?;
        if done.status.success() {
            return Ok(());
        }
        let said = self.exec(["cat", SETUP_LOG])?;
        bail!(
            "the shell that prepares the host ended with {}: {said}",
            done.status
        )
    }

    /// Kills what still runs on the host: daemons of its preparation, and what a plugin left running.
    pub(super) fn kill_all(&self) {
        let own = fs::read_link(self.namespaces.net_path()).ok();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        for pid in pids {
            let there = fs::read_link(format!("/proc/{pid}/ns/net")).ok();
            // The runner is the first process of its pid namespace, in which nobody but it and its children is seen.
            if pid > 1 && own.is_some() && there == own {
                kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
            }
        }
    }

    /// A new container with its loopback up, as runtimes hand it over.
    pub(super) fn container(&self, id: &str, ifname: &str) -> Result<Container> {
        let netns = Path::new("/run/netns").join(id);
        let namespaces = self
            .namespaces
            .with_new_network(|| name_this_network(&netns))?;
        let container = Container {
            id: id.to_owned(),
            ifname: ifname.to_owned(),
            netns,
            namespaces,
        };
        if ifname != "lo" {
            container.exec(["ip", "link", "set", "dev", "lo", "up"])?;
        }
        Ok(container)
    }

    /// What the host holds now.
    pub(crate) fn state(&self) -> Result<State> {
        let mut files = BTreeSet::new();
        self.run(|| -> Result<()> {
            for own in OWN_DIRECTORIES {
                walk(Path::new(own), &mut files)?;
            }
            Ok(())
        })??;
        let kernel = Snapshot::of_network(self)?;
        let kernel = kernel.lines().map(without_bridge_mac).collect();
        Ok(State {
            place: "on the host",
            kernel,
            files,
        })
    }
}

impl Container {
    /// The same container with another interface name.
    pub(crate) fn interface(&self, name: &str) -> Self {
        Self {
            ifname: name.to_owned(),
            ..self.clone()
        }
    }

    /// Removes the namespace, as after the container's death.
    pub(crate) fn die(self, host: &Place) -> Result<()> {
        let path = self.netns;
        host.run(|| {
            umount2(&path, MntFlags::MNT_DETACH)
                .with_context(|| format!("{} cannot be unmounted", path.display()))?;
            fs::remove_file(&path).with_context(|| format!("{} cannot be removed", path.display()))
        })?
    }

    /// What the container's kernel holds now.
    pub(crate) fn state(&self) -> Result<State> {
        let kernel = Snapshot::of_network(self)?;
        Ok(State {
            place: "in the container",
            kernel: kernel.lines().map(str::to_owned).collect(),
            files: BTreeSet::new(),
        })
    }
}

impl Address for Place {
    fn address(&self) -> IpAddr {
        HOST_ADDRESS.into()
    }
}

impl Address for Container {
    /// Only the runner's checks know the container's address, from the result.
    fn address(&self) -> IpAddr {
        Ipv4Addr::UNSPECIFIED.into()
    }
}

impl Endpoint for Place {
    fn name(&self) -> &str {
        "the host"
    }

    fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }
}

impl Endpoint for Container {
    fn name(&self) -> &str {
        &self.id
    }

    fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }
}

/// What a host or a container held at a time: the kernel's objects, and the names of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    place: &'static str,
    kernel: BTreeSet<String>,
    files: BTreeSet<String>,
}

impl State {
    /// Nothing changed since `before`.
    pub(crate) fn same_as(&self, before: &Self) -> Verdict {
        let mut changes = Vec::new();
        for (mark, from, to) in [("gone", before, self), ("left", self, before)] {
            let kernel = from.kernel.difference(&to.kernel);
            let files = from.files.difference(&to.files);
            changes.extend(kernel.chain(files).map(|line| format!("{mark}: {line}")));
        }
        if changes.is_empty() {
            return Ok(());
        }
        fails(format!("{}: {}", self.place, changes.join("; ")))
    }

    /// What this had and `later` has no more.
    pub(crate) fn gone_in(&self, later: &Self) -> Vec<String> {
        let kernel = self.kernel.difference(&later.kernel);
        let files = self.files.difference(&later.files);
        kernel.chain(files).cloned().collect()
    }
}

/// A bridge takes the MAC of one of its ports unless it is told not to; whether it should is another matter than leftovers.
fn without_bridge_mac(line: &str) -> String {
    let words: Vec<_> = line.split(' ').collect();
    if !line.starts_with("link ") || words.get(2) != Some(&"bridge") {
        return line.to_owned();
    }
    let mut kept = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if word == "mac" {
            words.next();
        } else {
            kept.push(word);
        }
    }
    kept.join(" ")
}

/// Runs inside the new namespaces of a host.
fn furnish() -> Result<()> {
    root::mount_sys();
    for own in OWN_DIRECTORIES {
        fs::create_dir_all(own).with_context(|| format!("{own} cannot be made"))?;
        mount(
            Some("tmpfs"),
            own,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("mode=755"),
        )
        .with_context(|| format!("a file system in memory cannot be mounted on {own}"))?;
    }
    for expected in EXPECTED {
        fs::create_dir_all(expected).with_context(|| format!("{expected} cannot be made"))?;
    }
    for (sysctl, value) in SYSCTLS {
        let path = Path::new("/proc/sys").join(sysctl);
        // A kernel without IPv6 has no such files.
        if path.exists() {
            fs::write(&path, value).with_context(|| format!("{} cannot be set", path.display()))?;
        }
    }
    name_this_network(Path::new(HOST_NETNS))
}

/// Names only: a file that grows, such as a log or an index, is no leftover.
fn walk(directory: &Path, files: &mut BTreeSet<String>) -> Result<()> {
    let problem = || format!("{} cannot be read", directory.display());
    for entry in fs::read_dir(directory).with_context(problem)? {
        let entry = entry.with_context(problem)?;
        let path = entry.path();
        // The runner's own: the names of namespaces come and go with containers.
        if path.starts_with("/run/netns") {
            continue;
        }
        files.insert(format!("file {}", path.display()));
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_directory {
            walk(&path, files)?;
        }
    }
    Ok(())
}
