//! What came of it: checks, figures, and how they are told while the run goes on and at its end.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::args::Format;

/// One thing that was to hold.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check {
    /// What.
    pub(crate) name: String,
    /// Whether it held, or why it was not tried.
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
}

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", content = "detail", rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// It held.
    Passed,
    /// It did not, and what was seen instead.
    Failed(String),
    /// It was not tried, and why.
    Skipped(String),
}

/// Something measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    /// What.
    pub(crate) name: String,
    /// How much, with its unit.
    pub(crate) value: String,
}

/// One scenario's part.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Part {
    /// Its name.
    pub(crate) scenario: &'static str,
    /// What held and what did not.
    pub(crate) checks: Vec<Check>,
    /// What was measured.
    pub(crate) figures: Vec<Figure>,
    /// How long it took.
    pub(crate) seconds: u64,
}

impl Part {
    fn count(&self, kind: fn(&Outcome) -> bool) -> usize {
        self.checks
            .iter()
            .filter(|check| kind(&check.outcome))
            .count()
    }

    /// Checks that did not hold.
    pub(crate) fn failed(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Failed(_)))
    }

    /// Checks that were not tried.
    pub(crate) fn skipped(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Skipped(_)))
    }

    fn passed(&self) -> usize {
        self.count(|outcome| *outcome == Outcome::Passed)
    }

    fn verdict(&self) -> &'static str {
        match (self.failed(), self.passed()) {
            (0, 0) => "skipped",
            (0, _) => "passed",
            _ => "FAILED",
        }
    }
}

/// The whole run.
#[derive(Debug)]
pub(crate) struct Report {
    format: Format,
    begun: Instant,
    parts: Vec<Part>,
    /// How long each scenario is expected to take, in their order.
    expected: Vec<Duration>,
    told: Option<(String, Instant)>,
}

impl Report {
    pub(crate) fn new(format: Format, expected: Vec<Duration>) -> Self {
        Self {
            format,
            begun: Instant::now(),
            parts: Vec::new(),
            expected,
            told: None,
        }
    }

    fn line(&self, text: &str) {
        let seconds = self.begun.elapsed().as_secs();
        let line = format!("{:>3}:{:02} {text}", seconds / 60, seconds % 60);
        match self.format {
            Format::Text => println!("{line}"),
            Format::Json => eprintln!("{line}"),
        }
    }

    /// A scenario begins.
    pub(crate) fn begin(&mut self, scenario: &'static str, about: &str) {
        let (number, all) = (self.parts.len() + 1, self.expected.len());
        let left = time_left(&self.expected, self.parts.len(), self.begun.elapsed());
        self.line(&format!("{number}/{all} {scenario}: {about} ({left})"));
        self.told = None;
        self.parts.push(Part {
            scenario,
            checks: Vec::new(),
            figures: Vec::new(),
            seconds: self.begun.elapsed().as_secs(),
        });
    }

    /// What goes on: at most each five seconds, and only if it is another than before.
    pub(crate) fn progress(&mut self, text: &str) {
        let fresh = self
            .told
            .as_ref()
            .is_none_or(|(former, when)| former != text && when.elapsed() > Duration::from_secs(5));
        if fresh {
            let shown: String = text.chars().take(160).collect();
            self.line(&format!("      {shown}"));
            self.told = Some((text.to_owned(), Instant::now()));
        }
    }

    /// A check ended.
    pub(crate) fn check(&mut self, name: &str, outcome: Outcome) {
        match &outcome {
            Outcome::Passed => self.line(&format!("  ok  {name}")),
            Outcome::Failed(detail) => self.line(&format!("FAIL  {name}: {detail}")),
            Outcome::Skipped(reason) => self.line(&format!("skip  {name}: {reason}")),
        }
        let name = name.to_owned();
        if let Some(part) = self.parts.last_mut() {
            part.checks.push(Check { name, outcome });
        }
    }

    /// Something was measured.
    pub(crate) fn figure(&mut self, name: &str, value: String) {
        self.line(&format!("   =  {name}: {value}"));
        let name = name.to_owned();
        if let Some(part) = self.parts.last_mut() {
            part.figures.push(Figure { name, value });
        }
    }

    /// A scenario is over.
    pub(crate) fn end(&mut self) {
        let now = self.begun.elapsed().as_secs();
        if let Some(part) = self.parts.last_mut() {
            part.seconds = now - part.seconds;
        }
    }

    /// Tells the end, and returns how many checks failed.
    pub(crate) fn close(&self, cluster: &str) -> usize {
        match self.format {
            Format::Text => print!("{}", self.summary(cluster)),
            Format::Json => println!(
                "{}",
                serde_json::json!({"cluster": cluster, "scenarios": self.parts,
                    "failed": self.failed(), "seconds": self.begun.elapsed().as_secs()})
            ),
        }
        self.failed()
    }

    fn failed(&self) -> usize {
        self.parts.iter().map(Part::failed).sum()
    }

    fn summary(&self, cluster: &str) -> String {
        let mut text = format!("\nOn {cluster}:\n");
        for part in &self.parts {
            text += &format!(
                "{:<12} {:<8} {} passed, {} failed, {} skipped, {} s\n",
                part.scenario,
                part.verdict(),
                part.passed(),
                part.failed(),
                part.skipped(),
                part.seconds
            );
            for figure in &part.figures {
                text += &format!("    {}: {}\n", figure.name, figure.value);
            }
            for check in &part.checks {
                match &check.outcome {
                    Outcome::Passed => {}
                    Outcome::Failed(detail) => {
                        text += &format!("    FAILED {}: {detail}\n", check.name)
                    }
                    Outcome::Skipped(why) => {
                        text += &format!("    skipped {}: {why}\n", check.name)
                    }
                }
            }
        }
        let sum = |count: fn(&Part) -> usize| self.parts.iter().map(count).sum::<usize>();
        let (passed, skipped) = (sum(Part::passed), sum(Part::skipped));
        text + &format!(
            "{passed} passed, {} failed, {skipped} skipped\n",
            self.failed()
        )
    }
}

/// What is left of the time that was expected, at the pace so far.
fn time_left(expected: &[Duration], done: usize, elapsed: Duration) -> String {
    let sum = |part: &[Duration]| part.iter().sum::<Duration>().as_secs_f64();
    let (before, after) = expected.split_at(done.min(expected.len()));
    let pace = if sum(before) > 0.0 {
        (elapsed.as_secs_f64() / sum(before)).clamp(0.2, 10.0)
    } else {
        1.0
    };
    let minutes = (sum(after) * pace / 60.0).ceil();
    format!("about {minutes} min left")
}

/// The value below which this share of them lies.
pub(crate) fn percentile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_the_pace() {
        let expected = [60, 120, 60].map(Duration::from_secs);
        let left = |done, seconds| time_left(&expected, done, Duration::from_secs(seconds));
        assert_eq!(left(0, 0), "about 4 min left");
        assert_eq!(left(1, 120), "about 6 min left");
        assert_eq!(left(2, 90), "about 1 min left");
        assert_eq!(left(3, 240), "about 0 min left");
    }

    #[test]
    fn percentiles_are_values_that_were_there() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&values, 0.5), Some(50.0));
        assert_eq!(percentile(&values, 0.99), Some(99.0));
        assert_eq!(percentile(&[7.0], 0.99), Some(7.0));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn the_summary_says_what_failed_and_what_was_skipped() {
        let mut report = Report::new(Format::Json, vec![Duration::from_secs(1)]);
        report.begin("reboot", "of a node");
        report.check("it comes back", Outcome::Failed("NotReady".to_owned()));
        report.check("twice", Outcome::Skipped("no NODE_REBOOT".to_owned()));
        report.figure("back after", "3.0 s".to_owned());
        report.end();
        let text = report.summary("two nodes");
        assert!(text.contains("reboot       FAILED   0 passed, 1 failed, 1 skipped"));
        assert!(text.contains("    FAILED it comes back: NotReady\n"));
        assert!(text.contains("    skipped twice: no NODE_REBOOT\n"));
        assert!(text.ends_with("0 passed, 1 failed, 1 skipped\n"));
        assert_eq!(report.close("two nodes"), 1);
    }
}
