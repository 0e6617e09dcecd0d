//! The network configuration of a cluster: `net-conf.json`, in etcd the value of `<prefix>/config`.
//!
//! Keys, defaults and limits are flannel's (`pkg/subnet/config.go`). Reading the text and planning the subnets of etcd
//! mode are two steps because Kubernetes hands out the subnets itself, and there the limits do not hold.

use std::net::IpAddr;

use serde::de::DeserializeOwned;

use crate::cidr::{Cidr, CidrError, IpCidr, Ipv4Cidr, Ipv6Cidr, shortened};
use crate::family::PerFamily;
use crate::json::Members;

mod backend;
#[cfg(test)]
mod tests;

pub use backend::{Backend, Vni, VxlanBackend};

/// More than this is no network configuration; etcd itself takes 1.5 MiB.
const LONGEST: usize = 256 * 1024;

/// Why a network configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetConfError {
    /// `Network` or `IPv6Network` is no subnet.
    #[error("{key} of the network configuration is wrong: {reason}")]
    BadNetwork {
        /// The key.
        key: &'static str,
        /// What is wrong with the value.
        reason: CidrError,
    },
    /// There is a backend object without a type.
    #[error(
        "the network configuration has a Backend without Type; add for example \"Type\": \"vxlan\" to it"
    )]
    BackendWithoutType,
    /// A first and a last subnet in the wrong order.
    #[error(
        "{min_key} {min} lies behind {max_key} {max}, which leaves no subnet; exchange or correct them"
    )]
    MinBehindMax {
        /// The key of the first subnet.
        min_key: &'static str,
        /// The first subnet.
        min: Cidr,
        /// The key of the last subnet.
        max_key: &'static str,
        /// The last subnet.
        max: Cidr,
    },
    /// A family is switched on without a network.
    #[error(
        "the network configuration has no {key}; add it, or switch that family off with {switch}: false"
    )]
    MissingNetwork {
        /// The key that is missing.
        key: &'static str,
        /// The key that switches the family.
        switch: &'static str,
    },
    /// A network in which no two subnets fit.
    #[error(
        "{key} {network} is too small to give every host a subnet; it must be /{longest} or larger"
    )]
    NetworkTooSmall {
        /// The key of the network.
        key: &'static str,
        /// The network.
        network: Cidr,
        /// The longest prefix that does.
        longest: u8,
    },
    /// Both families are switched off.
    #[error(
        "the network configuration switches both IPv4 and IPv6 off; set EnableIPv4 or EnableIPv6 to true"
    )]
    NoFamily,
    /// A first or last subnet that is none of the given length.
    #[error(
        "{key} {address} is no subnet of length {length}; the one it lies in begins at {subnet}"
    )]
    NotAligned {
        /// The key.
        key: &'static str,
        /// The address as given.
        address: IpAddr,
        /// The length of the subnets.
        length: u8,
        /// The network address it should be.
        subnet: IpAddr,
    },
    /// The text is not a JSON object.
    #[error("the network configuration is not a JSON object: {reason}")]
    NotJson {
        /// What the parser says.
        reason: String,
    },
    /// A first or last subnet outside the network.
    #[error(
        "{key} {address} lies outside the network {network}; choose one within it or leave the key out"
    )]
    OutsideNetwork {
        /// The key.
        key: &'static str,
        /// The address as given.
        address: IpAddr,
        /// The network.
        network: Cidr,
    },
    /// A subnet length that leaves no room for subnets, or none for pods.
    #[error(
        "{key} {length} does not fit network {network}; it must be from {shortest} to {longest}"
    )]
    SubnetLength {
        /// The key.
        key: &'static str,
        /// The length as given.
        length: u32,
        /// The network.
        network: Cidr,
        /// The shortest prefix that does: the network must hold more than two subnets.
        shortest: u8,
        /// The longest that does: a subnet needs an address for the tunnel and one for the bridge.
        longest: u8,
    },
    /// The text is longer than any network configuration.
    #[error(
        "the network configuration has {bytes} bytes, more than the {LONGEST} that are read; check what was stored"
    )]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A backend that nobody knows.
    #[error("backend \"{name}\" is unknown; use vxlan, host-gw or alloc")]
    UnknownBackend {
        /// Its name as given.
        name: String,
    },
    /// A backend of flannel that Loden does not do.
    #[error("backend \"{name}\" is not available in Loden; {instead}")]
    UnsupportedBackend {
        /// Its name.
        name: &'static str,
        /// What to use.
        instead: &'static str,
    },
    /// A value is not of the type or in the limits of its key.
    #[error("{key} of the network configuration must be {expected}, not {found}")]
    WrongType {
        /// The key.
        key: &'static str,
        /// What belongs there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
}

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

/// `SubnetMin` and `SubnetMax` as given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits<C: IpCidr> {
    min: Option<C::Address>,
    max: Option<C::Address>,
}

/// The subnets of one length from which every host gets one. Only [`NetConf::subnet_plan`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubnetRange<C> {
    /// The network they lie in.
    pub network: C,
    /// The first.
    pub min: C,
    /// The last, of the same length as the first.
    pub max: C,
}

/// The subnets to choose from in each family.
pub type SubnetPlan = PerFamily<SubnetRange<Ipv4Cidr>, SubnetRange<Ipv6Cidr>>;

impl<C: IpCidr> SubnetRange<C> {
    /// Length of the subnets' prefix.
    pub fn length(&self) -> u8 {
        self.min.prefix()
    }

    /// Whether this is one of the subnets.
    pub fn contains(&self, subnet: C) -> bool {
        subnet.prefix() == self.length() && self.min <= subnet && subnet <= self.max
    }
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

/// The keys and limits of a family. The limits are those of flannel's `CheckNetworkConfig`.
struct Rules {
    network: &'static str,
    switch: &'static str,
    length: &'static str,
    min: &'static str,
    max: &'static str,
    address: &'static str,
    /// The length unless the network is too small for it.
    default_length: u8,
    longest_length: u8,
    smallest_network: u8,
}

const V4: Rules = Rules {
    network: "Network",
    switch: "EnableIPv4",
    length: "SubnetLen",
    min: "SubnetMin",
    max: "SubnetMax",
    address: "an IPv4 address in quotes",
    default_length: 24,
    longest_length: 30,
    smallest_network: 28,
};

const V6: Rules = Rules {
    network: "IPv6Network",
    switch: "EnableIPv6",
    length: "IPv6SubnetLen",
    min: "IPv6SubnetMin",
    max: "IPv6SubnetMax",
    address: "an IPv6 address in quotes",
    default_length: 64,
    longest_length: 126,
    smallest_network: 124,
};

/// The network must hold more than twice as many subnets as the one left out at its beginning and one for a host.
const BITS_FOR_SUBNETS: u8 = 2;

fn plan<C>(
    rules: &Rules,
    network: C,
    length: Option<u32>,
    limits: Option<Limits<C>>,
) -> Result<SubnetRange<C>, NetConfError>
where
    C: IpCidr + Into<Cidr>,
{
    let length = subnet_length(rules, network, length)?;
    // The first subnet stays free: its network address would be that of the whole network.
    let second = network.bits() + (1 << (C::BITS - length));
    let min = limits.and_then(|limits| limits.min);
    let max = limits.and_then(|limits| limits.max);
    let min = min.map_or(Ok(C::from_bits(second, length)), |min| {
        limit(rules.min, min, network, length)
    })?;
    let max = max.map_or(Ok(C::from_bits(network.last_bits(), length)), |max| {
        limit(rules.max, max, network, length)
    })?;
    if min > max {
        return Err(NetConfError::MinBehindMax {
            min_key: rules.min,
            min: min.into(),
            max_key: rules.max,
            max: max.into(),
        });
    }
    Ok(SubnetRange { network, min, max })
}

fn subnet_length<C>(rules: &Rules, network: C, length: Option<u32>) -> Result<u8, NetConfError>
where
    C: IpCidr + Into<Cidr>,
{
    let shortest = network.prefix().saturating_add(BITS_FOR_SUBNETS);
    if network.prefix() > rules.smallest_network {
        let (key, network, longest) = (rules.network, network.into(), rules.smallest_network);
        return Err(NetConfError::NetworkTooSmall {
            key,
            network,
            longest,
        });
    }
    let Some(given) = length else {
        return Ok(rules.default_length.max(shortest));
    };
    match u8::try_from(given) {
        Ok(length) if (shortest..=rules.longest_length).contains(&length) => Ok(length),
        _ => Err(NetConfError::SubnetLength {
            key: rules.length,
            length: given,
            network: network.into(),
            shortest,
            longest: rules.longest_length,
        }),
    }
}

fn limit<C>(
    key: &'static str,
    address: C::Address,
    network: C,
    length: u8,
) -> Result<C, NetConfError>
where
    C: IpCidr + Into<Cidr>,
{
    let bits = C::bits_of(address);
    if bits < network.bits() || network.last_bits() < bits {
        return Err(NetConfError::OutsideNetwork {
            key,
            address: address.into(),
            network: network.into(),
        });
    }
    let subnet = C::from_bits(bits, length);
    if subnet.bits() != bits {
        let subnet = subnet.into().network();
        return Err(NetConfError::NotAligned {
            key,
            address: address.into(),
            length,
            subnet,
        });
    }
    Ok(subnet)
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
    masked(&text)
        .map(Some)
        .map_err(|reason| NetConfError::BadNetwork { key, reason })
}

/// Host bits are cleared, as flannel does.
fn masked<C: IpCidr>(text: &str) -> Result<C, CidrError> {
    match text.parse() {
        Err(CidrError::HostBits { subnet, .. }) => subnet.to_string().parse(),
        parsed => parsed,
    }
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
