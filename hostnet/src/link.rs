//! Links as the kernel reports them. How they are made is in [`new`], how altered in [`change`].

use std::{fmt, net::IpAddr};

use crate::{
    attr::{Attribute, Attributes},
    mac::Mac,
};

pub(crate) mod change;
pub(crate) mod new;

/// A link's number in its network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkIndex(pub u32);

impl fmt::Display for LinkIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: LinkIndex,
    /// Its name (at most 15 bytes).
    pub name: String,
    /// What driver it is of: `vxlan`, `veth`, `bridge`, …; nothing for hardware.
    pub kind: Option<String>,
    /// Its Ethernet address, if it has one of that length.
    pub mac: Option<Mac>,
    /// In bytes, without the Ethernet header.
    pub mtu: u32,
    /// Whether it is switched on (`IFF_UP`).
    pub up: bool,
    /// Whether packets can pass (`IFF_RUNNING`: up and with carrier).
    pub running: bool,
    /// Whether it is the loopback interface.
    pub loopback: bool,
    /// The bridge (or bond, VRF) it is a port of.
    pub master: Option<LinkIndex>,
    /// Free text that stays with the link (`ip link set … alias`).
    pub alias: Option<String>,
    /// Link group, 0 if never set.
    pub group: u32,
    /// The link it sits on: the outer link of a tunnel, the other end of a veth pair.
    pub lower: Option<LinkIndex>,
    /// In which namespace [`Self::lower`] is to be looked up, if not in this one: the namespace's number as seen from here.
    pub lower_netnsid: Option<i32>,
    /// What a link of kind `vxlan` is set to.
    pub vxlan: Option<Vxlan>,
    /// Whether a bridge port sends a packet back out of where it came from.
    pub hairpin: bool,
    /// Whether IPv4 packets that come in by it are forwarded; unknown if the kernel does not say.
    pub forwards_ipv4: Option<bool>,
}

impl Link {
    /// A link of which nothing more is known: of no driver, switched off, on its own, everything else 0 or absent.
    pub fn bare(index: LinkIndex, name: impl Into<String>) -> Self {
        Self {
            index,
            name: name.into(),
            kind: None,
            mac: None,
            mtu: 0,
            up: false,
            running: false,
            loopback: false,
            master: None,
            alias: None,
            group: 0,
            lower: None,
            lower_netnsid: None,
            vxlan: None,
            hairpin: false,
            forwards_ipv4: None,
        }
    }

    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        // struct ifinfomsg: family, padding, type (2), index (4), flags (4), change mask (4)
        let header = payload.first_chunk::<16>()?;
        let [_, _, _, _, i0, i1, i2, i3, f0, f1, f2, f3, ..] = *header;
        let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
        let mut link = Self {
            up: flags & IFF_UP != 0,
            running: flags & IFF_RUNNING != 0,
            loopback: flags & IFF_LOOPBACK != 0,
            ..Self::bare(LinkIndex(u32::from_ne_bytes([i0, i1, i2, i3])), "")
        };
        for attribute in Attributes::new(payload.get(header.len()..)?) {
            link.take(&attribute);
        }
        Some(link)
    }

    fn take(&mut self, attribute: &Attribute<'_>) {
        match attribute.kind {
            IFLA_ADDRESS => self.mac = Mac::from_attribute(attribute.payload),
            IFLA_IFNAME => self.name = attribute.text().into_owned(),
            IFLA_MTU => self.mtu = attribute.u32().unwrap_or(0),
            IFLA_LINK => self.lower = attribute.u32().filter(|index| *index != 0).map(LinkIndex),
            IFLA_MASTER => self.master = attribute.u32().map(LinkIndex),
            IFLA_IFALIAS => self.alias = Some(attribute.text().into_owned()),
            IFLA_GROUP => self.group = attribute.u32().unwrap_or(0),
            IFLA_LINK_NETNSID => self.lower_netnsid = attribute.i32(),
            IFLA_LINKINFO => self.take_info(attribute.nested()),
            IFLA_AF_SPEC => self.forwards_ipv4 = forwards_ipv4(attribute.nested()),
            _ => {}
        }
    }

    fn take_info(&mut self, info: Attributes<'_>) {
        // The kind comes before the data, but nothing promises that.
        let kind = |wanted| info.clone().find(|attribute| attribute.kind == wanted);
        self.kind = kind(IFLA_INFO_KIND).map(|kind| kind.text().into_owned());
        if self.kind.as_deref() == Some("vxlan") {
            self.vxlan = kind(IFLA_INFO_DATA).map(|data| Vxlan::decode(data.nested()));
        }
        if kind(IFLA_INFO_SLAVE_KIND).is_some_and(|kind| kind.text() == "bridge") {
            self.hairpin = kind(IFLA_INFO_SLAVE_DATA)
                .and_then(|data| {
                    data.nested()
                        .find(|attribute| attribute.kind == IFLA_BRPORT_MODE)
                })
                .and_then(|mode| mode.u8())
                .is_some_and(|mode| mode != 0);
        }
    }
}

/// The IPv4 settings of a link are an array of 32 bit words, of which the first is `forwarding` (`IPV4_DEVCONF_FORWARDING`,
/// linux/ip.h). A port of a bridge may have another form of this attribute.
fn forwards_ipv4(families: Attributes<'_>) -> Option<bool> {
    let mut families = families;
    let ipv4 = families.find(|family| family.kind == AF_INET)?;
    let conf = ipv4.nested().find(|inside| inside.kind == IFLA_INET_CONF)?;
    Some(conf.u32()? != 0)
}

/// What a VXLAN device is set to, wanted or observed.
///
/// All the switches that are absent here (proxy, route short circuit, miss notifications, collected metadata) are off in
/// devices we make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// The link the outer packets leave by.
    pub lower: Option<LinkIndex>,
    /// The source address of outer packets.
    pub local: Option<IpAddr>,
    /// UDP port of the far end. 0 when creating leaves the choice to the kernel (8472).
    pub port: u16,
    /// Whether FDB entries are learned from received packets.
    pub learning: bool,
    /// Group Based Policy extension: carries the packet mark.
    pub gbp: bool,
    /// Whether packets to unknown MACs are announced over netlink.
    pub l2miss: bool,
    /// Whether packets to unknown addresses are announced over netlink.
    pub l3miss: bool,
    /// Multicast group, or the one remote end all unknown MACs are sent to. Never set by us.
    pub group: Option<IpAddr>,
}

impl Vxlan {
    /// A device with this network identifier and nothing else: the kernel's port, no learning.
    #[must_use]
    pub const fn new(vni: u32) -> Self {
        Self {
            vni,
            lower: None,
            local: None,
            port: 0,
            learning: false,
            gbp: false,
            l2miss: false,
            l3miss: false,
            group: None,
        }
    }

    fn decode(attributes: Attributes<'_>) -> Self {
        let mut vxlan = Self::new(0);
        for attribute in attributes {
            let switched_on = attribute.u8().is_some_and(|value| value != 0);
            match attribute.kind {
                IFLA_VXLAN_ID => vxlan.vni = attribute.u32().unwrap_or(0),
                IFLA_VXLAN_GROUP | IFLA_VXLAN_GROUP6 => vxlan.group = specified(&attribute),
                IFLA_VXLAN_LINK => {
                    vxlan.lower = attribute.u32().filter(|index| *index != 0).map(LinkIndex);
                }
                IFLA_VXLAN_LOCAL | IFLA_VXLAN_LOCAL6 => vxlan.local = specified(&attribute),
                IFLA_VXLAN_LEARNING => vxlan.learning = switched_on,
                IFLA_VXLAN_L2MISS => vxlan.l2miss = switched_on,
                IFLA_VXLAN_L3MISS => vxlan.l3miss = switched_on,
                IFLA_VXLAN_PORT => vxlan.port = attribute.be_u16().unwrap_or(0),
                // A flag: its presence is its value.
                IFLA_VXLAN_GBP => vxlan.gbp = true,
                _ => {}
            }
        }
        vxlan
    }
}

impl fmt::Display for Vxlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vxlan id {}", self.vni)?;
        if let Some(lower) = self.lower {
            write!(f, " dev {lower}")?;
        }
        if let Some(local) = self.local {
            write!(f, " local {local}")?;
        }
        if self.port != 0 {
            write!(f, " dstport {}", self.port)?;
        }
        f.write_str(if self.learning {
            " learning"
        } else {
            " nolearning"
        })?;
        if self.gbp {
            f.write_str(" gbp")?;
        }
        Ok(())
    }
}

fn specified(attribute: &Attribute<'_>) -> Option<IpAddr> {
    attribute.ip().filter(|address| !address.is_unspecified())
}

// linux/if.h
const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;
const IFF_RUNNING: u32 = 0x40;

// linux/socket.h
const AF_INET: u16 = 2;

// linux/if_link.h
const IFLA_INET_CONF: u16 = 1;
const IFLA_ADDRESS: u16 = 1;
pub(crate) const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_GROUP: u16 = 27;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_GROUP: u16 = 2;
const IFLA_VXLAN_LINK: u16 = 3;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_L2MISS: u16 = 13;
const IFLA_VXLAN_L3MISS: u16 = 14;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_GROUP6: u16 = 16;
const IFLA_VXLAN_LOCAL6: u16 = 17;
const IFLA_VXLAN_GBP: u16 = 23;

#[cfg(test)]
mod tests;
