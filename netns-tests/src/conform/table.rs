//! A report for people: one line a check with a mark for each version, then what does not hold and why.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::conform::catalogue::{Check, Severity};
use crate::conform::report::{Entry, Outcome, Report};
use crate::conform::spec::{self, SpecVersion};

/// Width that prose keeps within.
const WIDTH: usize = 100;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "1;31";
const YELLOW: &str = "33";
const GREEN: &str = "32";

/// How it is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// With colours.
    pub colour: bool,
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// The catalogue, one line a check.
pub fn list<'a>(checks: impl Iterator<Item = (&'static str, &'a Check)>) -> String {
    let mut text = String::new();
    let checks: Vec<_> = checks.collect();
    let width = checks.iter().map(|(_, check)| check.id.len()).max();
    let width = width.unwrap_or_default();
    let mut last = "";
    for (area, check) in checks {
        if area != last {
            writeln!(text, "{area}").ok();
            last = area;
        }
        let Check {
            id,
            severity,
            title,
            source,
            ..
        } = check;
        writeln!(text, "  {id:width$}  {severity:8}  {title} ({source})").ok();
    }
    text
}

/// The whole report.
pub fn table(report: &Report, style: Style) -> String {
    let mut text = head(report, style);
    let width = report.checks.iter().map(|entry| entry.id.len()).max();
    let width = width.unwrap_or_default().max(10);
    let mut last = "";
    for entry in &report.checks {
        if entry.area != last {
            let columns: Vec<_> = report
                .versions
                .iter()
                .map(|version| version.as_str())
                .collect();
            let title = format!("{:w$}", entry.area, w = width + 2);
            writeln!(
                text,
                "\n{}  {}",
                style.paint(BOLD, &title),
                style.paint(DIM, &format!("{:8}  {}", "", columns.join(" ")))
            )
            .ok();
            last = entry.area;
        }
        writeln!(text, "{}", row(entry, &report.versions, width, style)).ok();
    }
    text.push_str(&failures(report, style));
    text.push_str(&reasons(report, style));
    text.push_str(&summary(report, style));
    text
}

fn head(report: &Report, style: Style) -> String {
    let supported = report.supported_versions.join(", ");
    let title = format!(
        "{} ({}), a plugin of the kind {}",
        report.plugin,
        report.path,
        report.kind.as_str()
    );
    format!(
        "{}\n  calls itself {:?}, says it supports {}\n  {} holds  {} does not hold  {} not applicable  {} undecided\n",
        style.paint(BOLD, &title),
        report.banner,
        if supported.is_empty() {
            "nothing"
        } else {
            &supported
        },
        style.paint(GREEN, "✓"),
        style.paint(RED, "✗"),
        style.paint(DIM, "–"),
        style.paint(YELLOW, "?"),
    )
}

fn row(entry: &Entry, versions: &[SpecVersion], width: usize, style: Style) -> String {
    let mut line = format!("  {:width$}  {:8} ", entry.id, entry.severity);
    if let [finding] = entry.findings.as_slice()
        && finding.version.is_none()
    {
        // Made once: one mark for all.
        write!(line, "   {}", mark(&finding.outcome, style)).ok();
        return line;
    }
    for version in versions {
        let finding = entry
            .findings
            .iter()
            .find(|finding| finding.version == Some(*version));
        let mark = finding.map_or_else(|| " ".to_owned(), |found| mark(&found.outcome, style));
        write!(line, "   {mark}  ").ok();
    }
    line.trim_end().to_owned()
}

fn mark(outcome: &Outcome, style: Style) -> String {
    match outcome {
        Outcome::Holds => style.paint(GREEN, "✓"),
        Outcome::DoesNotHold { .. } => style.paint(RED, "✗"),
        Outcome::NotApplicable { .. } => style.paint(DIM, "–"),
        Outcome::Undecided { .. } => style.paint(YELLOW, "?"),
    }
}

/// What does not hold, weightiest first, with one piece of evidence each.
fn failures(report: &Report, style: Style) -> String {
    let mut text = String::new();
    for severity in Severity::ALL {
        let failed = report
            .checks
            .iter()
            .filter(|entry| entry.severity == severity && !entry.holds());
        for entry in failed {
            let Some((evidence, versions)) = first_failure(entry) else {
                continue;
            };
            let title = format!("{} ({severity}, {})", entry.id, entry.source);
            writeln!(
                text,
                "{} {}",
                style.paint(RED, "✗"),
                style.paint(BOLD, &title)
            )
            .ok();
            text.push_str(&wrapped(&format!("Should be: {}.", entry.title)));
            let at = match versions.as_slice() {
                [] => String::new(),
                versions => format!(" ({})", spec::list(versions)),
            };
            text.push_str(&wrapped(&format!("Seen{at}: {evidence}")));
        }
    }
    if text.is_empty() {
        return text;
    }
    format!("\n{}\n{text}", style.paint(BOLD, "What does not hold"))
}

/// The first evidence of a check, and every version in which something was wrong.
fn first_failure(entry: &Entry) -> Option<(String, Vec<SpecVersion>)> {
    let mut evidence = None;
    let mut versions = Vec::new();
    for finding in &entry.findings {
        let said = match &finding.outcome {
            Outcome::DoesNotHold { evidence } => evidence.clone(),
            Outcome::Undecided { trouble } => format!("undecided: {trouble}"),
            Outcome::Holds | Outcome::NotApplicable { .. } => continue,
        };
        evidence.get_or_insert(said);
        versions.extend(finding.version);
    }
    evidence.map(|evidence| (evidence, versions))
}

/// Why checks do not apply, each reason once.
fn reasons(report: &Report, style: Style) -> String {
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for entry in &report.checks {
        for finding in &entry.findings {
            if let Outcome::NotApplicable { reason } = &finding.outcome {
                // What exactly went wrong there stands with the check that is about it.
                let (short, _) = reason.split_once(": ").unwrap_or((reason, ""));
                let ids = reasons.entry(short).or_default();
                if ids.last() != Some(&entry.id) {
                    ids.push(entry.id);
                }
            }
        }
    }
    if reasons.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{}\n", style.paint(BOLD, "What does not apply"));
    for (reason, ids) in reasons {
        text.push_str(&wrapped(&format!("– {reason}: {}", ids.join(", "))));
    }
    text
}

fn summary(report: &Report, style: Style) -> String {
    let mut text = format!("\n{}\n", style.paint(BOLD, "Summary"));
    writeln!(
        text,
        "  {:8}  {:>6}  {:>13}  {:>14}  {:>9}",
        "", "holds", "does not hold", "not applicable", "undecided"
    )
    .ok();
    for (severity, count) in &report.summary {
        writeln!(
            text,
            "  {severity:8}  {:6}  {:13}  {:14}  {:9}",
            count.holds, count.does_not_hold, count.not_applicable, count.undecided
        )
        .ok();
    }
    let verdict = match (report.conformant, report.holds_strictly()) {
        (true, true) => style.paint(GREEN, "Everything that applies holds."),
        (true, false) => "Every \"must\" that applies holds.".to_owned(),
        (false, _) => style.paint(RED, "Not conformant: some \"must\" does not hold."),
    };
    writeln!(text, "{verdict}").ok();
    text
}

/// The text in lines, indented.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut line = String::from("  ");
    for word in text.split_whitespace() {
        let long = line.chars().count() + 1 + word.chars().count() > WIDTH;
        if long && !line.trim().is_empty() {
            writeln!(lines, "{line}").ok();
            line = String::from("   ");
        }
        if !line.ends_with("  ") {
            line.push(' ');
        }
        line.push_str(word);
    }
    writeln!(lines, "{line}").ok();
    lines
}
