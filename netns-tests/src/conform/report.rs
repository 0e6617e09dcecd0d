//! What came of a run, as data: the JSON document that `docs/conformance.md` describes.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::conform::catalogue::{Check, Severity};
use crate::conform::spec::{SpecVersion, Verb};
use crate::conform::subject::Kind;

/// How one check ended for one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// It holds.
    Holds,
    /// It does not.
    DoesNotHold {
        /// What was seen.
        evidence: String,
    },
    /// It says nothing about this plugin or version.
    NotApplicable {
        /// Why.
        reason: String,
    },
    /// The runner could not tell.
    Undecided {
        /// What went wrong with the runner.
        trouble: String,
    },
}

/// One check for one version.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The version of the config; nothing for a check that is made once.
    pub version: Option<SpecVersion>,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How long it took, with the making of its host.
    pub milliseconds: u64,
}

/// One check with what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Its stable name.
    pub id: &'static str,
    /// The part of the catalogue it stands in.
    pub area: &'static str,
    /// The verb it judges.
    pub verb: Verb,
    /// How much it weighs.
    pub severity: Severity,
    /// Where it comes from.
    pub source: &'static str,
    /// What holds.
    pub title: &'static str,
    /// By version.
    pub findings: Vec<Finding>,
}

/// How many findings ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Count {
    /// Holds.
    pub holds: usize,
    /// Does not hold.
    pub does_not_hold: usize,
    /// Not applicable.
    pub not_applicable: usize,
    /// Undecided.
    pub undecided: usize,
}

/// The counts by severity.
pub type Summary = BTreeMap<Severity, Count>;

/// A whole run.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Version of the runner.
    pub runner: &'static str,
    /// The plugin's type, the name of its file.
    pub plugin: String,
    /// Where it lies.
    pub path: String,
    /// Which kind it was taken for.
    pub kind: Kind,
    /// What it calls itself when started without a command.
    pub banner: String,
    /// What its VERSION says.
    pub supported_versions: Vec<String>,
    /// The kernel it ran on.
    pub kernel: String,
    /// The versions it was tried with.
    pub versions: Vec<SpecVersion>,
    /// Counts by severity.
    pub summary: Summary,
    /// Whether every applicable "must" holds.
    pub conformant: bool,
    /// The checks, in the catalogue's order.
    pub checks: Vec<Entry>,
}

impl Entry {
    pub(super) fn new(check: &Check, area: &'static str) -> Self {
        Self {
            id: check.id,
            area,
            verb: check.verb,
            severity: check.severity,
            source: check.source,
            title: check.title,
            findings: Vec::new(),
        }
    }

    /// Whether it holds wherever it applies.
    pub fn holds(&self) -> bool {
        self.findings.iter().all(|finding| {
            matches!(
                finding.outcome,
                Outcome::Holds | Outcome::NotApplicable { .. }
            )
        })
    }
}

impl Report {
    /// Counts again.
    pub(super) fn sum_up(&mut self) {
        let mut summary: Summary = Severity::ALL
            .into_iter()
            .map(|severity| (severity, Count::default()))
            .collect();
        for entry in &self.checks {
            let count = summary.entry(entry.severity).or_default();
            for finding in &entry.findings {
                match finding.outcome {
                    Outcome::Holds => count.holds += 1,
                    Outcome::DoesNotHold { .. } => count.does_not_hold += 1,
                    Outcome::NotApplicable { .. } => count.not_applicable += 1,
                    Outcome::Undecided { .. } => count.undecided += 1,
                }
            }
        }
        self.summary = summary;
        self.conformant = self.holds(Severity::Must);
    }

    /// Whether every applicable check of this severity holds.
    pub fn holds(&self, severity: Severity) -> bool {
        let mut entries = self
            .checks
            .iter()
            .filter(|entry| entry.severity == severity);
        entries.all(Entry::holds)
    }

    /// Whether every applicable check holds.
    pub fn holds_strictly(&self) -> bool {
        self.checks.iter().all(Entry::holds)
    }

    /// The check of this name.
    pub fn entry(&self, id: &str) -> Option<&Entry> {
        self.checks.iter().find(|entry| entry.id == id)
    }
}
