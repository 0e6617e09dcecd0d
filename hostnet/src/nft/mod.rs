//! nf_tables over netlink: rulesets as data, written in one transaction, read back for comparison, without the `nft` program.
//!
//! A [`Table`] says what is wanted in the terms of `nft` (and prints as `nft` would list it). [`Table::compile`] turns it
//! into a [`CompiledTable`], the form the kernel holds: every rule a list of instructions for the nf_tables virtual machine.
//! [`Nftables::replace`] writes that form and [`Nftables::observe`] reads it back, so that `desired == observed` means that
//! nobody has changed anything; [`CompiledTable::drift`] says in words what was changed.
//!
//! What the rules are *for* is not known here.

mod code;
mod compile;
mod compiled;
mod drift;
mod error;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod instruction;
mod listing;
mod message;
mod nftables;
mod observe;
mod passage;
mod plan;
mod ports;
mod ranges;
mod ruleset;
#[cfg(test)]
mod strategies;
mod text;

pub use compiled::CompiledTable;
pub use drift::Drift;
pub use error::Error;
pub use nftables::Nftables;
pub use observe::ChainHead;
pub use passage::{End, Obstacle, Packet};
pub use ports::{Entries, Port, Ports};
pub use ruleset::{
    BaseHook, Chain, ChainKind, CtState, Expr, Family, Hook, InterfacePattern, Masquerade, Policy,
    Protocol, Rule, Set, SetKind, Table, Transport, priority,
};
