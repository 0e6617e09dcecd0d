//! Subnets of both families: a network address with a prefix length, and the arithmetic on them.
//!
//! The types wrap those of `ipnetwork` because ours never carry host bits: two equal subnets are equal values,
//! and whether host bits are an error or are cleared is decided once, where a text is parsed.

use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[cfg(test)]
mod tests;

/// Why a text or a pair of address and prefix length is not a subnet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// The part before the slash is no address of the expected family.
    #[error("\"{text}\" does not start with an {family} address; write it like {example}")]
    Address {
        /// The text as given.
        text: String,
        /// The expected family.
        family: &'static str,
        /// A subnet in the right form.
        example: &'static str,
    },
    /// Bits are set behind the prefix.
    #[error("{address}/{prefix} is an address within a subnet; the subnet itself is {subnet}")]
    HostBits {
        /// The address as given.
        address: IpAddr,
        /// The prefix length as given.
        prefix: u8,
        /// The same with the host bits cleared.
        subnet: Cidr,
    },
    /// There is no slash, or no number behind it.
    #[error("\"{text}\" has no prefix length; write it like {example}")]
    NoPrefix {
        /// The text as given.
        text: String,
        /// A subnet in the right form.
        example: &'static str,
    },
    /// The prefix is longer than the address.
    #[error("the prefix length of \"{text}\" is more than {longest}, the length of the address")]
    PrefixTooLong {
        /// The text as given.
        text: String,
        /// Bits of an address of this family.
        longest: u8,
    },
}

mod sealed {
    pub trait Sealed {}
}

/// What the subnets of both families have in common, for code that is the same for both.
pub trait IpCidr:
    sealed::Sealed + Copy + Ord + Hash + fmt::Debug + fmt::Display + FromStr<Err = CidrError>
{
    /// The address type of the family.
    type Address: Copy + Ord + Hash + fmt::Debug + fmt::Display + FromStr + Into<IpAddr>;

    /// Length of an address in bits.
    const BITS: u8;

    /// "IPv4" or "IPv6".
    const FAMILY: &'static str;

    /// The subnet of this prefix length in which the address with this number lies.
    ///
    /// A prefix longer than the address is taken as one of full length.
    fn from_bits(bits: u128, prefix: u8) -> Self;

    /// The number of an address.
    fn bits_of(address: Self::Address) -> u128;

    /// The number of the network address.
    fn bits(self) -> u128;

    /// The prefix length.
    fn prefix(self) -> u8;

    /// The number of the last address.
    fn last_bits(self) -> u128 {
        self.bits() | host_mask(Self::BITS, self.prefix())
    }

    /// Whether every address of `other` is one of ours too.
    fn covers(self, other: Self) -> bool {
        self.bits() <= other.bits() && other.last_bits() <= self.last_bits()
    }

    /// Whether the two have an address in common.
    fn overlaps(self, other: Self) -> bool {
        self.bits() <= other.last_bits() && other.bits() <= self.last_bits()
    }
}

macro_rules! family {
    ($name:ident, $address:ident, $network:ident, $number:ident, $bits:literal, $family:literal, $example:literal) => {
        #[doc = concat!("An ", $family, " subnet: network address and prefix length, host bits clear.")]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($network);

        impl $name {
            /// The subnet with exactly this network address.
            ///
            /// # Errors
            ///
            /// [`CidrError::HostBits`] if the address is not the first of the subnet, [`CidrError::PrefixTooLong`].
            pub fn new(address: $address, prefix: u8) -> Result<Self, CidrError> {
                let subnet = Self::masked(address, prefix)?;
                if subnet.network() != address {
                    return Err(CidrError::HostBits {
                        address: address.into(),
                        prefix,
                        subnet: subnet.into(),
                    });
                }
                Ok(subnet)
            }

            /// The subnet in which the address lies; host bits are cleared.
            ///
            /// # Errors
            ///
            /// [`CidrError::PrefixTooLong`].
            pub fn masked(address: $address, prefix: u8) -> Result<Self, CidrError> {
                if prefix > $bits {
                    let text = format!("{address}/{prefix}");
                    return Err(CidrError::PrefixTooLong {
                        text,
                        longest: $bits,
                    });
                }
                Ok(Self::from_bits(address.to_bits().into(), prefix))
            }

            /// Reads `address/prefix` and clears the host bits.
            ///
            /// # Errors
            ///
            /// Any [`CidrError`] but [`CidrError::HostBits`].
            pub fn parse_masked(text: &str) -> Result<Self, CidrError> {
                let (address, prefix) = split::<$address>(text, $family, $example)?;
                Self::masked(address, prefix)
            }

            /// The network address, the first of the subnet.
            #[must_use]
            pub fn network(self) -> $address {
                self.0.ip()
            }

            /// The prefix length.
            #[must_use]
            pub fn prefix(self) -> u8 {
                self.0.prefix()
            }

            /// The first address behind the network address: the node's own one in its subnet.
            ///
            /// A subnet of one address has only that.
            #[must_use]
            pub fn first_address(self) -> $address {
                $address::from_bits(self.network().to_bits() | $number::from(self.prefix() < $bits))
            }

            /// The last address, in IPv4 the broadcast address.
            #[must_use]
            pub fn last(self) -> $address {
                self.0.broadcast()
            }

            /// Whether the address lies in the subnet.
            #[must_use]
            pub fn contains(self, address: $address) -> bool {
                self.0.contains(address)
            }

            /// Whether every address of `other` is one of ours too.
            #[must_use]
            pub fn covers(self, other: Self) -> bool {
                IpCidr::covers(self, other)
            }

            /// Whether the two have an address in common.
            #[must_use]
            pub fn overlaps(self, other: Self) -> bool {
                IpCidr::overlaps(self, other)
            }

            /// The subnet of the same size right behind this one; none behind the last.
            #[must_use]
            pub fn next(self) -> Option<Self> {
                let next = self.last().to_bits().checked_add(1)?;
                Some(Self::from_bits(next.into(), self.prefix()))
            }

            /// The subnet of the same size right before this one; none before the first.
            #[must_use]
            pub fn previous(self) -> Option<Self> {
                let previous = self.network().to_bits().checked_sub(1)?;
                Some(Self::from_bits(previous.into(), self.prefix()))
            }
        }

        impl sealed::Sealed for $name {}

        impl IpCidr for $name {
            type Address = $address;

            const BITS: u8 = $bits;
            const FAMILY: &'static str = $family;

            fn from_bits(bits: u128, prefix: u8) -> Self {
                let prefix = prefix.min($bits);
                let network = $address::from_bits((bits & !host_mask($bits, prefix)) as $number);
                // Only a prefix that is too long would be refused, and it is not.
                Self($network::new_checked(network, prefix).unwrap_or($network::from(network)))
            }

            fn bits_of(address: $address) -> u128 {
                address.to_bits().into()
            }

            fn bits(self) -> u128 {
                self.network().to_bits().into()
            }

            fn prefix(self) -> u8 {
                self.0.prefix()
            }
        }

        impl FromStr for $name {
            type Err = CidrError;

            fn from_str(text: &str) -> Result<Self, CidrError> {
                let (address, prefix) = split::<$address>(text, $family, $example)?;
                Self::new(address, prefix)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", self.network(), self.prefix())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl From<$name> for $network {
            fn from(subnet: $name) -> Self {
                subnet.0
            }
        }

        impl From<$name> for IpNetwork {
            fn from(subnet: $name) -> Self {
                subnet.0.into()
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

family!(
    Ipv4Cidr,
    Ipv4Addr,
    Ipv4Network,
    u32,
    32,
    "IPv4",
    "10.244.0.0/16"
);
family!(
    Ipv6Cidr,
    Ipv6Addr,
    Ipv6Network,
    u128,
    128,
    "IPv6",
    "fd00:10:244::/48"
);

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

/// All bits behind the prefix.
fn host_mask(bits: u8, prefix: u8) -> u128 {
    match bits.saturating_sub(prefix) {
        128.. => u128::MAX,
        host_bits => (1 << host_bits) - 1,
    }
}

/// Splits `address/prefix`. Unlike `ipnetwork` this takes neither a bare address nor a netmask, as Go's parser does not.
fn split<A: FromStr>(
    text: &str,
    family: &'static str,
    example: &'static str,
) -> Result<(A, u8), CidrError> {
    let Some((address, prefix)) = text.split_once('/') else {
        let text = shortened(text);
        return Err(match text.parse::<A>() {
            Ok(_) => CidrError::NoPrefix { text, example },
            Err(_) => CidrError::Address {
                text,
                family,
                example,
            },
        });
    };
    let Ok(address) = address.parse() else {
        let text = shortened(text);
        return Err(CidrError::Address {
            text,
            family,
            example,
        });
    };
    let Some(prefix) = prefix_length(prefix) else {
        let text = shortened(text);
        return Err(CidrError::NoPrefix { text, example });
    };
    Ok((address, prefix))
}

/// A decimal number without sign and without leading zeros; one that is too great for any family becomes 255.
pub(crate) fn prefix_length(text: &str) -> Option<u8> {
    if text.is_empty() || text.len() > 3 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if text.len() > 1 && text.starts_with('0') {
        return None;
    }
    Some(text.parse().unwrap_or(u8::MAX))
}

/// Texts from outside end up in error messages, so they are cut to a length that fits a log line and kept on one.
pub(crate) fn shortened(text: &str) -> String {
    const LONGEST: usize = 100;
    let mut shortened = String::new();
    for (place, character) in text.chars().enumerate() {
        if place == LONGEST {
            shortened.push('…');
            break;
        }
        if character.is_control() {
            shortened.extend(character.escape_default());
        } else {
            shortened.push(character);
        }
    }
    shortened
}
