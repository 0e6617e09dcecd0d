//! Which changes replace tables: a pure function from what is wanted and what is there.

use super::{
    compiled::{CompiledSet, CompiledTable},
    message::{Change, ELEMENTS_PER_MESSAGE},
};

/// The changes that make each table what it shall be, given what it is now (`None`: not there, or not known).
pub(super) fn replacement<'a>(
    tables: impl IntoIterator<Item = (&'a CompiledTable, Option<&'a CompiledTable>)>,
) -> Vec<Change<'a>> {
    let mut changes = Vec::new();
    for (desired, observed) in tables {
        match observed {
            Some(observed) if desired.same_frame(observed) => {
                refill(desired, observed, &mut changes);
            }
            _ => make_anew(desired, &mut changes),
        }
    }
    changes
}

/// New rules and elements for the chains and sets that are there.
fn refill<'a>(desired: &'a CompiledTable, observed: &CompiledTable, changes: &mut Vec<Change<'a>>) {
    changes.push(Change::FlushRules(desired));
    for (name, set) in &desired.sets {
        let present = observed.sets.get(name).map(|set| &set.elements);
        if present != Some(&set.elements) {
            changes.push(Change::FlushSet(desired, name));
            add_elements(desired, name, set, changes);
        }
    }
    add_rules(desired, changes);
}

/// Adding the table first makes its deletion succeed whether it is there or not.
fn make_anew<'a>(desired: &'a CompiledTable, changes: &mut Vec<Change<'a>>) {
    changes.extend([
        Change::AddTableNamed(desired.family, &desired.name),
        Change::DeleteTable(desired.family, &desired.name),
        Change::AddTable(desired),
    ]);
    for (name, set) in &desired.sets {
        changes.push(Change::AddSet(desired, name, set));
        add_elements(desired, name, set, changes);
    }
    // All chains come before any rule, so that rules can jump to each of them.
    let chains = desired.chains.iter();
    changes.extend(chains.map(|(name, chain)| Change::AddChain(desired, name, chain)));
    add_rules(desired, changes);
}

fn add_elements<'a>(
    table: &'a CompiledTable,
    name: &'a str,
    set: &'a CompiledSet,
    changes: &mut Vec<Change<'a>>,
) {
    let elements = set.written();
    let chunks = elements.chunks(ELEMENTS_PER_MESSAGE);
    changes.extend(chunks.map(|chunk| Change::AddElements(table, name, chunk.to_vec())));
}

fn add_rules<'a>(table: &'a CompiledTable, changes: &mut Vec<Change<'a>>) {
    for (name, chain) in &table.chains {
        let places = 1..;
        let rules = places.zip(&chain.rules);
        changes.extend(rules.map(|(place, rule)| Change::AddRule(table, name, place, rule)));
    }
}

#[cfg(test)]
mod tests;
