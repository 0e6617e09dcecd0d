//! What the terminal shows: chapters, steps with their time, tables. Colour only on a terminal.

use std::env;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::{Error, Result};

/// Width that everything keeps within.
const WIDTH: usize = 92;
/// Where the result of a step stands.
const RESULT_COLUMN: usize = 40;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "1;31";
const GREEN: &str = "32";
const CYAN: &str = "36";

/// Standard output.
pub(crate) struct Screen {
    terminal: bool,
    colour: bool,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let terminal = io::stdout().is_terminal();
        let colour = terminal
            && env::var_os("NO_COLOR").is_none()
            && env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { terminal, colour }
    }

    /// The first line.
    pub(crate) fn title(&self, text: &str) {
        println!("\n{}", self.paint(BOLD, text));
    }

    /// Begins a part, with a sentence of explanation below.
    pub(crate) fn chapter(&self, title: &str, explanation: &str) {
        println!("\n{}", self.paint(BOLD, title));
        if !explanation.is_empty() {
            self.note(explanation);
        }
    }

    /// Explanation, wrapped.
    pub(crate) fn note(&self, text: &str) {
        for line in wrap(text, WIDTH - 2) {
            println!("  {}", self.paint(DIM, &line));
        }
    }

    /// Does something, showing what while it lasts, then what came of it and how long it took.
    pub(crate) fn step<T>(
        &self,
        label: &str,
        work: impl FnOnce() -> Result<(T, String)>,
    ) -> Result<T> {
        if self.terminal {
            print!("  ..  {label}");
            io::stdout().flush().ok();
        }
        let start = Instant::now();
        let outcome = work();
        let time = start.elapsed();
        if self.terminal {
            print!("\r\x1b[K");
        }
        match outcome {
            Ok((value, result)) => {
                self.line("ok", GREEN, label, &result, Some(time));
                Ok(value)
            }
            Err(error) => {
                self.line("NO", RED, label, "", Some(time));
                Err(error.context(format!("this did not work: {label}")))
            }
        }
    }

    /// A table with aligned columns, those of numbers to the right.
    pub(crate) fn table(&self, header: &[&str], rows: &[Vec<String>]) {
        let width_of = |column: usize| {
            let cells = rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.len());
            cells.chain([header[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..header.len()).map(width_of).collect();
        let is_number = |cell: &str| cell == "-" || cell.parse::<f64>().is_ok();
        let numeric: Vec<bool> = (0..header.len())
            .map(|column| {
                rows.iter()
                    .filter_map(|row| row.get(column))
                    .all(|cell| is_number(cell))
            })
            .collect();
        let line = |cells: &[&str]| {
            let mut line = String::new();
            for ((cell, width), numeric) in cells.iter().zip(&widths).zip(&numeric) {
                let padded = if *numeric {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                };
                write!(line, "{padded}   ").ok();
            }
            line.trim_end().to_owned()
        };
        println!("  {}", self.paint(CYAN, &line(header)));
        for row in rows {
            println!(
                "  {}",
                line(&row.iter().map(String::as_str).collect::<Vec<_>>())
            );
        }
    }

    /// A command as typed, and what it printed.
    pub(crate) fn listing(&self, command: &str, output: &str) {
        println!("  {}", self.paint(CYAN, &format!("$ {command}")));
        for line in output.lines() {
            println!("  {}", line.trim_end());
        }
    }

    /// The last line of a success.
    pub(crate) fn success(&self, text: &str) {
        println!("\n{}\n", self.paint("1;32", text));
    }

    /// The last lines of a failure.
    pub(crate) fn failure(&self, error: &Error) {
        println!("\n{}", self.paint(RED, "FAILED"));
        for line in format!("{error:#}").lines() {
            println!("  {line}");
        }
        println!();
    }

    /// Text in bold.
    pub(crate) fn bold(&self, text: &str) -> String {
        self.paint(BOLD, text)
    }

    fn line(&self, mark: &str, colour: &str, label: &str, result: &str, time: Option<Duration>) {
        let time = time
            .map(|time| format!("{:.2} s", time.as_secs_f64()))
            .unwrap_or_default();
        let mut text = format!("{label:<width$}{result}", width = RESULT_COLUMN - 6);
        let room = (WIDTH - 6).saturating_sub(text.chars().count());
        write!(text, "{:>room$}", self.paint_padded(DIM, &time, room)).ok();
        println!("  {}  {}", self.paint(colour, mark), text.trim_end());
    }

    /// Colour codes have no width on the terminal but one in a format: pad first, then paint.
    fn paint_padded(&self, colour: &str, text: &str, width: usize) -> String {
        self.paint(colour, &format!("{text:>width$}"))
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Lines of at most `width` characters, broken at spaces.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}
