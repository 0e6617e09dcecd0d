//! What of the leases in the store is not used, and why.

use serde::{Deserialize, Serialize};

use super::{Peer, PeerInKernel};

/// A part of a lease that is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftOutPart {
    /// The subnet; missing where it is the lease as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
    /// Why.
    pub code: LeftOutCode,
}

/// Why a lease is left out; [`crate::network::peers::Unusable`] says it in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LeftOutCode {
    /// It is of a network with another backend.
    ForeignBackend,
    /// It lacks a public address or what the backend needs.
    Lacks,
    /// Its public address is none that a host can have.
    NoHostAddress,
    /// No route can lead there without a tunnel.
    NotANeighbour,
    /// It shares addresses with this node's lease.
    OverlapsOurs,
    /// It shares addresses with another lease, which is older.
    OverlapsPeer,
    /// It has this node's public address or VTEP MAC.
    ClaimsOurs,
    /// It has the VTEP MAC of another lease, which is younger.
    ClaimsPeers,
    /// Its subnet lies outside the pod network.
    OutsideNetwork,
    /// Something that came later than this program.
    #[serde(other)]
    Unknown,
}

impl LeftOutCode {
    /// Whether another lease is in its way.
    pub const fn is_clash(self) -> bool {
        self.is_clash_with_ours() || matches!(self, Self::OverlapsPeer | Self::ClaimsPeers)
    }

    /// Whether this node's lease is in its way.
    pub const fn is_clash_with_ours(self) -> bool {
        matches!(self, Self::OverlapsOurs | Self::ClaimsOurs)
    }
}

impl Peer {
    /// Whether its lease is not used, or not all of it.
    pub fn is_left_out(&self) -> bool {
        self.kernel == PeerInKernel::LeftOut || !self.left_out.is_empty()
    }

    /// Whether this subnet of its lease is not used.
    pub fn leaves_out(&self, subnet: &str) -> bool {
        let is_meant =
            |part: &LeftOutPart| part.subnet.as_deref().is_none_or(|part| part == subnet);
        self.is_left_out() && (self.left_out.is_empty() || self.left_out.iter().any(is_meant))
    }
}

/// An entry among the leases that is none as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unreadable {
    /// Which: a key of etcd, or `Node NAME`.
    pub entry: String,
    /// Its subnets, as far as they could be read.
    #[serde(default)]
    pub subnets: Vec<String>,
    /// What of it is used nevertheless.
    pub used: EntryUse,
    /// What is wrong with it.
    pub reason: String,
    /// Of two entries with the same subnets the one that came later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub later: Option<String>,
}

/// What is used of an entry that is not a lease as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EntryUse {
    /// Nothing.
    Nothing,
    /// One of its address families.
    InPart,
    /// What it said before.
    Former,
    /// Nothing: it says nothing of this network.
    NotOurs,
    /// Nothing: another has the same subnets.
    Duplicate,
}
