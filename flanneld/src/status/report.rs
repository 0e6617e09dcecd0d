//! The report of a node, as `flanneld status -o json` prints it and `/status` on the daemon's socket answers.
//!
//! The names are part of what users rely on (docs/status.md): fields may be added, none changes its meaning or goes. A field that
//! is `null` or missing is not known. Times are RFC 3339 in UTC.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

mod entries;

pub use self::entries::{EntryUse, LeftOutCode, LeftOutPart, Unreadable};

/// What [`Report::api_version`] says.
pub const API_VERSION: &str = "loden.status/v1";

/// All that is known of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// [`API_VERSION`].
    pub api_version: String,
    /// When it was made.
    pub at: Timestamp,
    /// The daemon.
    pub daemon: Daemon,
    /// This node.
    pub node: Node,
    /// The network that it is in.
    pub network: Network,
    /// The other nodes, by subnet.
    pub peers: Vec<Peer>,
    /// Entries among the leases that are none as they should be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<Unreadable>,
    /// The pods of this node that the CNI program attached, by address.
    pub pods: Vec<Pod>,
    /// The addresses for pods.
    pub addresses: Vec<Addresses>,
    /// What was put right of late, the latest last.
    pub repairs: Vec<Repair>,
    /// What somebody keeps undoing.
    pub contested: Vec<Contested>,
    /// What is wrong, a sentence each; empty if nothing is.
    pub problems: Vec<String>,
    /// What could not be looked at and why, a sentence each.
    pub unseen: Vec<String>,
}

/// The daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Daemon {
    /// Whether it runs.
    pub state: DaemonState,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Its process ID, in its own PID namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether `/readyz` says yes.
    pub ready: bool,
    /// If not, why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether the daemon runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DaemonState {
    /// It answers.
    Running,
    /// Nobody listens on its socket.
    NotRunning,
    /// It cannot be asked, so it may run or not.
    #[default]
    Unknown,
}

/// This node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Node {
    /// Its host name.
    pub name: String,
    /// The interface between hosts.
    pub uplink: Option<Uplink>,
    /// Its subnets of the pod network.
    pub subnets: Vec<String>,
    /// The MTU for pods in bytes.
    pub mtu: Option<u32>,
    /// Its lease.
    pub lease: Option<Lease>,
    /// Where leases are kept.
    pub store: Option<Store>,
}

/// The interface between hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Uplink {
    /// Its name.
    pub name: String,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// What the other nodes send to.
    pub public: Vec<IpAddr>,
    /// Why there is none at present; the rest is what was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// This node's lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// How this node came to it.
    pub origin: String,
    /// Since when this daemon holds it.
    pub since: Timestamp,
    /// When it was last made sure of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewed: Option<Timestamp>,
    /// When it ends unless it is renewed; missing for one that does not end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// What happened if it is not ours any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
    /// Why it is not being kept at present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// Where leases are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Store {
    /// `etcd` or `kubernetes`.
    pub kind: String,
    /// Where it is asked.
    pub endpoints: Vec<String>,
    /// What the keys of the leases begin with; missing where there are no keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Whether the last request was answered; missing before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
    /// When it last answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Timestamp>,
    /// When a request last failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Timestamp>,
    /// Why that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// How far its clock is ahead of this host's, in milliseconds, by the time in its last answer, which has whole seconds; missing
    /// where answers have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_ahead: Option<i64>,
}

/// The pod network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Network {
    /// All pods of the cluster.
    pub networks: Vec<String>,
    /// `vxlan`, `host-gw` or `alloc`.
    pub backend: Option<String>,
    /// The VXLAN network identifier.
    pub vni: Option<u32>,
    /// The UDP port of the outer packets.
    pub port: Option<u16>,
    /// Whether hosts of one link reach each other by plain routes.
    pub direct_routing: bool,
    /// Our devices.
    pub devices: Vec<Device>,
    /// Where the firewall rules are kept: `nftables`, `iptables-nft` or `iptables-legacy`.
    pub firewall: Option<String>,
    /// Whether what leaves the pod network is masqueraded.
    pub masquerade: Option<bool>,
}

/// A device of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Its name.
    pub name: String,
    /// The VTEP's MAC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Its subnets.
    pub subnets: Vec<String>,
    /// Where packets to it go.
    pub public: Vec<IpAddr>,
    /// The MACs of its VTEPs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub macs: Vec<String>,
    /// When the store last told something new of it; a node renews its lease once a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Timestamp>,
    /// Whether this node's kernel holds what leads to it.
    pub kernel: PeerInKernel,
    /// What is wrong in the kernel, or why the lease is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// What of the lease is left out, and why, for programs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOutPart>,
    /// Whether it answers.
    #[serde(default)]
    pub probe: Probe,
}

/// How the kernel stands to a peer, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PeerInKernel {
    /// Something is missing or different.
    Wrong,
    /// Its lease cannot be used, in one family or in all, so nothing of that family leads to it.
    LeftOut,
    /// The kernel could not be compared.
    Unknown,
    /// All is there.
    Right,
}

/// What is known of whether a peer answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// The outcome.
    pub state: ProbeState,
    /// When it was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// How long the answer took, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micros: Option<u64>,
}

/// The outcome of a probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProbeState {
    /// Nobody tried.
    #[default]
    NotProbed,
    /// It answered.
    Answers,
    /// It did not.
    Silent,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The CNI network.
    pub network: String,
    /// The container.
    pub container_id: String,
    /// The interface inside.
    pub ifname: String,
    /// The pod's namespace in Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The pod's name in Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The path of its network namespace, as the runtime gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// The host's end of the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// How it is attached: `routed`, `bridge NAME`, `foreign` or `unknown`.
    pub kind: String,
    /// When it was attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Whether the host's end of its link is there; missing if nobody could look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linked: Option<bool>,
}

/// The addresses for pods of one CNI network in one range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Addresses {
    /// The CNI network.
    pub network: String,
    /// First and last address.
    pub range: (IpAddr, IpAddr),
    /// All that can be given.
    pub total: u64,
    /// Held by pods.
    pub used: u64,
    /// Neither held nor given back a short while ago.
    pub free: u64,
    /// Given back so shortly ago that all others are given first.
    pub cooling: u64,
}

/// Something that somebody changed and that was put right, once or again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Repair {
    /// When, the last time.
    pub at: Timestamp,
    /// When, the first time; missing if that is the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Timestamp>,
    /// How often.
    #[serde(default = "once")]
    pub times: u64,
    /// What.
    pub object: String,
    /// What was done, the last time.
    pub action: String,
    /// Why, in words that follow the object's name.
    pub reason: String,
}

/// A daemon of a version that did not count them speaks of each.
fn once() -> u64 {
    1
}

/// Something that somebody keeps undoing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contested {
    /// What.
    pub object: String,
    /// How often it was put right.
    pub repairs: u64,
    /// When that began.
    pub since: Timestamp,
    /// When it will be put right again at the earliest.
    pub next_attempt: Timestamp,
}

/// What the reconciler would change now, as `flanneld plan -o json` prints it and `/plan` on the daemon's socket answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// [`API_VERSION`].
    pub api_version: String,
    /// When it was made.
    pub at: Timestamp,
    /// Whether the leases of all nodes are known; before that nothing is taken away.
    pub complete: bool,
    /// What would be changed, in its order.
    pub steps: Vec<PlanStep>,
    /// Whether more would follow when that is done: a device must be there before its routes.
    pub unfinished: bool,
    /// Why it cannot be told what would be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// One change that is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanStep {
    /// What it is about.
    pub object: String,
    /// What would be done.
    pub action: String,
    /// Why, in words that follow the object's name.
    pub reason: String,
    /// Until when it is left as it is, because somebody keeps undoing it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_until: Option<Timestamp>,
}
