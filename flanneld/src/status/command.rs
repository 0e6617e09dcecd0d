//! `flanneld status` and `flanneld plan`.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde::Serialize;

use super::report::{DaemonState, Plan, Report};
use super::screen::Paper;
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
            let written = show(&shown, self.watch);
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
            Form::Text => text::plan(&plan, Paper::stdout()),
        };
        show(&shown, false);
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

/// Prints it, in place of what was printed before if that is wanted on a terminal. Whether there is somebody who reads.
pub(crate) fn show(text: &str, again: bool) -> bool {
    let mut out = std::io::stdout();
    let clear = if again && out.is_terminal() {
        "\x1b[H\x1b[2J"
    } else {
        ""
    };
    write!(out, "{clear}{text}")
        .and_then(|()| out.flush())
        .is_ok()
}
