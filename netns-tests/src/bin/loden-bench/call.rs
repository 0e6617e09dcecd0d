//! One program started as a runtime starts a plugin: environment, standard input, standard output to its end, exit status.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};

/// A program to be started, and what it reads.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(&'static str, OsString)>,
    pub(crate) input: String,
}

impl Call {
    /// Runs it in the namespaces of this thread; how long it took, from before it was started until after its end.
    pub(crate) fn run(&self) -> Result<Duration> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        self.time(command)
    }

    /// How many system calls it makes, with all its threads and whom it starts; counted by `strace`.
    pub(crate) fn system_calls(&self) -> Result<f64> {
        let file = std::env::temp_dir().join("loden-bench.trace");
        let mut command = Command::new("strace");
        command
            .args(["-f", "-qq", "-o"])
            .arg(&file)
            .arg(&self.program)
            .args(&self.arguments);
        self.time(command)?;
        let trace = std::fs::read_to_string(&file).context("strace wrote nothing")?;
        Ok(trace.lines().filter(|line| is_call(line)).count() as f64)
    }

    fn time(&self, mut command: Command) -> Result<Duration> {
        command
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let start = Instant::now();
        let mut child = command
            .spawn()
            .with_context(|| format!("{} cannot be started", self.program.display()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // Who does not read its input closes it.
            stdin.write_all(self.input.as_bytes()).ok();
        }
        let mut said = String::new();
        if let Some(mut stdout) = child.stdout.take() {
            stdout.read_to_string(&mut said)?;
        }
        let status = child.wait()?;
        let time = start.elapsed();
        if !status.success() {
            bail!("{} ended with {status}: {said}", self.program.display());
        }
        Ok(time)
    }
}

/// Whether a line of `strace -f` is the beginning of a call: neither its end, nor a signal, nor the end of a process.
fn is_call(line: &str) -> bool {
    let call = line.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == ' ');
    call.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
}

/// Processor time of all programs that were started by this process and have ended, with whom they started.
pub(crate) fn cpu_of_children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let times = [usage.user_time(), usage.system_time()];
    let microseconds: i64 = times
        .iter()
        .map(|time| time.tv_sec() * 1_000_000 + time.tv_usec())
        .sum();
    Ok(Duration::from_micros(microseconds.try_into()?))
}

/// In milliseconds, the unit of most tables.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_beginnings_of_calls_count() {
        for (line, counts) in [
            (
                "17    execve(\"/usr/lib/cni/bridge\", [\"bridge\"], 0x7ffd) = 0",
                true,
            ),
            (
                "18    futex(0xc000, FUTEX_WAIT_PRIVATE <unfinished ...>",
                true,
            ),
            ("18    <... futex resumed>)            = 0", false),
            ("17    --- SIGCHLD {si_signo=SIGCHLD} ---", false),
            ("17    +++ exited with 0 +++", false),
        ] {
            assert_eq!(is_call(line), counts, "{line}");
        }
    }
}
