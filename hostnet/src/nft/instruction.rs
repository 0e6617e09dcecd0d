//! Instructions of the nf_tables virtual machine, and their wire form in both directions.
//!
//! Only the shapes that [`super::compile`] makes have a name here. Everything else a kernel may hold is kept as bytes in
//! [`Instruction::Other`], so that a foreign instruction is never mistaken for one of ours. The numbers are those of
//! `linux/netfilter/nf_tables.h`.

use crate::attr::{Attribute, Attributes, Writer};

/// One instruction. All of ours use register 1, and the verdict register for verdicts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Instruction {
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
        decode_data(&name, data).unwrap_or_else(|| Self::Other {
            name,
            data: data.to_vec(),
        })
    }

    /// The kernel's name for it (`struct nft_expr_type`).
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Bitwise { .. } => "bitwise",
            Self::Compare { .. } => "cmp",
            Self::Counter => "counter",
            Self::Ct(_) => "ct",
            Self::Fib { .. } => "fib",
            Self::Immediate(_) | Self::Verdict { .. } => "immediate",
            Self::Lookup { .. } => "lookup",
            Self::Masquerade(_) => "masq",
            Self::Meta(_) | Self::SetMeta(_) => "meta",
            Self::Notrack => "notrack",
            Self::Other { name, .. } => name,
            Self::Payload { .. } => "payload",
        }
    }

    fn encode_data(&self, data: &mut Writer) {
        match self {
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
            Self::Meta(key) => {
                data.put_be_u32(2, *key);
                data.put_be_u32(1, REGISTER_1);
            }
            Self::Notrack => {}
            Self::Other { data: bytes, .. } => data.raw(bytes),
            Self::Payload {
                base,
                offset,
                length,
            } => {
                data.put_be_u32(1, REGISTER_1);
                data.put_be_u32(2, *base);
                data.put_be_u32(3, *offset);
                data.put_be_u32(4, *length);
            }
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
}

/// The named shape of an expression, or `None` when it is not one of ours in every detail.
fn decode_data(name: &str, data: &[u8]) -> Option<Instruction> {
    match name {
        "bitwise" => decode_bitwise(data),
        "cmp" => {
            let [register, op, value] = fields(data, [1, 2, 3], 3)?;
            (number(register) == Some(REGISTER_1)).then_some(())?;
            Some(Instruction::Compare {
                op: Compare::from_number(number(op)?)?,
                data: bytes(value)?,
            })
        }
        "counter" => fields(data, [1, 2, 3], 3).map(|[_, _, _]| Instruction::Counter),
        "ct" => {
            let [register, key] = fields(data, [1, 2], 4)?;
            (number(register) == Some(REGISTER_1)).then_some(())?;
            Some(Instruction::Ct(number(key)?))
        }
        "fib" => {
            let [register, result, flags] = fields(data, [1, 2, 3], 3)?;
            (number(register) == Some(REGISTER_1)).then_some(())?;
            Some(Instruction::Fib {
                result: number(result)?,
                flags: number(flags)?,
            })
        }
        "immediate" => decode_immediate(data),
        "lookup" => {
            // A destination register would make it a map.
            let [set, register, flags] = fields(data, [1, 2, 5], 5)?;
            (number(register) == Some(REGISTER_1)).then_some(())?;
            let flags = number(flags).unwrap_or(0);
            (flags & !NFT_LOOKUP_F_INV == 0).then_some(())?;
            Some(Instruction::Lookup {
                set: set?.text().into_owned(),
                invert: flags & NFT_LOOKUP_F_INV != 0,
            })
        }
        "masq" => {
            let [flags] = fields(data, [1], 3)?;
            Some(Instruction::Masquerade(number(flags).unwrap_or(0)))
        }
        "meta" => {
            let [destination, key, source] = fields(data, [1, 2, 3], 3)?;
            let key = number(key)?;
            match (number(destination), number(source)) {
                (Some(REGISTER_1), None) => Some(Instruction::Meta(key)),
                (None, Some(REGISTER_1)) => Some(Instruction::SetMeta(key)),
                _ => None,
            }
        }
        "notrack" => Some(Instruction::Notrack),
        "payload" => {
            let [register, base, offset, length] = fields(data, [1, 2, 3, 4], 8)?;
            (number(register) == Some(REGISTER_1)).then_some(())?;
            Some(Instruction::Payload {
                base: number(base)?,
                offset: number(offset)?,
                length: number(length)?,
            })
        }
        _ => None,
    }
}

fn decode_bitwise(data: &[u8]) -> Option<Instruction> {
    let [source, destination, length, mask, xor, op] = fields(data, [1, 2, 3, 4, 5, 6], 7)?;
    let plain = number(op).unwrap_or(NFT_BITWISE_MASK_XOR) == NFT_BITWISE_MASK_XOR
        && number(source) == Some(REGISTER_1)
        && number(destination) == Some(REGISTER_1);
    let (mask, xor) = (bytes(mask)?, bytes(xor)?);
    let length = usize::try_from(number(length)?).ok()?;
    (plain && mask.len() == length && xor.len() == length)
        .then_some(Instruction::Bitwise { mask, xor })
}

fn decode_immediate(data: &[u8]) -> Option<Instruction> {
    let [register, value] = fields(data, [1, 2], 2)?;
    match number(register)? {
        REGISTER_1 => Some(Instruction::Immediate(bytes(value)?)),
        REGISTER_VERDICT => {
            let verdict = value?
                .nested()
                .find(|attribute| attribute.kind == NFTA_DATA_VERDICT)?;
            let [code, chain] = fields(
                verdict.payload,
                [NFTA_VERDICT_CODE, NFTA_VERDICT_CHAIN],
                NFTA_VERDICT_CHAIN,
            )?;
            Some(Instruction::Verdict {
                code: number(code)?.cast_signed(),
                chain: chain.map(|chain| chain.text().into_owned()),
            })
        }
        _ => None,
    }
}

/// Picks out the attributes of these kinds; `None` when there is another one up to `known`.
///
/// An attribute that we know and do not use changes what the expression does. One that is newer than this code must not:
/// a kernel that starts to report it would else make every table look altered, for ever.
fn fields<const N: usize>(
    data: &[u8],
    kinds: [u16; N],
    known: u16,
) -> Option<[Option<Attribute<'_>>; N]> {
    let mut found = [None; N];
    for attribute in Attributes::new(data) {
        if let Some(place) = kinds.iter().position(|kind| *kind == attribute.kind) {
            *found.get_mut(place)? = Some(attribute);
        } else if attribute.kind <= known {
            return None;
        }
    }
    Some(found)
}

fn number(attribute: Option<Attribute<'_>>) -> Option<u32> {
    attribute?.be_u32()
}

/// The bytes inside a `NFTA_DATA_VALUE`.
fn bytes(attribute: Option<Attribute<'_>>) -> Option<Vec<u8>> {
    attribute?
        .nested()
        .find(|inner| inner.kind == NFTA_DATA_VALUE)
        .map(|value| value.payload.to_vec())
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
/// `NFT_REG_VERDICT`
const REGISTER_VERDICT: u32 = 0;
/// `NFT_REG_1`: 16 bytes, enough for all we load.
const REGISTER_1: u32 = 1;

#[cfg(test)]
mod tests;
