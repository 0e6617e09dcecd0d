//! The progress bar, and how a measuring process tells how far it is.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::figure::Figure;

const BAR: usize = 24;

/// What a measuring process tells, a line of JSON each.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Told {
    /// How much is done, from 0 to 1, and what is being done.
    Progress(f64, String),
    /// What came of it.
    Figures(Vec<Figure>),
}

impl Told {
    pub(crate) fn tell(&self) {
        if let Ok(line) = serde_json::to_string(self) {
            println!("{line}");
        }
    }
}

/// The measuring process's side.
#[derive(Debug, Default)]
pub(crate) struct Teller {
    done: Mutex<f64>,
}

impl Teller {
    /// Tells what is being done now.
    pub(crate) fn say(&self, what: &str) {
        let done = *self.done.lock().unwrap_or_else(PoisonError::into_inner);
        Told::Progress(done, what.to_owned()).tell();
    }

    /// So much more of the whole is done.
    pub(crate) fn advance(&self, share: f64) {
        *self.done.lock().unwrap_or_else(PoisonError::into_inner) += share;
    }
}

/// The user's side: one line that is written again and again on a terminal, and elsewhere a line for each part.
#[derive(Debug)]
pub(crate) struct Bar {
    terminal: bool,
    parts: usize,
    start: Instant,
}

impl Bar {
    pub(crate) fn new(parts: usize) -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            parts,
            start: Instant::now(),
        }
    }

    /// Part number `part` (from 0) called `title` is done so far (0 to 1).
    pub(crate) fn show(&self, part: usize, title: &str, done: f64, what: &str) {
        let whole = (part as f64 + done.clamp(0.0, 1.0)) / self.parts.max(1) as f64;
        if self.terminal {
            let text = format!(
                "{} {:>3.0} % {}  {title}: {what}",
                picture(whole),
                whole * 100.0,
                clock(self.start.elapsed().as_secs()),
            );
            let text: String = text.chars().take(110).collect();
            write!(io::stderr(), "\r\x1b[K{text}").ok();
        } else if what.is_empty() {
            eprintln!(
                "{} [{}/{}] {title}",
                clock(self.start.elapsed().as_secs()),
                part + 1,
                self.parts
            );
        }
    }

    pub(crate) fn finish(&self) {
        if self.terminal {
            write!(io::stderr(), "\r\x1b[K").ok();
        }
    }
}

fn picture(done: f64) -> String {
    let full = (done.clamp(0.0, 1.0) * BAR as f64).round() as usize;
    format!("[{}{}]", "#".repeat(full), "·".repeat(BAR - full))
}

fn clock(seconds: u64) -> String {
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills() {
        assert_eq!(picture(0.0), format!("[{}]", "·".repeat(24)));
        assert_eq!(
            picture(0.5),
            format!("[{}{}]", "#".repeat(12), "·".repeat(12))
        );
        assert_eq!(picture(7.0), format!("[{}]", "#".repeat(24)));
        assert_eq!(clock(75), "1:15");
    }
}
