//! Sets and maps of ports, looked up by exact value: how they are written as the keys and data of the kernel's elements.
//!
//! A key of several values has each of them padded to four bytes, as the kernel's registers hold them; `nft` knows what they are by
//! the numbers of their types, six bits each.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use super::ruleset::{Protocol, SetKind};

/// A named set of ports, or a map that leads from ports to other addresses and ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Its name, unique in the table among these and the sets.
    pub name: String,
    /// The family of all addresses in it; one of the other family is an error when the table is compiled.
    pub kind: SetKind,
    /// What is in it.
    pub entries: Entries,
}

/// What a [`Ports`] holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entries {
    /// `type inet_proto . inet_service`
    Set(BTreeSet<Port>),
    /// `type inet_proto . inet_service : ipv4_addr . inet_service`
    Targets(BTreeMap<Port, SocketAddr>),
    /// `type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service`
    TargetsByAddress(BTreeMap<(IpAddr, Port), SocketAddr>),
}

/// A port of a transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// The protocol.
    pub protocol: Protocol,
    /// The port's number.
    pub number: u16,
}

impl Ports {
    /// The addresses in it.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        match &self.entries {
            Entries::Set(_) => Vec::new(),
            Entries::Targets(targets) => targets.values().map(SocketAddr::ip).collect(),
            Entries::TargetsByAddress(targets) => targets
                .iter()
                .flat_map(|((address, _), target)| [*address, target.ip()])
                .collect(),
        }
    }

    /// Whether the key begins with the packet's destination address.
    pub(super) const fn by_address(&self) -> bool {
        matches!(self.entries, Entries::TargetsByAddress(_))
    }

    /// Whether it leads elsewhere.
    pub(super) const fn is_map(&self) -> bool {
        !matches!(self.entries, Entries::Set(_))
    }

    /// The number `nft` has for the type of the key, and its length in bytes.
    pub(super) const fn key(&self) -> (u32, u32) {
        let port = (TYPE_INET_PROTOCOL << TYPE_BITS) | TYPE_INET_SERVICE;
        if self.by_address() {
            let (address, length) = address_type(self.kind);
            ((address << (2 * TYPE_BITS)) | port, length + 8)
        } else {
            (port, 8)
        }
    }

    /// The same for what a map leads to; nothing for a set.
    pub(super) const fn data(&self) -> Option<(u32, u32)> {
        if !self.is_map() {
            return None;
        }
        let (address, length) = address_type(self.kind);
        Some(((address << TYPE_BITS) | TYPE_INET_SERVICE, length + 4))
    }

    /// Keys and data as the kernel keeps them; no data in a set.
    pub(super) fn elements(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        match &self.entries {
            Entries::Set(ports) => ports
                .iter()
                .map(|port| (port_key(*port), Vec::new()))
                .collect(),
            Entries::Targets(targets) => targets
                .iter()
                .map(|(port, target)| (port_key(*port), target_data(*target)))
                .collect(),
            Entries::TargetsByAddress(targets) => targets
                .iter()
                .map(|((address, port), target)| {
                    let mut key = octets(*address);
                    key.extend(port_key(*port));
                    (key, target_data(*target))
                })
                .collect(),
        }
    }
}

/// The number and the length of an address.
pub(super) const fn address_type(kind: SetKind) -> (u32, u32) {
    match kind {
        SetKind::Ipv4 => (TYPE_IPADDR, 4),
        SetKind::Ipv6 => (TYPE_IP6ADDR, 16),
    }
}

pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn port_key(port: Port) -> Vec<u8> {
    let [high, low] = port.number.to_be_bytes();
    vec![port.protocol.0, 0, 0, 0, high, low, 0, 0]
}

fn target_data(target: SocketAddr) -> Vec<u8> {
    let mut data = octets(target.ip());
    let [high, low] = target.port().to_be_bytes();
    data.extend([high, low, 0, 0]);
    data
}

// How `nft` numbers the types of values (`enum datatypes`), and joins them.
const TYPE_IPADDR: u32 = 7;
const TYPE_IP6ADDR: u32 = 8;
const TYPE_INET_PROTOCOL: u32 = 12;
const TYPE_INET_SERVICE: u32 = 13;
const TYPE_BITS: u32 = 6;

#[cfg(test)]
mod tests;
