//! Which of the other nodes' leases a network may use.
//!
//! Whatever another node wrote is foreign: a lease that would take our own traffic away, or another peer's, is left out, and the reason kept for
//! the log.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipam::{Cidr, LeaseKey};
use thiserror::Error;

use crate::store::PeerLease;

/// Why a peer's lease is left out, in one family or in all.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unusable {
    /// It belongs to a network of another kind.
    #[error(
        "it is a lease of backend {theirs}, this node runs {ours}; all nodes of a network need the same Backend"
    )]
    ForeignBackend {
        /// The backend in the lease.
        theirs: String,
        /// Ours.
        ours: &'static str,
    },
    /// It lacks what a family needs.
    #[error("it lacks {what} for {family}")]
    Lacks {
        /// What is missing.
        what: &'static str,
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// Nothing can be sent there.
    #[error("its public address {0} is none that a host can have")]
    NoHostAddress(IpAddr),
    /// No route can lead there without a tunnel.
    #[error(
        "its public address {public} is in none of this node's networks on {uplink}, and host-gw reaches only neighbours; use the Backend vxlan"
    )]
    NotANeighbour {
        /// The public address.
        public: IpAddr,
        /// The uplink.
        uplink: String,
    },
    /// It shares addresses with us.
    #[error("its subnet {theirs} overlaps this node's own {ours}; one of the two leases has to go")]
    OverlapsOurs {
        /// The subnet in the lease.
        theirs: Cidr,
        /// Our own.
        ours: Cidr,
    },
    /// It shares addresses with another lease that is older.
    #[error(
        "its subnet {theirs} overlaps {other}, which was leased before; one of the two leases has to go"
    )]
    OverlapsPeer {
        /// The subnet in the lease.
        theirs: Cidr,
        /// The other's.
        other: Cidr,
    },
    /// It has an identity that is ours.
    #[error(
        "it claims {what}, which is this node's; a lease left over from a former subnet of this node, or a copied machine"
    )]
    ClaimsOurs {
        /// The public address or the MAC.
        what: String,
    },
    /// It has an identity that another peer has too.
    #[error("it claims the VTEP MAC {mac}, which {other}, leased later, has too")]
    ClaimsPeers {
        /// The MAC.
        mac: ipam::Mac,
        /// The other's subnet.
        other: Cidr,
    },
    /// It is not in the pod network.
    #[error("its subnet {theirs} lies outside the pod network {network}")]
    OutsideNetwork {
        /// The subnet in the lease.
        theirs: Cidr,
        /// The pod network.
        network: Cidr,
    },
}

/// A lease that is left out, in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The lease.
    pub key: LeaseKey,
    /// Its subnet of that family, if it has one.
    pub subnet: Option<Cidr>,
    /// Why.
    pub reason: Unusable,
}

/// What of a lease is left out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The only subnet that is left out; none if the whole lease is.
    pub part: Option<Cidr>,
    /// Why, in words.
    pub reason: String,
    /// Why, for programs: each subnet that is left out; none stands for the whole lease.
    pub parts: Vec<(Option<Cidr>, Unusable)>,
}

impl LeftOut {
    /// Puts together what is left out of each lease.
    pub fn of(skipped: &[Skipped]) -> BTreeMap<LeaseKey, Self> {
        let mut each: BTreeMap<LeaseKey, Vec<&Skipped>> = BTreeMap::new();
        for skip in skipped {
            each.entry(skip.key).or_default().push(skip);
        }
        each.into_iter()
            .map(|(key, skips)| (key, Self::of_one(&key, &skips)))
            .collect()
    }

    fn of_one(key: &LeaseKey, skips: &[&Skipped]) -> Self {
        let mut reasons: Vec<String> = skips.iter().map(|skip| skip.reason.to_string()).collect();
        reasons.dedup();
        // A backend is the lease's, not a family's.
        let whole = skips
            .iter()
            .any(|skip| matches!(skip.reason, Unusable::ForeignBackend { .. }))
            || key
                .subnets()
                .each()
                .all(|subnet: Cidr| skips.iter().any(|skip| skip.subnet == Some(subnet)));
        Self {
            part: skips.iter().find_map(|skip| skip.subnet).filter(|_| !whole),
            reason: reasons.join("; "),
            parts: skips
                .iter()
                .map(|skip| (skip.subnet, skip.reason.clone()))
                .collect(),
        }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(part) = self.part {
            write!(f, "{part}: ")?;
        }
        f.write_str(&self.reason)
    }
}

/// What a network of one family needs of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The peer's subnet.
    pub subnet: Cidr,
    /// Where the outer packets go.
    pub public: IpAddr,
    /// The VTEP's MAC, in a network that has VTEPs.
    pub mac: Option<ipam::Mac>,
}

/// What is ours and so cannot be a peer's.
#[derive(Clone, Copy, Debug)]
pub struct Ours {
    /// The pod network of this family.
    pub network: Cidr,
    /// Our subnet, once it is leased.
    pub subnet: Option<Cidr>,
    /// Our public address.
    pub public: IpAddr,
    /// Our VTEP's MAC, in a network that has VTEPs.
    pub mac: Option<ipam::Mac>,
}

/// Sorts the candidates of one family into those that can be used and those that cannot.
///
/// Of two subnets in each other's way the one leased first counts: whoever comes later should have seen it. Of two hosts with
/// the same VTEP MAC the later one counts: it is most likely the same host under its new address. Renewals change neither.
pub fn select<'a>(
    ours: &Ours,
    candidates: impl IntoIterator<Item = (&'a PeerLease, Peer)>,
) -> (Vec<Peer>, Vec<Skipped>) {
    let mut candidates: Vec<(&PeerLease, Peer)> = candidates.into_iter().collect();
    candidates.sort_by_key(|(lease, _)| (lease.created, lease.key));
    let mut skipped = Vec::new();
    let mut skip = |lease: &PeerLease, peer: &Peer, reason| {
        skipped.push(Skipped {
            key: lease.key,
            subnet: Some(peer.subnet),
            reason,
        });
    };

    let mut taken: BTreeMap<IpAddr, Cidr> = BTreeMap::new();
    candidates.retain(|(lease, peer)| {
        match fits(ours, peer).and_then(|()| overlap(&taken, peer)) {
            Ok(()) => {
                taken.insert(peer.subnet.network(), peer.subnet);
                true
            }
            Err(reason) => {
                skip(lease, peer, reason);
                false
            }
        }
    });

    let mut vteps: BTreeMap<ipam::Mac, Peer> = BTreeMap::new();
    let mut peers = Vec::new();
    for (lease, peer) in candidates.into_iter().rev() {
        if let Some(mac) = peer.mac {
            // Two subnets of one host share its VTEP.
            let other = vteps.entry(mac).or_insert(peer);
            if other.public != peer.public {
                let other = other.subnet;
                skip(lease, &peer, Unusable::ClaimsPeers { mac, other });
                continue;
            }
        }
        peers.push(peer);
    }
    (peers, skipped)
}

fn fits(ours: &Ours, peer: &Peer) -> Result<(), Unusable> {
    if !ours.network.covers(peer.subnet) {
        return Err(Unusable::OutsideNetwork {
            theirs: peer.subnet,
            network: ours.network,
        });
    }
    if let Some(subnet) = ours.subnet.filter(|subnet| subnet.overlaps(peer.subnet)) {
        return Err(Unusable::OverlapsOurs {
            theirs: peer.subnet,
            ours: subnet,
        });
    }
    if peer.public == ours.public {
        return Err(Unusable::ClaimsOurs {
            what: format!("the public address {}", peer.public),
        });
    }
    if let Some(mac) = peer.mac.filter(|_| peer.mac == ours.mac) {
        return Err(Unusable::ClaimsOurs {
            what: format!("the VTEP MAC {mac}"),
        });
    }
    if is_host_address(peer.public) {
        Ok(())
    } else {
        Err(Unusable::NoHostAddress(peer.public))
    }
}

fn overlap(taken: &BTreeMap<IpAddr, Cidr>, peer: &Peer) -> Result<(), Unusable> {
    // Subnets either contain each other or have nothing in common, so only the nearest on both sides can overlap.
    let before = taken.range(..=peer.subnet.network()).next_back();
    let behind = taken.range(peer.subnet.network()..).next();
    let other = before
        .into_iter()
        .chain(behind)
        .find(|(_, other)| other.overlaps(peer.subnet));
    match other {
        Some((_, &other)) => Err(Unusable::OverlapsPeer {
            theirs: peer.subnet,
            other,
        }),
        None => Ok(()),
    }
}

fn is_host_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !(address.is_unspecified()
                || address.is_loopback()
                || address.is_multicast()
                || address == Ipv4Addr::BROADCAST)
        }
        IpAddr::V6(address) => {
            !(address.is_unspecified() || address.is_loopback() || address.is_multicast())
        }
    }
}

#[cfg(test)]
mod tests;
