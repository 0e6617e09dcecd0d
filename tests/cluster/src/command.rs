//! Running programs: with a deadline, and ended when the runner is interrupted.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::interrupt;

/// What a program said.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    /// Whether it ended with 0.
    pub(crate) success: bool,
    /// Its stdout.
    pub(crate) stdout: String,
    /// Its stderr.
    pub(crate) stderr: String,
}

impl Output {
    /// Stdout of a program that succeeded.
    pub(crate) fn ok(self, what: &str) -> Result<String> {
        if self.success {
            return Ok(self.stdout);
        }
        bail!("{what}: {}", self.said())
    }

    /// What there is to read of a failure, in one line.
    pub(crate) fn said(&self) -> String {
        let text = if self.stderr.trim().is_empty() {
            &self.stdout
        } else {
            &self.stderr
        };
        text.trim().replace('\n', " / ")
    }
}

/// Runs it with this on stdin.
///
/// # Errors
/// It cannot be started, takes longer than `limit`, or the runner is interrupted. Not if it ends with another status than 0.
pub(crate) fn run(words: &[String], stdin: Option<&str>, limit: Duration) -> Result<Output> {
    interrupt::check()?;
    let (program, arguments) = words.split_first().context("an empty command")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(if stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C is for us alone: what puts things back must not die of it.
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let writer = feed(&mut child, stdin);
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let status = wait(&mut child, limit, &words.join(" "))?;
    if let Some(writer) = writer {
        drop(writer.join());
    }
    Ok(Output {
        success: status,
        stdout: text(stdout),
        stderr: text(stderr),
    })
}

fn wait(child: &mut Child, limit: Duration, what: &str) -> Result<bool> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        let late = start.elapsed() > limit;
        if late || interrupt::check().is_err() {
            drop(child.kill());
            drop(child.wait());
            interrupt::check()?;
            bail!("no end after {} s: {what}", limit.as_secs());
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn feed(child: &mut Child, stdin: Option<&str>) -> Option<JoinHandle<()>> {
    let mut pipe = child.stdin.take()?;
    let text = stdin?.to_owned();
    // A program that ends without reading is no failure of ours.
    Some(thread::spawn(move || drop(pipe.write_all(text.as_bytes()))))
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        if let Some(mut pipe) = pipe {
            drop(pipe.read_to_end(&mut all));
        }
        all
    })
}

fn text(reader: JoinHandle<Vec<u8>>) -> String {
    String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
}

/// A template's words, with names in braces replaced.
pub(crate) fn fill(template: &str, values: &[(&str, &str)]) -> Vec<String> {
    template
        .split_whitespace()
        .map(|word| {
            values.iter().fold(word.to_owned(), |word, (name, value)| {
                word.replace(&format!("{{{name}}}"), value)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_braces_are_replaced_in_every_word() {
        assert_eq!(
            fill(
                "ssh root@{node} {verb}  {service}",
                &[("node", "n1"), ("verb", "stop"), ("service", "kubelet")]
            ),
            ["ssh", "root@n1", "stop", "kubelet"]
        );
    }

    #[test]
    fn what_goes_in_comes_out_and_the_status_is_told() {
        let words = |text: &str| vec!["sh".to_owned(), "-c".to_owned(), text.to_owned()];
        let limit = Duration::from_secs(20);
        let long = "x".repeat(1 << 18);
        let output = run(&words("cat; echo no >&2; exit 3"), Some(&long), limit);
        let output = output.expect("sh runs");
        assert!(!output.success);
        assert_eq!(output.stdout, long);
        assert_eq!(output.said(), "no");
    }

    #[test]
    fn what_does_not_end_is_ended() {
        let words = ["sleep".to_owned(), "100".to_owned()];
        let error = run(&words, None, Duration::from_millis(50)).expect_err("it sleeps");
        assert_eq!(error.to_string(), "no end after 0 s: sleep 100");
    }
}
