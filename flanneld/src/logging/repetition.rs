//! Which log lines are held back because the same was said a moment ago, and how they are summed up. Pure.

use std::time::{Duration, Instant};

use tracing::Level;

use super::ByKey;

/// For so long the same is counted instead of said.
const WINDOW: Duration = Duration::from_secs(60);
/// So many different things are remembered; what comes beyond is said.
const REMEMBERED: usize = 256;
/// So much of a text is kept for the summary, in bytes.
const TEXT: usize = 1024;
/// A change to and fro is told so often, so that the last line tells how things stand for all but a wild one.
const CHANGES: u32 = 10;

/// What was said within the last minute.
#[derive(Debug, Default)]
pub(super) struct Repetition {
    said: ByKey<Said>,
}

#[derive(Debug)]
struct Said {
    level: Level,
    text: String,
    since: Instant,
    /// How often it was let through since then.
    told: u32,
    /// How often it was held back since then.
    held: u64,
}

/// Something that was held back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Saying {
    pub(super) level: Level,
    pub(super) text: String,
    pub(super) times: u64,
}

impl Repetition {
    /// Whether a line is to be said: the first of its kind is, others within the same minute are counted.
    pub(super) fn admits(&mut self, key: u64, level: Level, text: &str, now: Instant) -> bool {
        let full = self.said.len() >= REMEMBERED;
        if let Some(said) = self.said.get_mut(&key) {
            let admitted = said.told < allowance(level);
            if admitted {
                said.told += 1;
            } else {
                said.held += 1;
            }
            return admitted;
        }
        if full {
            self.said
                .retain(|_, said| said.held > 0 || !said.is_over(now));
        }
        if self.said.len() < REMEMBERED {
            let said = Said {
                level,
                text: shortened(text),
                since: now,
                told: 1,
                held: 0,
            };
            self.said.insert(key, said);
        }
        true
    }

    /// What was held back in the minutes that are over, counted from each first saying. What goes on is summed up again in
    /// a minute.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Saying> {
        let mut sayings = Vec::new();
        self.said.retain(|_, said| {
            if !said.is_over(now) {
                return true;
            }
            let times = std::mem::take(&mut said.held);
            if times == 0 {
                return false;
            }
            said.since = now;
            // The summary was a line as well.
            said.told = allowance(said.level);
            sayings.push(Saying {
                level: said.level,
                text: said.text.clone(),
                times,
            });
            true
        });
        sayings
    }
}

impl Said {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= WINDOW
    }
}

fn allowance(level: Level) -> u32 {
    if level <= Level::WARN { 1 } else { CHANGES }
}

fn shortened(text: &str) -> String {
    if text.len() <= TEXT {
        return text.to_owned();
    }
    let end = (0..=TEXT)
        .rev()
        .find(|&end| text.is_char_boundary(end))
        .unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests;
