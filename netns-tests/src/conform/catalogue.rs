//! What a check is: its identity, how much weight it has, where it comes from, and what its verdict can be.

use std::fmt;

use serde::Serialize;

use crate::conform::scene::Scene;
use crate::conform::spec::Verb;
use crate::conform::subject::Kind;

/// How much a check weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The specification demands it.
    Must,
    /// The specification recommends it, or a runtime or another plugin relies on it.
    Expected,
    /// A good plugin does so.
    Quality,
}

impl Severity {
    /// All of them, weightiest first.
    pub const ALL: [Self; 3] = [Self::Must, Self::Expected, Self::Quality];

    /// The word shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Must => "must",
            Self::Expected => "expected",
            Self::Quality => "quality",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a check did not end with "holds".
#[derive(Debug)]
pub(crate) enum Stop {
    /// It does not hold; the evidence.
    Fails(String),
    /// It says nothing about this plugin; the reason.
    Inapplicable(String),
    /// The runner itself could not do its part.
    Trouble(anyhow::Error),
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::Trouble(error)
    }
}

/// What a check says: `Ok` when it holds.
pub(crate) type Verdict<T = ()> = Result<T, Stop>;

/// It does not hold, for this evidence.
pub(crate) fn fails<T>(evidence: impl Into<String>) -> Verdict<T> {
    Err(Stop::Fails(evidence.into()))
}

/// It does not apply, for this reason.
pub(crate) fn inapplicable<T>(reason: impl Into<String>) -> Verdict<T> {
    Err(Stop::Inapplicable(reason.into()))
}

/// Holds if `holds`; otherwise the evidence counts.
pub(crate) fn require(holds: bool, evidence: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { fails(evidence()) }
}

/// One check of the catalogue.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Its name, which never changes its meaning.
    pub id: &'static str,
    /// The verb it judges.
    pub verb: Verb,
    /// How much it weighs.
    pub severity: Severity,
    /// The section of the specification or the software it comes from.
    pub source: &'static str,
    /// What holds, as a sentence without its full stop.
    pub title: &'static str,
    /// For which kinds of plugin it means something.
    pub kinds: &'static [Kind],
    /// Whether it is made once, because the version of the config makes no difference to it.
    pub once: bool,
    pub(crate) run: fn(&Scene<'_>) -> Verdict,
}

impl Check {
    const fn new(
        severity: Severity,
        id: &'static str,
        verb: Verb,
        source: &'static str,
        title: &'static str,
        run: fn(&Scene<'_>) -> Verdict,
    ) -> Self {
        Self {
            id,
            verb,
            severity,
            source,
            title,
            kinds: &Kind::ALL,
            once: false,
            run,
        }
    }

    /// What the specification demands.
    pub(crate) const fn must(
        id: &'static str,
        verb: Verb,
        source: &'static str,
        title: &'static str,
        run: fn(&Scene<'_>) -> Verdict,
    ) -> Self {
        Self::new(Severity::Must, id, verb, source, title, run)
    }

    /// What the specification recommends or others rely on.
    pub(crate) const fn expected(
        id: &'static str,
        verb: Verb,
        source: &'static str,
        title: &'static str,
        run: fn(&Scene<'_>) -> Verdict,
    ) -> Self {
        Self::new(Severity::Expected, id, verb, source, title, run)
    }

    /// What a good plugin does.
    pub(crate) const fn quality(
        id: &'static str,
        verb: Verb,
        source: &'static str,
        title: &'static str,
        run: fn(&Scene<'_>) -> Verdict,
    ) -> Self {
        Self::new(Severity::Quality, id, verb, source, title, run)
    }

    /// The same, for these kinds of plugin only.
    pub(crate) const fn only(self, kinds: &'static [Kind]) -> Self {
        Self { kinds, ..self }
    }

    /// The same, made once instead of for each version.
    pub(crate) const fn once(self) -> Self {
        Self { once: true, ..self }
    }
}
