//! Addresses on links.

use std::{fmt, net::IpAddr};

use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use rtnetlink::AddressMessageBuilder;

use crate::{attr::Attributes, link::LinkIndex};

/// One of the two families of IP addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressFamily {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl AddressFamily {
    /// The family an address is of.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }

    /// Length of an address in bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::Ipv4 => 32,
            Self::Ipv6 => 128,
        }
    }

    pub(crate) const fn from_wire(family: u8) -> Option<Self> {
        match family {
            AF_INET => Some(Self::Ipv4),
            AF_INET6 => Some(Self::Ipv6),
            _ => None,
        }
    }

    pub(crate) const fn to_packet(self) -> netlink_packet_route::AddressFamily {
        match self {
            Self::Ipv4 => netlink_packet_route::AddressFamily::Inet,
            Self::Ipv6 => netlink_packet_route::AddressFamily::Inet6,
        }
    }
}

impl fmt::Display for AddressFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        })
    }
}

/// How far an address or the destination of a route is away (`enum rt_scope_t`, linux/rtnetlink.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Anywhere (`ip` says "global").
    #[default]
    Universe,
    /// Within the site; IPv6 only, and of no use any more.
    Site,
    /// On the link itself.
    Link,
    /// On this host.
    Host,
    /// Another number.
    Other(u8),
}

impl Scope {
    pub(crate) const fn from_wire(scope: u8) -> Self {
        match scope {
            0 => Self::Universe,
            200 => Self::Site,
            253 => Self::Link,
            254 => Self::Host,
            other => Self::Other(other),
        }
    }

    pub(crate) const fn to_wire(self) -> u8 {
        match self {
            Self::Universe => 0,
            Self::Site => 200,
            Self::Link => 253,
            Self::Host => 254,
            Self::Other(other) => other,
        }
    }
}

/// An address on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The link.
    pub link: LinkIndex,
    /// The address itself.
    pub address: IpAddr,
    /// Length of the network's prefix in bits.
    pub prefix: u8,
    /// How far it can be used.
    pub scope: Scope,
    /// Whether IPv6 uses it without asking first whether somebody else has it.
    pub nodad: bool,
    /// Whether it comes without the route to its network that the kernel adds otherwise.
    pub noprefixroute: bool,
    /// Observed: new connections should not use it any more.
    pub deprecated: bool,
    /// Observed: it has a lifetime (from a router advertisement or DHCP).
    pub dynamic: bool,
    /// Observed: IPv6 has not yet found out whether somebody else has it, or has found that somebody does.
    pub tentative: bool,
    /// Observed: an IPv6 privacy address that will be replaced by another.
    pub temporary: bool,
}

impl Address {
    /// A lasting address of universal scope.
    #[must_use]
    pub const fn new(link: LinkIndex, address: IpAddr, prefix: u8) -> Self {
        Self {
            link,
            address,
            prefix,
            scope: Scope::Universe,
            nodad: false,
            noprefixroute: false,
            deprecated: false,
            dynamic: false,
            tentative: false,
            temporary: false,
        }
    }

    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        // struct ifaddrmsg: family, prefix length, flags, scope, index (4)
        let [family, prefix, flags, scope, i0, i1, i2, i3] = *payload.first_chunk::<8>()?;
        let family = AddressFamily::from_wire(family)?;
        let mut flags = u32::from(flags);
        let (mut local, mut remote) = (None, None);
        for attribute in Attributes::new(payload.get(8..)?) {
            match attribute.kind {
                IFA_ADDRESS => remote = attribute.ip(),
                IFA_LOCAL => local = attribute.ip(),
                // Eight bits were not enough; these are all of them.
                IFA_FLAGS => flags = attribute.u32().unwrap_or(flags),
                _ => {}
            }
        }
        let flags = AddressFlags::from_bits_retain(flags);
        Some(Self {
            link: LinkIndex(u32::from_ne_bytes([i0, i1, i2, i3])),
            // On a point-to-point link IFA_ADDRESS is the other end; without IFA_LOCAL it is this one.
            address: local.or(remote)?,
            prefix,
            scope: Scope::from_wire(scope),
            nodad: flags.contains(AddressFlags::Nodad),
            noprefixroute: flags.contains(AddressFlags::Noprefixroute),
            deprecated: flags.contains(AddressFlags::Deprecated),
            dynamic: !flags.contains(AddressFlags::Permanent),
            tentative: flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed),
            // The same bit says "secondary" in IPv4.
            temporary: family == AddressFamily::Ipv6 && flags.contains(AddressFlags::Secondary),
        })
    }

    pub(crate) fn encode(&self) -> AddressMessage {
        let LinkIndex(index) = self.link;
        let mut message = match self.address {
            IpAddr::V4(address) => AddressMessageBuilder::<std::net::Ipv4Addr>::new()
                .index(index)
                .address(address, self.prefix.min(32))
                .build(),
            IpAddr::V6(address) => AddressMessageBuilder::<std::net::Ipv6Addr>::new()
                .index(index)
                .address(address, self.prefix.min(128))
                .build(),
        };
        message.header.scope = AddressScope::from(self.scope.to_wire());
        let mut flags = AddressFlags::empty();
        flags.set(AddressFlags::Nodad, self.nodad);
        flags.set(AddressFlags::Noprefixroute, self.noprefixroute);
        if !flags.is_empty() {
            message.attributes.push(AddressAttribute::Flags(flags));
        }
        message
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} dev {}", self.address, self.prefix, self.link)
    }
}

// linux/socket.h
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
// linux/if_addr.h
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;

#[cfg(test)]
mod tests;
