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

mod either;
#[cfg(test)]
mod tests;
mod text;

pub use either::Cidr;
pub use text::CidrError;
pub(crate) use text::{on_one_line, prefix_length, shortened};

use text::split;

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

    /// Reads `address/prefix` and clears the host bits.
    ///
    /// # Errors
    ///
    /// Any [`CidrError`] but [`CidrError::HostBits`].
    fn parse_masked(text: &str) -> Result<Self, CidrError>;

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
                IpCidr::parse_masked(text)
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

            fn parse_masked(text: &str) -> Result<Self, CidrError> {
                let (address, prefix) = split::<$address>(text, $family, $example)?;
                Self::masked(address, prefix)
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

/// All bits behind the prefix.
fn host_mask(bits: u8, prefix: u8) -> u128 {
    match bits.saturating_sub(prefix) {
        128.. => u128::MAX,
        host_bits => (1 << host_bits) - 1,
    }
}
