//! Programs run inside namespaces: with a deadline, and with errors that show what the program said.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::namespaces::Namespaces;

/// How long a program may take that is not a daemon.
pub const PROGRAM_DEADLINE: Duration = Duration::from_secs(60);

/// What a program left behind.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The command as one would type it.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Finished {
    /// Standard output, or an error that shows everything when the program ended badly.
    pub fn success(self) -> Result<String> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        let mut message = format!("`{}` ended with {}", self.command, self.status);
        for said in [self.stderr.trim_end(), self.stdout.trim_end()] {
            if !said.is_empty() {
                write!(message, "\n  {}", said.replace('\n', "\n  ")).ok();
            }
        }
        bail!(message)
    }
}

/// Builds the command of an argument list.
pub(crate) fn command<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Result<Command> {
    let mut arguments = arguments.into_iter();
    let mut command = Command::new(arguments.next().context("an empty command")?);
    command.args(arguments);
    Ok(command)
}

/// Starts `command` inside `namespaces`.
pub(crate) fn start(namespaces: &Namespaces, command: &mut Command) -> Result<Child> {
    let text = text_of(command);
    namespaces
        .run(|| command.spawn())?
        .with_context(|| format!("`{text}` cannot be started"))
}

/// Runs `command` inside `namespaces` to its end, with `input` on its standard input.
pub(crate) fn finish(
    namespaces: &Namespaces,
    mut command: Command,
    input: &[u8],
) -> Result<Finished> {
    let text = text_of(&command);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = start(namespaces, &mut command)?;
    let pid = Pid::from_raw(child.id().cast_signed());
    let stdin = child.stdin.take();
    let (ended, end) = mpsc::channel();
    let waiter = thread::spawn(move || {
        let output = child.wait_with_output();
        ended.send(()).ok();
        output
    });
    if let Some(mut stdin) = stdin {
        // A program that does not read its input is no error of the lab's.
        stdin.write_all(input).ok();
    }
    let late = end.recv_timeout(PROGRAM_DEADLINE).is_err();
    if late {
        kill(pid, Signal::SIGKILL).ok();
    }
    let output = waiter
        .join()
        .map_err(|_| anyhow!("`{text}` cannot be awaited"))?;
    let Output {
        status,
        stdout,
        stderr,
    } = output.with_context(|| format!("`{text}` cannot be awaited"))?;
    let finished = Finished {
        command: text,
        status,
        stdout: lossy(stdout),
        stderr: lossy(stderr),
    };
    if late {
        let text = &finished.command;
        let seconds = PROGRAM_DEADLINE.as_secs();
        bail!(
            "`{text}` was killed: still running after {seconds} s\n  {}{}",
            finished.stdout,
            finished.stderr
        );
    }
    Ok(finished)
}

/// The command as one would type it.
pub(crate) fn text_of(command: &Command) -> String {
    let mut words = vec![command.get_program()];
    words.extend(command.get_args());
    words
        .join(OsString::from(" ").as_os_str())
        .to_string_lossy()
        .into_owned()
}

fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
