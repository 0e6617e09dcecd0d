//! Which routes to list, and the look-up of the route to one address.

use std::net::IpAddr;

use netlink_packet_route::route::{RouteAttribute, RouteMessage};

use super::Route;
use crate::{address::AddressFamily, link::LinkIndex};

/// Which routes to list. Everything is asked of the kernel, so that a big table is not copied in vain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteFilter {
    /// Only of this family.
    pub family: Option<AddressFamily>,
    /// Only of this table; see [`Route::MAIN_TABLE`].
    pub table: Option<u32>,
    /// Only those that leave by this link. Routes that throw packets away leave by none.
    pub link: Option<LinkIndex>,
    /// Only those made by this protocol.
    pub protocol: Option<u8>,
}

impl RouteFilter {
    pub(crate) fn encode(&self, family: AddressFamily) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = family.to_packet();
        message.header.protocol = self.protocol.unwrap_or(0).into();
        if let Some(table) = self.table {
            message.attributes.push(RouteAttribute::Table(table));
        }
        if let Some(LinkIndex(link)) = self.link {
            message.attributes.push(RouteAttribute::Oif(link));
        }
        message
    }

    /// Whether the route is asked for. Kernels before 4.20 and families without strict checking filter less.
    pub(crate) fn accepts(&self, route: &Route) -> bool {
        self.table.is_none_or(|table| route.table == table)
            && self.link.is_none_or(|link| route.link == Some(link))
            && self
                .protocol
                .is_none_or(|protocol| route.protocol == protocol)
    }
}

/// A request for the route that a packet which comes in by a link would take.
pub(crate) fn encode_forwarding(
    source: IpAddr,
    destination: IpAddr,
    LinkIndex(arriving): LinkIndex,
) -> RouteMessage {
    let mut message = encode_lookup(destination);
    message.header.source_prefix_length = AddressFamily::of(source).bits();
    message
        .attributes
        .push(RouteAttribute::Source(source.into()));
    message.attributes.push(RouteAttribute::Iif(arriving));
    message
}

/// A request for the route that a packet to `destination` would take.
pub(crate) fn encode_lookup(destination: IpAddr) -> RouteMessage {
    let family = AddressFamily::of(destination);
    let mut message = RouteMessage::default();
    message.header.address_family = family.to_packet();
    message.header.destination_prefix_length = family.bits();
    message
        .attributes
        .push(RouteAttribute::Destination(destination.into()));
    message
}
