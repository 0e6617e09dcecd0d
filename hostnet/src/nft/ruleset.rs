//! What a table shall hold, in the terms of `nft(8)`: plain values, built by whoever wants rules.
//!
//! Nothing here knows netlink; [`super::compile`] gives the values their meaning, [`super::text`] prints them.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use ipnetwork::IpNetwork;

use super::{error::Error, ports::Ports};
use crate::mac::Mac;

/// The packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// What passes through bridges. Without connection tracking, and without a look into IP.
    Bridge,
    /// IPv4 and IPv6.
    Inet,
    /// IPv4 only.
    Ip,
    /// IPv6 only.
    Ip6,
}

/// A table, everything in it included.
///
/// `Display` prints it as a file for `nft -f`, in the form `nft list table` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The packets it sees.
    pub family: Family,
    /// Its name, unique in the family.
    pub name: String,
    /// Shown by `nft list`.
    pub comment: Option<String>,
    /// Sets of prefixes for the rules to look up.
    pub sets: Vec<Set>,
    /// Sets and maps of ports for the rules to look up.
    pub ports: Vec<Ports>,
    /// Chains of rules.
    pub chains: Vec<Chain>,
}

/// A named set of addresses, given as prefixes.
///
/// The order of prefixes, and whether they overlap or touch, makes no difference: the set is what they cover together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its name, unique in the table.
    pub name: String,
    /// The family of its addresses; a prefix of the other one is an error when the table is compiled.
    pub kind: SetKind,
    /// What it covers.
    pub prefixes: Vec<IpNetwork>,
}

/// The family of a set's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SetKind {
    /// `ipv4_addr`
    Ipv4,
    /// `ipv6_addr`
    Ipv6,
}

/// A chain of rules, seen in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name, unique in the table.
    pub name: String,
    /// Where packets enter it; without one it is entered by jumps alone.
    pub hook: Option<BaseHook>,
    /// The rules in their order.
    pub rules: Vec<Rule>,
}

/// Where in the kernel's packet path a base chain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaseHook {
    /// What the chain may do.
    pub kind: ChainKind,
    /// The point in the packet path.
    pub hook: Hook,
    /// The order among the chains of one hook, lowest first; the usual places are in [`priority`].
    pub priority: i32,
    /// The fate of a packet no rule decides on.
    pub policy: Policy,
}

/// What a base chain may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainKind {
    /// Accept and drop packets.
    Filter,
    /// Translate addresses: sees only the first packet of a connection.
    Nat,
    /// As filter on the output hook, but changes of the packet (its mark) route it anew.
    Route,
}

/// The points of the packet path where chains can stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// On its way through to another host or namespace.
    Forward,
    /// On its way to a local socket.
    Input,
    /// Made by a local socket.
    Output,
    /// About to leave.
    Postrouting,
    /// Just arrived.
    Prerouting,
}

/// The fate of a packet that reaches the end of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// It goes on.
    Accept,
    /// It is dropped.
    Drop,
}

/// The usual priorities of base chains (`enum nf_ip_hook_priorities`), by the names `nft` gives them.
pub mod priority {
    /// Before connection tracking.
    pub const RAW: i32 = -300;
    /// Before routing decisions by mark.
    pub const MANGLE: i32 = -150;
    /// Destination translation.
    pub const DSTNAT: i32 = -100;
    /// Filtering.
    pub const FILTER: i32 = 0;
    /// Source translation.
    pub const SRCNAT: i32 = 100;
}

/// A rule: matches and statements, seen in order until a match fails.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Matches and statements.
    pub exprs: Vec<Expr>,
    /// Shown by `nft list`.
    pub comment: Option<String>,
}

impl Rule {
    /// A rule without a comment.
    pub fn new(exprs: impl IntoIterator<Item = Expr>) -> Self {
        Self {
            exprs: exprs.into_iter().collect(),
            comment: None,
        }
    }

    /// The same rule with this comment.
    #[must_use]
    pub fn with_comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }
}

/// A match or a statement of a rule. The text behind each is what `nft` calls it.
///
/// A prefix stands for its network: host bits do not matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// `accept`
    Accept,
    /// `counter`: counts packets and bytes. What it has counted is not part of the value.
    Counter,
    /// `ct state established,related`: the state of the packet's connection is one of these.
    CtState(CtState),
    /// `ip daddr 10.244.0.0/16`
    Destination(IpNetwork),
    /// `ip daddr @nets`: the destination is in the named set.
    DestinationIn(String),
    /// `fib daddr type local`: the destination is an address of this host.
    DestinationLocal,
    /// `ip daddr != 224.0.0.0/4`
    DestinationNot(IpNetwork),
    /// `ip daddr != @nets`
    DestinationNotIn(String),
    /// `fib daddr type != local`
    DestinationNotLocal,
    /// `udp dport 8472`, `tcp dport 30000-32767`: the protocol is checked too.
    DestinationPort(Transport, RangeInclusive<u16>),
    /// `meta l4proto . th dport @ports`: protocol and destination port are in the named set.
    DestinationPortIn(String),
    /// `dnat ip to meta l4proto . th dport map @ports`, with `ip daddr . ` before it where the named map has addresses in its keys:
    /// the packet goes where that leads to. Only in chains of translation, in tables of one family.
    Dnat(String),
    /// `drop`
    Drop,
    /// `ether saddr != 0a:58:0a:f4:01:05`: the frame comes from another station. In tables of bridges only.
    EtherSourceNot(Mac),
    /// `goto a`: goes on in that chain and does not come back.
    Goto(String),
    /// `iifname "eth0"`, `iifname "veth*"`
    InterfaceIn(InterfacePattern),
    /// `iifname != "eth0"`
    InterfaceInNot(InterfacePattern),
    /// `oifname "eth0"`
    InterfaceOut(InterfacePattern),
    /// `oifname != "eth0"`
    InterfaceOutNot(InterfacePattern),
    /// `jump a`
    Jump(String),
    /// `meta mark & 0x4000 == 0x4000`: these bits of the packet's mark have this value.
    Mark {
        /// The value after masking.
        value: u32,
        /// The bits looked at.
        mask: u32,
    },
    /// `meta mark & 0x4000 != 0x4000`
    MarkNot {
        /// The value after masking.
        value: u32,
        /// The bits looked at.
        mask: u32,
    },
    /// `masquerade fully-random`
    Masquerade(Masquerade),
    /// `notrack`: no connection tracking for this packet.
    Notrack,
    /// `meta l4proto udp`
    Protocol(Protocol),
    /// `meta l4proto != udp`
    ProtocolNot(Protocol),
    /// `return`: back to the calling chain, or to the policy of a base chain.
    Return,
    /// `meta mark set meta mark & 0xffffbfff | 0x4000`: these bits of the packet's mark become this value.
    SetMark {
        /// The bits to set; those outside the mask are ignored.
        value: u32,
        /// The bits that change.
        mask: u32,
    },
    /// `ip saddr 10.244.0.0/16`
    Source(IpNetwork),
    /// `ip saddr @nets`
    SourceIn(String),
    /// `ip saddr != 10.244.0.0/16`
    SourceNot(IpNetwork),
    /// `ip saddr != @nets`
    SourceNotIn(String),
    /// `udp sport 53`
    SourcePort(Transport, RangeInclusive<u16>),
    /// `@th,64,8 & 0x8 == 0x8 @th,96,24 0x1`: what UDP carries begins like a VXLAN header (RFC 7348) with this network identifier.
    Vxlan(u32),
}

/// A set of connection states (`NF_CT_STATE_BIT`); combine them with [`CtState::or`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CtState(pub(super) u32);

impl CtState {
    /// Part of a connection that has seen packets both ways.
    pub const ESTABLISHED: Self = Self(0x2);
    /// Belongs to no connection the kernel can make out.
    pub const INVALID: Self = Self(0x1);
    /// Starts a connection.
    pub const NEW: Self = Self(0x8);
    /// Starts a connection that belongs to another one.
    pub const RELATED: Self = Self(0x4);
    /// Exempt from connection tracking.
    pub const UNTRACKED: Self = Self(0x40);

    /// One of these states or of those.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A name of interfaces: all of it, or with `*` at the end how it begins.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InterfacePattern(String);

impl InterfacePattern {
    /// The name, or its beginning when [`Self::is_prefix`].
    pub(super) fn name(&self) -> &str {
        self.0.strip_suffix('*').unwrap_or(&self.0)
    }

    pub(super) fn is_prefix(&self) -> bool {
        self.0.ends_with('*')
    }
}

impl FromStr for InterfacePattern {
    type Err = Error;

    /// Takes what can be (the beginning of) an interface's name: 1 to 15 bytes without `/`, `:`, spaces, quotes and NUL.
    fn from_str(text: &str) -> Result<Self, Error> {
        let pattern = Self(text.to_owned());
        let name = pattern.name();
        let stray = |c: char| c.is_whitespace() || c.is_control() || "/:\"*\\".contains(c);
        if name.is_empty() || name.len() > MAX_INTERFACE_NAME || name.contains(stray) {
            return Err(Error::Interface {
                name: text.to_owned(),
            });
        }
        Ok(pattern)
    }
}

impl fmt::Display for InterfacePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How `masquerade` chooses source ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Masquerade {
    /// From a hash of the connection instead of the original port (`NF_NAT_RANGE_PROTO_RANDOM`).
    pub random: bool,
    /// At random (`NF_NAT_RANGE_PROTO_RANDOM_FULLY`): avoids the insertion races of many connections at once.
    pub fully_random: bool,
}

/// A transport protocol, as numbered by IANA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

impl Protocol {
    /// Stream control transmission protocol.
    pub const SCTP: Self = Self(132);
    /// Transmission control protocol.
    pub const TCP: Self = Self(6);
    /// User datagram protocol.
    pub const UDP: Self = Self(17);
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Transmission control protocol.
    Tcp,
    /// User datagram protocol.
    Udp,
}

impl From<Transport> for Protocol {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Tcp => Self::TCP,
            Transport::Udp => Self::UDP,
        }
    }
}

/// `IFNAMSIZ` without the NUL at the end.
pub(super) const MAX_INTERFACE_NAME: usize = 15;
