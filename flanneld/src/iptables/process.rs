//! Running one program to its end, and what can go wrong with iptables' programs.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use hostnet::nft;
use thiserror::Error;

use super::Place;
use super::saved::UnreadableListing;

/// A program that takes longer is ended. It waits for iptables' lock itself, and not so long.
const DEADLINE: Duration = Duration::from_secs(20);

/// Why iptables' rules could not be read or written.
#[derive(Debug, Error)]
pub enum IptablesError {
    /// There is no such program.
    #[error(
        "there is no program {program} on PATH, without which the rules of {place} can be neither read nor written; install iptables"
    )]
    NotFound {
        /// The program.
        program: String,
        /// Whose rules.
        place: Place,
    },
    /// The program cannot be started, or not be spoken to.
    #[error("{program} cannot be run: {reason}")]
    Run {
        /// The program.
        program: String,
        /// What the system says.
        reason: std::io::Error,
    },
    /// The program ended with an error.
    #[error("{program} ended with {status}: {message}")]
    Failed {
        /// The program.
        program: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// What it wrote about it.
        message: String,
    },
    /// The program did not end.
    #[error("{program} did not end within {} seconds and was killed", DEADLINE.as_secs())]
    TimedOut {
        /// The program.
        program: String,
    },
    /// What the program printed cannot be relied on.
    #[error("what {program} printed cannot be read, so nothing is changed there: {reason}")]
    Unreadable {
        /// The program.
        program: String,
        /// What is wrong with it.
        reason: UnreadableListing,
    },
    /// A table holds rules that iptables does not understand.
    #[error(
        "the table {table} of {place} holds what iptables cannot read, so nothing is changed there; rules made with nft belong into a table of another name"
    )]
    Incompatible {
        /// The table.
        table: String,
        /// Whose.
        place: Place,
    },
    /// The kernel does not tell which chains nf_tables holds.
    #[error(transparent)]
    Nftables(#[from] nft::Error),
}

/// What the program is called.
pub(super) fn name(program: &Path) -> String {
    program
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Runs a program to its end and returns what it printed.
pub(super) fn run(command: &mut Command, input: &str) -> Result<String, IptablesError> {
    let program = name(Path::new(command.get_program()));
    let failed = |reason| IptablesError::Run {
        program: program.clone(),
        reason,
    };
    let mut child = command
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let outcome = converse(&mut child, input);
    if outcome.is_none() {
        // It may have ended by itself in this moment.
        let _ = child.kill();
    }
    let status = child.wait().map_err(failed)?;
    let Some((output, message)) = outcome else {
        return Err(IptablesError::TimedOut { program });
    };
    if status.success() {
        return Ok(output);
    }
    Err(IptablesError::Failed {
        program,
        status,
        message: message.trim().replace('\n', "; "),
    })
}

/// Gives the program its input and takes what it prints on both ways, each in a thread of its own, until it closes them. Nothing if it
/// does not in time.
fn converse(child: &mut Child, input: &str) -> Option<(String, String)> {
    let (sender, receiver) = mpsc::channel();
    let mut stdin = child.stdin.take();
    let input = input.to_owned();
    thread::spawn(move || {
        if let Some(stdin) = &mut stdin {
            // A program that does not read to the end says why by its exit status.
            let _ = stdin.write_all(input.as_bytes());
        }
    });
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    collect(0, output, &sender);
    collect(1, errors, &sender);
    let mut texts = [String::new(), String::new()];
    for _ in 0..texts.len() {
        let (which, text) = receiver.recv_timeout(DEADLINE).ok()?;
        texts[which] = text;
    }
    Some(texts.into())
}

fn collect(
    which: usize,
    from: Option<impl Read + Send + 'static>,
    to: &mpsc::Sender<(usize, String)>,
) {
    let to = to.clone();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            // What cannot be read is missing from the text, and half a listing is noticed.
            let _ = from.read_to_end(&mut bytes);
        }
        // Nobody listens any more after the deadline.
        let _ = to.send((which, String::from_utf8_lossy(&bytes).into_owned()));
    });
}
