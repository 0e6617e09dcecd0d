//! The diagnosis for people: the cause and what to type first, then every check in a line or two.

use std::fmt::Write;

use super::Diagnosis;
use super::finding::{Check, Finding, Remedy, Verdict};
use crate::status::screen::{Cell, Paper, Screen, Tone};

/// As wide as the longest title.
const TITLE: usize = 15;

/// The text.
pub fn of(diagnosis: &Diagnosis, paper: Paper) -> String {
    let mut text = String::new();
    let mut screen = Screen::new(paper);
    screen.heading(&diagnosis.node, &summary(diagnosis));
    text.push_str(&screen.into_text());
    for done in &diagnosis.fixed {
        text.push_str(&item(paper, &Cell::new("--fix", Tone::Good), done));
    }
    if let Some(cause) = &diagnosis.cause {
        text.push('\n');
        let tone = tone_of(cause.verdict);
        text.push_str(&item(
            paper,
            &Cell::new("most likely:", tone),
            &first(cause),
        ));
        remedy(&mut text, paper, cause.remedy.as_ref());
    }
    text.push('\n');
    for finding in &diagnosis.findings {
        let (word, tone) = (word_of(finding.verdict), tone_of(finding.verdict));
        let sign = Cell::new(format!("{word:<5} {:<TITLE$}", finding.check.title()), tone);
        text.push_str(&item(paper, &sign, &first(finding)));
        let is_cause = diagnosis
            .cause
            .as_ref()
            .is_some_and(|cause| cause.check == finding.check);
        let mut screen = Screen::new(paper);
        for more in finding.evidence.iter().skip(1) {
            screen.remark(more);
        }
        if let Some(check) = finding.follows_from {
            screen.remark(&format!("follows from: {}", Check::title(check)));
        }
        text.push_str(&screen.into_text());
        if !is_cause && finding.follows_from.is_none() && finding.verdict >= Verdict::Warn {
            remedy(&mut text, paper, finding.remedy.as_ref());
        }
    }
    text
}

fn summary(diagnosis: &Diagnosis) -> String {
    let count = |verdict| {
        diagnosis
            .findings
            .iter()
            .filter(|finding| finding.verdict == verdict)
            .count()
    };
    let of = diagnosis.findings.len();
    let unseen = match count(Verdict::NotSeen) {
        0 => String::new(),
        unseen => format!(", {unseen} could not be made"),
    };
    let asked = format!(
        "{} of {} peers asked",
        diagnosis.peers_asked, diagnosis.peers
    );
    match (count(Verdict::Fail), count(Verdict::Warn)) {
        (0, 0) => format!("all is well: {of} checks{unseen}, {asked}"),
        (0, warnings) => format!("{warnings} of {of} checks warn{unseen}, {asked}"),
        (failures, 0) => format!("{failures} of {of} checks fail{unseen}, {asked}"),
        (failures, warnings) => {
            format!("{failures} of {of} checks fail, {warnings} warn{unseen}, {asked}")
        }
    }
}

fn first(finding: &Finding) -> String {
    finding.evidence.first().cloned().unwrap_or_default()
}

fn item(paper: Paper, sign: &Cell, sentence: &str) -> String {
    let mut screen = Screen::new(paper);
    screen.item(sign, sentence);
    screen.into_text()
}

/// Commands stand in a line of their own, however long, so that they can be copied.
fn remedy(text: &mut String, paper: Paper, remedy: Option<&Remedy>) {
    let Some(remedy) = remedy else { return };
    let safe = if remedy.safe {
        " (or: flanneld doctor --fix)"
    } else {
        ""
    };
    text.push_str(&item(
        paper,
        &Cell::new("to do:", Tone::Heading),
        &format!("{}{safe}", remedy.say),
    ));
    for step in &remedy.commands {
        let on = step
            .on
            .as_ref()
            .map_or_else(String::new, |on| format!("[{on}] "));
        // Writing to a String never fails.
        let _ = writeln!(text, "      {on}# {}", step.run);
    }
}

const fn word_of(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::NotSeen => "?",
        Verdict::Warn => "warn",
        Verdict::Fail => "FAIL",
    }
}

const fn tone_of(verdict: Verdict) -> Tone {
    match verdict {
        Verdict::Ok => Tone::Good,
        Verdict::NotSeen => Tone::Faint,
        Verdict::Warn => Tone::Doubtful,
        Verdict::Fail => Tone::Bad,
    }
}
