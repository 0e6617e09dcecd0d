//! A host of the lab: network, mount and uts namespace, its own `/run`, `/etc/cni` and `/var/lib/cni`, and an uplink.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::unistd::sethostname;

use crate::daemon::Daemon;
use crate::endpoint::{Address, Endpoint};
use crate::isolation::root;
use crate::lab::Shared;
use crate::namespaces::Namespaces;
use crate::pod::{Pod, PodSpec};
use crate::programs;
use crate::snapshot::Snapshot;
use crate::wait::eventually;

/// The directories a host does not share with the others.
pub(crate) const OWN_DIRECTORIES: [&str; 6] = [
    "/run",
    "/etc/cni",
    "/etc/flannel",
    "/etc/kube-flannel",
    "/var/lib/cni",
    "/var/log",
];

/// Directories inside those that software expects.
const EXPECTED: [&str; 3] = ["/run/netns", "/run/lock", "/etc/cni/net.d"];

/// What a new network namespace would otherwise take over from the machine (`devconf_inherit_init_net`,
/// `ip_forward`), set to the kernel's defaults; and no waiting for duplicate address detection on the underlay.
pub(crate) const SYSCTLS: [(&str, &str); 7] = [
    ("net/ipv4/ip_forward", "0"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv6/conf/all/forwarding", "0"),
    ("net/ipv6/conf/all/disable_ipv6", "0"),
    ("net/ipv6/conf/default/disable_ipv6", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
];

/// How long a new lease may take to reach the other hosts.
const PEERS_DEADLINE: Duration = Duration::from_secs(10);

/// A host; clones are the same host.
#[derive(Clone, Debug)]
pub struct Host(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    namespaces: Namespaces,
    number: u8,
    ipv4: bool,
    shared: Arc<Shared>,
    numbers: AtomicU32,
}

impl Host {
    /// Makes the namespaces and directories of a host; the uplink is the lab's to add.
    pub(crate) fn build(name: &str, number: u8, ipv4: bool, shared: &Arc<Shared>) -> Result<Self> {
        let namespaces = Namespaces::build(|| furnish(name))
            .with_context(|| format!("host {name} cannot be made"))?;
        let inner = Inner {
            name: name.to_owned(),
            namespaces,
            number,
            ipv4,
            shared: Arc::clone(shared),
            numbers: AtomicU32::new(0),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Whether it has an IPv4 address at all.
    pub fn has_ipv4(&self) -> bool {
        self.0.ipv4
    }

    /// The IPv4 address on the underlay.
    pub fn ipv4(&self) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, self.0.number)
    }

    /// The IPv6 address on the underlay.
    pub fn ipv6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, self.0.number.into())
    }

    /// A path on this host as the test sees it: `a.path("/run/flannel/subnet.env")`. Meant for the directories a host does not
    /// share: `/run`, `/etc/cni`, `/etc/flannel`, `/etc/kube-flannel`, `/var/lib/cni`, `/var/log`.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        if OWN_DIRECTORIES.iter().any(|own| path.starts_with(own)) {
            return directory_of(self.name()).join(path.strip_prefix("/").unwrap_or(path));
        }
        path.to_path_buf()
    }

    /// Starts our `flanneld` with the lab's etcd and these further arguments, and waits until it is ready.
    pub fn flanneld(&self, arguments: &[&str]) -> Result<Daemon> {
        let mut daemon = self.start_flanneld(arguments)?;
        daemon.wait_ready()?;
        Ok(daemon)
    }

    /// Like [`flanneld`](Self::flanneld) without waiting.
    pub fn start_flanneld(&self, arguments: &[&str]) -> Result<Daemon> {
        let endpoint = self.0.shared.etcd_endpoint(self.has_ipv4());
        let endpoints = format!("--etcd-endpoints={endpoint}");
        let arguments = [endpoints.as_str()]
            .into_iter()
            .chain(arguments.iter().copied());
        Daemon::start(self, &programs::find("flanneld")?, arguments, &[])
    }

    /// Starts any program that keeps running.
    pub fn start(&self, program: impl AsRef<Path>, arguments: &[&str]) -> Result<Daemon> {
        Daemon::start(self, program.as_ref(), arguments.iter().copied(), &[])
    }

    /// A pod, attached with the lab's conflist.
    pub fn pod(&self, name: &str) -> Result<Pod> {
        self.pod_spec(name).attach()
    }

    /// A pod to be, whose attachment can still be described: conflist, interface name, capability arguments.
    pub fn pod_spec(&self, name: &str) -> PodSpec {
        PodSpec::new(self, name, self.0.shared.conflist())
    }

    /// Waits until this host's kernel has a route to each of these hosts' subnets, which comes last of what a peer needs. A daemon
    /// is ready when its own lease is; the peers' leases come after, by the watch.
    pub fn wait_peers<'a>(&self, peers: impl IntoIterator<Item = &'a Self>) -> Result<()> {
        let mut wanted = Vec::new();
        for peer in peers {
            wanted.extend(peer.subnets()?);
        }
        eventually(
            &format!("host {} knows the others", self.name()),
            PEERS_DEADLINE,
            || {
                let routes = self.sh("ip -4 route show; ip -6 route show")?;
                let known = |subnet: &String| {
                    routes
                        .lines()
                        .any(|route| route.split(' ').next() == Some(subnet))
                };
                ensure!(wanted.iter().all(known), "its routes are:\n{routes}");
                Ok(())
            },
        )
    }

    /// This host's subnets, of both families, as its subnet file has them.
    pub fn subnets(&self) -> Result<Vec<String>> {
        let path = self.path("/run/flannel/subnet.env");
        let file = fs::read_to_string(&path)
            .with_context(|| format!("{} has no subnet yet ({})", self.name(), path.display()))?;
        let first = file
            .lines()
            .filter_map(|line| line.split_once('='))
            .filter(|(name, _)| ["FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET"].contains(name));
        first.map(|(_, subnet)| network_of(subnet)).collect()
    }

    /// What the kernel and the host's directories hold now.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::of_host(self)
    }

    /// A file of the lab for this host, outside the host's own directories and visible under the same path to the test and
    /// on every host.
    pub(crate) fn scratch(&self, name: &str, extension: &str) -> PathBuf {
        Path::new(root::LAB).join(format!(
            "{}.{name}.{}.{extension}",
            self.name(),
            self.next_number()
        ))
    }

    /// Another number each time.
    pub(crate) fn next_number(&self) -> u32 {
        self.0.numbers.fetch_add(1, Ordering::Relaxed)
    }
}

impl Address for Host {
    fn address(&self) -> IpAddr {
        if self.has_ipv4() {
            self.ipv4().into()
        } else {
            self.ipv6().into()
        }
    }
}

impl Endpoint for Host {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn namespaces(&self) -> &Namespaces {
        &self.0.namespaces
    }
}

/// The subnet without the host part that the subnet file's form has.
fn network_of(subnet: &str) -> Result<String> {
    let problem = || format!("{subnet} is no subnet");
    let (address, length) = subnet.split_once('/').with_context(problem)?;
    let length: u32 = length.parse().with_context(problem)?;
    let network: IpAddr = match address.parse().with_context(problem)? {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    };
    Ok(format!("{network}/{length}"))
}

fn directory_of(name: &str) -> PathBuf {
    Path::new(root::LAB).join(name)
}

/// Runs inside the new namespaces of a host.
fn furnish(name: &str) -> Result<()> {
    sethostname(name).context("the host name cannot be set")?;
    root::mount_sys();
    // A host has its own. In a shared one the kernel keeps an entry `net/ipv4` for every namespace whose settings were looked at, and finds
    // the right one by going through all: what others do in their pods would slow down what this host does.
    root::mount_proc()?;
    for own in OWN_DIRECTORIES {
        let original = directory_of(name).join(own.trim_start_matches('/'));
        fs::create_dir_all(&original)
            .with_context(|| format!("{} cannot be made", original.display()))?;
        fs::create_dir_all(own).with_context(|| format!("{own} cannot be made"))?;
        root::bind(&original, Path::new(own))
            .with_context(|| format!("{own} cannot be mounted"))?;
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
    Ok(())
}
