//! Links to be made and alterations of links, and the messages that ask for them.

use std::{fmt, net::IpAddr, os::fd::RawFd};

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{
        AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoVeth, InfoVxlan, LinkAttribute,
        LinkMessage,
    },
};
use rtnetlink::{LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan};

use super::{LinkIndex, Vxlan};
use crate::mac::Mac;

/// A link to be made.
///
/// An alias is not among its properties: the kernel ignores one in the message that makes a link, so it takes a
/// [`LinkChange`] more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLink {
    /// Its name: 1 to 15 bytes, without slashes and blanks.
    pub name: String,
    /// The number it should get; the kernel chooses if there is none, and refuses one that is taken.
    pub index: Option<LinkIndex>,
    /// Its Ethernet address; the kernel makes one up if there is none.
    pub mac: Option<Mac>,
    /// In bytes; the driver's default if there is none.
    pub mtu: Option<u32>,
    /// Link group.
    pub group: Option<u32>,
    /// The bridge it becomes a port of.
    pub master: Option<LinkIndex>,
    /// Whether it is switched on at once.
    pub up: bool,
    /// How many transmit and how many receive queues; the kernel's default is one per possible CPU for veth.
    pub queues: Option<u32>,
    /// Length of the transmit queue in packets.
    pub tx_queue_length: Option<u32>,
    /// What it is.
    pub kind: NewLinkKind,
}

/// The kinds of link we make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewLinkKind {
    /// A switch.
    Bridge(Bridge),
    /// One end of a pair of which the other end comes into being in the same moment.
    Veth {
        /// The other end.
        peer: VethPeer,
    },
    /// A VXLAN tunnel end.
    Vxlan(Vxlan),
}

/// Settings of a bridge; the rest is the kernel's default (no spanning tree).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bridge {
    /// Whether multicast is sent only where somebody listens; the kernel's default (on) if there is nothing.
    pub multicast_snooping: Option<bool>,
}

/// The far end of a veth pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VethPeer {
    /// Its name in its namespace.
    pub name: String,
    /// The number it should get in its namespace; the kernel chooses if there is none, and also if the near end's number is
    /// left to it.
    pub index: Option<LinkIndex>,
    /// Its Ethernet address; the kernel makes one up if there is none.
    pub mac: Option<Mac>,
    /// In bytes; the driver's default (1500) if there is none: the near end's MTU is not taken over.
    pub mtu: Option<u32>,
    /// The namespace it is born in, as a file descriptor that must stay open until the change is applied; the namespace of
    /// the near end if there is none. Nothing is moved, which is what makes this fast.
    pub netns: Option<RawFd>,
    /// How many transmit and how many receive queues; given on one end only, the other keeps the kernel's default.
    pub queues: Option<u32>,
}

impl NewLink {
    /// A link with this name and kind, switched off, and all else left to the kernel.
    #[must_use]
    pub fn new(name: impl Into<String>, kind: NewLinkKind) -> Self {
        Self {
            name: name.into(),
            index: None,
            mac: None,
            mtu: None,
            group: None,
            master: None,
            up: false,
            queues: None,
            tx_queue_length: None,
            kind,
        }
    }

    pub(crate) fn encode(&self) -> RouteNetlinkMessage {
        RouteNetlinkMessage::NewLink(match &self.kind {
            NewLinkKind::Bridge(bridge) => self.finish(bridge_builder(&self.name, bridge)),
            NewLinkKind::Veth { peer } => self.finish(
                LinkMessageBuilder::<LinkVeth>::new(&self.name, &peer.name)
                    .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.encode()))),
            ),
            NewLinkKind::Vxlan(vxlan) => self.finish(vxlan_builder(&self.name, vxlan)),
        })
    }

    fn finish<T>(&self, mut builder: LinkMessageBuilder<T>) -> LinkMessage {
        if let Some(LinkIndex(index)) = self.index {
            builder = builder.index(index);
        }
        if let Some(Mac(octets)) = self.mac {
            builder = builder.address(octets.to_vec());
        }
        if let Some(mtu) = self.mtu {
            builder = builder.mtu(mtu);
        }
        if let Some(group) = self.group {
            builder = builder.link_group(group);
        }
        if let Some(LinkIndex(master)) = self.master {
            builder = builder.controller(master);
        }
        if let Some(length) = self.tx_queue_length {
            builder = builder.txqueuelen(length);
        }
        if self.up {
            builder = builder.up();
        }
        queues(builder, self.queues).build()
    }
}

impl VethPeer {
    /// A far end with this name in the near end's namespace, and all else left to the kernel.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            index: None,
            mac: None,
            mtu: None,
            netns: None,
            queues: None,
        }
    }

    fn encode(&self) -> LinkMessage {
        // IFF_UP here would be refused: a veth goes up only when both ends exist.
        let mut builder = LinkUnspec::new_with_name(&self.name);
        if let Some(LinkIndex(index)) = self.index {
            builder = builder.index(index);
        }
        if let Some(Mac(octets)) = self.mac {
            builder = builder.address(octets.to_vec());
        }
        if let Some(mtu) = self.mtu {
            builder = builder.mtu(mtu);
        }
        if let Some(netns) = self.netns {
            builder = builder.setns_by_fd(netns);
        }
        queues(builder, self.queues).build()
    }
}

fn queues<T>(builder: LinkMessageBuilder<T>, queues: Option<u32>) -> LinkMessageBuilder<T> {
    match queues {
        Some(queues) => builder
            .append_extra_attribute(LinkAttribute::NumTxQueues(queues))
            .append_extra_attribute(LinkAttribute::NumRxQueues(queues)),
        None => builder,
    }
}

fn bridge_builder(name: &str, bridge: &Bridge) -> LinkMessageBuilder<LinkBridge> {
    let mut builder = LinkMessageBuilder::<LinkBridge>::new(name);
    if let Some(snooping) = bridge.multicast_snooping {
        builder = builder.mcast_snooping(snooping);
    }
    builder
}

fn vxlan_builder(name: &str, vxlan: &Vxlan) -> LinkMessageBuilder<LinkVxlan> {
    // Said in full where the kernel's default differs between versions or is not ours (learning is on by default).
    let mut builder = LinkVxlan::new(name, vxlan.vni)
        .learning(vxlan.learning)
        .l2miss(vxlan.l2miss)
        .l3miss(vxlan.l3miss)
        .proxy(false)
        .rsc(false);
    if let Some(LinkIndex(lower)) = vxlan.lower {
        builder = builder.dev(lower);
    }
    builder = match vxlan.local {
        Some(IpAddr::V4(local)) => builder.local(local),
        Some(IpAddr::V6(local)) => builder.local6(local),
        None => builder,
    };
    builder = match vxlan.group {
        Some(IpAddr::V4(group)) => builder.group(group),
        Some(IpAddr::V6(group)) => builder.group6(group),
        None => builder,
    };
    if vxlan.port != 0 {
        builder = builder.port(vxlan.port);
    }
    if vxlan.gbp {
        builder = builder.append_info_data(InfoVxlan::Gbp);
    }
    builder
}

impl fmt::Display for NewLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "link {} type ", self.name)?;
        match &self.kind {
            NewLinkKind::Bridge(_) => f.write_str("bridge")?,
            NewLinkKind::Veth { peer } => write!(f, "veth peer {}", peer.name)?,
            NewLinkKind::Vxlan(vxlan) => vxlan.fmt(f)?,
        }
        if let Some(mac) = self.mac {
            write!(f, " address {mac}")?;
        }
        if let Some(mtu) = self.mtu {
            write!(f, " mtu {mtu}")?;
        }
        if let Some(master) = self.master {
            write!(f, " master {master}")?;
        }
        Ok(())
    }
}

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
    /// Its new name. Not while it is up on kernels before 6.2. Only for a link named by its number.
    pub name: Option<String>,
    /// Let the kernel give it no IPv6 link-local address when it goes up.
    pub no_ipv6_link_local: bool,
    /// Whether a bridge port sends a packet back out of where it came from.
    pub hairpin: Option<bool>,
    /// Whether it takes in packets for other stations.
    pub promiscuous: Option<bool>,
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
            name: None,
            no_ipv6_link_local: false,
            hairpin: None,
            promiscuous: None,
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

    /// One to three messages, in the order in which the kernel must see them.
    pub(crate) fn encode(&self) -> Vec<RouteNetlinkMessage> {
        let mut messages = Vec::with_capacity(1);
        if self.no_ipv6_link_local {
            // Within one message the kernel would switch the link on first, and the address would be there.
            let mode = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
            let message = self
                .base()
                .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![mode]))
                .build();
            messages.push(RouteNetlinkMessage::SetLink(message));
        }
        let plain = self.plain();
        if plain != self.base().build() || (messages.is_empty() && self.hairpin.is_none()) {
            messages.push(RouteNetlinkMessage::SetLink(plain));
        }
        if let Some(hairpin) = self.hairpin {
            // Settings of a port are looked up before the master of the same message is set, and only this message type
            // takes them.
            let mut port = LinkBridgePort::new(0).hairpin(hairpin);
            port = match &self.link {
                LinkName::Index(LinkIndex(index)) => port.index(*index),
                LinkName::Name(name) => port.name(name),
            };
            messages.push(RouteNetlinkMessage::NewLink(port.build()));
        }
        messages
    }

    fn base(&self) -> LinkMessageBuilder<LinkUnspec> {
        match &self.link {
            LinkName::Index(LinkIndex(index)) => LinkUnspec::new_with_index(*index),
            LinkName::Name(name) => LinkUnspec::new_with_name(name),
        }
    }

    fn plain(&self) -> LinkMessage {
        let mut builder = self.base();
        if let (Some(name), LinkName::Index(_)) = (&self.name, &self.link) {
            builder = builder.name(name);
        }
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
        if let Some(name) = &self.name {
            write!(f, " name {name}")?;
        }
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
        if self.no_ipv6_link_local {
            f.write_str(" addrgenmode none")?;
        }
        for (switch, on, off) in [
            (self.hairpin, " hairpin on", " hairpin off"),
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
