//! Instructions of the nf_tables virtual machine, and their wire form in both directions.
//!
//! Only the shapes that [`super::compile`] makes have a name here. Everything else a kernel may hold is kept as bytes in
//! [`Instruction::Other`], so that a foreign instruction is never mistaken for one of ours. The numbers are those of
//! `linux/netfilter/nf_tables.h`.

mod decode;

use crate::attr::{Attributes, Writer};

/// One instruction. All of ours use register 1, but for the further parts of a key of several values, and the verdict register
/// for verdicts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Instruction {
    /// The same load into another register, behind the parts of a key that were loaded before.
    Also(u32, Box<Self>),
    /// Masks the register, then flips bits of it.
    Bitwise {
        /// The bits kept.
        mask: Vec<u8>,
        /// The bits flipped.
        xor: Vec<u8>,
    },
    /// Ends the rule unless the register compares so with these bytes.
    Compare {
        /// `enum nft_cmp_ops`
        op: Compare,
        /// The bytes on the right hand side.
        data: Vec<u8>,
    },
    /// Counts; how much has been counted is not part of the value.
    Counter,
    /// Loads a property of the connection (`enum nft_ct_keys`).
    Ct(u32),
    /// Loads the result of a routing lookup.
    Fib {
        /// What to load (`enum nft_fib_result`).
        result: u32,
        /// What to look up (`enum nft_fib_flags`).
        flags: u32,
    },
    /// Loads these bytes.
    Immediate(Vec<u8>),
    /// Ends the rule unless the register is in the set (or, inverted, is not in it).
    Lookup {
        /// Name of the set.
        set: String,
        /// Not in the set.
        invert: bool,
    },
    /// Masquerades (`NF_NAT_RANGE_*` flags).
    Masquerade(u32),
    /// Loads a property of the packet (`enum nft_meta_keys`).
    Meta(u32),
    /// Loads what a map has for the register, or ends the rule if it has nothing.
    MapLookup(String),
    /// Gives the packet another destination: the address in register 1, the port in another.
    Nat {
        /// The family of the address (`NFPROTO_*`).
        family: u32,
        /// The register of the port.
        port: u32,
    },
    /// Exempts the packet from connection tracking.
    Notrack,
    /// Anything else: name and attributes as the kernel gave them.
    Other {
        /// Name of the expression.
        name: String,
        /// Its attributes.
        data: Vec<u8>,
    },
    /// Loads bytes of the packet.
    Payload {
        /// The header (`enum nft_payload_bases`).
        base: u32,
        /// First byte in it.
        offset: u32,
        /// How many bytes.
        length: u32,
    },
    /// Sets a property of the packet from the register (`enum nft_meta_keys`).
    SetMeta(u32),
    /// Decides, or goes to another chain.
    Verdict {
        /// `enum nf_inet_verdicts` or `enum nft_verdicts`.
        code: i32,
        /// The chain to go to.
        chain: Option<String>,
    },
}

/// Ways to compare (`enum nft_cmp_ops`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Compare {
    /// Equal.
    Equal,
    /// Greater or equal, as a big-endian number.
    GreaterOrEqual,
    /// Less or equal, as a big-endian number.
    LessOrEqual,
    /// Not equal.
    NotEqual,
}

impl Compare {
    const fn number(self) -> u32 {
        match self {
            Self::Equal => 0,
            Self::NotEqual => 1,
            Self::LessOrEqual => 3,
            Self::GreaterOrEqual => 5,
        }
    }

    fn from_number(number: u32) -> Option<Self> {
        [
            Self::Equal,
            Self::NotEqual,
            Self::LessOrEqual,
            Self::GreaterOrEqual,
        ]
        .into_iter()
        .find(|op| op.number() == number)
    }
}

impl Instruction {
    /// Writes the attributes of one expression: its name and its data.
    pub(super) fn encode(&self, writer: &mut Writer) {
        writer.put_text(NFTA_EXPR_NAME, self.name());
        writer.nest(NFTA_EXPR_DATA, |data| self.encode_data(data));
    }

    /// Reads one expression; whatever is not exactly one of our shapes becomes [`Instruction::Other`].
    pub(super) fn decode(expression: Attributes<'_>) -> Self {
        let mut name = String::new();
        let mut data: &[u8] = &[];
        for attribute in expression {
            match attribute.kind {
                NFTA_EXPR_NAME => name = attribute.text().into_owned(),
                NFTA_EXPR_DATA => data = attribute.payload,
                _ => {}
            }
        }
        decode::data(&name, data).unwrap_or_else(|| Self::Other {
            name,
            data: data.to_vec(),
        })
    }

    /// The kernel's name for it (`struct nft_expr_type`).
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Also(_, load) => load.name(),
            Self::Bitwise { .. } => "bitwise",
            Self::Compare { .. } => "cmp",
            Self::Counter => "counter",
            Self::Ct(_) => "ct",
            Self::Fib { .. } => "fib",
            Self::Immediate(_) | Self::Verdict { .. } => "immediate",
            Self::Lookup { .. } | Self::MapLookup(_) => "lookup",
            Self::Masquerade(_) => "masq",
            Self::Meta(_) | Self::SetMeta(_) => "meta",
            Self::Nat { .. } => "nat",
            Self::Notrack => "notrack",
            Self::Other { name, .. } => name,
            Self::Payload { .. } => "payload",
        }
    }

    fn encode_data(&self, data: &mut Writer) {
        match self {
            Self::Also(register, load) => load.encode_load(data, *register),
            Self::Bitwise { mask, xor } => {
                data.put_be_u32(1, REGISTER_1);
                data.put_be_u32(2, REGISTER_1);
                data.put_be_u32(3, u32::try_from(mask.len()).unwrap_or(u32::MAX));
                data.nest(4, |value| value.put(NFTA_DATA_VALUE, mask));
                data.nest(5, |value| value.put(NFTA_DATA_VALUE, xor));
            }
            Self::Compare { op, data: bytes } => {
                data.put_be_u32(1, REGISTER_1);
                data.put_be_u32(2, op.number());
                data.nest(3, |value| value.put(NFTA_DATA_VALUE, bytes));
            }
            Self::Counter => {
                data.put_be_u64(1, 0);
                data.put_be_u64(2, 0);
            }
            Self::Ct(key) => {
                data.put_be_u32(2, *key);
                data.put_be_u32(1, REGISTER_1);
            }
            Self::Fib { result, flags } => {
                data.put_be_u32(3, *flags);
                data.put_be_u32(2, *result);
                data.put_be_u32(1, REGISTER_1);
            }
            Self::Immediate(bytes) => {
                data.put_be_u32(1, REGISTER_1);
                data.nest(2, |value| value.put(NFTA_DATA_VALUE, bytes));
            }
            Self::Lookup { set, invert } => {
                data.put_text(1, set);
                data.put_be_u32(2, REGISTER_1);
                if *invert {
                    data.put_be_u32(5, NFT_LOOKUP_F_INV);
                }
            }
            Self::Masquerade(flags) => {
                if *flags != 0 {
                    data.put_be_u32(1, *flags);
                }
            }
            Self::MapLookup(map) => {
                data.put_text(1, map);
                data.put_be_u32(2, REGISTER_1);
                data.put_be_u32(3, REGISTER_1);
            }
            Self::Nat { family, port } => {
                data.put_be_u32(1, NFT_NAT_DNAT);
                data.put_be_u32(2, *family);
                data.put_be_u32(3, REGISTER_1);
                data.put_be_u32(5, *port);
            }
            Self::Meta(_) | Self::Payload { .. } => self.encode_load(data, REGISTER_1),
            Self::Notrack => {}
            Self::Other { data: bytes, .. } => data.raw(bytes),
            Self::SetMeta(key) => {
                data.put_be_u32(2, *key);
                data.put_be_u32(3, REGISTER_1);
            }
            Self::Verdict { code, chain } => {
                data.put_be_u32(1, REGISTER_VERDICT);
                data.nest(2, |value| {
                    value.nest(NFTA_DATA_VERDICT, |verdict| {
                        verdict.put_be_u32(NFTA_VERDICT_CODE, code.cast_unsigned());
                        if let Some(chain) = chain {
                            verdict.put_text(NFTA_VERDICT_CHAIN, chain);
                        }
                    });
                });
            }
        }
    }

    /// Writes the load of a property or of bytes of the packet; nothing else can go to another register.
    fn encode_load(&self, data: &mut Writer, register: u32) {
        data.put_be_u32(1, register);
        match self {
            Self::Meta(key) => data.put_be_u32(2, *key),
            Self::Payload {
                base,
                offset,
                length,
            } => {
                data.put_be_u32(2, *base);
                data.put_be_u32(3, *offset);
                data.put_be_u32(4, *length);
            }
            _ => {}
        }
    }
}

// linux/netfilter/nf_tables.h
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;
const NFT_BITWISE_MASK_XOR: u32 = 0;
const NFT_LOOKUP_F_INV: u32 = 0x1;
const NFT_NAT_DNAT: u32 = 1;
/// `NFT_REG_VERDICT`
const REGISTER_VERDICT: u32 = 0;
/// `NFT_REG_1`: 16 bytes, enough for all we load.
const REGISTER_1: u32 = 1;

#[cfg(test)]
mod tests;
