//! iptables' part of the thread's work: looking at what its tables hold, writing, and telling once what cannot be done.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hostnet::nft::Nftables;
use tracing::warn;

use crate::desired::Desired;
use crate::firewall;
use crate::iptables::programs::{IptablesError, Programs};
use crate::iptables::{Place, Restore, Saved, Variant};

/// The chains of iptables' tables that rules of ours stand in or are entered from.
const CHAINS: [&str; 6] = [
    "POSTROUTING",
    "FORWARD",
    "PREROUTING",
    "OUTPUT",
    "FLANNEL-POSTRTG",
    "FLANNEL-FWD",
];

/// iptables, as far as this thread needs it.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// Found when first needed, and again while those that are needed are missing.
    programs: Programs,
    /// What was said about places that matter less.
    told: BTreeSet<String>,
    /// Why the rules are not known to be as they should be.
    trouble: Option<String>,
    /// Whether the old iptables is in use, which tells nobody of changes.
    silent: bool,
}

impl Rules {
    /// Looks at every place that can be read. Where it matters that one cannot, [`Self::trouble`] says so.
    pub(super) fn look(
        &mut self,
        nftables: &mut Nftables,
        desired: &Desired,
    ) -> BTreeMap<Place, Saved> {
        let Some(wanted) = &desired.iptables else {
            return BTreeMap::new();
        };
        let families: Vec<_> = wanted.ranges.keys().copied().collect();
        let lacks = |active| !self.programs.has(active, &families);
        if self.programs == Programs::default() || wanted.active.is_some_and(lacks) {
            self.programs = Programs::find();
        }
        let look = self.programs.look(nftables);
        let (serious, others): (Vec<_>, Vec<_>) = look
            .failures
            .into_iter()
            .partition(|(place, _)| wanted.active == Some(place.variant));
        self.trouble = serious.first().map(|(_, error)| error.to_string());
        let others: BTreeSet<String> = others
            .iter()
            .map(|(place, error)| {
                format!(
                    "the tables of {place} are left as they are, whether flannel left rules there or they drop pods' packets: {error}"
                )
            })
            .collect();
        for news in others.difference(&self.told) {
            warn!("{news}");
        }
        self.told = others;
        self.silent = look
            .found
            .iter()
            .any(|(place, saved)| place.variant == Variant::Legacy && !saved.tables.is_empty());
        look.found
    }

    /// How often to look although nothing was told.
    pub(super) fn period(&self, desired: Option<&Desired>) -> Option<Duration> {
        let wanted = desired?.iptables.as_ref()?;
        (wanted.active.is_some() || self.silent).then_some(wanted.resync)
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.clone()
    }

    pub(super) fn write(&self, restore: &Restore) -> Result<(), IptablesError> {
        self.programs.restore(restore)
    }
}

/// Whether a change in this chain of this table of nf_tables can concern rules of ours. Other programs change theirs all the time.
pub(super) fn concerns_us(table: &str, chain: Option<&str>, desired: &Desired) -> bool {
    let iptables = || {
        desired.iptables.is_some()
            && matches!(table, "nat" | "filter" | "raw")
            && chain.is_none_or(|chain| CHAINS.contains(&chain))
    };
    firewall::OWNED.iter().any(|(_, own)| *own == table) || iptables()
}
