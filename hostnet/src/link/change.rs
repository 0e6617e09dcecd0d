//! Alterations of links, and the messages that ask for them.

use std::{fmt, net::IpAddr};

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{
        AfSpecInet, AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InetDevConf, InfoData, InfoKind,
        InfoVxlan, LinkAttribute, LinkInfo, LinkMessage,
    },
};
use rtnetlink::{LinkBridgePort, LinkMessageBuilder, LinkUnspec};

use super::LinkIndex;
use crate::mac::Mac;

/// By what a link is named in a change.
///
/// Changes of one batch are made also after a refusal: one that follows [`crate::Change::AddLink`] and names the link by
/// its name meets somebody else's link if the name was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkName {
    /// By its number.
    Index(LinkIndex),
    /// By its name.
    Name(String),
}

impl From<LinkIndex> for LinkName {
    fn from(index: LinkIndex) -> Self {
        Self::Index(index)
    }
}

impl From<&str> for LinkName {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<String> for LinkName {
    fn from(name: String) -> Self {
        Self::Name(name)
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => index.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// An alteration of a link. What is `None` stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkChange {
    /// Which link.
    pub link: LinkName,
    /// Switch it on or off.
    pub up: Option<bool>,
    /// Its MTU in bytes.
    pub mtu: Option<u32>,
    /// Its Ethernet address.
    pub mac: Option<Mac>,
    /// Make it a port of this bridge, or of none. A link put under a bridge keeps its addresses, but they no longer work.
    pub master: Option<Option<LinkIndex>>,
    /// Free text that stays with the link, at most 255 bytes; empty takes it away.
    pub alias: Option<String>,
    /// Let the kernel give it no IPv6 link-local address when it goes up.
    pub no_ipv6_link_local: bool,
    /// Let it announce its IPv4 addresses when it goes up or gets another Ethernet address (`arp_notify`). This is before it
    /// is switched on by the same change, and needs no writable `/proc/sys`.
    pub arp_notify: bool,
    /// Whether a bridge port sends a packet back out of where it came from.
    pub hairpin: Option<bool>,
    /// Whether a bridge port exchanges packets only with ports that are not isolated. A kernel before 4.18 passes it over.
    pub isolated: Option<bool>,
    /// Whether it takes in packets for other stations.
    pub promiscuous: Option<bool>,
    /// What of a VXLAN device can be altered while it stands.
    pub vxlan: Option<VxlanChange>,
}

/// What of a VXLAN device the kernel lets be altered while it stands; routes, neighbours and FDB entries survive it. Kernels of
/// some age refuse a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VxlanChange {
    /// The link the outer packets leave by.
    pub lower: Option<LinkIndex>,
    /// The source address of outer packets; of the family it is of already.
    pub local: Option<IpAddr>,
    /// Whether FDB entries are learned from received packets.
    pub learning: bool,
}

impl VxlanChange {
    fn encode(&self) -> LinkAttribute {
        let lower = self.lower.map(|LinkIndex(lower)| InfoVxlan::Link(lower));
        let local = self.local.map(|local| match local {
            IpAddr::V4(local) => InfoVxlan::Local(local),
            IpAddr::V6(local) => InfoVxlan::Local6(local),
        });
        let data = lower
            .into_iter()
            .chain(local)
            .chain([InfoVxlan::Learning(self.learning)])
            .collect();
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vxlan),
            LinkInfo::Data(InfoData::Vxlan(data)),
        ])
    }
}

impl LinkChange {
    /// An alteration that alters nothing yet.
    #[must_use]
    pub fn new(link: impl Into<LinkName>) -> Self {
        Self {
            link: link.into(),
            up: None,
            mtu: None,
            mac: None,
            master: None,
            alias: None,
            no_ipv6_link_local: false,
            arp_notify: false,
            hairpin: None,
            isolated: None,
            promiscuous: None,
            vxlan: None,
        }
    }

    /// Switches a link on.
    #[must_use]
    pub fn up(link: impl Into<LinkName>) -> Self {
        Self {
            up: Some(true),
            ..Self::new(link)
        }
    }

    /// One to four messages, in the order in which the kernel must see them.
    pub(crate) fn encode(&self) -> Vec<RouteNetlinkMessage> {
        let mut messages = Vec::with_capacity(1);
        if let Some(vxlan) = &self.vxlan {
            // Before the MTU, whose limit may follow from the lower link; only this message type takes what a kind has of
            // its own.
            let message = self.base().append_extra_attribute(vxlan.encode()).build();
            messages.push(RouteNetlinkMessage::NewLink(message));
        }
        let families = self.of_families();
        if !families.is_empty() {
            // Within one message the kernel would switch the link on first.
            let message = self
                .base()
                .append_extra_attribute(LinkAttribute::AfSpecUnspec(families))
                .build();
            messages.push(RouteNetlinkMessage::SetLink(message));
        }
        let plain = self.plain();
        if plain != self.base().build() || (messages.is_empty() && !self.is_of_port()) {
            messages.push(RouteNetlinkMessage::SetLink(plain));
        }
        if self.is_of_port() {
            // Settings of a port are looked up before the master of the same message is set, and only this message type
            // takes them.
            let mut port = LinkBridgePort::new(0);
            if let Some(hairpin) = self.hairpin {
                port = port.hairpin(hairpin);
            }
            if let Some(isolated) = self.isolated {
                port = port.isolated(isolated);
            }
            port = match &self.link {
                LinkName::Index(LinkIndex(index)) => port.index(*index),
                LinkName::Name(name) => port.name(name),
            };
            messages.push(RouteNetlinkMessage::NewLink(port.build()));
        }
        messages
    }

    /// Whether it alters the link as the port of a bridge.
    fn is_of_port(&self) -> bool {
        self.hairpin.is_some() || self.isolated.is_some()
    }

    /// What belongs to one family of addresses.
    fn of_families(&self) -> Vec<AfSpecUnspec> {
        let mut families = Vec::new();
        if self.no_ipv6_link_local {
            let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
            families.push(AfSpecUnspec::Inet6(vec![mode]));
        }
        if self.arp_notify {
            // Only what is not 0 is sent.
            let mut conf = InetDevConf::default();
            conf.arp_notify = 1;
            families.push(AfSpecUnspec::Inet(vec![AfSpecInet::DevConfRequest(conf)]));
        }
        families
    }

    fn base(&self) -> LinkMessageBuilder<LinkUnspec> {
        match &self.link {
            LinkName::Index(LinkIndex(index)) => LinkUnspec::new_with_index(*index),
            LinkName::Name(name) => LinkUnspec::new_with_name(name),
        }
    }

    fn plain(&self) -> LinkMessage {
        let mut builder = self.base();
        if let Some(mtu) = self.mtu {
            builder = builder.mtu(mtu);
        }
        if let Some(Mac(octets)) = self.mac {
            builder = builder.address(octets.to_vec());
        }
        builder = match self.master {
            Some(Some(LinkIndex(master))) => builder.controller(master),
            Some(None) => builder.nocontroller(),
            None => builder,
        };
        if let Some(alias) = &self.alias {
            builder = builder.alias(alias);
        }
        if let Some(promiscuous) = self.promiscuous {
            builder = builder.promiscuous(promiscuous);
        }
        match self.up {
            Some(true) => builder.up(),
            Some(false) => builder.down(),
            None => builder,
        }
        .build()
    }
}

impl fmt::Display for LinkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "link {}", self.link)?;
        if let Some(mac) = self.mac {
            write!(f, " address {mac}")?;
        }
        if let Some(mtu) = self.mtu {
            write!(f, " mtu {mtu}")?;
        }
        match self.master {
            Some(Some(master)) => write!(f, " master {master}")?,
            Some(None) => f.write_str(" nomaster")?,
            None => {}
        }
        if let Some(alias) = &self.alias {
            write!(f, " alias \"{alias}\"")?;
        }
        if let Some(vxlan) = &self.vxlan {
            f.write_str(" type vxlan")?;
            if let Some(lower) = vxlan.lower {
                write!(f, " dev {lower}")?;
            }
            if let Some(local) = vxlan.local {
                write!(f, " local {local}")?;
            }
            f.write_str(if vxlan.learning {
                " learning"
            } else {
                " nolearning"
            })?;
        }
        if self.no_ipv6_link_local {
            f.write_str(" addrgenmode none")?;
        }
        if self.arp_notify {
            f.write_str(" arp_notify on")?;
        }
        for (switch, on, off) in [
            (self.hairpin, " hairpin on", " hairpin off"),
            (self.isolated, " isolated on", " isolated off"),
            (self.promiscuous, " promisc on", " promisc off"),
            (self.up, " up", " down"),
        ] {
            match switch {
                Some(true) => f.write_str(on)?,
                Some(false) => f.write_str(off)?,
                None => {}
            }
        }
        Ok(())
    }
}

/// A message that takes a link away.
pub(crate) fn encode_delete(link: &LinkName) -> RouteNetlinkMessage {
    let builder = match link {
        LinkName::Index(LinkIndex(index)) => LinkUnspec::new_with_index(*index),
        LinkName::Name(name) => LinkUnspec::new_with_name(name),
    };
    RouteNetlinkMessage::DelLink(builder.build())
}
