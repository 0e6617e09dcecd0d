//! Taking away every firewall rule that is ours or flannel's, of either mode and any age, and nothing else.

use hostnet::nft::{self, Family, Nftables};
use ipam::host_ports::TABLE;
use thiserror::Error;

use super::OWNED;
use crate::iptables::programs::{IptablesError, Programs};
use crate::iptables::{self, Restore, Wanted};

/// Why rules could not be found or taken away.
#[derive(Debug, Error)]
pub enum RemovalError {
    /// In iptables' tables.
    #[error(transparent)]
    Iptables(#[from] IptablesError),
    /// In nf_tables.
    #[error(transparent)]
    Nftables(#[from] nft::Error),
}

/// What there is to take away.
#[derive(Debug, Default)]
pub struct Leftovers {
    tables: Vec<(Family, &'static str)>,
    restores: Vec<Restore>,
    unreadable: Vec<IptablesError>,
}

impl Leftovers {
    /// Looks through nf_tables and through iptables' tables of both variants.
    ///
    /// # Errors
    /// nf_tables does not answer. Tables of iptables that cannot be read are told by [`Self::unreadable`].
    pub fn find(nftables: &mut Nftables, programs: &Programs) -> Result<Self, RemovalError> {
        let mut leftovers = Self::default();
        for (family, name) in OWNED {
            if nftables.observe(family, name)?.is_some() {
                leftovers.tables.push((family, name));
            }
        }
        let look = programs.look(nftables);
        leftovers.restores = iptables::plan(&Wanted::nothing(), &look.found).others;
        leftovers.unreadable = look.failures.into_values().collect();
        Ok(leftovers)
    }

    /// Adds the CNI program's tables for ports of the host that lead to pods. The records they are made of are the caller's.
    ///
    /// # Errors
    /// nf_tables does not answer.
    pub fn include_host_ports(&mut self, nftables: &mut Nftables) -> Result<(), RemovalError> {
        for family in [Family::Ip, Family::Ip6] {
            if nftables.observe(family, TABLE)?.is_some() {
                self.tables.push((family, TABLE));
            }
        }
        Ok(())
    }

    /// What would be taken away, one line each.
    pub fn describe(&self) -> Vec<String> {
        let tables = self
            .tables
            .iter()
            .map(|(family, name)| format!("nf_tables: table {family} {name}"));
        let restores = self
            .restores
            .iter()
            .map(|restore| format!("{}: {}", restore.place, restore.reason));
        tables.chain(restores).collect()
    }

    /// Where something of ours may be that could not be looked at.
    pub fn unreadable(&self) -> &[IptablesError] {
        &self.unreadable
    }

    /// Takes it away and returns what was, in the words of [`Self::describe`].
    ///
    /// # Errors
    /// The first refusal; what came before it is gone.
    pub fn remove(
        self,
        nftables: &mut Nftables,
        programs: &Programs,
    ) -> Result<Vec<String>, RemovalError> {
        let removed = self.describe();
        if !self.tables.is_empty() {
            nftables.delete(&self.tables)?;
        }
        for restore in &self.restores {
            programs.restore(restore)?;
        }
        Ok(removed)
    }
}

/// Finds and takes away everything at once, and returns what it was.
///
/// # Errors
/// As [`Leftovers::find`] and [`Leftovers::remove`].
pub fn remove_all() -> Result<Vec<String>, RemovalError> {
    let (mut nftables, programs) = (Nftables::open()?, Programs::find());
    Leftovers::find(&mut nftables, &programs)?.remove(&mut nftables, &programs)
}
