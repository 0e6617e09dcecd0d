//! Reads the kernel's description of a table: the answers to [`super::message::Query`], put together.
//!
//! Takes what it understands and skips the rest, so that no attribute of a newer kernel can hide a rule; a rule that is not
//! exactly one of ours still is there, as [`Instruction::Other`].

use nix::libc;

use crate::attr::{Attribute, Attributes};

use super::{
    compiled::{
        CompiledChain, CompiledHook, CompiledRule, CompiledSet, CompiledTable, Element, Elements,
    },
    instruction::Instruction,
    message::{
        NFT_SET_ELEM_INTERVAL_END, NFTA_CHAIN_HOOK, NFTA_CHAIN_NAME, NFTA_CHAIN_POLICY,
        NFTA_CHAIN_TABLE, NFTA_CHAIN_TYPE, NFTA_DATA_VALUE, NFTA_HOOK_HOOKNUM, NFTA_HOOK_PRIORITY,
        NFTA_LIST_ELEM, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS, NFTA_RULE_TABLE,
        NFTA_RULE_USERDATA, NFTA_SET_DATA_LEN, NFTA_SET_DATA_TYPE, NFTA_SET_ELEM_DATA,
        NFTA_SET_ELEM_FLAGS, NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_LIST_ELEMENTS,
        NFTA_SET_ELEM_LIST_SET, NFTA_SET_ELEM_LIST_TABLE, NFTA_SET_FLAGS, NFTA_SET_KEY_LEN,
        NFTA_SET_KEY_TYPE, NFTA_SET_NAME, NFTA_SET_TABLE, NFTA_TABLE_NAME, NFTA_TABLE_USERDATA,
        UDATA_COMMENT, family_number,
    },
    ranges::Ranges,
    ruleset::{Family, Policy},
};

/// A table while its parts come in, one message at a time, in any order in which a part follows what holds it.
#[derive(Debug)]
pub(super) struct Observation {
    table: CompiledTable,
    elements: Vec<(String, Vec<Element>)>,
    found: bool,
}

impl Observation {
    pub(super) fn new(family: Family, name: &str) -> Self {
        Self {
            table: CompiledTable {
                family,
                name: name.to_owned(),
                comment: None,
                flags: 0,
                sets: [].into(),
                chains: [].into(),
            },
            elements: Vec::new(),
            found: false,
        }
    }

    /// The table, or `None` when no message described it.
    pub(super) fn finish(mut self) -> Option<CompiledTable> {
        for (name, elements) in self.elements {
            if let Some(set) = self.table.sets.get_mut(&name) {
                set.fill(elements);
            }
        }
        self.found.then_some(self.table)
    }

    /// The names of the sets seen so far.
    pub(super) fn sets(&self) -> Vec<String> {
        self.table.sets.keys().cloned().collect()
    }

    pub(super) fn table(&mut self, payload: &[u8]) {
        let Some(attributes) = self.attributes(payload) else {
            return;
        };
        let (mut name, mut flags, mut comment) = (None, 0, None);
        for attribute in attributes {
            match attribute.kind {
                NFTA_TABLE_NAME => name = Some(attribute.text()),
                NFTA_TABLE_FLAGS => flags = attribute.be_u32().unwrap_or(0),
                NFTA_TABLE_USERDATA => comment = comment_of(attribute.payload),
                _ => {}
            }
        }
        if name.is_some_and(|name| name == self.table.name) {
            (self.table.flags, self.table.comment, self.found) = (flags, comment, true);
        }
    }

    pub(super) fn chain(&mut self, payload: &[u8]) {
        let Some(attributes) = self.attributes(payload) else {
            return;
        };
        let mut owner = None;
        let mut name = None;
        let mut hook = None;
        let mut policy = NF_ACCEPT;
        let mut kind = String::new();
        let mut flags = 0;
        for attribute in attributes {
            match attribute.kind {
                NFTA_CHAIN_TABLE => owner = Some(attribute.text()),
                NFTA_CHAIN_NAME => name = Some(attribute.text()),
                NFTA_CHAIN_HOOK => hook = Some(attribute),
                NFTA_CHAIN_POLICY => policy = attribute.be_u32().unwrap_or(policy),
                NFTA_CHAIN_TYPE => kind = attribute.text().into_owned(),
                NFTA_CHAIN_FLAGS => flags = attribute.be_u32().unwrap_or(0),
                _ => {}
            }
        }
        let (Some(owner), Some(name)) = (owner, name) else {
            return;
        };
        if owner == self.table.name {
            let chain = self.table.chains.entry(name.into_owned()).or_default();
            chain.hook = hook.map(|hook| decode_hook(hook.nested(), kind, policy));
            chain.flags = flags & !NFT_CHAIN_BASE;
        }
    }

    pub(super) fn rule(&mut self, payload: &[u8]) {
        let Some(attributes) = self.attributes(payload) else {
            return;
        };
        let mut owner = None;
        let mut chain = None;
        let mut rule = CompiledRule::default();
        for attribute in attributes {
            match attribute.kind {
                NFTA_RULE_TABLE => owner = Some(attribute.text()),
                NFTA_RULE_CHAIN => chain = Some(attribute.text()),
                NFTA_RULE_EXPRESSIONS => {
                    rule.instructions = list(attribute)
                        .map(|item| Instruction::decode(item.nested()))
                        .collect();
                }
                NFTA_RULE_USERDATA => rule.comment = comment_of(attribute.payload),
                _ => {}
            }
        }
        let (Some(owner), Some(chain)) = (owner, chain) else {
            return;
        };
        if owner == self.table.name {
            let chain: &mut CompiledChain =
                self.table.chains.entry(chain.into_owned()).or_default();
            chain.rules.push(rule);
        }
    }

    pub(super) fn set(&mut self, payload: &[u8]) {
        let Some(attributes) = self.attributes(payload) else {
            return;
        };
        let mut owner = None;
        let mut name = None;
        let mut set = CompiledSet {
            key_type: 0,
            key_length: 0,
            flags: 0,
            data: None,
            elements: Elements::Exact([].into()),
        };
        let mut data = (0, 0);
        for attribute in attributes {
            let number = attribute.be_u32().unwrap_or(0);
            match attribute.kind {
                NFTA_SET_TABLE => owner = Some(attribute.text()),
                NFTA_SET_NAME => name = Some(attribute.text()),
                NFTA_SET_FLAGS => set.flags = number,
                NFTA_SET_KEY_TYPE => set.key_type = number,
                NFTA_SET_KEY_LEN => set.key_length = number,
                NFTA_SET_DATA_TYPE => data.0 = number,
                NFTA_SET_DATA_LEN => data.1 = number,
                _ => {}
            }
        }
        set.data = (set.flags & NFT_SET_MAP != 0).then_some(data);
        if set.flags & NFT_SET_INTERVAL != 0 {
            set.elements = Elements::Ranges(Ranges::default());
        }
        let (Some(owner), Some(name)) = (owner, name) else {
            return;
        };
        if owner == self.table.name {
            self.table.sets.insert(name.into_owned(), set);
        }
    }

    pub(super) fn elements(&mut self, payload: &[u8]) {
        let Some(attributes) = self.attributes(payload) else {
            return;
        };
        let mut owner = None;
        let mut set = None;
        let mut elements = Vec::new();
        for attribute in attributes {
            match attribute.kind {
                NFTA_SET_ELEM_LIST_TABLE => owner = Some(attribute.text()),
                NFTA_SET_ELEM_LIST_SET => set = Some(attribute.text()),
                NFTA_SET_ELEM_LIST_ELEMENTS => {
                    elements.extend(list(attribute).map(|item| decode_element(&item)));
                }
                _ => {}
            }
        }
        let (Some(owner), Some(set)) = (owner, set) else {
            return;
        };
        if owner != self.table.name {
            return;
        }
        // Long sets come in several messages.
        match self.elements.iter_mut().find(|(name, _)| *name == set) {
            Some((_, known)) => known.append(&mut elements),
            None => self.elements.push((set.into_owned(), elements)),
        }
    }

    /// What follows the `struct nfgenmsg`, if that says our family.
    fn attributes<'a>(&self, payload: &'a [u8]) -> Option<Attributes<'a>> {
        let (header, attributes) = payload.split_first_chunk::<4>()?;
        let [family, ..] = *header;
        (family == family_number(self.table.family)).then_some(Attributes::new(attributes))
    }
}

/// A chain of any table, without its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainHead {
    /// The table it is in.
    pub table: String,
    /// Its name.
    pub name: String,
    /// What becomes of a packet that no rule decides on; a chain that is entered by jumps alone has none.
    pub policy: Option<Policy>,
}

/// The chain that a message of the answer to [`super::message::Query::Chains`] tells of.
pub(super) fn chain_head(payload: &[u8], family: Family) -> Option<ChainHead> {
    let (header, attributes) = payload.split_first_chunk::<4>()?;
    if header.first() != Some(&family_number(family)) {
        return None;
    }
    let (mut table, mut name, mut hooked, mut policy) = (None, None, false, NF_ACCEPT);
    for attribute in Attributes::new(attributes) {
        match attribute.kind {
            NFTA_CHAIN_TABLE => table = Some(attribute.text().into_owned()),
            NFTA_CHAIN_NAME => name = Some(attribute.text().into_owned()),
            NFTA_CHAIN_HOOK => hooked = true,
            NFTA_CHAIN_POLICY => policy = attribute.be_u32().unwrap_or(policy),
            _ => {}
        }
    }
    let policy = if policy == NF_ACCEPT {
        Policy::Accept
    } else {
        Policy::Drop
    };
    Some(ChainHead {
        table: table?,
        name: name?,
        policy: hooked.then_some(policy),
    })
}

/// The number of the generation in the answer to [`super::message::Query::Generation`].
pub(super) fn generation(payload: &[u8]) -> Option<u32> {
    Attributes::new(payload.get(4..)?)
        .find(|attribute| attribute.kind == NFTA_GEN_ID)?
        .be_u32()
}

fn decode_hook(attributes: Attributes<'_>, kind: String, policy: u32) -> CompiledHook {
    let mut decoded = CompiledHook {
        kind,
        hook: u32::MAX,
        priority: 0,
        policy,
    };
    for attribute in attributes {
        let number = attribute.be_u32().unwrap_or(0);
        match attribute.kind {
            NFTA_HOOK_HOOKNUM => decoded.hook = number,
            NFTA_HOOK_PRIORITY => decoded.priority = number.cast_signed(),
            _ => {}
        }
    }
    decoded
}

fn decode_element(item: &Attribute<'_>) -> Element {
    let value = |attribute: Attribute<'_>| {
        let mut inner = attribute.nested();
        inner
            .find(|inner| inner.kind == NFTA_DATA_VALUE)
            .map(|value| value.payload.to_vec())
    };
    let (mut key, mut data, mut flags) = (None, None, 0);
    for attribute in item.nested() {
        match attribute.kind {
            NFTA_SET_ELEM_KEY => key = value(attribute),
            NFTA_SET_ELEM_DATA => data = value(attribute),
            NFTA_SET_ELEM_FLAGS => flags = attribute.be_u32().unwrap_or(0),
            _ => {}
        }
    }
    Element {
        key: key.unwrap_or_default(),
        end: flags & NFT_SET_ELEM_INTERVAL_END != 0,
        data,
    }
}

fn list<'a>(attribute: Attribute<'a>) -> impl Iterator<Item = Attribute<'a>> {
    attribute
        .nested()
        .filter(|item| item.kind == NFTA_LIST_ELEM)
}

/// The comment among what `nft` keeps with an object: entries of type, length and bytes.
fn comment_of(mut data: &[u8]) -> Option<String> {
    while let Some(([kind, length], rest)) = data.split_first_chunk::<2>() {
        let (value, rest) = rest.split_at_checked(usize::from(*length))?;
        if *kind == UDATA_COMMENT {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        data = rest;
    }
    None
}

// linux/netfilter/nf_tables.h
const NFTA_TABLE_FLAGS: u16 = 2;
const NFTA_CHAIN_FLAGS: u16 = 10;
const NFT_CHAIN_BASE: u32 = 0x1;
const NFTA_GEN_ID: u16 = 1;
const NFT_SET_INTERVAL: u32 = libc::NFT_SET_INTERVAL.cast_unsigned();
const NFT_SET_MAP: u32 = libc::NFT_SET_MAP.cast_unsigned();
// linux/netfilter.h
const NF_ACCEPT: u32 = 1;

#[cfg(test)]
mod tests;
