//! Neighbours: which Ethernet address an IP address on a link has. FDB entries have the same message and are in
//! [`crate::fdb`].

use std::{fmt, net::IpAddr};

use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage,
};

use crate::{
    address::AddressFamily,
    attr::{Attribute, Attributes},
    link::LinkIndex,
    mac::Mac,
};

/// An entry of a link's neighbour table (ARP or neighbour discovery).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The link.
    pub link: LinkIndex,
    /// The neighbour's address.
    pub address: IpAddr,
    /// Its Ethernet address; none while the kernel is still asking.
    pub mac: Option<Mac>,
    /// How sure the kernel is.
    pub state: NeighbourState,
    /// Whether this host answers on the link for the address, which is somewhere else (proxy ARP, and proxy neighbour
    /// discovery where `proxy_ndp` is on). Such entries are in no dump of the others.
    pub proxy: bool,
}

/// How sure the kernel is of a neighbour (`NUD_*`, linux/neighbour.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NeighbourState {
    /// Set by hand: never asked for and never forgotten.
    Permanent,
    /// Known and lately confirmed. Given like that it works at once and then ages like a learned one.
    Reachable,
    /// Known but not confirmed for a while.
    Stale,
    /// Needs no asking on this kind of link or address, but may be forgotten.
    Noarp,
    /// Any other state, and mixtures.
    Other(u16),
}

impl NeighbourState {
    pub(crate) const fn from_wire(state: u16) -> Self {
        match state {
            0x02 => Self::Reachable,
            0x04 => Self::Stale,
            0x40 => Self::Noarp,
            // Some programs add other bits, which then say nothing any more.
            permanent if permanent & 0x80 != 0 => Self::Permanent,
            other => Self::Other(other),
        }
    }

    pub(crate) const fn to_wire(self) -> u16 {
        match self {
            Self::Reachable => 0x02,
            Self::Stale => 0x04,
            Self::Noarp => 0x40,
            Self::Permanent => 0x80,
            Self::Other(other) => other,
        }
    }
}

impl fmt::Display for NeighbourState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permanent => f.write_str("permanent"),
            Self::Reachable => f.write_str("reachable"),
            Self::Stale => f.write_str("stale"),
            Self::Noarp => f.write_str("noarp"),
            Self::Other(state) => write!(f, "state {state:#x}"),
        }
    }
}

impl Neighbour {
    /// An entry set by hand.
    #[must_use]
    pub const fn permanent(link: LinkIndex, address: IpAddr, mac: Mac) -> Self {
        Self {
            link,
            address,
            mac: Some(mac),
            state: NeighbourState::Permanent,
            proxy: false,
        }
    }

    /// An address for which this host answers on a link.
    #[must_use]
    pub const fn proxy(link: LinkIndex, address: IpAddr) -> Self {
        Self {
            link,
            address,
            mac: None,
            state: NeighbourState::Permanent,
            proxy: true,
        }
    }

    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let entry = Entry::decode(payload)?;
        AddressFamily::from_wire(entry.family)?;
        Some(Self {
            link: entry.link,
            address: entry.destination?,
            mac: entry.mac,
            state: NeighbourState::from_wire(entry.state),
            proxy: entry.flags.contains(NeighbourFlags::Proxy),
        })
    }

    pub(crate) fn encode(&self) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::of(self.address).to_packet();
        message.header.ifindex = self.link.0;
        message.header.state = self.state.to_wire().into();
        if self.proxy {
            message.header.flags = NeighbourFlags::Proxy;
        }
        message.attributes.push(destination(self.address));
        if let Some(Mac(octets)) = self.mac {
            let mac = NeighbourAttribute::LinkLayerAddress(octets.to_vec());
            message.attributes.push(mac);
        }
        message
    }
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.proxy {
            f.write_str("proxy ")?;
        }
        write!(f, "{} dev {}", self.address, self.link)?;
        if let Some(mac) = self.mac {
            write!(f, " lladdr {mac}")?;
        }
        write!(f, " {}", self.state)
    }
}

/// A neighbour or FDB message taken apart, before its family says which it is.
pub(crate) struct Entry {
    pub(crate) family: u8,
    pub(crate) link: LinkIndex,
    pub(crate) state: u16,
    pub(crate) flags: NeighbourFlags,
    pub(crate) destination: Option<IpAddr>,
    pub(crate) mac: Option<Mac>,
    /// Whether a port, a network identifier or a link is named.
    pub(crate) detour: bool,
}

impl Entry {
    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        // struct ndmsg: family, padding (3), index (4), state (2), flags, type
        let header = payload.first_chunk::<12>()?;
        let [family, _, _, _, i0, i1, i2, i3, s0, s1, flags, _] = *header;
        let attributes = Attributes::new(payload.get(header.len()..)?);
        let find = |kind| attributes.clone().find(|attribute| attribute.kind == kind);
        Some(Self {
            family,
            link: LinkIndex(u32::from_ne_bytes([i0, i1, i2, i3])),
            state: u16::from_ne_bytes([s0, s1]),
            flags: NeighbourFlags::from_bits_retain(flags),
            destination: find(NDA_DST).as_ref().and_then(Attribute::ip),
            mac: find(NDA_LLADDR).and_then(|mac| Mac::from_attribute(mac.payload)),
            detour: [NDA_PORT, NDA_VNI, NDA_IFINDEX]
                .into_iter()
                .any(|kind| find(kind).is_some()),
        })
    }
}

pub(crate) fn destination(address: IpAddr) -> NeighbourAttribute {
    NeighbourAttribute::Destination(match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    })
}

// linux/neighbour.h
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_PORT: u16 = 6;
const NDA_VNI: u16 = 7;
const NDA_IFINDEX: u16 = 8;

#[cfg(test)]
mod tests;
