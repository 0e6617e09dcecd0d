//! Reads expressions as the kernel lists them. Whatever is not exactly one of our shapes is told as `None`.

use crate::attr::{Attribute, Attributes};

use super::{
    Compare, Instruction, NFT_BITWISE_MASK_XOR, NFT_LOOKUP_F_INV, NFT_NAT_DNAT, NFTA_DATA_VALUE,
    NFTA_DATA_VERDICT, NFTA_VERDICT_CHAIN, NFTA_VERDICT_CODE, REGISTER_1, REGISTER_VERDICT,
};

/// The named shape of an expression, or `None` when it is not one of ours in every detail.
pub(super) fn data(name: &str, data: &[u8]) -> Option<Instruction> {
    match name {
        "bitwise" => bitwise(data),
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
        "immediate" => immediate(data),
        "lookup" => {
            let [set, register, result, flags] = fields(data, [1, 2, 3, 5], 5)?;
            (number(register) == Some(REGISTER_1)).then_some(())?;
            let flags = number(flags).unwrap_or(0);
            let set = set?.text().into_owned();
            match (result.map(|result| result.be_u32()), flags) {
                (None, 0 | NFT_LOOKUP_F_INV) => Some(Instruction::Lookup {
                    set,
                    invert: flags == NFT_LOOKUP_F_INV,
                }),
                (Some(Some(REGISTER_1)), 0) => Some(Instruction::MapLookup(set)),
                _ => None,
            }
        }
        "masq" => {
            let [flags] = fields(data, [1], 3)?;
            Some(Instruction::Masquerade(number(flags).unwrap_or(0)))
        }
        "meta" => {
            let [destination, key, source] = fields(data, [1, 2, 3], 3)?;
            let key = number(key)?;
            match (number(destination), number(source)) {
                (Some(register), None) => load(register, Instruction::Meta(key)),
                (None, Some(REGISTER_1)) => Some(Instruction::SetMeta(key)),
                _ => None,
            }
        }
        "nat" => nat(data),
        "notrack" => Some(Instruction::Notrack),
        "payload" => {
            let [register, base, offset, length] = fields(data, [1, 2, 3, 4], 8)?;
            let payload = Instruction::Payload {
                base: number(base)?,
                offset: number(offset)?,
                length: number(length)?,
            };
            load(number(register)?, payload)
        }
        _ => None,
    }
}

/// A load into register 1, or as a further part of a key behind it.
fn load(register: u32, load: Instruction) -> Option<Instruction> {
    match register {
        REGISTER_VERDICT => None,
        REGISTER_1 => Some(load),
        other => Some(Instruction::Also(other, Box::new(load))),
    }
}

/// The kernel tells the end of a range even if it is its beginning, and flags that say no more than which registers are used.
fn nat(data: &[u8]) -> Option<Instruction> {
    let [kind, family, address, last_address, port, last_port, flags] =
        fields(data, [1, 2, 3, 4, 5, 6, 7], 7)?;
    let flags = number(flags).unwrap_or(0);
    let port = number(port)?;
    let plain = number(kind) == Some(NFT_NAT_DNAT)
        && number(address) == Some(REGISTER_1)
        && number(last_address).is_none_or(|last| last == REGISTER_1)
        && number(last_port).is_none_or(|last| last == port)
        && flags & !(NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED) == 0;
    plain.then_some(Instruction::Nat {
        family: number(family)?,
        port,
    })
}

fn bitwise(data: &[u8]) -> Option<Instruction> {
    let [source, destination, length, mask, xor, op] = fields(data, [1, 2, 3, 4, 5, 6], 7)?;
    let plain = number(op).unwrap_or(NFT_BITWISE_MASK_XOR) == NFT_BITWISE_MASK_XOR
        && number(source) == Some(REGISTER_1)
        && number(destination) == Some(REGISTER_1);
    let (mask, xor) = (bytes(mask)?, bytes(xor)?);
    let length = usize::try_from(number(length)?).ok()?;
    (plain && mask.len() == length && xor.len() == length)
        .then_some(Instruction::Bitwise { mask, xor })
}

fn immediate(data: &[u8]) -> Option<Instruction> {
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

// linux/netfilter/nf_nat.h
const NF_NAT_RANGE_MAP_IPS: u32 = 0x1;
const NF_NAT_RANGE_PROTO_SPECIFIED: u32 = 0x2;
