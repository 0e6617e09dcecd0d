//! One execution of a plugin: any environment, anything on standard input or nothing at all, a deadline; and what the plugin
//! answered.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Map, Value};

use crate::command;
use crate::conform::catalogue::{Stop, Verdict, fails, require};
use crate::conform::spec::{SpecVersion, Verb};
use crate::namespaces::Namespaces;

/// How long a plugin may take when a check says nothing else.
const DEADLINE: Duration = Duration::from_secs(60);

/// How much of what a plugin said is shown as evidence.
const SHOWN: usize = 400;

/// What a plugin finds on standard input.
#[derive(Clone, Debug)]
enum Input {
    /// The config.
    Config,
    /// This text instead.
    Text(String),
    /// A pipe that is never written to and never closed.
    Silence,
    /// No standard input: the descriptor is closed.
    Closed,
}

/// A call to be made.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(super) program: PathBuf,
    pub(super) place: Namespaces,
    pub(super) version: SpecVersion,
    pub(super) environment: BTreeMap<String, OsString>,
    pub(super) config: Map<String, Value>,
    input: Input,
    deadline: Duration,
}

impl Call {
    /// A call of `verb` with this config and no other variable.
    pub(super) fn new(
        program: &Path,
        place: &Namespaces,
        version: SpecVersion,
        verb: Verb,
        config: Map<String, Value>,
    ) -> Self {
        let command = ("CNI_COMMAND".to_owned(), verb.as_str().into());
        Self {
            program: program.to_owned(),
            place: place.clone(),
            version,
            environment: BTreeMap::from([command]),
            config,
            input: Input::Config,
            deadline: DEADLINE,
        }
    }

    /// With this variable.
    pub(crate) fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    /// Without this variable.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.environment.remove(name);
        self
    }

    /// With this key in the config.
    pub(crate) fn key(mut self, key: &str, value: Value) -> Self {
        self.config.insert(key.to_owned(), value);
        self
    }

    /// Without this key in the config.
    pub(crate) fn without_key(mut self, key: &str) -> Self {
        self.config.remove(key);
        self
    }

    /// With the result of the ADD, as runtimes pass it on CHECK and DEL since 0.4.0.
    pub(crate) fn previous(self, result: &Value) -> Self {
        if self.version.passes_previous_result() {
            self.key("prevResult", result.clone())
        } else {
            self
        }
    }

    /// With this text on standard input instead of the config.
    pub(crate) fn text(mut self, text: impl Into<String>) -> Self {
        self.input = Input::Text(text.into());
        self
    }

    /// With a standard input on which nothing ever comes, not even its end.
    pub(crate) fn silence(mut self) -> Self {
        self.input = Input::Silence;
        self
    }

    /// Without a standard input.
    pub(crate) fn closed_input(mut self) -> Self {
        self.input = Input::Closed;
        self
    }

    /// With another deadline.
    pub(crate) fn within(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// What goes to standard input when it is the config.
    pub(crate) fn config_text(&self) -> String {
        Value::from(self.config.clone()).to_string()
    }

    /// Makes the call.
    pub(crate) fn run(&self) -> Result<Answer> {
        let mut command = match self.input {
            // A process cannot be given fewer descriptors than its parent without one that closes it.
            Input::Closed => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", "exec \"$0\" <&-"]).arg(&self.program);
                shell
            }
            _ => Command::new(&self.program),
        };
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(&self.environment)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let start = Instant::now();
        let child = command::start(&self.place, &mut command)?;
        self.attend(child, start)
    }

    fn attend(&self, mut child: Child, start: Instant) -> Result<Answer> {
        let pid = Pid::from_raw(child.id().cast_signed());
        let stdin = child.stdin.take();
        let stdout = drain(child.stdout.take());
        let stderr = drain(child.stderr.take());
        let held = match (&self.input, stdin) {
            (Input::Config | Input::Text(_), Some(mut stdin)) => {
                let text = match &self.input {
                    Input::Text(text) => text.clone(),
                    _ => self.config_text(),
                };
                // Whoever refuses without reading closes the pipe.
                thread::spawn(move || stdin.write_all(text.as_bytes()));
                None
            }
            (_, stdin) => stdin,
        };
        let (ended, end) = mpsc::channel();
        thread::spawn(move || ended.send(child.wait()));
        let status = match end.recv_timeout(self.deadline) {
            Ok(status) => Some(status.context("the plugin's end cannot be awaited")?),
            Err(_) => {
                kill(pid, Signal::SIGKILL).ok();
                None
            }
        };
        let elapsed = start.elapsed();
        drop(held);
        // Whoever holds the pipes longer than the plugin lives makes runtimes wait (libcni reads to their end).
        let left = self.deadline.saturating_sub(elapsed);
        let (out, err) = (stdout.recv_timeout(left), stderr.recv_timeout(left));
        let held_open = status.is_some() && (out.is_err() || err.is_err());
        Ok(Answer {
            status,
            stdout: out.unwrap_or_default(),
            stderr: err.unwrap_or_default(),
            elapsed,
            held_open,
            deadline: self.deadline,
        })
    }
}

/// Reads to the end on a thread of its own.
fn drain(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_end(&mut bytes).ok();
        }
        sender.send(String::from_utf8_lossy(&bytes).into_owned())
    });
    receiver
}

/// What a plugin answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// How it ended; nothing when it had to be killed.
    status: Option<ExitStatus>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) elapsed: Duration,
    held_open: bool,
    deadline: Duration,
}

/// A refusal, as the error document tells it.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Option<u64>,
    pub(crate) message: String,
    pub(crate) details: String,
    shown: String,
}

impl Answer {
    /// Whether it ended in time with status 0.
    pub(crate) fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// The one document of a successful call.
    pub(crate) fn document(&self) -> Verdict<Value> {
        self.success()?;
        self.one_document()
    }

    /// It ended in time with status 0 and let go of its pipes.
    pub(crate) fn success(&self) -> Verdict {
        self.in_time()?;
        require(self.succeeded(), || format!("refused: {}", self.shown()))
    }

    /// Success without a word on standard output.
    pub(crate) fn silent(&self) -> Verdict {
        self.success()?;
        require(self.stdout.is_empty(), || {
            format!("standard output is not empty: {}", self.shown())
        })
    }

    /// It was refused: a status that is not 0, and what the error document says, which need not be one.
    pub(crate) fn refusal(&self) -> Verdict<Refusal> {
        self.in_time()?;
        require(!self.succeeded(), || {
            format!("not refused: {}", self.shown())
        })?;
        let document: Value = serde_json::from_str(&self.stdout).unwrap_or_default();
        let text = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
        Ok(Refusal {
            code: document["code"].as_u64(),
            message: text("msg"),
            details: text("details"),
            shown: self.shown(),
        })
    }

    /// It was refused with one of these codes.
    pub(crate) fn refused_with(&self, codes: &[u64]) -> Verdict<Refusal> {
        let refusal = self.refusal()?;
        let right = refusal.code.is_some_and(|code| codes.contains(&code));
        require(right, || {
            let wanted: Vec<_> = codes.iter().map(u64::to_string).collect();
            format!("code {} wanted: {}", wanted.join(" or "), refusal.shown)
        })?;
        Ok(refusal)
    }

    /// Exactly one JSON document on standard output.
    pub(crate) fn one_document(&self) -> Verdict<Value> {
        match serde_json::from_str(&self.stdout) {
            Ok(document) => Ok(document),
            Err(error) => fails(format!(
                "standard output is not one JSON document ({error}): {}",
                self.shown()
            )),
        }
    }

    fn in_time(&self) -> Verdict {
        let seconds = self.deadline.as_secs();
        require(self.status.is_some(), || {
            format!("still running after {seconds} s; {}", self.shown())
        })?;
        require(!self.held_open, || {
            format!(
                "ended, but something it started held its output open for {seconds} s: {}",
                self.shown()
            )
        })
    }

    /// Status and output in one line.
    pub(crate) fn shown(&self) -> String {
        let mut parts = vec![match self.status {
            Some(status) => match status.code() {
                Some(code) => format!("exit status {code}"),
                None => status.to_string(),
            },
            None => "killed".to_owned(),
        }];
        for (name, said) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            let said = one_line(said);
            if !said.is_empty() {
                parts.push(format!("{name} {said}"));
            }
        }
        parts.join(", ")
    }
}

impl Refusal {
    /// Message and details together.
    pub(crate) fn text(&self) -> String {
        format!("{} {}", self.message, self.details)
    }

    /// The text contains each of these.
    pub(crate) fn names(&self, words: &[&str]) -> Verdict {
        let text = self.text();
        let missing: Vec<_> = words.iter().filter(|word| !text.contains(**word)).collect();
        require(missing.is_empty(), || {
            format!("the error does not name {missing:?}: {}", self.shown)
        })
    }
}

/// The text in one line, shortened.
pub(crate) fn one_line(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    let text = words.join(" ");
    if text.chars().count() <= SHOWN {
        return text;
    }
    let start: String = text.chars().take(SHOWN).collect();
    format!("{start}…")
}

/// What a call says whose success is only the way to what is checked: without it the check means nothing.
pub(crate) fn needed<T>(what: &str, verdict: Verdict<T>) -> Verdict<T> {
    verdict.map_err(|stop| match stop {
        Stop::Fails(evidence) => Stop::Inapplicable(format!("{what} does not work: {evidence}")),
        other => other,
    })
}
