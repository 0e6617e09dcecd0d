//! What becomes of a packet in a table that anybody wrote: followed through the chains as far as what is known of the packet goes.
//!
//! Where a rule looks at something that is not known here (a set, a mark, a match of iptables' own), both is taken for possible: that it
//! matches and that it does not. So "dropped" is said only where every way ends in a drop.

mod header;

use std::net::IpAddr;

use nix::libc;

use self::header::{meta, payload};
use super::{
    compiled::{CompiledChain, CompiledTable},
    instruction::{Compare, Instruction},
    ruleset::{Family, Hook},
};
use crate::link::LinkIndex;

/// The first packet of a connection, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// From where.
    pub source: IpAddr,
    /// To where; of the same family.
    pub destination: IpAddr,
    /// The number of the protocol in it (6 TCP, 17 UDP).
    pub protocol: u8,
    /// The port it goes to.
    pub port: Option<u16>,
    /// The link it came in by: number and name.
    pub input: Option<(LinkIndex, String)>,
    /// The link it leaves by.
    pub output: Option<(LinkIndex, String)>,
}

/// A base chain in which a packet ends, or may end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The family of the table.
    pub family: Family,
    /// The table.
    pub table: String,
    /// The base chain by which the packet came into it.
    pub chain: String,
    /// Where it ends.
    pub end: End,
    /// Whether every way ends in a drop; else only some, by what is not known.
    pub certain: bool,
}

/// What ended a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// No rule decided, and the chain's policy is to drop.
    Policy,
    /// A rule: the chain it is in, its place there from 1 on, and its comment.
    Rule {
        /// The chain.
        chain: String,
        /// Its place, from 1 on.
        place: usize,
        /// What is written on it.
        comment: Option<String>,
    },
}

/// The ways through a chain.
#[derive(Clone, Debug, Default)]
struct Ways {
    accepted: bool,
    dropped: Option<End>,
    /// Out of its end.
    through: bool,
}

/// Whether a rule applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    Yes,
    No,
    Unknown,
}

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    /// Where a packet is dropped.
    Drop,
    /// Where a packet gets other addresses. It is taken to carry no mark.
    Rewrite,
}

impl CompiledTable {
    /// The base chains of this table at a hook in which the packet ends.
    #[must_use]
    pub fn obstacles(&self, hook: Hook, packet: &Packet) -> Vec<Obstacle> {
        self.ends(hook, packet, Aim::Drop)
    }

    /// The base chains of this table at a hook in which a packet without a mark gets another source or destination. A verdict that a map gives
    /// may be any.
    #[must_use]
    pub fn rewrites(&self, hook: Hook, packet: &Packet) -> Vec<Obstacle> {
        self.ends(hook, packet, Aim::Rewrite)
    }

    fn ends(&self, hook: Hook, packet: &Packet, aim: Aim) -> Vec<Obstacle> {
        // A dormant table does nothing.
        if self.flags & 1 != 0 || !sees(self.family, packet) {
            return Vec::new();
        }
        let mut obstacles = Vec::new();
        for (name, chain) in &self.chains {
            let Some(base) = &chain.hook else { continue };
            if base.kind != aim.kind() || base.hook != number(hook) {
                continue;
            }
            let mut ways = self.walk(name, chain, packet, aim, DEEPEST);
            if ways.through {
                if aim == Aim::Drop && base.policy == libc::NF_DROP.cast_unsigned() {
                    ways.dropped.get_or_insert(End::Policy);
                } else {
                    ways.accepted = true;
                }
            }
            if let Some(end) = ways.dropped {
                obstacles.push(Obstacle {
                    family: self.family,
                    table: self.name.clone(),
                    chain: name.clone(),
                    end,
                    certain: !ways.accepted,
                });
            }
        }
        obstacles
    }

    fn walk(
        &self,
        name: &str,
        chain: &CompiledChain,
        packet: &Packet,
        aim: Aim,
        depth: usize,
    ) -> Ways {
        let mut ways = Ways::default();
        for (place, rule) in (1..).zip(&chain.rules) {
            let (matches, decision) = follow(&rule.instructions, packet, aim);
            if matches == Match::No {
                continue;
            }
            let certain = matches == Match::Yes;
            let end = || End::Rule {
                chain: name.to_owned(),
                place,
                comment: rule.comment.clone(),
            };
            let ends = match decision {
                Decision::None => false,
                Decision::Accept => {
                    ways.accepted = true;
                    true
                }
                Decision::Drop => {
                    ways.dropped.get_or_insert_with(end);
                    true
                }
                Decision::Return => {
                    ways.through = true;
                    true
                }
                Decision::Unknown => {
                    ways.accepted = true;
                    false
                }
                Decision::Chain { name, back } => {
                    let inner = match self.chains.get(name) {
                        Some(chain) if depth > 0 => self.walk(name, chain, packet, aim, depth - 1),
                        _ => Ways {
                            through: true,
                            ..Ways::default()
                        },
                    };
                    ways.accepted |= inner.accepted;
                    ways.dropped = ways.dropped.or(inner.dropped);
                    ways.through |= inner.through && !back;
                    !(inner.through && back)
                }
            };
            if ends && certain {
                return ways;
            }
        }
        ways.through = true;
        ways
    }
}

impl Aim {
    /// The kind of base chains that do so.
    fn kind(self) -> &'static str {
        match self {
            Self::Drop => "filter",
            Self::Rewrite => "nat",
        }
    }
}

/// What a rule does with a packet that it applies to. What is aimed at counts as the drop.
enum Decision<'a> {
    None,
    Accept,
    Drop,
    Return,
    Chain { name: &'a str, back: bool },
    Unknown,
}

fn follow<'a>(instructions: &'a [Instruction], packet: &Packet, aim: Aim) -> (Match, Decision<'a>) {
    let mut register: Option<Vec<u8>> = None;
    let mut matches = Match::Yes;
    for instruction in instructions {
        match instruction {
            Instruction::Payload {
                base,
                offset,
                length,
            } => register = payload(*base, *offset, *length, packet),
            Instruction::Meta(key) if aim == Aim::Rewrite && *key == MARK => {
                register = Some(vec![0; 4]);
            }
            Instruction::Meta(key) => register = meta(*key, packet),
            // Of a new connection (`NF_CT_STATE_BIT(IP_CT_NEW)`, linux/netfilter/nf_conntrack_common.h).
            Instruction::Ct(key) if *key == CT_STATE => {
                register = Some(8_u32.to_ne_bytes().to_vec());
            }
            Instruction::Ct(_) | Instruction::Fib { .. } => register = None,
            Instruction::Immediate(bytes) => register = Some(bytes.clone()),
            Instruction::Bitwise { mask, xor } => {
                register = register.filter(|bytes| bytes.len() == mask.len());
                let altered = register.iter().flatten().zip(mask).zip(xor);
                let altered = altered.map(|((byte, mask), xor)| (byte & mask) ^ xor);
                register = register.is_some().then(|| altered.collect());
            }
            Instruction::Compare { op, data } => match compare(register.as_deref(), *op, data) {
                Match::No => return (Match::No, Decision::None),
                Match::Unknown => matches = Match::Unknown,
                Match::Yes => {}
            },
            Instruction::MapLookup(_) if aim == Aim::Rewrite => {
                return (Match::Unknown, Decision::Drop);
            }
            Instruction::Masquerade(_) | Instruction::Nat { .. } if aim == Aim::Rewrite => {
                return (matches, Decision::Drop);
            }
            Instruction::Other { name, data } if aim == Aim::Rewrite && rewrites(name, data) => {
                return (matches, Decision::Drop);
            }
            Instruction::Lookup { .. } | Instruction::MapLookup(_) => matches = Match::Unknown,
            // What is in other registers is for look-ups only.
            Instruction::Also(..)
            | Instruction::Counter
            | Instruction::Masquerade(_)
            | Instruction::Nat { .. }
            | Instruction::Notrack
            | Instruction::SetMeta(_) => {}
            Instruction::Verdict { code, chain } => {
                return (matches, decision(*code, chain.as_deref()));
            }
            Instruction::Other { name, data } => match other(name, data) {
                Other::Nothing => {}
                Other::Maybe => matches = Match::Unknown,
                Other::Not => return (Match::No, Decision::None),
                Other::Drop => return (matches, Decision::Drop),
                Other::Decides => return (matches, Decision::Unknown),
            },
        }
    }
    (matches, Decision::None)
}

/// What an instruction without a name here means for a packet.
enum Other {
    Nothing,
    Maybe,
    Not,
    Drop,
    Decides,
}

/// Whether an instruction gives the packet another address: nftables' own, and the extensions of iptables.
fn rewrites(name: &str, data: &[u8]) -> bool {
    let of_iptables: [&[u8]; 5] = [
        b"DNAT\0",
        b"SNAT\0",
        b"MASQUERADE\0",
        b"REDIRECT\0",
        b"NETMAP\0",
    ];
    matches!(name, "nat" | "redir" | "masq")
        || name == "target" && of_iptables.iter().any(|target| names(data, target))
}

fn names(data: &[u8], extension: &[u8]) -> bool {
    let mut windows = data.windows(extension.len());
    windows.any(|window| window == extension)
}

fn other(name: &str, data: &[u8]) -> Other {
    let is_of = |extension: &[u8]| names(data, extension);
    match name {
        "log" | "counter" | "notrack" | "last" => Other::Nothing,
        "reject" => Other::Drop,
        // Extensions of iptables; what they look at is in a form of their own each. Comments say nothing, and rules about the
        // state of connections are, but for rare ones, about those that exist already.
        "match" if is_of(b"comment\0") => Other::Nothing,
        "match" if is_of(b"conntrack\0") || is_of(b"state\0") => Other::Not,
        "target" if is_of(b"REJECT\0") => Other::Drop,
        "target" if is_of(b"LOG\0") || is_of(b"MARK\0") => Other::Nothing,
        "target" | "queue" | "tproxy" | "fwd" => Other::Decides,
        _ => Other::Maybe,
    }
}

fn decision(code: i32, chain: Option<&str>) -> Decision<'_> {
    match (code, chain) {
        (libc::NF_ACCEPT, _) => Decision::Accept,
        (libc::NF_DROP, _) => Decision::Drop,
        (libc::NFT_RETURN, _) => Decision::Return,
        (libc::NFT_JUMP, Some(name)) => Decision::Chain { name, back: true },
        (libc::NFT_GOTO, Some(name)) => Decision::Chain { name, back: false },
        (libc::NFT_CONTINUE, _) => Decision::None,
        _ => Decision::Unknown,
    }
}

/// Compares as many bytes as there are on the right hand side, as the kernel does.
fn compare(register: Option<&[u8]>, op: Compare, data: &[u8]) -> Match {
    let Some(left) = register.and_then(|bytes| bytes.get(..data.len())) else {
        return Match::Unknown;
    };
    let holds = match op {
        Compare::Equal => left == data,
        Compare::NotEqual => left != data,
        Compare::GreaterOrEqual => left >= data,
        Compare::LessOrEqual => left <= data,
    };
    if holds { Match::Yes } else { Match::No }
}

fn sees(family: Family, packet: &Packet) -> bool {
    match family {
        Family::Inet => true,
        Family::Ip => packet.source.is_ipv4(),
        Family::Ip6 => packet.source.is_ipv6(),
        Family::Bridge => false,
    }
}

/// `enum nf_inet_hooks`
const fn number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => 0,
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
        Hook::Postrouting => 4,
    }
}

const MARK: u32 = libc::NFT_META_MARK.cast_unsigned();
const CT_STATE: u32 = libc::NFT_CT_STATE.cast_unsigned();

/// As deep as the kernel lets jumps go (`NFT_JUMP_STACK_SIZE`).
const DEEPEST: usize = 16;

#[cfg(test)]
mod tests;
