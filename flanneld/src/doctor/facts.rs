//! What there is to see on this host, before anybody judges it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use hostnet::nft::Obstacle;
use hostnet::{Address, FdbEntry, Link, LinkIndex, Neighbour, Route};
use ipam::SubnetEnv;
use ipnetwork::IpNetwork;

use crate::probe::echo::Reply;
use crate::probe::peer::PeerProbe;
use crate::status::report::Report;

/// Everything that was looked at.
#[derive(Clone, Debug)]
pub struct Facts {
    /// When.
    pub at: SystemTime,
    /// What the daemon says of itself, or why it says nothing.
    pub daemon: Result<Report, NotAsked>,
    /// The file for the CNI program.
    pub subnet_file: Result<SubnetEnv, String>,
    /// When that was written.
    pub subnet_file_written: Option<SystemTime>,
    /// How far the store's clock is ahead of ours in milliseconds, or why that is not known.
    pub store_clock: Result<i64, String>,
    /// What the kernel can do.
    pub kernel: KernelFacts,
    /// Every link.
    pub links: Vec<Link>,
    /// Every address.
    pub addresses: Vec<Address>,
    /// Every route of the main table.
    pub routes: Vec<Route>,
    /// Our VXLAN devices.
    pub tunnels: Vec<TunnelFacts>,
    /// Which links leave checksums to the hardware.
    pub offloads: BTreeMap<LinkIndex, bool>,
    /// Settings by their paths below /proc/sys.
    pub sysctls: BTreeMap<String, String>,
    /// Links of ours that others manage.
    pub managed: Vec<Managed>,
    /// What is in the way of packets, or why that could not be looked at.
    pub firewall: Result<FirewallFacts, String>,
    /// The other nodes.
    pub peers: Vec<PeerFacts>,
    /// What came of asking some of them; nothing if that was not wanted.
    pub probes: Option<Vec<Probed>>,
    /// What the hosts answered whose leases are in each other's way.
    pub rivals: BTreeMap<IpAddr, Reply>,
    /// The side of the CNI program.
    pub cni: CniFacts,
}

/// Why the daemon says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAsked {
    /// It does not run.
    NotRunning,
    /// It may run.
    Unknown(String),
}

/// What the kernel can do.
#[derive(Clone, Debug, Default)]
pub struct KernelFacts {
    /// Its version.
    pub release: String,
    /// Whether it has VXLAN devices; unknown where no list of its modules can be read.
    pub vxlan: Option<bool>,
    /// Why nf_tables cannot be used, if so.
    pub nf_tables: Option<String>,
    /// Whether iptables' programs are there, for IPv4.
    pub iptables: bool,
}

/// A VXLAN device of ours.
#[derive(Clone, Debug)]
pub struct TunnelFacts {
    /// The device.
    pub link: Link,
    /// Its neighbours.
    pub neighbours: Vec<Neighbour>,
    /// Its FDB.
    pub fdb: Vec<FdbEntry>,
}

/// A link of ours that another program manages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Managed {
    /// The program: `systemd-networkd` or `NetworkManager`.
    pub by: &'static str,
    /// The link.
    pub link: String,
}

/// What is in the way of packets.
#[derive(Clone, Debug, Default)]
pub struct FirewallFacts {
    /// Of those between pods of this node and of others.
    pub forward: Vec<Obstacle>,
    /// Of the tunnel's packets.
    pub port: Vec<Obstacle>,
    /// Families whose FORWARD chain of iptables-legacy drops the pods' packets.
    pub legacy_forward: Vec<&'static str>,
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerFacts {
    /// Its subnet.
    pub subnet: IpNetwork,
    /// Where packets to it go.
    pub public: IpAddr,
    /// Whether they go through a tunnel.
    pub tunnelled: bool,
    /// By which link this host would send to its pods now; nothing if it was not asked.
    pub leaves_by: Option<Option<LinkIndex>>,
    /// By which link this host would send to its public address now; nothing if it was not asked.
    pub answered_by: Option<Option<LinkIndex>>,
}

/// A peer, and what it answered.
#[derive(Clone, Debug)]
pub struct Probed {
    /// Which.
    pub peer: PeerFacts,
    /// What came of it.
    pub probe: PeerProbe,
}

/// The side of the CNI program.
#[derive(Clone, Debug)]
pub struct CniFacts {
    /// Where conflists are looked for.
    pub directory: PathBuf,
    /// The conflists there in the order in which runtimes take them, or why they could not be listed.
    pub conflists: Result<Vec<Conflist>, String>,
    /// Where programs are looked for.
    pub programs_in: PathBuf,
    /// The programs that the conflist of ours names.
    pub programs: Vec<Program>,
    /// Attachments whose pod is gone, a sentence each.
    pub stale: Vec<String>,
    /// Pods whose link is gone though they are there.
    pub unlinked: Vec<String>,
    /// The addresses of each network.
    pub addresses: Vec<crate::status::report::Addresses>,
    /// How many pods there are.
    pub pods: usize,
    /// What could not be read.
    pub unseen: Vec<String>,
}

/// A file that runtimes take for a conflist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflist {
    /// Its name in the directory.
    pub file: String,
    /// The types of its plugins; nothing if it cannot be read as a conflist.
    pub types: Option<Vec<String>>,
}

/// A CNI program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// What it is.
    pub state: ProgramState,
}

/// What a CNI program is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProgramState {
    /// Not there, or nothing that can be run.
    Missing,
    /// Ours, of this version.
    Ours(String),
    /// Somebody else's.
    Foreign,
}

impl Conflist {
    /// Whether it is one of flannel.
    pub fn is_flannels(&self) -> bool {
        let types = self.types.as_ref();
        types.is_some_and(|types| types.iter().any(|kind| kind == "flannel"))
    }
}

impl Facts {
    /// The daemon's report, if it could be had.
    pub fn report(&self) -> Option<&Report> {
        self.daemon.as_ref().ok()
    }

    /// A link by its number.
    pub fn link(&self, index: LinkIndex) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// The networks of all pods, of both families.
    pub fn networks(&self) -> Vec<IpNetwork> {
        match (self.report(), &self.subnet_file) {
            (Some(report), _) if !report.network.networks.is_empty() => {
                parsed(&report.network.networks)
            }
            (_, Ok(file)) => {
                let v4 = file.families.v4.iter().flat_map(|family| &family.networks);
                let v6 = file.families.v6.iter().flat_map(|family| &family.networks);
                let v4 = v4.map(|network| IpNetwork::from(*network));
                v4.chain(v6.map(|network| IpNetwork::from(*network)))
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    /// The subnets of this node's pods.
    pub fn subnets(&self) -> Vec<IpNetwork> {
        match (self.report(), &self.subnet_file) {
            (Some(report), _) if !report.node.subnets.is_empty() => parsed(&report.node.subnets),
            (_, Ok(file)) => {
                let v4 = file.families.v4.iter();
                let v4 = v4.map(|family| IpNetwork::from(family.subnet));
                let v6 = file.families.v6.iter();
                v4.chain(v6.map(|family| IpNetwork::from(family.subnet)))
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    /// The interface between hosts: what the daemon says, what our devices sit on, or what the default route leaves by.
    pub fn uplink(&self) -> Option<&Link> {
        let told = self.report().and_then(|report| report.node.uplink.as_ref());
        let told = told.and_then(|told| self.links.iter().find(|link| link.name == told.name));
        let below = || {
            let lower = self.tunnels.iter().find_map(|tunnel| {
                let vxlan = tunnel.link.vxlan.as_ref()?;
                vxlan.lower.or(tunnel.link.lower)
            })?;
            self.link(lower)
        };
        let default = || {
            let route = self
                .routes
                .iter()
                .filter(|route| route.destination.prefix() == 0)
                .min_by_key(|route| route.priority.unwrap_or(0))?;
            self.link(route.link?)
        };
        told.or_else(below).or_else(default)
    }

    /// The address of ours on a link that packets of this family leave from.
    pub fn address_on(&self, link: LinkIndex, ipv4: bool) -> Option<IpAddr> {
        let mut held = self.addresses.iter().filter(|held| {
            held.link == link
                && held.address.is_ipv4() == ipv4
                && !held.deprecated
                && (ipv4 || held.scope == hostnet::Scope::Universe)
        });
        held.next().map(|held| held.address)
    }

    /// Our device for a family.
    pub fn tunnel(&self, ipv4: bool) -> Option<&TunnelFacts> {
        let is_v6 = |tunnel: &&TunnelFacts| tunnel.link.name.starts_with("flannel-v6.");
        self.tunnels.iter().find(|tunnel| is_v6(tunnel) != ipv4)
    }
}

/// The reverse-path filter of a link, below /proc/sys.
pub fn filter_of(link: &str) -> String {
    format!("net/ipv4/conf/{link}/rp_filter")
}

fn parsed(texts: &[String]) -> Vec<IpNetwork> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}
