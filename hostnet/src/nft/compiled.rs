//! A table in the form the kernel holds it: what is written, what is read back, and what the two are compared by.
//!
//! Handles, counters, use counts and the order in which chains and sets were made are left out, because they say nothing
//! about what the table does.

use std::collections::BTreeMap;

use super::{
    instruction::Instruction,
    ranges::{Boundary, Ranges},
    ruleset::Family,
};

/// A table as the kernel holds it; equal to another one exactly if both treat every packet alike, and show the same
/// comments.
///
/// Made by [`super::Table::compile`] and by [`super::Nftables::observe`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompiledTable {
    pub(super) family: Family,
    pub(super) name: String,
    pub(super) comment: Option<String>,
    /// `enum nft_table_flags`: 0 for ours; a dormant table (1) has no effect.
    pub(super) flags: u32,
    pub(super) sets: BTreeMap<String, CompiledSet>,
    pub(super) chains: BTreeMap<String, CompiledChain>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CompiledSet {
    /// The number `nft` gives to the type of the keys; the kernel only keeps it.
    pub(super) key_type: u32,
    /// Length of a key in bytes.
    pub(super) key_length: u32,
    /// `enum nft_set_flags`
    pub(super) flags: u32,
    /// Type and length of what a map leads to.
    pub(super) data: Option<(u32, u32)>,
    pub(super) elements: Elements,
}

/// What is in a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Elements {
    /// Keys, and what a map has for each.
    Exact(BTreeMap<Vec<u8>, Vec<u8>>),
    /// Addresses from one boundary to the next (`NFT_SET_INTERVAL`).
    Ranges(Ranges),
}

/// An element as it is written and read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) key: Vec<u8>,
    /// Where a range ends (`NFT_SET_ELEM_INTERVAL_END`).
    pub(super) end: bool,
    /// What a map has for the key.
    pub(super) data: Option<Vec<u8>>,
}

impl CompiledSet {
    /// Puts elements as they were read in the place of those that are there.
    pub(super) fn fill(&mut self, read: Vec<Element>) {
        self.elements = match self.elements {
            Elements::Exact(_) => {
                let pair = |element: Element| (element.key, element.data.unwrap_or_default());
                Elements::Exact(read.into_iter().map(pair).collect())
            }
            Elements::Ranges(_) => {
                let boundaries = read.iter().filter_map(Element::boundary).collect();
                Elements::Ranges(Ranges::from_boundaries(boundaries, self.highest()))
            }
        };
    }

    /// Its elements as they are to be written.
    pub(super) fn written(&self) -> Vec<Element> {
        match &self.elements {
            Elements::Exact(elements) => elements
                .iter()
                .map(|(key, data)| Element {
                    key: key.clone(),
                    end: false,
                    data: self.data.map(|_| data.clone()),
                })
                .collect(),
            Elements::Ranges(ranges) => {
                let boundaries = ranges.boundaries(self.highest());
                boundaries.iter().map(|at| self.element(*at)).collect()
            }
        }
    }

    fn element(&self, Boundary { address, end }: Boundary) -> Element {
        let address = address.to_be_bytes();
        let length = usize::try_from(self.key_length).unwrap_or(address.len());
        let skip = address.len().saturating_sub(length);
        Element {
            key: address.get(skip..).unwrap_or(&address).to_vec(),
            end,
            data: None,
        }
    }

    /// The highest address a key can be.
    const fn highest(&self) -> u128 {
        if self.key_length == 4 {
            u32::MAX as u128
        } else {
            u128::MAX
        }
    }

    /// Whether it is the same set but for its elements.
    pub(super) fn same_frame(&self, other: &Self) -> bool {
        (self.key_type, self.key_length, self.flags, self.data)
            == (other.key_type, other.key_length, other.flags, other.data)
    }
}

impl Element {
    fn boundary(&self) -> Option<Boundary> {
        // The element that stands for all others (`NFT_SET_ELEM_CATCHALL`) has no key, and covers everything.
        let mut address = [0; 16];
        address
            .get_mut(16_usize.checked_sub(self.key.len())?..)?
            .copy_from_slice(&self.key);
        Some(Boundary {
            address: u128::from_be_bytes(address),
            end: self.end,
        })
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CompiledChain {
    pub(super) hook: Option<CompiledHook>,
    /// `enum nft_chain_flags` without `NFT_CHAIN_BASE`, which the hook says.
    pub(super) flags: u32,
    pub(super) rules: Vec<CompiledRule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CompiledHook {
    pub(super) kind: String,
    /// `enum nf_inet_hooks`
    pub(super) hook: u32,
    pub(super) priority: i32,
    /// `NF_DROP` or `NF_ACCEPT`
    pub(super) policy: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CompiledRule {
    pub(super) instructions: Vec<Instruction>,
    pub(super) comment: Option<String>,
}

impl CompiledTable {
    /// The packets it sees.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.family
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many rules it has, in all chains.
    #[must_use]
    pub fn rules(&self) -> usize {
        self.chains.values().map(|chain| chain.rules.len()).sum()
    }

    /// Family and name, as `nft` writes them.
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.family, self.name)
    }

    /// Whether it has the same chains on the same hooks and the same sets, so that only rules and elements differ.
    pub(super) fn same_frame(&self, other: &Self) -> bool {
        self.family == other.family
            && self.name == other.name
            && self.comment == other.comment
            && self.flags == other.flags
            && self.sets.len() == other.sets.len()
            && self.chains.len() == other.chains.len()
            && self
                .sets
                .iter()
                .zip(&other.sets)
                .all(|((name, set), (other_name, other_set))| {
                    name == other_name && set.same_frame(other_set)
                })
            && self.chains.iter().zip(&other.chains).all(
                |((name, chain), (other_name, other_chain))| {
                    name == other_name
                        && chain.hook == other_chain.hook
                        && chain.flags == other_chain.flags
                },
            )
    }
}
