//! A subnet of either family, where both are treated alike.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{CidrError, IpCidr, Ipv4Cidr, Ipv6Cidr};

/// A subnet of either family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cidr {
    /// IPv4.
    V4(Ipv4Cidr),
    /// IPv6.
    V6(Ipv6Cidr),
}

impl Cidr {
    /// The subnet with exactly this network address.
    ///
    /// # Errors
    ///
    /// [`CidrError::HostBits`] if the address is not the first of the subnet, [`CidrError::PrefixTooLong`].
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, CidrError> {
        match address {
            IpAddr::V4(address) => Ipv4Cidr::new(address, prefix).map(Self::V4),
            IpAddr::V6(address) => Ipv6Cidr::new(address, prefix).map(Self::V6),
        }
    }

    /// The subnet in which the address lies; host bits are cleared.
    ///
    /// # Errors
    ///
    /// [`CidrError::PrefixTooLong`].
    pub fn masked(address: IpAddr, prefix: u8) -> Result<Self, CidrError> {
        match address {
            IpAddr::V4(address) => Ipv4Cidr::masked(address, prefix).map(Self::V4),
            IpAddr::V6(address) => Ipv6Cidr::masked(address, prefix).map(Self::V6),
        }
    }

    /// Reads `address/prefix` and clears the host bits.
    ///
    /// # Errors
    ///
    /// Any [`CidrError`] but [`CidrError::HostBits`].
    pub fn parse_masked(text: &str) -> Result<Self, CidrError> {
        if text.contains(':') {
            Ipv6Cidr::parse_masked(text).map(Self::V6)
        } else {
            Ipv4Cidr::parse_masked(text).map(Self::V4)
        }
    }

    /// The network address, the first of the subnet.
    #[must_use]
    pub fn network(self) -> IpAddr {
        match self {
            Self::V4(subnet) => subnet.network().into(),
            Self::V6(subnet) => subnet.network().into(),
        }
    }

    /// The prefix length.
    #[must_use]
    pub fn prefix(self) -> u8 {
        match self {
            Self::V4(subnet) => subnet.prefix(),
            Self::V6(subnet) => subnet.prefix(),
        }
    }

    /// The first address behind the network address; a subnet of one address has only that.
    #[must_use]
    pub fn first_address(self) -> IpAddr {
        match self {
            Self::V4(subnet) => subnet.first_address().into(),
            Self::V6(subnet) => subnet.first_address().into(),
        }
    }

    /// The last address, in IPv4 the broadcast address.
    #[must_use]
    pub fn last(self) -> IpAddr {
        match self {
            Self::V4(subnet) => subnet.last().into(),
            Self::V6(subnet) => subnet.last().into(),
        }
    }

    /// Length of an address of this family in bits: the prefix length of a host route.
    #[must_use]
    pub fn address_bits(self) -> u8 {
        match self {
            Self::V4(_) => Ipv4Cidr::BITS,
            Self::V6(_) => Ipv6Cidr::BITS,
        }
    }

    /// Whether the address lies in the subnet; one of the other family does not.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::V4(subnet), IpAddr::V4(address)) => subnet.contains(address),
            (Self::V6(subnet), IpAddr::V6(address)) => subnet.contains(address),
            _ => false,
        }
    }

    /// Whether every address of `other` is one of ours too.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        match (self, other) {
            (Self::V4(ours), Self::V4(theirs)) => ours.covers(theirs),
            (Self::V6(ours), Self::V6(theirs)) => ours.covers(theirs),
            _ => false,
        }
    }

    /// Whether the two have an address in common.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        match (self, other) {
            (Self::V4(ours), Self::V4(theirs)) => ours.overlaps(theirs),
            (Self::V6(ours), Self::V6(theirs)) => ours.overlaps(theirs),
            _ => false,
        }
    }

    /// Whether this is an IPv4 subnet.
    #[must_use]
    pub fn is_v4(self) -> bool {
        matches!(self, Self::V4(_))
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        if text.contains(':') {
            text.parse().map(Self::V6)
        } else {
            text.parse().map(Self::V4)
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(subnet) => subnet.fmt(f),
            Self::V6(subnet) => subnet.fmt(f),
        }
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Ipv4Cidr> for Cidr {
    fn from(subnet: Ipv4Cidr) -> Self {
        Self::V4(subnet)
    }
}

impl From<Ipv6Cidr> for Cidr {
    fn from(subnet: Ipv6Cidr) -> Self {
        Self::V6(subnet)
    }
}

impl From<Cidr> for IpNetwork {
    fn from(subnet: Cidr) -> Self {
        match subnet {
            Cidr::V4(subnet) => subnet.into(),
            Cidr::V6(subnet) => subnet.into(),
        }
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
