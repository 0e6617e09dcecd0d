//! The network configuration of a cluster: `net-conf.json`, in etcd the value of `<prefix>/config`.
//!
//! Keys, defaults and limits are flannel's (`pkg/subnet/config.go`). Reading the text and planning the subnets of etcd
//! mode are two steps because Kubernetes hands out the subnets itself, and there the limits do not hold.

use serde::de::DeserializeOwned;

use crate::cidr::{IpCidr, Ipv4Cidr, Ipv6Cidr, shortened};
use crate::family::PerFamily;
use crate::json::Members;

mod backend;
mod error;
mod plan;
#[cfg(test)]
mod tests;

pub use backend::{Backend, Vni, VxlanBackend};
pub use error::NetConfError;
pub use plan::{SubnetPlan, SubnetRange};

use plan::{Limits, Rules, V4, V6, plan};

/// More than this is no network configuration; etcd itself takes 1.5 MiB.
const LONGEST: usize = 256 * 1024;

/// A network configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetConf {
    /// The network of every family that is switched on; at least one.
    pub networks: PerFamily<Ipv4Cidr, Ipv6Cidr>,
    /// How hosts reach each other.
    pub backend: Backend,
    /// Whether the text leaves the backend out. Flannel's documents then promise vxlan while its code takes udp, so the
    /// daemon should say what it does.
    pub backend_defaulted: bool,
    /// `EnableNFTables`, if given.
    pub enable_nftables: Option<bool>,
    lengths: PerFamily<u32, u32>,
    limits: PerFamily<Limits<Ipv4Cidr>, Limits<Ipv6Cidr>>,
}

impl NetConf {
    /// Reads a network configuration.
    ///
    /// # Errors
    ///
    /// Any [`NetConfError`] but those on subnet lengths and limits, which only [`Self::subnet_plan`] looks at.
    pub fn parse(text: &[u8]) -> Result<Self, NetConfError> {
        if text.len() > LONGEST {
            return Err(NetConfError::TooLong { bytes: text.len() });
        }
        let members = Members::parse(text).map_err(|error| NetConfError::NotJson {
            reason: shortened(&error.to_string()),
        })?;
        let networks = PerFamily {
            v4: network(&members, &V4, switch(&members, V4.switch)?.unwrap_or(true))?,
            v6: network(&members, &V6, switch(&members, V6.switch)?.unwrap_or(false))?,
        };
        if networks.is_empty() {
            return Err(NetConfError::NoFamily);
        }
        let (backend, backend_defaulted) = match Backend::parse(&members)? {
            Some(backend) => (backend, false),
            None => (Backend::Vxlan(VxlanBackend::default()), true),
        };
        Ok(Self {
            networks,
            backend,
            backend_defaulted,
            enable_nftables: switch(&members, "EnableNFTables")?,
            lengths: PerFamily {
                v4: length(&members, &V4)?,
                v6: length(&members, &V6)?,
            },
            limits: PerFamily {
                v4: limits(&members, &V4)?,
                v6: limits(&members, &V6)?,
            },
        })
    }

    /// The subnets that hosts choose from where nobody else hands them out: in etcd mode.
    ///
    /// # Errors
    ///
    /// [`NetConfError::NetworkTooSmall`], [`NetConfError::SubnetLength`], [`NetConfError::OutsideNetwork`],
    /// [`NetConfError::NotAligned`], [`NetConfError::MinBehindMax`].
    pub fn subnet_plan(&self) -> Result<SubnetPlan, NetConfError> {
        let v4 = self
            .networks
            .v4
            .map(|network| plan(&V4, network, self.lengths.v4, self.limits.v4));
        let v6 = self
            .networks
            .v6
            .map(|network| plan(&V6, network, self.lengths.v6, self.limits.v6));
        Ok(PerFamily {
            v4: v4.transpose()?,
            v6: v6.transpose()?,
        })
    }
}

fn network<C: IpCidr>(
    members: &Members,
    rules: &Rules,
    enabled: bool,
) -> Result<Option<C>, NetConfError> {
    if !enabled {
        return Ok(None);
    }
    let key = rules.network;
    let Some(text) = member::<String>(members, key, "a subnet in quotes")? else {
        return Err(NetConfError::MissingNetwork {
            key,
            switch: rules.switch,
        });
    };
    // Host bits are cleared, as flannel does.
    C::parse_masked(&text)
        .map(Some)
        .map_err(|reason| NetConfError::BadNetwork { key, reason })
}

fn switch(members: &Members, key: &'static str) -> Result<Option<bool>, NetConfError> {
    member(members, key, "true or false")
}

fn length(members: &Members, rules: &Rules) -> Result<Option<u32>, NetConfError> {
    let length = member(
        members,
        rules.length,
        "a prefix length, a number without quotes",
    )?;
    // Zero is how Go spells "not given".
    Ok(length.filter(|&length| length != 0))
}

fn limits<C: IpCidr>(members: &Members, rules: &Rules) -> Result<Option<Limits<C>>, NetConfError> {
    let min = address::<C>(members, rules.min, rules.address)?;
    let max = address::<C>(members, rules.max, rules.address)?;
    Ok(Some(Limits { min, max }))
}

fn address<C: IpCidr>(
    members: &Members,
    key: &'static str,
    expected: &'static str,
) -> Result<Option<C::Address>, NetConfError> {
    let Some(text) = member::<String>(members, key, expected)? else {
        return Ok(None);
    };
    match text.parse::<C::Address>() {
        // The zero address is how Go spells "not given".
        Ok(address) => Ok(Some(address).filter(|&address| C::bits_of(address) != 0)),
        Err(_) => Err(NetConfError::WrongType {
            key,
            expected,
            found: format!("\"{}\"", shortened(&text)),
        }),
    }
}

fn member<T: DeserializeOwned>(
    members: &Members,
    key: &'static str,
    expected: &'static str,
) -> Result<Option<T>, NetConfError> {
    members.value(key).map_err(|found| NetConfError::WrongType {
        key,
        expected,
        found,
    })
}
