//! What is different between a table as it is wanted and as it was found, in words for the log.

use std::fmt;

use super::compiled::{CompiledChain, CompiledRule, CompiledSet, CompiledTable, Elements};

/// One thing about a table that is not as it should be. `Display` gives a clause such as `rule 3 of chain … is missing`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    object: String,
    change: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Added,
    Altered,
    Missing,
    Reordered,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let change = match self.change {
            Change::Added => "is not ours",
            Change::Altered => "was altered",
            Change::Missing => "is missing",
            Change::Reordered => "are in another order",
        };
        write!(f, "{} {change}", self.object)
    }
}

impl CompiledTable {
    /// How the table as observed (`None`: absent) departs from this one, the desired one; empty exactly if it does not.
    #[must_use]
    pub fn drift(&self, observed: Option<&Self>) -> Vec<Drift> {
        let mut report = Report {
            table: self.title(),
            drift: Vec::new(),
        };
        match observed {
            None => report.add(format!("table {}", self.title()), Change::Missing),
            Some(observed) => self.compare(observed, &mut report),
        }
        report.drift
    }

    /// What of this table the observed one lacks: as [`Self::drift`], but elements, rules, chains and sets beyond those of this table
    /// do not matter.
    #[must_use]
    pub fn lacking(&self, observed: Option<&Self>) -> Vec<Drift> {
        let mut observed = observed.cloned();
        for (name, found) in observed.iter_mut().flat_map(|table| &mut table.sets) {
            let wanted = self.sets.get(name);
            if let Some(wanted) = wanted.filter(|wanted| covers(found, wanted)) {
                found.elements = wanted.elements.clone();
            }
        }
        let mut drift = self.drift(observed.as_ref());
        drift.retain(|drift| drift.change != Change::Added);
        drift
    }

    fn compare(&self, observed: &Self, report: &mut Report) {
        let head = |table: &Self| {
            let (comment, flags) = (table.comment.clone(), table.flags);
            (table.title(), comment, flags)
        };
        if head(self) != head(observed) {
            report.add(format!("table {}", self.title()), Change::Altered);
        }
        for (name, set) in &self.sets {
            match observed.sets.get(name) {
                None => report.set(name, Change::Missing),
                Some(found) if found != set => report.set(name, Change::Altered),
                Some(_) => {}
            }
        }
        for name in observed.sets.keys() {
            if !self.sets.contains_key(name) {
                report.set(name, Change::Added);
            }
        }
        for (name, chain) in &self.chains {
            match observed.chains.get(name) {
                None => report.chain(name, Change::Missing),
                Some(found) => report.compare_chains(name, chain, found),
            }
        }
        for name in observed.chains.keys() {
            if !self.chains.contains_key(name) {
                report.chain(name, Change::Added);
            }
        }
    }
}

/// Whether all elements of a set are in the other one too.
fn covers(found: &CompiledSet, wanted: &CompiledSet) -> bool {
    match (&found.elements, &wanted.elements) {
        (Elements::Exact(found), Elements::Exact(wanted)) => wanted
            .iter()
            .all(|(key, data)| found.get(key) == Some(data)),
        (Elements::Ranges(found), Elements::Ranges(wanted)) => {
            wanted.iter().all(|(first, last)| {
                let mut ranges = found.iter();
                ranges.any(|(begin, end)| begin <= first && last <= end)
            })
        }
        _ => false,
    }
}

struct Report {
    table: String,
    drift: Vec<Drift>,
}

impl Report {
    fn add(&mut self, object: String, change: Change) {
        self.drift.push(Drift { object, change });
    }

    fn set(&mut self, name: &str, change: Change) {
        self.add(format!("set {} {name}", self.table), change);
    }

    fn chain(&mut self, name: &str, change: Change) {
        self.add(format!("chain {} {name}", self.table), change);
    }

    fn rule(&mut self, chain: &str, place: usize, rule: &CompiledRule, change: Change) {
        let comment = match &rule.comment {
            Some(comment) => format!(" (\"{comment}\")"),
            None => String::new(),
        };
        let object = format!("rule {place} of chain {} {chain}{comment}", self.table);
        self.add(object, change);
    }

    fn compare_chains(&mut self, name: &str, desired: &CompiledChain, observed: &CompiledChain) {
        if (&desired.hook, desired.flags) != (&observed.hook, observed.flags) {
            self.chain(name, Change::Altered);
        }
        let missing = unmatched(&desired.rules, &observed.rules);
        let added = unmatched(&observed.rules, &desired.rules);
        if missing.is_empty() && added.is_empty() && desired.rules != observed.rules {
            let object = format!("the rules of chain {} {name}", self.table);
            self.add(object, Change::Reordered);
        }
        for (place, rule) in missing {
            self.rule(name, place, rule, Change::Missing);
        }
        for (place, rule) in added {
            self.rule(name, place, rule, Change::Added);
        }
    }
}

/// The rules, with their places from 1, for which `others` has no partner; of equal ones each needs its own.
fn unmatched<'a>(
    rules: &'a [CompiledRule],
    others: &'a [CompiledRule],
) -> Vec<(usize, &'a CompiledRule)> {
    let mut free: Vec<&CompiledRule> = others.iter().collect();
    (1..)
        .zip(rules)
        .filter(|(_, rule)| {
            let partner = free.iter().position(|other| other == rule);
            partner.map(|place| free.swap_remove(place)).is_none()
        })
        .collect()
}

#[cfg(test)]
mod tests;
