//! Routes. What to ask of them is in [`request`].

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric,
    RouteProtocol, RouteScope, RouteType, RouteVia,
};

use nix::errno::Errno;

use crate::{
    address::{AddressFamily, Scope},
    attr::Attributes,
    error::KernelError,
    link::LinkIndex,
};

pub(crate) mod request;

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// What it is for; the host bits are not looked at.
    pub destination: IpNetwork,
    /// The next router. A gateway of the other family than the destination is possible (RFC 5549).
    pub gateway: Option<IpAddr>,
    /// The link packets leave by. Observed: none for a multipath route, and none for a route that throws packets away.
    pub link: Option<LinkIndex>,
    /// The gateway is taken as directly reachable, whatever the addresses of the link say.
    pub onlink: bool,
    /// The routing table; see [`Route::MAIN_TABLE`].
    pub table: u32,
    /// Who made it (`RTPROT_*`): 2 the kernel, 3 boot time, 4 an administrator; 0 in a deletion means whoever.
    pub protocol: u8,
    /// How far away the destination is. A deletion does not look at it, and IPv6 never does.
    pub scope: Scope,
    /// What happens to packets.
    pub kind: RouteKind,
    /// The metric. IPv6 makes 1024 of none; a deletion without it takes the first route that fits.
    pub priority: Option<u32>,
    /// The source address for packets of this host itself.
    pub source: Option<IpAddr>,
    /// Path MTU in bytes.
    pub mtu: Option<u32>,
    /// Largest TCP segment to announce, in bytes.
    pub advmss: Option<u32>,
    /// Observed: how many ways it has; more than one is a multipath route, whose ways are not told. Not written.
    pub nexthops: usize,
}

/// What a route does with packets (`rtm_type`, linux/rtnetlink.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteKind {
    /// Sends them on.
    #[default]
    Unicast,
    /// Takes them as this host's.
    Local,
    /// Takes them as broadcasts.
    Broadcast,
    /// Drops them without a word.
    Blackhole,
    /// Drops them and tells the sender that the destination is unreachable.
    Unreachable,
    /// Drops them and tells the sender that it is forbidden.
    Prohibit,
    /// Another number.
    Other(u8),
}

/// Why a packet goes no further, as the kernel answers the question for its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoWay {
    /// No route leads there; also where the link that it comes in by does not forward.
    Unreachable,
    /// A route throws it away, or it comes from an address that nobody can have.
    Dropped,
    /// A route forbids it.
    Prohibited,
    /// The way back to its source leads by another link (`rp_filter`).
    WrongSide,
    /// Another reason.
    Other(KernelError),
}

impl NoWay {
    pub(crate) fn of(error: KernelError) -> Self {
        match Errno::from_raw(error.errno) {
            Errno::EHOSTUNREACH | Errno::ENETUNREACH => Self::Unreachable,
            Errno::EINVAL => Self::Dropped,
            Errno::EACCES => Self::Prohibited,
            Errno::EXDEV => Self::WrongSide,
            _ => Self::Other(error),
        }
    }
}

impl fmt::Display for NoWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable => f.write_str("no route leads there"),
            Self::Dropped => f.write_str("a route throws it away"),
            Self::Prohibited => f.write_str("a route forbids it"),
            Self::WrongSide => {
                f.write_str("the way back to its source leads elsewhere, and rp_filter drops it")
            }
            Self::Other(error) => write!(f, "the kernel answers: {error}"),
        }
    }
}

impl RouteKind {
    const fn from_wire(kind: u8) -> Self {
        match kind {
            1 => Self::Unicast,
            2 => Self::Local,
            3 => Self::Broadcast,
            6 => Self::Blackhole,
            7 => Self::Unreachable,
            8 => Self::Prohibit,
            other => Self::Other(other),
        }
    }

    const fn to_wire(self) -> u8 {
        match self {
            Self::Unicast => 1,
            Self::Local => 2,
            Self::Broadcast => 3,
            Self::Blackhole => 6,
            Self::Unreachable => 7,
            Self::Prohibit => 8,
            Self::Other(other) => other,
        }
    }

    /// Whether packets end here, so that no link is involved.
    #[must_use]
    pub const fn drops(self) -> bool {
        matches!(self, Self::Blackhole | Self::Unreachable | Self::Prohibit)
    }
}

impl Route {
    /// The table that routes are in if nothing else is said (`RT_TABLE_MAIN`).
    pub const MAIN_TABLE: u32 = 254;

    /// A unicast route of the main table, made "at boot" like those of `ip route add`; a way is still missing.
    #[must_use]
    pub const fn new(destination: IpNetwork) -> Self {
        Self {
            destination,
            gateway: None,
            link: None,
            onlink: false,
            table: Self::MAIN_TABLE,
            protocol: RTPROT_BOOT,
            scope: Scope::Universe,
            kind: RouteKind::Unicast,
            priority: None,
            source: None,
            mtu: None,
            advmss: None,
            nexthops: 1,
        }
    }

    /// A route to what is directly on a link, without a gateway.
    #[must_use]
    pub const fn direct(destination: IpNetwork, link: LinkIndex) -> Self {
        Self {
            link: Some(link),
            // IPv6 knows no scopes of routes and reports "universe" for all.
            scope: match destination {
                IpNetwork::V4(_) => Scope::Link,
                IpNetwork::V6(_) => Scope::Universe,
            },
            ..Self::new(destination)
        }
    }

    /// A route through a gateway that is reachable by the addresses of the link.
    #[must_use]
    pub const fn via(destination: IpNetwork, gateway: IpAddr, link: LinkIndex) -> Self {
        Self {
            gateway: Some(gateway),
            link: Some(link),
            ..Self::new(destination)
        }
    }

    /// The family of the destination.
    #[must_use]
    pub const fn family(&self) -> AddressFamily {
        match self.destination {
            IpNetwork::V4(_) => AddressFamily::Ipv4,
            IpNetwork::V6(_) => AddressFamily::Ipv6,
        }
    }

    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        // struct rtmsg: family, destination length, source length, TOS, table, protocol, scope, type, flags (4)
        let header = payload.first_chunk::<12>()?;
        let [
            family,
            length,
            _,
            _,
            table,
            protocol,
            scope,
            kind,
            f0,
            f1,
            f2,
            f3,
        ] = *header;
        let family = AddressFamily::from_wire(family)?;
        let flags = RouteFlags::from_bits_retain(u32::from_ne_bytes([f0, f1, f2, f3]));
        let mut route = Self {
            table: u32::from(table),
            protocol,
            scope: Scope::from_wire(scope),
            kind: RouteKind::from_wire(kind),
            onlink: flags.contains(RouteFlags::Onlink),
            ..Self::new(network(family, None, length)?)
        };
        for attribute in Attributes::new(payload.get(header.len()..)?) {
            match attribute.kind {
                RTA_DST => route.destination = network(family, attribute.ip(), length)?,
                RTA_OIF => route.link = attribute.u32().map(LinkIndex),
                RTA_GATEWAY => route.gateway = attribute.ip(),
                RTA_VIA => route.gateway = via(attribute.payload),
                RTA_PRIORITY => route.priority = attribute.u32(),
                RTA_PREFSRC => route.source = attribute.ip(),
                RTA_TABLE => route.table = attribute.u32().unwrap_or(route.table),
                RTA_METRICS => route.take_metrics(attribute.nested()),
                RTA_MULTIPATH => route.take_nexthops(attribute.payload),
                _ => {}
            }
        }
        if route.kind.drops() {
            // IPv6 hangs these on the loopback link, IPv4 on none; for us there is no difference.
            route.link = None;
        }
        Some(route)
    }

    fn take_metrics(&mut self, metrics: Attributes<'_>) {
        for metric in metrics {
            match metric.kind {
                RTAX_MTU => self.mtu = metric.u32(),
                RTAX_ADVMSS => self.advmss = metric.u32(),
                _ => {}
            }
        }
    }

    /// Reads the ways of a multipath route; a single one is taken for an ordinary route.
    fn take_nexthops(&mut self, mut bytes: &[u8]) {
        // struct rtnexthop: length (2), flags, hops, index (4), then attributes
        let mut count = 0;
        let mut first = None;
        while let Some([l0, l1, flags, _, i0, i1, i2, i3]) = bytes.first_chunk::<8>().copied() {
            let length = usize::from(u16::from_ne_bytes([l0, l1]));
            let Some(attributes) = bytes.get(8..length) else {
                break;
            };
            count += 1;
            first.get_or_insert((u32::from_ne_bytes([i0, i1, i2, i3]), flags, attributes));
            bytes = bytes.get(crate::attr::align(length)..).unwrap_or(&[]);
        }
        self.nexthops = count;
        let (1, Some((index, flags, attributes))) = (count, first) else {
            return;
        };
        self.link = Some(LinkIndex(index));
        self.onlink = RouteFlags::from_bits_retain(u32::from(flags)).contains(RouteFlags::Onlink);
        for attribute in Attributes::new(attributes) {
            match attribute.kind {
                RTA_GATEWAY => self.gateway = attribute.ip(),
                RTA_VIA => self.gateway = via(attribute.payload),
                _ => {}
            }
        }
    }

    pub(crate) fn encode(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: self.family().to_packet(),
            destination_prefix_length: self.destination.prefix(),
            // The header's table has eight bits; the attribute below has them all.
            table: u8::try_from(self.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC),
            protocol: RouteProtocol::from(self.protocol),
            scope: RouteScope::from(self.scope.to_wire()),
            kind: RouteType::from(self.kind.to_wire()),
            flags: if self.onlink {
                RouteFlags::Onlink
            } else {
                RouteFlags::empty()
            },
            ..RouteHeader::default()
        };
        let attributes = &mut message.attributes;
        if self.destination.prefix() > 0 {
            attributes.push(RouteAttribute::Destination(
                self.destination.network().into(),
            ));
        }
        match (self.family(), self.gateway) {
            (AddressFamily::Ipv4, Some(IpAddr::V6(gateway))) => {
                attributes.push(RouteAttribute::Via(RouteVia::Inet6(gateway)));
            }
            (_, Some(gateway)) => {
                attributes.push(RouteAttribute::Gateway(RouteAddress::from(gateway)));
            }
            (_, None) => {}
        }
        if let Some(LinkIndex(link)) = self.link {
            attributes.push(RouteAttribute::Oif(link));
        }
        if self.table > u32::from(u8::MAX) {
            attributes.push(RouteAttribute::Table(self.table));
        }
        if let Some(priority) = self.priority {
            attributes.push(RouteAttribute::Priority(priority));
        }
        if let Some(source) = self.source {
            attributes.push(RouteAttribute::PrefSource(source.into()));
        }
        let metrics: Vec<_> = [
            self.mtu.map(RouteMetric::Mtu),
            self.advmss.map(RouteMetric::Advmss),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !metrics.is_empty() {
            attributes.push(RouteAttribute::Metrics(metrics));
        }
        message
    }

    pub(crate) fn encode_delete(&self) -> RouteMessage {
        let mut message = self.encode();
        if self.family() == AddressFamily::Ipv4 {
            // To IPv4 this says "of any scope"; the rest of the route says well enough which.
            message.header.scope = RouteScope::NoWhere;
        }
        message
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            RouteKind::Unicast => {}
            RouteKind::Local => f.write_str("local ")?,
            RouteKind::Broadcast => f.write_str("broadcast ")?,
            RouteKind::Blackhole => f.write_str("blackhole ")?,
            RouteKind::Unreachable => f.write_str("unreachable ")?,
            RouteKind::Prohibit => f.write_str("prohibit ")?,
            RouteKind::Other(kind) => write!(f, "type {kind} ")?,
        }
        match self.destination.prefix() {
            0 => f.write_str("default")?,
            prefix => write!(f, "{}/{prefix}", self.destination.network())?,
        }
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(link) = self.link {
            write!(f, " dev {link}")?;
        }
        if self.nexthops > 1 {
            write!(f, " over {} nexthops", self.nexthops)?;
        }
        if self.onlink {
            f.write_str(" onlink")?;
        }
        if self.table != Self::MAIN_TABLE {
            write!(f, " table {}", self.table)?;
        }
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        if let Some(priority) = self.priority {
            write!(f, " metric {priority}")?;
        }
        if let Some(mtu) = self.mtu {
            write!(f, " mtu {mtu}")?;
        }
        Ok(())
    }
}

fn network(family: AddressFamily, address: Option<IpAddr>, length: u8) -> Option<IpNetwork> {
    match (family, address) {
        (AddressFamily::Ipv4, None) => Ipv4Network::new(Ipv4Addr::UNSPECIFIED, length)
            .ok()
            .map(IpNetwork::V4),
        (AddressFamily::Ipv6, None) => Ipv6Network::new(Ipv6Addr::UNSPECIFIED, length)
            .ok()
            .map(IpNetwork::V6),
        (AddressFamily::Ipv4, Some(address @ IpAddr::V4(_)))
        | (AddressFamily::Ipv6, Some(address @ IpAddr::V6(_))) => {
            IpNetwork::new(address, length).ok()
        }
        _ => None,
    }
}

/// Reads a `struct rtvia`: family (2) and address.
fn via(payload: &[u8]) -> Option<IpAddr> {
    crate::attr::Attribute {
        kind: RTA_VIA,
        payload: payload.get(2..)?,
    }
    .ip()
}

// linux/rtnetlink.h
const RTPROT_BOOT: u8 = 3;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;

#[cfg(test)]
mod tests;
