//! What is different between a table as it is wanted and as it was found: the lines that put it right, and the reasons for the log.

use std::collections::BTreeSet;

use super::recognise;
use super::rule::Rule;
use super::saved::{Saved, SavedTable};
use super::wanted::TableRules;

/// What has to be done to one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Correction {
    /// Lines for `iptables-restore`, between `*table` and `COMMIT`.
    pub(super) lines: Vec<String>,
    /// Why, clause by clause.
    pub(super) reasons: Vec<String>,
}

/// Compares one table. Without a difference nothing is to be done.
pub(super) fn compare(wanted: &TableRules, saved: &Saved) -> Correction {
    let nothing = SavedTable::new();
    let mut comparison = Comparison {
        wanted,
        saved,
        found: saved.tables.get(wanted.name).unwrap_or(&nothing),
        declared: Vec::new(),
        deleted: Vec::new(),
        appended: Vec::new(),
        dropped: Vec::new(),
        reasons: Vec::new(),
    };
    comparison.own_chain();
    comparison.kernels_chains();
    // A declaration empties the chain if it is there; a chain can go only when nothing leads to it any more.
    let Comparison {
        declared,
        deleted,
        appended,
        dropped,
        reasons,
        ..
    } = comparison;
    let lines = [declared, deleted, appended, dropped].concat();
    Correction { lines, reasons }
}

struct Comparison<'a> {
    wanted: &'a TableRules,
    saved: &'a Saved,
    found: &'a SavedTable,
    declared: Vec<String>,
    deleted: Vec<String>,
    appended: Vec<String>,
    dropped: Vec<String>,
    reasons: Vec<String>,
}

impl Comparison<'_> {
    fn own_chain(&mut self) {
        let Some((name, wanted)) = &self.wanted.chain else {
            return;
        };
        let title = format!("chain {} {name}", self.wanted.name);
        let found = self.found.get(*name).map(|chain| chain.rules.as_slice());
        match (found, wanted.is_empty()) {
            (None, true) => {}
            (Some(found), false) if found == wanted.as_slice() => {}
            (found, false) => {
                self.reasons.extend(content_drift(&title, wanted, found));
                self.declared.push(format!(":{name} - [0:0]"));
                self.appended
                    .extend(wanted.iter().map(|rule| format!("-A {name} {rule}")));
            }
            (Some(found), true) => self.drop_chain(name, &title, !found.is_empty()),
        }
    }

    fn drop_chain(&mut self, name: &str, title: &str, holds_rules: bool) {
        let stays = self.is_led_to_by_others(name);
        if stays && !holds_rules {
            return;
        }
        self.declared.push(format!(":{name} - [0:0]"));
        if stays {
            let why = "is emptied and stays, since a rule of somebody else leads to it";
            self.reasons.push(format!("{title} {why}"));
        } else {
            self.dropped.push(format!("-X {name}"));
            self.reasons.push(format!("{title} is not wanted"));
        }
    }

    /// Whether a rule that is not ours to take away jumps to the chain.
    fn is_led_to_by_others(&self, name: &str) -> bool {
        self.found.iter().any(|(chain, content)| {
            let ours = recognise::ours(self.saved, self.wanted.name, chain);
            chain != name
                && (0..)
                    .zip(&content.rules)
                    .any(|(place, rule)| rule.target() == Some(name) && !ours.contains(&place))
        })
    }

    fn kernels_chains(&mut self) {
        let wanted = self.wanted;
        let mut chains: BTreeSet<&str> = wanted.hooks.iter().map(|(chain, _)| *chain).collect();
        chains.extend(self.found.keys().map(String::as_str));
        for chain in chains {
            let hooks = wanted.hooks.iter().filter(|(of, _)| *of == chain);
            self.kernels_chain(chain, hooks.map(|(_, rule)| rule));
        }
    }

    fn kernels_chain<'r>(&mut self, chain: &str, hooks: impl Iterator<Item = &'r Rule>) {
        let title = format!("chain {} {chain}", self.wanted.name);
        let nothing = Vec::new();
        let rules = self.found.get(chain).map_or(&nothing, |chain| &chain.rules);
        let mut ours = recognise::ours(self.saved, self.wanted.name, chain);
        let mut wanted = Vec::new();
        for hook in hooks {
            wanted.push(hook);
            let place = ours.iter().copied().find(|place| &rules[*place] == hook);
            match place {
                Some(place) => {
                    ours.remove(&place);
                }
                None => {
                    self.reasons.push(format!("{title} lacks our rule"));
                    self.appended.push(format!("-A {chain} {hook}"));
                }
            }
        }
        let surplus: Vec<&Rule> = ours.into_iter().map(|place| &rules[place]).collect();
        let again = surplus.iter().filter(|rule| wanted.contains(rule)).count();
        let (stale, count) = (surplus.len() - again, |number| plural(number));
        if again > 0 {
            self.reasons.push(format!(
                "{title} has our rule {again} more {}",
                times(again)
            ));
        }
        if stale > 0 {
            let what = format!("{stale} {} of flannel's or ours", count(stale));
            self.reasons
                .push(format!("{title} has {what} that should not be there"));
        }
        self.deleted
            .extend(surplus.iter().map(|rule| format!("-D {chain} {rule}")));
    }
}

fn plural(number: usize) -> &'static str {
    if number == 1 { "rule" } else { "rules" }
}

fn times(number: usize) -> &'static str {
    if number == 1 { "time" } else { "times" }
}

/// How the rules of a chain depart from those wanted, in words.
fn content_drift(title: &str, wanted: &[Rule], found: Option<&[Rule]>) -> Vec<String> {
    let Some(found) = found else {
        return vec![format!("{title} is missing")];
    };
    let missing = unmatched(wanted, found);
    let added = unmatched(found, wanted);
    if missing.is_empty() && added.is_empty() {
        return vec![format!("the rules of {title} are in another order")];
    }
    let tell = |places: Vec<usize>, what: &str| -> Vec<String> {
        places
            .into_iter()
            .map(|place| format!("rule {place} of {title} {what}"))
            .collect()
    };
    [tell(missing, "is missing"), tell(added, "is not ours")].concat()
}

/// The places, from 1, of the rules for which `others` has no partner; of equal ones each needs its own.
fn unmatched(rules: &[Rule], others: &[Rule]) -> Vec<usize> {
    let mut free: Vec<&Rule> = others.iter().collect();
    (1..)
        .zip(rules)
        .filter(|(_, rule)| {
            let partner = free.iter().position(|other| other == rule);
            partner.map(|place| free.swap_remove(place)).is_none()
        })
        .map(|(place, _)| place)
        .collect()
}
