//! The host-gw network: for each peer one plain route through its public address, on an underlay that all hosts share.

use std::net::IpAddr;

use hostnet::LinkIndex;
use ipam::{Cidr, LeaseBackend, NetConf, Subnets};
use ipnetwork::IpNetwork;

use super::peers::{self, Ours, Peer, Skipped, Unusable};
use super::{Family, as_network, pod_networks};
use crate::desired::{Desired, Hop};
use crate::store::PeerLease;
use crate::uplink::Uplink;

/// The host-gw network of this node.
#[derive(Clone, Debug)]
pub struct HostGwNetwork {
    families: Vec<Family>,
    networks: Vec<IpNetwork>,
    uplink: Uplink,
}

impl HostGwNetwork {
    pub(super) fn new(conf: &NetConf, uplink: &Uplink) -> Self {
        let v4 = conf.networks.v4.map(Cidr::V4);
        let v6 = conf.networks.v6.map(Cidr::V6);
        // Neighbours know each other by the addresses on their links, whatever is published.
        let family = |(network, public): (Cidr, IpAddr)| Family { network, public };
        let v4 = v4.zip(uplink.public.v4.map(IpAddr::V4)).map(family);
        let v6 = v6.zip(uplink.public.v6.map(IpAddr::V6)).map(family);
        Self {
            families: v4.into_iter().chain(v6).collect(),
            networks: pod_networks(conf),
            uplink: uplink.clone(),
        }
    }

    pub(super) fn pod_mtu(&self) -> u32 {
        self.uplink.mtu
    }

    pub(super) fn desired<'a>(
        &self,
        own: Option<&Subnets>,
        leases: impl Iterator<Item = &'a PeerLease> + Clone,
    ) -> (Desired, Vec<Skipped>) {
        let mut desired = Desired {
            networks: self.networks.clone(),
            uplink: Some(self.uplink.link),
            ..Desired::default()
        };
        let mut skipped = Vec::new();
        for family in &self.families {
            let mut candidates = Vec::new();
            for lease in leases.clone() {
                match self.candidate(family, lease) {
                    Ok(Some(peer)) => candidates.push((lease, peer)),
                    Ok(None) => {}
                    Err(reason) => skipped.push(Skipped {
                        key: lease.key,
                        subnet: family.subnet_of(&lease.key.subnets()),
                        reason,
                    }),
                }
            }
            let ours = Ours {
                network: family.network,
                subnet: own.and_then(|own| family.subnet_of(own)),
                public: family.public,
                mac: None,
            };
            let (peers, unusable) = peers::select(&ours, candidates);
            skipped.extend(unusable);
            let hops = peers
                .iter()
                .map(|peer| (as_network(peer.subnet), direct(self.uplink.link, peer)));
            desired.routes.extend(hops);
        }
        (desired, skipped)
    }

    fn candidate(&self, family: &Family, lease: &PeerLease) -> Result<Option<Peer>, Unusable> {
        if lease.record.backend != LeaseBackend::HostGw {
            return Err(Unusable::ForeignBackend {
                theirs: lease.record.backend.name().to_owned(),
                ours: "host-gw",
            });
        }
        let Some((subnet, public)) = family.reach(lease)? else {
            return Ok(None);
        };
        if !self.uplink.is_neighbour(public) {
            return Err(Unusable::NotANeighbour {
                public,
                uplink: self.uplink.name.clone(),
            });
        }
        let mac = None;
        Ok(Some(Peer {
            subnet,
            public,
            mac,
        }))
    }
}

/// The way to a peer that is a neighbour on the uplink.
pub(super) fn direct(link: LinkIndex, peer: &Peer) -> Hop {
    Hop::Uplink {
        link,
        gateway: peer.public,
    }
}

#[cfg(test)]
mod tests;
