//! The listing of virtual machine code, as `nft --debug=netlink` prints it (libnftnl 1.2), so that the two can be laid
//! side by side.

use std::fmt::{self, Display, Formatter};

use nix::libc;

use super::{
    compiled::{CompiledRule, CompiledTable},
    instruction::{Compare, Instruction},
};

impl Display for CompiledTable {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (name, chain) in &self.chains {
            for rule in &chain.rules {
                writeln!(f, "{} {name}\n{rule}", self.title())?;
            }
        }
        Ok(())
    }
}

impl Display for CompiledRule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for instruction in &self.instructions {
            writeln!(f, "  [ {instruction} ]")?;
        }
        Ok(())
    }
}

impl Display for Instruction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Also(register, load) => {
                let load = load.to_string();
                let load = load.strip_suffix("reg 1").unwrap_or(&load);
                write!(f, "{load}reg {register}")
            }
            Self::Bitwise { mask, xor } => {
                write!(
                    f,
                    "bitwise reg 1 = ( reg 1 & {} ) ^ {}",
                    Words(mask),
                    Words(xor)
                )
            }
            Self::Compare { op, data } => write!(f, "cmp {op} reg 1 {}", Words(data)),
            // What it has counted is no part of the value.
            Self::Counter => f.write_str("counter pkts 0 bytes 0"),
            Self::Ct(key) => write!(f, "ct load {} => reg 1", Key(*key, CT_KEYS)),
            Self::Fib { result, flags } => {
                let what = if *flags == 2 { "daddr " } else { "" };
                write!(f, "fib {what}{} => reg 1", Key(*result, FIB_RESULTS))
            }
            Self::Immediate(data) => write!(f, "immediate reg 1 {}", Words(data)),
            Self::Lookup { set, invert } => {
                let flags = if *invert { " 0x1" } else { "" };
                write!(f, "lookup reg 1 set {set}{flags}")
            }
            Self::Masquerade(0) => f.write_str("masq"),
            Self::Masquerade(flags) => write!(f, "masq flags {flags:#x}"),
            Self::MapLookup(map) => write!(f, "lookup reg 1 set {map} dreg 1"),
            Self::Nat { family, port } => {
                let family = Key(*family, FAMILIES);
                write!(f, "nat dnat {family} addr_min reg 1 proto_min reg {port}")
            }
            Self::Meta(key) => write!(f, "meta load {} => reg 1", Key(*key, META_KEYS)),
            Self::Notrack => f.write_str("notrack"),
            Self::Other { name, data } => write!(f, "{name} {}", Words(data)),
            Self::Payload {
                base,
                offset,
                length,
            } => {
                let base = Key(*base, BASES);
                write!(f, "payload load {length}b @ {base} + {offset} => reg 1")
            }
            Self::SetMeta(key) => write!(f, "meta set {} with reg 1", Key(*key, META_KEYS)),
            Self::Verdict { code, chain } => {
                write!(f, "immediate reg 0 {}", verdict(*code))?;
                match chain {
                    Some(chain) => write!(f, " -> {chain}"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl Display for Compare {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "eq",
            Self::GreaterOrEqual => "gte",
            Self::LessOrEqual => "lte",
            Self::NotEqual => "neq",
        })
    }
}

fn verdict(code: i32) -> &'static str {
    match code {
        libc::NF_ACCEPT => "accept",
        libc::NF_DROP => "drop",
        libc::NFT_GOTO => "goto",
        libc::NFT_JUMP => "jump",
        libc::NFT_RETURN => "return",
        _ => "unknown",
    }
}

/// Bytes as the words of this host, the last one filled up with zeros.
struct Words<'a>(&'a [u8]);

impl Display for Words<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for chunk in self.0.chunks(4) {
            let mut word = [0; 4];
            for (place, byte) in word.iter_mut().zip(chunk) {
                *place = *byte;
            }
            write!(f, "{separator}0x{:08x}", u32::from_ne_bytes(word))?;
            separator = " ";
        }
        Ok(())
    }
}

/// A number by its name, if it is one that we use.
struct Key(u32, &'static [(i32, &'static str)]);

impl Display for Key {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let known = self.1.iter().find(|(key, _)| key.cast_unsigned() == self.0);
        match known {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "unknown({})", self.0),
        }
    }
}

const BASES: &[(i32, &str)] = &[
    (libc::NFT_PAYLOAD_LL_HEADER, "link header"),
    (libc::NFT_PAYLOAD_NETWORK_HEADER, "network header"),
    (libc::NFT_PAYLOAD_TRANSPORT_HEADER, "transport header"),
];
const CT_KEYS: &[(i32, &str)] = &[(libc::NFT_CT_STATE, "state"), (libc::NFT_CT_MARK, "mark")];
const FAMILIES: &[(i32, &str)] = &[(libc::NFPROTO_IPV4, "ip"), (libc::NFPROTO_IPV6, "ip6")];
const FIB_RESULTS: &[(i32, &str)] = &[(1, "oif"), (2, "oifname"), (3, "type")];
const META_KEYS: &[(i32, &str)] = &[
    (libc::NFT_META_MARK, "mark"),
    (libc::NFT_META_IIF, "iif"),
    (libc::NFT_META_OIF, "oif"),
    (libc::NFT_META_IIFNAME, "iifname"),
    (libc::NFT_META_OIFNAME, "oifname"),
    (libc::NFT_META_NFPROTO, "nfproto"),
    (libc::NFT_META_L4PROTO, "l4proto"),
];
