//! A table in the form the kernel holds it: what is written, what is read back, and what the two are compared by.
//!
//! Handles, counters, use counts and the order in which chains and sets were made are left out, because they say nothing
//! about what the table does.

use std::collections::BTreeMap;

use super::{instruction::Instruction, ranges::Ranges, ruleset::Family};

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
    pub(super) ranges: Ranges,
}

impl CompiledSet {
    /// The highest address a key can be.
    pub(super) const fn highest(&self) -> u128 {
        if self.key_length == 4 {
            u32::MAX as u128
        } else {
            u128::MAX
        }
    }

    /// Whether it is the same set but for its elements.
    pub(super) fn same_frame(&self, other: &Self) -> bool {
        (self.key_type, self.key_length, self.flags)
            == (other.key_type, other.key_length, other.flags)
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
