//! `flanneld status` and `flanneld plan`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde::Serialize;

use super::report::{DaemonState, Plan, Report};
use super::screen::{Paper, terminal};
use super::{down, problems, text};
use crate::http::client::{AskError, ask_and_wait};
use crate::http::socket::{DEFAULT_PATH, stopped_at};
use crate::pods::Places;

/// How often `--watch` looks.
const PERIOD: Duration = Duration::from_secs(1);

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// `flanneld status`
#[derive(Clone, Debug, Parser)]
#[command(
    bin_name = "flanneld status",
    about = "Tells how this node's pod network does: node, network, peers, pods, repairs. Without a running daemon, what kernel and \
             files tell",
    disable_version_flag = true,
    after_help = "Exit status: 0 all is well, 1 something is wrong (it stands at the top), 2 wrong flags."
)]
pub struct Status {
    /// Form of the answer; the JSON is described in docs/status.md
    #[arg(long, short, value_enum, default_value_t)]
    output: Form,
    /// Look again each second until Ctrl-C
    #[arg(long, short)]
    watch: bool,
    /// Show long lists as a whole
    #[arg(long)]
    all: bool,
    /// The daemon's socket
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    socket: PathBuf,
    /// File that tells the CNI program the subnet; read when the daemon cannot be asked
    #[arg(long, value_name = "FILE", default_value = crate::args::SUBNET_FILE)]
    subnet_file: PathBuf,
}

/// `flanneld plan`
#[derive(Clone, Debug, Parser)]
#[command(
    bin_name = "flanneld plan",
    about = "Asks the daemon what it would change in the kernel now, and why. Changes nothing",
    disable_version_flag = true,
    after_help = "Exit status: 0 nothing is to be changed, 1 changes are due, 2 it cannot be told, or wrong flags."
)]
pub struct PlanCommand {
    /// Form of the answer; the JSON is described in docs/status.md
    #[arg(long, short, value_enum, default_value_t)]
    output: Form,
    /// Show a long list as a whole
    #[arg(long)]
    all: bool,
    /// The daemon's socket
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    socket: PathBuf,
}

impl Status {
    /// Does it; the exit status.
    pub fn run(&self) -> u8 {
        loop {
            let report = look(&self.socket, &self.subnet_file);
            let shown = match self.output {
                Form::Json => json(&report),
                Form::Text => text::report(&report, self.all, Paper::stdout()),
            };
            let lines = terminal().map(|(_, lines)| lines);
            let written = match lines.filter(|_| self.watch) {
                Some(lines) => show(&in_place(&shown, lines)),
                None => show(&shown),
            };
            if !self.watch || !written {
                return u8::from(!report.problems.is_empty());
            }
            thread::sleep(PERIOD);
        }
    }
}

/// What the daemon reports, or, where it cannot be asked, what can be seen without it.
pub(crate) fn look(socket: &Path, subnet_file: &Path) -> Report {
    let error = match ask_and_wait(socket, "/status") {
        Ok(report) => return report,
        Err(error) => error,
    };
    let mut report = down::look(subnet_file, &Places::default());
    match error {
        AskError::NotRunning(_) => {
            report.daemon.state = DaemonState::NotRunning;
            report.daemon.since = stopped_at(socket);
        }
        AskError::NotAllowed(_) => report.unseen.insert(0, error.to_string()),
        _ => report.problems.insert(0, error.to_string()),
    }
    let found = std::mem::take(&mut report.problems);
    report.problems = problems::of(&report);
    report.problems.extend(found);
    report
}

impl PlanCommand {
    /// Does it; the exit status.
    pub fn run(&self) -> u8 {
        let plan: Plan = match ask_and_wait(&self.socket, "/plan") {
            Ok(plan) => plan,
            Err(error) => {
                eprintln!(
                    "it cannot be told what would be changed, because only the daemon knows the leases: {error}"
                );
                return 2;
            }
        };
        let shown = match self.output {
            Form::Json => json(&plan),
            Form::Text => text::plan(&plan, self.all, Paper::stdout()),
        };
        show(&shown);
        match (&plan.trouble, plan.steps.is_empty()) {
            (Some(_), _) => 2,
            (None, true) => 0,
            (None, false) => 1,
        }
    }
}

/// As it is printed.
pub(crate) fn json(value: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(value).unwrap_or_else(|error| error.to_string());
    text + "\n"
}

/// Prints it. Whether there is somebody who reads.
pub(crate) fn show(text: &str) -> bool {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .is_ok()
}

/// What is sent to a terminal to show a text in place of the one before: the beginning where not all has room, because there stands
/// what is wrong. Nothing is left to be put right when this ends at any moment.
fn in_place(text: &str, lines: usize) -> String {
    let there = text.lines().count();
    let room = lines.saturating_sub(1).max(1);
    // Line by line over the former text, without a blank screen in between, which would flicker.
    let mut painted = "\x1b[H".to_owned();
    let shown = if there > room { room - 1 } else { there };
    for line in text.lines().take(shown) {
        painted.push_str(line);
        painted.push_str("\x1b[K\n");
    }
    if there > shown {
        let more = there - shown;
        painted.push_str(&format!(
            "… {more} lines more than this terminal has\x1b[K\n"
        ));
    }
    painted + "\x1b[J"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_text_longer_than_the_terminal_the_beginning_is_shown() {
        assert_eq!(in_place("a\nb\n", 3), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
        assert_eq!(
            in_place("a\nb\nc\n", 3),
            "\x1b[Ha\x1b[K\n… 2 lines more than this terminal has\x1b[K\n\x1b[J"
        );
        assert!(in_place("a\nb\n", 0).contains("… 2 lines"));
    }
}
