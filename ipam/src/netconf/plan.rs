//! The subnets that hosts choose from, by flannel's `CheckNetworkConfig`.

use super::NetConfError;
use crate::cidr::{Cidr, IpCidr, Ipv4Cidr, Ipv6Cidr};
use crate::family::PerFamily;

/// The subnets of one length from which every host gets one. Only [`crate::NetConf::subnet_plan`]
/// makes one.
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

/// `SubnetMin` and `SubnetMax` as given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits<C: IpCidr> {
    pub(super) min: Option<C::Address>,
    pub(super) max: Option<C::Address>,
}

/// The keys and limits of a family. The limits are those of flannel's `CheckNetworkConfig`.
pub(super) struct Rules {
    pub(super) network: &'static str,
    pub(super) switch: &'static str,
    pub(super) length: &'static str,
    pub(super) min: &'static str,
    pub(super) max: &'static str,
    pub(super) address: &'static str,
    /// The length unless the network is too small for it.
    default_length: u8,
    longest_length: u8,
    smallest_network: u8,
}

pub(super) const V4: Rules = Rules {
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

pub(super) const V6: Rules = Rules {
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

pub(super) fn plan<C>(
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
