//! `flanneld trace`: follows one packet of a pod through this host's tables and tells each decision, so that one sees where it would
//! end.
//!
//! `walk` decides, on what a `world::World` tells; `kernel` is the real one. Nothing is sent and nothing changed.

mod command;
mod kernel;
mod others;
mod rules;
mod walk;
mod world;

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::command::TraceCommand;

/// What [`Trace::api_version`] says.
pub const API_VERSION: &str = "loden.trace/v1";

/// The way of a packet, as `flanneld trace -o json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// [`API_VERSION`].
    pub api_version: String,
    /// When it was followed.
    pub at: Timestamp,
    /// The pod that sends it.
    pub pod: String,
    /// The pod's address that it comes from; missing if the pod has none of the destination's family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Where it is to go.
    pub destination: IpAddr,
    /// What is decided on its way, in order.
    pub decisions: Vec<Decision>,
    /// Where it ends.
    pub end: End,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Who decides.
    pub by: By,
    /// What, as a sentence.
    pub says: String,
    /// Whether the packet goes on from here; missing where that cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passes: Option<bool>,
}

/// Who decides on a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum By {
    /// The pod's own routes.
    PodRoute,
    /// The link between pod and host.
    Link,
    /// Rules that give packets another destination, which is how services are reached.
    Service,
    /// Whether the host forwards at all.
    Forwarding,
    /// The host's routes.
    HostRoute,
    /// The rules for forwarded packets.
    Filter,
    /// The rules for source addresses.
    Masquerade,
    /// The neighbour table.
    Neighbour,
    /// The tunnel's table of hosts.
    Fdb,
    /// The way of the outer packet.
    Outer,
    /// The sizes of packets.
    Mtu,
}

/// Where a packet ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// What kind of place that is.
    pub kind: EndKind,
    /// In words.
    pub says: String,
}

/// The kind of place where a packet ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EndKind {
    /// A pod of this host.
    Pod,
    /// This host itself.
    Host,
    /// Another node, which goes on from there.
    Peer,
    /// Outside the pod network.
    Outside,
    /// Outside, although it is an address of the pod network, because no node holds it.
    Astray,
    /// It is dropped.
    Dropped,
    /// It cannot be told.
    Unknown,
}
