//! From which addresses a pool gives, by the rules of the reference plugin host-local.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::cidr::{Cidr, IpCidr, Ipv4Cidr, Ipv6Cidr};

#[cfg(test)]
mod tests;

/// A range as a configuration gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeSpec {
    /// The subnet of the pods.
    pub subnet: Cidr,
    /// The first address to give; without it the first of the subnet.
    pub start: Option<IpAddr>,
    /// The last address to give; without it the last of the subnet.
    pub end: Option<IpAddr>,
    /// The gateway, which is never given.
    pub gateway: Option<IpAddr>,
}

/// Addresses in a row that may be given, all of one subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Range {
    subnet: Cidr,
    start: IpAddr,
    end: IpAddr,
    gateway: Option<IpAddr>,
}

/// Ranges of one family of which an interface gets one address.
pub type RangeSet = Vec<Range>;

/// Why a range cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// There is no address in it.
    #[error(
        "the range {start} to {end} of {subnet} has no address to give; let its start lie before its end"
    )]
    Empty {
        /// The subnet.
        subnet: Cidr,
        /// The first address.
        start: IpAddr,
        /// The last address.
        end: IpAddr,
    },
    /// A set of both families.
    #[error("ranges {} and {} are in one set but of different families; give each family a set of its own", pair.0, pair.1)]
    MixedFamilies {
        /// One of each family.
        pair: Box<(Range, Range)>,
    },
    /// No set, or a set without ranges.
    #[error("there is no range to take an address from; give at least one subnet")]
    NoRange,
    /// An address of the range is not in its subnet.
    #[error(
        "{what} {address} lies outside its subnet {subnet}; choose one within it or leave it out"
    )]
    Outside {
        /// Which address.
        what: &'static str,
        /// The address.
        address: IpAddr,
        /// The subnet.
        subnet: Cidr,
    },
    /// Two ranges have an address in common.
    #[error("the ranges {} and {} overlap; make them disjoint", pair.0, pair.1)]
    Overlap {
        /// Two that overlap.
        pair: Box<(Range, Range)>,
    },
    /// A subnet without room for a gateway and a pod.
    #[error(
        "subnet {subnet} is too small for a bridge with a gateway; use one of /{longest} or larger, or routed attachment"
    )]
    TooSmall {
        /// The subnet.
        subnet: Cidr,
        /// The longest prefix that does.
        longest: u8,
    },
}

impl RangeSpec {
    /// Everything in a subnet.
    #[must_use]
    pub fn whole(subnet: Cidr) -> Self {
        Self {
            subnet,
            start: None,
            end: None,
            gateway: None,
        }
    }

    /// The range for pods on a link they share: the gateway is the first address unless given, network and broadcast
    /// address are left out.
    ///
    /// # Errors
    ///
    /// [`RangeError::TooSmall`], [`RangeError::Outside`], [`RangeError::Empty`].
    pub fn shared_link(self) -> Result<Range, RangeError> {
        let longest = self.subnet.address_bits() - 2;
        if self.subnet.prefix() > longest {
            return Err(RangeError::TooSmall {
                subnet: self.subnet,
                longest,
            });
        }
        Self {
            gateway: self.gateway.or(Some(self.subnet.first_address())),
            ..self
        }
        .routed()
    }

    /// The range for pods that each have a route of their own: no gateway unless given, and a subnet may be as small as
    /// one address. Network and broadcast address of larger ones are left out all the same, since other hosts on the
    /// way may treat them as such.
    ///
    /// # Errors
    ///
    /// [`RangeError::Outside`], [`RangeError::Empty`].
    pub fn routed(self) -> Result<Range, RangeError> {
        let subnet = self.subnet;
        for (what, address) in [
            ("range start", self.start),
            ("range end", self.end),
            ("gateway", self.gateway),
        ] {
            if let Some(address) = address.filter(|&address| !subnet.contains(address)) {
                return Err(RangeError::Outside {
                    what,
                    address,
                    subnet,
                });
            }
        }
        let (first, last) = usable(subnet);
        let start = self.start.map_or(first, |start| start.max(first));
        let end = self.end.map_or(last, |end| end.min(last));
        if start > end || (start == end && self.gateway == Some(start)) {
            return Err(RangeError::Empty { subnet, start, end });
        }
        Ok(Range {
            subnet,
            start,
            end,
            gateway: self.gateway,
        })
    }
}

/// The first and the last address of a subnet that a host can have.
fn usable(subnet: Cidr) -> (IpAddr, IpAddr) {
    let (first, last) = (to_bits(subnet.network()), to_bits(subnet.last()));
    // RFC 3021 and RFC 6164: the ends of a subnet of two addresses are ordinary ones.
    if last - first < 2 {
        return (subnet.network(), subnet.last());
    }
    let last = if subnet.is_v4() { last - 1 } else { last };
    (subnet.first_address(), from_bits(subnet.is_v4(), last))
}

impl Range {
    /// The subnet of the pods.
    #[must_use]
    pub fn subnet(&self) -> Cidr {
        self.subnet
    }

    /// The first address to give.
    #[must_use]
    pub fn start(&self) -> IpAddr {
        self.start
    }

    /// The last address to give.
    #[must_use]
    pub fn end(&self) -> IpAddr {
        self.end
    }

    /// The gateway, which is never given.
    #[must_use]
    pub fn gateway(&self) -> Option<IpAddr> {
        self.gateway
    }

    /// Whether the address lies between start and end.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.subnet.contains(address) && self.start <= address && address <= self.end
    }

    /// The first and the last address as numbers.
    pub(crate) fn bits(&self) -> (u128, u128) {
        (to_bits(self.start), to_bits(self.end))
    }

    pub(super) fn window(&self) -> Window {
        let (start, end) = self.bits();
        Window {
            v4: self.subnet.is_v4(),
            start,
            end: end.min(start.saturating_add(Window::LARGEST - 1)),
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.start) || other.contains(self.start)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.start, self.end)
    }
}

/// Checks what concerns several ranges: families and overlap.
pub(crate) fn check(sets: &[RangeSet]) -> Result<(), RangeError> {
    if sets.is_empty() || sets.iter().any(Vec::is_empty) {
        return Err(RangeError::NoRange);
    }
    for set in sets {
        if let Some(&other) = set
            .iter()
            .find(|range| range.subnet.is_v4() != set[0].subnet.is_v4())
        {
            return Err(RangeError::MixedFamilies {
                pair: Box::new((set[0], other)),
            });
        }
    }
    let mut ranges: Vec<_> = sets.iter().flatten().copied().collect();
    // In this order a range that overlaps any other overlaps a neighbour. A configuration may have very many.
    ranges.sort_by_key(|range| range.start);
    if let Some(pair) = ranges.windows(2).find(|pair| pair[0].overlaps(&pair[1])) {
        return Err(RangeError::Overlap {
            pair: Box::new((pair[0], pair[1])),
        });
    }
    Ok(())
}

/// The addresses of a range that have a slot on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) v4: bool,
    pub(super) start: u128,
    pub(super) end: u128,
}

impl Window {
    /// No node has more pods than this, while an IPv6 subnet has more addresses than any disk.
    pub(super) const LARGEST: u128 = 1 << 16;

    const NAME: &'static str = "slots-";

    /// A window from outside; `None` if it has no address or too many.
    pub(super) fn new(v4: bool, start: u128, end: u128) -> Option<Self> {
        let last = if v4 { u128::from(u32::MAX) } else { u128::MAX };
        let fits = start <= end && end <= last && end - start < Self::LARGEST;
        fits.then_some(Self { v4, start, end })
    }

    /// Number of addresses, at most [`Self::LARGEST`].
    pub(super) fn len(self) -> u32 {
        u32::try_from(self.end - self.start + 1).unwrap_or(u32::MAX)
    }

    /// The number of an address' slot, if it has one.
    pub(super) fn index(self, address: IpAddr) -> Option<u32> {
        let bits = to_bits(address);
        if address.is_ipv4() != self.v4 || bits < self.start || self.end < bits {
            return None;
        }
        u32::try_from(bits - self.start).ok()
    }

    pub(super) fn address(self, index: u32) -> IpAddr {
        from_bits(self.v4, self.start + u128::from(index))
    }

    pub(super) fn overlaps(self, other: Self) -> bool {
        self.v4 == other.v4 && self.start <= other.end && other.start <= self.end
    }

    /// The name of the file that has the slots.
    pub(super) fn file_name(self) -> String {
        format!(
            "{}{}-{}",
            Self::NAME,
            from_bits(self.v4, self.start),
            from_bits(self.v4, self.end)
        )
    }

    pub(super) fn from_file_name(name: &str) -> Option<Self> {
        let (start, end) = name.strip_prefix(Self::NAME)?.split_once('-')?;
        let (start, end) = (start.parse::<IpAddr>().ok()?, end.parse::<IpAddr>().ok()?);
        if start.is_ipv4() != end.is_ipv4() {
            return None;
        }
        Self::new(start.is_ipv4(), to_bits(start), to_bits(end))
    }
}

pub(crate) fn to_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => Ipv4Cidr::bits_of(address),
        IpAddr::V6(address) => Ipv6Cidr::bits_of(address),
    }
}

pub(crate) fn from_bits(v4: bool, bits: u128) -> IpAddr {
    if v4 {
        Ipv4Addr::from_bits(bits as u32).into()
    } else {
        Ipv6Addr::from_bits(bits).into()
    }
}
