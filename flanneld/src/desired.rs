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
}

/// A VXLAN device of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What cannot be changed after creation.
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

impl Desired {
    /// Whether `address` lies in one of the pod networks.
    pub fn owns(&self, address: IpAddr) -> bool {
        self.networks
            .iter()
            .any(|network| network.contains(address))
    }
}
