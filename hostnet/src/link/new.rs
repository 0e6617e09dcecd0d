//! Links to be made, and the messages that ask for them.

use std::{fmt, net::IpAddr, os::fd::RawFd};

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoData, InfoVeth, InfoVxlan, LinkAttribute, LinkMessage},
};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan};

use super::{LinkIndex, Vxlan};
use crate::mac::Mac;

/// A link to be made.
///
/// An alias is not among its properties: the kernel ignores one in the message that makes a link, so it takes a
/// [`crate::LinkChange`] more.
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
