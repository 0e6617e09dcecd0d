//! What `iptables-save` printed, as data.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::rule::{Rule, UnreadableRule};

/// All tables of one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// By name; a table that nobody used yet may be absent.
    pub tables: BTreeMap<String, SavedTable>,
    /// Tables that hold what iptables cannot read: somebody wrote into them with `nft`.
    pub unreadable: BTreeSet<String>,
}

/// One table: its chains by name.
pub type SavedTable = BTreeMap<String, SavedChain>;

/// One chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedChain {
    /// `ACCEPT` or `DROP`; none for a chain that somebody added.
    pub policy: Option<String>,
    /// Its rules in their order.
    pub rules: Vec<Rule>,
}

/// A listing that cannot be taken for the truth, because something is missing or is not understood.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum UnreadableListing {
    /// The listing ends in the midst of a table.
    #[error("it ends within table {table}")]
    CutOff {
        /// The table.
        table: String,
    },
    /// A line that says nothing known.
    #[error("line {number} is neither table, chain nor rule: {text:?}")]
    Line {
        /// Counted from 1.
        number: usize,
        /// The line.
        text: String,
    },
    /// A rule that cannot be split into words.
    #[error(transparent)]
    Rule(#[from] UnreadableRule),
}

impl Saved {
    /// Reads a listing. Counters and comments are left out.
    ///
    /// # Errors
    /// Anything that is not understood: of half a listing it cannot be said what is missing.
    pub fn parse(text: &str) -> Result<Self, UnreadableListing> {
        let mut saved = Self::default();
        let mut open: Option<(String, SavedTable)> = None;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            let strange = || UnreadableListing::Line {
                number,
                text: line.to_owned(),
            };
            if let Some(note) = line.strip_prefix('#') {
                saved.unreadable.extend(incompatible(note));
            } else if let Some(name) = line.strip_prefix('*') {
                if open.is_some() {
                    return Err(strange());
                }
                open = Some((name.trim().to_owned(), SavedTable::new()));
            } else if line == "COMMIT" {
                saved.tables.extend([open.take().ok_or_else(strange)?]);
            } else if !line.is_empty() {
                let (_, table) = open.as_mut().ok_or_else(strange)?;
                read_line(line, table)?.ok_or_else(strange)?;
            }
        }
        match open {
            Some((table, _)) => Err(UnreadableListing::CutOff { table }),
            None => Ok(saved),
        }
    }

    /// Whether that table's FORWARD chain drops what no rule accepts, as Docker sets it.
    pub fn drops_forwarded(&self) -> bool {
        self.tables
            .get("filter")
            .and_then(|table| table.get("FORWARD"))
            .is_some_and(|chain| chain.policy.as_deref() == Some("DROP"))
    }
}

/// Reads a chain or a rule; nothing if it is neither.
fn read_line(line: &str, table: &mut SavedTable) -> Result<Option<()>, UnreadableRule> {
    if let Some(declaration) = line.strip_prefix(':') {
        let mut words = declaration.split_whitespace();
        let (Some(name), Some(policy)) = (words.next(), words.next()) else {
            return Ok(None);
        };
        let policy = Some(policy.to_owned()).filter(|policy| policy != "-");
        table.entry(name.to_owned()).or_default().policy = policy;
        return Ok(Some(()));
    }
    let Some((chain, rule)) = without_counters(line)
        .strip_prefix("-A ")
        .map(|rest| rest.split_once(' ').unwrap_or((rest, "")))
    else {
        return Ok(None);
    };
    let Some(chain) = table.get_mut(chain) else {
        return Ok(None);
    };
    chain.rules.push(rule.trim().parse()?);
    Ok(Some(()))
}

/// The line without `[packets:bytes]` in front.
fn without_counters(line: &str) -> &str {
    match line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
    {
        Some((_, rest)) => rest,
        None => line,
    }
}

/// The table that iptables on nf_tables says it cannot read.
fn incompatible(note: &str) -> Option<String> {
    let (name, rest) = note.trim().strip_prefix("Table `")?.split_once('\'')?;
    rest.starts_with(" is incompatible")
        .then(|| name.to_owned())
}

#[cfg(test)]
mod tests;
