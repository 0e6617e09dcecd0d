//! What this node's kernel should hold, as a plain value.
//!
//! The networks compute it from leases ([`crate::network`]), [`crate::reconcile`] compares it with what the kernel has. Nothing
//! here does I/O or knows where a lease comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hostnet::nft::Table;
use hostnet::{LinkIndex, Mac, Vxlan};
use ipnetwork::IpNetwork;

use crate::iptables;

/// Everything of ours that the kernel should hold, and nothing else.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// Our devices by name.
    pub devices: BTreeMap<String, Device>,
    /// Routes of the main table by destination.
    pub routes: BTreeMap<IpNetwork, Hop>,
    /// Permanent neighbours on our devices: device and address to the VTEP's MAC.
    pub neighbours: BTreeMap<(String, IpAddr), Mac>,
    /// FDB entries of our devices: device and the VTEP's MAC to the outer destination.
    pub fdb: BTreeMap<(String, Mac), IpAddr>,
    /// Files under /proc/sys and what they should say.
    pub sysctls: BTreeMap<String, String>,
    /// The firewall tables, each as a whole.
    pub firewall: Vec<Table>,
    /// Tables of ours that should not be there.
    pub no_firewall: Vec<(hostnet::nft::Family, String)>,
    /// The rules in iptables' tables; nothing as long as they are to be left alone.
    pub iptables: Option<iptables::Wanted>,
    /// Whether this is the whole of it. Until the leases are known it is not, and then nothing of the kernel's is taken
    /// away: a daemon that starts must not cut what its predecessor left forwarding.
    pub complete: bool,
    /// The uplink, where routes to peers may leave by it.
    pub uplink: Option<LinkIndex>,
    /// The prefix lengths of nodes' subnets: whether it is IPv4, and the length.
    pub subnet_sizes: BTreeSet<(bool, u8)>,
    /// The pod networks: addresses, routes and neighbours on our devices are ours only inside them.
    pub networks: Vec<IpNetwork>,
    /// Pod networks that this node was in before, as long as something of that may be left: what was ours there is to go.
    pub former: Vec<IpNetwork>,
}

/// A VXLAN device of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The tunnel.
    pub vxlan: Vxlan,
    /// In bytes.
    pub mtu: u32,
    /// The VTEP's MAC, as published in our lease.
    pub mac: Mac,
    /// The addresses inside the pod networks that it should carry, and no others.
    pub addresses: BTreeSet<IpNetwork>,
}

/// Where a route of ours leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hop {
    /// Through one of our devices, the gateway taken as directly reachable (`onlink`).
    Tunnel {
        /// The device's name.
        device: String,
        /// The peer's VTEP address: its subnet's first number.
        gateway: IpAddr,
    },
    /// To another host without a tunnel.
    Uplink {
        /// The uplink.
        link: LinkIndex,
        /// The peer's public address.
        gateway: IpAddr,
    },
    /// To nowhere: packets for pods of ours that do not exist end here.
    Blackhole,
}

/// How something desired differs from what was desired before; `None` stands for what is no longer wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Alteration {
    /// As in [`Desired::routes`].
    pub routes: BTreeMap<IpNetwork, Option<Hop>>,
    /// As in [`Desired::neighbours`].
    pub neighbours: BTreeMap<(String, IpAddr), Option<Mac>>,
    /// As in [`Desired::fdb`].
    pub fdb: BTreeMap<(String, Mac), Option<IpAddr>>,
}

impl Alteration {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty() && self.neighbours.is_empty() && self.fdb.is_empty()
    }

    /// Takes in what came later.
    pub fn extend(&mut self, later: Self) {
        self.routes.extend(later.routes);
        self.neighbours.extend(later.neighbours);
        self.fdb.extend(later.fdb);
    }

    /// What takes it back: the same entries as they are in `desired` before it.
    pub fn back_to(&self, desired: &Desired) -> Self {
        Self {
            routes: before(&self.routes, &desired.routes),
            neighbours: before(&self.neighbours, &desired.neighbours),
            fdb: before(&self.fdb, &desired.fdb),
        }
    }

    /// Makes the difference.
    pub fn apply_to(self, desired: &mut Desired) {
        apply(self.routes, &mut desired.routes);
        apply(self.neighbours, &mut desired.neighbours);
        apply(self.fdb, &mut desired.fdb);
    }
}

fn before<K: Ord + Clone, V: Clone>(
    alteration: &BTreeMap<K, Option<V>>,
    entries: &BTreeMap<K, V>,
) -> BTreeMap<K, Option<V>> {
    let keys = alteration.keys().cloned();
    keys.map(|key| {
        let value = entries.get(&key).cloned();
        (key, value)
    })
    .collect()
}

fn apply<K: Ord, V>(alteration: BTreeMap<K, Option<V>>, entries: &mut BTreeMap<K, V>) {
    for (key, value) in alteration {
        match value {
            Some(value) => drop(entries.insert(key, value)),
            None => drop(entries.remove(&key)),
        }
    }
}

impl Desired {
    /// Whether `address` lies in one of the pod networks, or in one that was.
    pub fn claims(&self, address: IpAddr) -> bool {
        self.networks
            .iter()
            .chain(&self.former)
            .any(|network| network.contains(address))
    }
}
