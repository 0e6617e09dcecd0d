//! The firewall in iptables' tables: flannel's chains, read back, compared as data, and written in one run of `iptables-restore`.
//!
//! Pure but for [`programs`], which runs them. There are up to four [`Place`]s where rules can stand: each address
//! family has the tables of the old interface and those that iptables keeps in nf_tables. In iptables mode one variant is the
//! active one and holds all rules; in every other place nothing of ours is wanted, except that where a FORWARD chain drops
//! by default (as Docker sets it) pods' packets have to be accepted there too, whatever else accepts them elsewhere.

mod compare;
mod process;
pub mod programs;
mod recognise;
mod rule;
mod saved;
mod wanted;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hostnet::AddressFamily;

use self::wanted::TableRules;
use crate::firewall::{Firewall, Ranges};

pub use self::rule::{Rule, UnreadableRule};
pub use self::saved::{Saved, SavedChain, SavedTable, UnreadableListing};

/// The two interfaces of the kernel under which iptables keeps its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// The kernel's own ip_tables and ip6_tables.
    Legacy,
    /// Tables of nf_tables.
    Nft,
}

/// Where iptables' rules can stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The address family.
    pub family: AddressFamily,
    /// The interface.
    pub variant: Variant,
}

/// Named as the program that keeps it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = match self.family {
            AddressFamily::Ipv4 => "iptables",
            AddressFamily::Ipv6 => "ip6tables",
        };
        let variant = match self.variant {
            Variant::Legacy => "legacy",
            Variant::Nft => "nft",
        };
        write!(f, "{program}-{variant}")
    }
}

impl Place {
    /// All there are.
    pub const ALL: [Self; 4] = [
        Self::new(AddressFamily::Ipv4, Variant::Nft),
        Self::new(AddressFamily::Ipv6, Variant::Nft),
        Self::new(AddressFamily::Ipv4, Variant::Legacy),
        Self::new(AddressFamily::Ipv6, Variant::Legacy),
    ];

    const fn new(family: AddressFamily, variant: Variant) -> Self {
        Self { family, variant }
    }
}

/// What is wanted in iptables' tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The variant that holds all rules; none if the firewall is in nf_tables' own tables.
    pub active: Option<Variant>,
    /// The pod network and this node's subnet, by family.
    pub ranges: BTreeMap<AddressFamily, Ranges>,
    /// Which rules.
    pub firewall: Firewall,
    /// How often to look where nothing tells of changes (`--iptables-resync`).
    pub resync: Duration,
}

impl Wanted {
    /// Nothing at all: whatever is ours or flannel's is to go.
    pub fn nothing() -> Self {
        Self {
            active: None,
            ranges: BTreeMap::new(),
            firewall: Firewall {
                masquerade: false,
                fully_random: false,
                forward_accept: false,
                untracked: None,
            },
            resync: Duration::MAX,
        }
    }

    fn tables(&self, place: Place, saved: &Saved) -> Result<[TableRules; 3], UnreadableRule> {
        let active = self.active == Some(place.variant);
        let firewall = Firewall {
            masquerade: active && self.firewall.masquerade,
            forward_accept: self.firewall.forward_accept && (active || saved.drops_forwarded()),
            untracked: self.firewall.untracked.filter(|_| active),
            ..self.firewall
        };
        wanted::tables(self.ranges.get(&place.family), &firewall)
    }
}

/// One run of `iptables-restore`, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restore {
    /// Whose program.
    pub place: Place,
    /// What the program is given to read.
    pub script: String,
    /// Why, in words that follow "because".
    pub reason: String,
}

/// What has to be done, given what the places that could be read hold. Nothing is planned for a place that is not among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the active variant.
    pub active: Vec<Restore>,
    /// Elsewhere. This may take rules away that are needed until the firewall stands where it should.
    pub others: Vec<Restore>,
    /// Whether the active variant is known to be as it should be; true if there is none.
    pub settled: bool,
}

/// Compares what is wanted with what was found.
pub fn plan(wanted: &Wanted, observed: &BTreeMap<Place, Saved>) -> Plan {
    let mut plan = Plan {
        settled: true,
        ..Plan::default()
    };
    for place in Place::ALL {
        let active = wanted.active == Some(place.variant);
        let Some(saved) = observed.get(&place) else {
            plan.settled &= !active;
            continue;
        };
        let restore = restore(wanted, place, saved);
        if active {
            plan.settled &= restore.is_none();
            plan.active.extend(restore);
        } else {
            plan.others.extend(restore);
        }
    }
    plan
}

fn restore(wanted: &Wanted, place: Place, saved: &Saved) -> Option<Restore> {
    // The texts are our own, and have their quotation marks in pairs.
    let tables = wanted.tables(place, saved).ok()?;
    let (mut script, mut reasons) = (String::new(), Vec::new());
    for table in &tables {
        let correction = compare::compare(table, saved);
        if correction.lines.is_empty() {
            continue;
        }
        let lines = correction.lines.join("\n");
        script += &format!("*{}\n{lines}\nCOMMIT\n", table.name);
        reasons.extend(correction.reasons);
    }
    (!script.is_empty()).then(|| Restore {
        place,
        script,
        reason: reasons.join(", "),
    })
}

#[cfg(test)]
mod tests;
