//! The last part of a lease's key in etcd: `10.5.52.0-24`, or `10.5.52.0-24&fd00:10:5::-64` with both families.

use std::fmt;
use std::str::FromStr;

use crate::cidr::{CidrError, IpCidr, Ipv4Cidr, Ipv6Cidr, prefix_length, shortened};
use crate::family::Subnets;

#[cfg(test)]
mod tests;

/// The subnets of a node, at least one, as the key of its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseKey(Subnets);

/// Why a text is not the key of a lease.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseKeyError {
    /// The text has another form.
    #[error(
        "\"{key}\" is not the key of a lease, which looks like 10.5.52.0-24 or 10.5.52.0-24&fd00:10:5::-64"
    )]
    Malformed {
        /// The text, cut when long.
        key: String,
    },
    /// The form is right but a part of it is no subnet.
    #[error("\"{key}\" is not the key of a lease: {reason}")]
    NoSubnet {
        /// The text, cut when long.
        key: String,
        /// What is wrong.
        reason: CidrError,
    },
}

/// Stands in the place of the IPv4 subnet on a node that has only IPv6, because flannel's form has no other way.
const NO_IPV4: &str = "0.0.0.0-0";

/// The greatest length of flannel's parser: it reads 5 bits for IPv4 and 7 for IPv6.
const LONGEST_V4: u8 = 31;
const LONGEST_V6: u8 = 127;

impl LeaseKey {
    /// The key of a node with these subnets; `None` if there are none.
    #[must_use]
    pub fn new(subnets: Subnets) -> Option<Self> {
        (!subnets.is_empty()).then_some(Self(subnets))
    }

    /// The node's subnets.
    #[must_use]
    pub fn subnets(&self) -> Subnets {
        self.0
    }
}

impl FromStr for LeaseKey {
    type Err = LeaseKeyError;

    fn from_str(key: &str) -> Result<Self, LeaseKeyError> {
        let malformed = || LeaseKeyError::Malformed {
            key: shortened(key),
        };
        let (v4, v6) = match key.split_once('&') {
            Some((v4, v6)) => (v4, Some(v6)),
            None => (key, None),
        };
        let v4 = match v4 {
            NO_IPV4 => None,
            v4 => Some(subnet::<Ipv4Cidr>(v4, LONGEST_V4).ok_or_else(malformed)?),
        };
        let v6 = v6
            .map(|v6| subnet::<Ipv6Cidr>(v6, LONGEST_V6).ok_or_else(malformed))
            .transpose()?;
        let named = |reason| LeaseKeyError::NoSubnet {
            key: shortened(key),
            reason,
        };
        let subnets = Subnets {
            v4: v4.transpose().map_err(named)?,
            v6: v6.transpose().map_err(named)?,
        };
        Self::new(subnets).ok_or_else(malformed)
    }
}

impl fmt::Display for LeaseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.v4 {
            Some(v4) => write!(f, "{}-{}", v4.network(), v4.prefix())?,
            None => f.write_str(NO_IPV4)?,
        }
        match self.0.v6 {
            Some(v6) => write!(f, "&{}-{}", v6.network(), v6.prefix()),
            None => Ok(()),
        }
    }
}

/// `None` for another form than `address-length`, an error for an address inside a subnet.
fn subnet<C: IpCidr>(text: &str, longest: u8) -> Option<Result<C, CidrError>> {
    let (address, prefix) = text.split_once('-')?;
    let address = address.parse::<C::Address>().ok()?;
    let prefix = prefix_length(prefix).filter(|&prefix| prefix <= longest)?;
    Some(format!("{address}/{prefix}").parse())
}
