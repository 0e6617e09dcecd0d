//! Tables as text: what `nft list table` prints for them, and `nft -f` reads.

mod ports;

use std::{
    fmt::{self, Display, Formatter, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
};

use ipnetwork::IpNetwork;

use self::ports::{header_name, key};
use super::{
    ranges::Ranges,
    ruleset::{
        BaseHook, Chain, ChainKind, CtState, Expr, Family, Hook, Masquerade, Policy, Protocol,
        Rule, Set, SetKind, Table, Transport, priority,
    },
};

impl Display for Family {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bridge => "bridge",
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
        })
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {} {{", self.title())?;
        if let Some(comment) = &self.comment {
            writeln!(f, "\tcomment \"{comment}\"")?;
        }
        let mut separator = "";
        for set in &self.sets {
            write!(f, "{separator}{set}")?;
            separator = "\n";
        }
        for ports in &self.ports {
            write!(f, "{separator}{ports}")?;
            separator = "\n";
        }
        for chain in &self.chains {
            f.write_str(separator)?;
            self.write_chain(chain, f)?;
            separator = "\n";
        }
        f.write_str("}\n")
    }
}

impl Table {
    fn write_chain(&self, chain: &Chain, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tchain {} {{", chain.name)?;
        if let Some(hook) = &chain.hook {
            // For bridges the names of priorities mean other numbers.
            match self.family {
                Family::Bridge => writeln!(f, "\t\t{hook:#}")?,
                _ => writeln!(f, "\t\t{hook}")?,
            }
        }
        for rule in &chain.rules {
            f.write_str("\t\t")?;
            self.write_rule(rule, f)?;
            f.write_char('\n')?;
        }
        f.write_str("\t}\n")
    }

    fn write_rule(&self, rule: &Rule, f: &mut Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for expr in &rule.exprs {
            f.write_str(separator)?;
            self.write_expr(expr, f)?;
            separator = " ";
        }
        match &rule.comment {
            Some(comment) => write!(f, "{separator}comment \"{comment}\""),
            None => Ok(()),
        }
    }

    fn write_expr(&self, expr: &Expr, f: &mut Formatter<'_>) -> fmt::Result {
        match expr {
            Expr::Accept => f.write_str("accept"),
            Expr::Counter => f.write_str("counter packets 0 bytes 0"),
            Expr::CtState(states) => write!(f, "ct state {states}"),
            Expr::Destination(prefix) => write!(f, "{} daddr {}", header(prefix), Short(prefix)),
            Expr::DestinationIn(set) => write!(f, "{} daddr @{set}", self.header_of_set(set)),
            Expr::DestinationLocal => f.write_str("fib daddr type local"),
            Expr::DestinationNot(prefix) => {
                write!(f, "{} daddr != {}", header(prefix), Short(prefix))
            }
            Expr::DestinationNotIn(set) => write!(f, "{} daddr != @{set}", self.header_of_set(set)),
            Expr::DestinationNotLocal => f.write_str("fib daddr type != local"),
            Expr::DestinationPort(transport, ports) => {
                write!(f, "{transport} dport {}", Ports(ports))
            }
            Expr::DestinationPortIn(set) => write!(f, "{} @{set}", key(None)),
            Expr::Dnat(map) => {
                let known = self.ports.iter().find(|ports| ports.name == *map);
                let kind = known.map_or(SetKind::Ipv4, |ports| ports.kind);
                let address = known
                    .is_some_and(super::ports::Ports::by_address)
                    .then_some(kind);
                write!(
                    f,
                    "dnat {} to {} map @{map}",
                    header_name(kind),
                    key(address)
                )
            }
            Expr::Drop => f.write_str("drop"),
            Expr::EtherSourceNot(mac) => write!(f, "ether saddr != {mac}"),
            Expr::Goto(chain) => write!(f, "goto {chain}"),
            Expr::InterfaceIn(pattern) => write!(f, "iifname \"{pattern}\""),
            Expr::InterfaceInNot(pattern) => write!(f, "iifname != \"{pattern}\""),
            Expr::InterfaceOut(pattern) => write!(f, "oifname \"{pattern}\""),
            Expr::InterfaceOutNot(pattern) => write!(f, "oifname != \"{pattern}\""),
            Expr::Jump(chain) => write!(f, "jump {chain}"),
            Expr::Mark { value, mask } => write_mark(*value, *mask, true, f),
            Expr::MarkNot { value, mask } => write_mark(*value, *mask, false, f),
            Expr::Masquerade(ports) => write!(f, "masquerade{ports}"),
            Expr::Notrack => f.write_str("notrack"),
            Expr::Protocol(protocol) => write!(f, "meta l4proto {protocol}"),
            Expr::ProtocolNot(protocol) => write!(f, "meta l4proto != {protocol}"),
            Expr::Return => f.write_str("return"),
            Expr::SetMark { value, mask } => write_set_mark(*value, *mask, f),
            Expr::Source(prefix) => write!(f, "{} saddr {}", header(prefix), Short(prefix)),
            Expr::SourceIn(set) => write!(f, "{} saddr @{set}", self.header_of_set(set)),
            Expr::SourceNot(prefix) => write!(f, "{} saddr != {}", header(prefix), Short(prefix)),
            Expr::SourceNotIn(set) => write!(f, "{} saddr != @{set}", self.header_of_set(set)),
            Expr::SourcePort(transport, ports) => write!(f, "{transport} sport {}", Ports(ports)),
            Expr::Vxlan(vni) => write!(f, "@th,64,8 & 0x8 == 0x8 @th,96,24 {vni:#x}"),
        }
    }

    /// The name `nft` has for the header in which the addresses of a set are looked up.
    fn header_of_set(&self, name: &str) -> &'static str {
        let kind = self.sets.iter().find(|set| set.name == name);
        match (kind.map(|set| set.kind), self.family) {
            (Some(SetKind::Ipv6), _) | (None, Family::Ip6) => "ip6",
            _ => "ip",
        }
    }
}

/// With `#` the priority is a number even if it has a name.
impl Display for BaseHook {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
            ChainKind::Route => "route",
        };
        let policy = match self.policy {
            Policy::Accept => "accept",
            Policy::Drop => "drop",
        };
        write!(f, "type {kind} hook {} priority ", self.hook)?;
        match (self.priority, self.hook) {
            (number, _) if f.alternate() => write!(f, "{number}"),
            (priority::RAW, _) => f.write_str("raw"),
            (priority::MANGLE, _) => f.write_str("mangle"),
            (priority::FILTER, _) => f.write_str("filter"),
            (priority::DSTNAT, Hook::Prerouting) => f.write_str("dstnat"),
            (priority::SRCNAT, Hook::Postrouting) => f.write_str("srcnat"),
            (number, _) => write!(f, "{number}"),
        }?;
        write!(f, "; policy {policy};")
    }
}

impl Display for Hook {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "forward",
            Self::Input => "input",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
            Self::Prerouting => "prerouting",
        })
    }
}

impl Display for Set {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            SetKind::Ipv4 => "ipv4_addr",
            SetKind::Ipv6 => "ipv6_addr",
        };
        writeln!(
            f,
            "\tset {} {{\n\t\ttype {kind}\n\t\tflags interval",
            self.name
        )?;
        let mut separator = "\t\telements = { ";
        for range in Ranges::covering(&self.prefixes).iter() {
            write!(f, "{separator}{}", Range(self.kind, range))?;
            separator = ", ";
        }
        if !self.prefixes.is_empty() {
            f.write_str(" }\n")?;
        }
        f.write_str("\t}\n")
    }
}

impl Display for CtState {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (state, name) in [
            (Self::INVALID, "invalid"),
            (Self::ESTABLISHED, "established"),
            (Self::RELATED, "related"),
            (Self::NEW, "new"),
            (Self::UNTRACKED, "untracked"),
        ] {
            if self.0 & state.0 != 0 {
                write!(f, "{separator}{name}")?;
                separator = ",";
            }
        }
        Ok(())
    }
}

impl Display for Masquerade {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.random, self.fully_random) {
            (false, false) => "",
            (false, true) => " fully-random",
            (true, false) => " random",
            (true, true) => " random,fully-random",
        })
    }
}

impl Display for Protocol {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self::SCTP => f.write_str("sctp"),
            Self::TCP => f.write_str("tcp"),
            Self::UDP => f.write_str("udp"),
            Self(number) => write!(f, "{number}"),
        }
    }
}

impl Display for Transport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Protocol::from(*self).fmt(f)
    }
}

fn write_mark(value: u32, mask: u32, equal: bool, f: &mut Formatter<'_>) -> fmt::Result {
    match (mask, equal) {
        (u32::MAX, true) => write!(f, "meta mark 0x{value:08x}"),
        (u32::MAX, false) => write!(f, "meta mark != 0x{value:08x}"),
        (_, true) => write!(f, "meta mark & 0x{mask:08x} == 0x{value:08x}"),
        (_, false) => write!(f, "meta mark & 0x{mask:08x} != 0x{value:08x}"),
    }
}

fn write_set_mark(value: u32, mask: u32, f: &mut Formatter<'_>) -> fmt::Result {
    if mask == u32::MAX {
        return write!(f, "meta mark set 0x{value:08x}");
    }
    f.write_str("meta mark set meta mark")?;
    let value = value & mask;
    let kept = !mask | value;
    if kept != u32::MAX {
        write!(f, " & 0x{kept:08x}")?;
    }
    if value != 0 {
        write!(f, " | 0x{value:08x}")?;
    }
    Ok(())
}

const fn header(prefix: &IpNetwork) -> &'static str {
    match prefix {
        IpNetwork::V4(_) => "ip",
        IpNetwork::V6(_) => "ip6",
    }
}

/// A prefix without host bits, and without its length when it is a single address.
struct Short<'a>(&'a IpNetwork);

impl Display for Short<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let full = if self.0.is_ipv4() { 32 } else { 128 };
        match self.0.prefix() {
            length if length == full => write!(f, "{}", self.0.network()),
            length => write!(f, "{}/{length}", self.0.network()),
        }
    }
}

/// A port, or a range of them.
struct Ports<'a>(&'a RangeInclusive<u16>);

impl Display for Ports<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (self.0.start(), self.0.end()) {
            (first, last) if first == last => write!(f, "{first}"),
            (first, last) => write!(f, "{first}-{last}"),
        }
    }
}

/// A range of addresses: as a prefix where it is one.
struct Range(SetKind, (u128, u128));

impl Display for Range {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(kind, (first, last)) = *self;
        let address = |number: u128| match kind {
            // The numbers of an IPv4 set have 32 bits.
            SetKind::Ipv4 => IpAddr::V4(Ipv4Addr::from_bits(number as u32)),
            SetKind::Ipv6 => IpAddr::V6(Ipv6Addr::from_bits(number)),
        };
        let width = match kind {
            SetKind::Ipv4 => 32,
            SetKind::Ipv6 => 128,
        };
        let host = first ^ last;
        let is_prefix = host & host.wrapping_add(1) == 0 && first & host == 0;
        match (is_prefix, host) {
            (true, 0) => write!(f, "{}", address(first)),
            (true, _) => write!(f, "{}/{}", address(first), width - host.count_ones()),
            (false, _) => write!(f, "{}-{}", address(first), address(last)),
        }
    }
}

#[cfg(test)]
mod tests;
