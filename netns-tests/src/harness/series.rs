//! A series: many trials, one after the other on one scene, each reported as a test of its own.
//!
//! For trials that are short beside what they need to stand: a cluster of hosts is built once, and each trial damages something
//! and waits until it is whole again. Only the trials that the command line selects are run.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader};
use std::mem;
use std::process::{ChildStdout, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::isolation;

/// Starts the line before a trial's own output; its name follows.
const BEGINS: &str = "netns-tests begins: ";
/// Starts the line behind it; `ok` or `failed` follows.
const ENDS: &str = "netns-tests ends: ";

/// A scene and the trials on it.
#[derive(Clone, Debug)]
pub struct Series {
    /// Names the series; no test of the same binary may have the same name.
    pub name: &'static str,
    /// The names of the trials.
    pub trials: Vec<String>,
    /// Runs inside: builds the scene and gives each trial to the [`Course`].
    pub run: fn(&mut Course) -> Result<()>,
    /// After this time the series is killed, and what has not run yet fails.
    pub deadline: Duration,
}

/// The trials of a series as they run, inside.
#[derive(Debug)]
pub struct Course {
    selected: Vec<String>,
    /// Why no further trial can be run.
    spoilt: Option<String>,
}

impl Course {
    pub(super) fn new(selected: Vec<String>) -> Self {
        Self {
            selected,
            spoilt: None,
        }
    }

    /// Whether the trial is to be run at all.
    pub fn wants(&self, name: &str) -> bool {
        self.selected.iter().any(|selected| selected == name)
    }

    /// Runs one trial if it was selected. What it returns is its verdict; the series goes on.
    pub fn run(&mut self, name: &str, trial: impl FnOnce() -> Result<()>) {
        if !self.wants(name) {
            return;
        }
        println!("{BEGINS}{name}");
        let result = match &self.spoilt {
            Some(reason) => Err(anyhow::anyhow!("not run: {reason}")),
            None => trial(),
        };
        match result {
            Ok(()) => println!("{ENDS}ok"),
            Err(error) => println!("Error: {error:#}\n{ENDS}failed"),
        }
    }

    /// Whether no further trial can be run.
    pub fn is_spoilt(&self) -> bool {
        self.spoilt.is_some()
    }

    /// Makes all further trials fail with this reason: the scene is not what they expect any more.
    pub fn spoil(&mut self, reason: String) {
        self.spoilt = Some(reason);
    }
}

/// A series' process as the trials outside see it.
struct Running {
    series: Series,
    selected: Vec<String>,
    start: Once,
    heard: Mutex<Heard>,
    news: Condvar,
}

#[derive(Default)]
struct Heard {
    /// The verdict and the output of each trial that ended.
    trials: HashMap<String, (bool, String)>,
    /// How the process ended, when it has, and what it said outside of trials.
    end: Option<String>,
}

/// The trials of all series for the harness. Whichever runs first starts every series, so that they run side by side.
pub(super) fn trials(series: Vec<Series>, arguments: &Arguments) -> Vec<Trial> {
    let running: Vec<Arc<Running>> = series
        .into_iter()
        .map(|series| Arc::new(Running::new(series, arguments)))
        .collect();
    let all: Arc<[Arc<Running>]> = running.clone().into();
    let mut trials = Vec::new();
    for running in &running {
        for name in running.series.trials.clone() {
            let (running, all) = (Arc::clone(running), Arc::clone(&all));
            trials.push(Trial::test(name.clone(), move || {
                all.iter().for_each(Running::start);
                running.verdict(&name)
            }));
        }
    }
    trials
}

impl Running {
    fn new(series: Series, arguments: &Arguments) -> Self {
        let selects = |name: &&String| {
            let probe = Trial::test((*name).clone(), || Ok(()));
            !arguments.is_filtered_out(&probe)
        };
        let selected = series.trials.iter().filter(selects).cloned().collect();
        Self {
            series,
            selected,
            start: Once::new(),
            heard: Mutex::default(),
            news: Condvar::new(),
        }
    }

    fn start(self: &Arc<Self>) {
        if self.selected.is_empty() {
            return;
        }
        self.start.call_once(|| {
            let running = Arc::clone(self);
            thread::spawn(move || {
                let end = running
                    .attend()
                    .unwrap_or_else(|error| format!("{error:#}"));
                running.heard().end = Some(end);
                running.news.notify_all();
            });
        });
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn verdict(&self, name: &str) -> Result<(), Failed> {
        let mut heard = self.heard();
        loop {
            match (heard.trials.get(name), &heard.end) {
                (Some((true, _)), _) => return Ok(()),
                (Some((false, output)), _) => return Err(Failed::from(output)),
                (None, Some(end)) => {
                    return Err(Failed::from(format!("the series ended before: {end}")));
                }
                (None, None) => {}
            }
            heard = self
                .news
                .wait(heard)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Runs the process and hears it out; how it ended and what it said outside of trials.
    fn attend(&self) -> Result<String> {
        let words = [self.series.name.to_owned()];
        let mut command = isolation::command(words.iter().chain(&self.selected))?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = command.spawn().context("the series cannot be started")?;
        let output = child.stdout.take().context("the series has no output")?;
        let said = thread::scope(|scope| {
            let (ended, end) = std::sync::mpsc::channel();
            let listener = scope.spawn(move || {
                let said = self.listen(output);
                ended.send(()).ok();
                said
            });
            let late = end.recv_timeout(self.series.deadline).is_err();
            if late {
                child.kill().ok();
            }
            let said = listener
                .join()
                .unwrap_or_else(|_| Ok("(the output was lost)".to_owned()));
            said.map(|said| {
                if late {
                    format!("killed after {:?}\n{said}", self.series.deadline)
                } else {
                    said
                }
            })
        })
        .context("the output of the series cannot be read")?;
        let status = child.wait().context("the series' end cannot be awaited")?;
        Ok(format!("{status}\n{said}"))
    }

    /// Sorts what comes by trials; what belongs to none is returned.
    fn listen(&self, output: ChildStdout) -> io::Result<String> {
        let (mut outside, mut inside) = (String::new(), String::new());
        let mut trial: Option<String> = None;
        for line in BufReader::new(output).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            if let Some(name) = line.strip_prefix(BEGINS) {
                trial = Some(name.to_owned());
            } else if let Some(verdict) = line.strip_prefix(ENDS) {
                let output = mem::take(&mut inside);
                if let Some(name) = trial.take() {
                    self.heard().trials.insert(name, (verdict == "ok", output));
                    self.news.notify_all();
                }
            } else {
                let text = if trial.is_some() {
                    &mut inside
                } else {
                    &mut outside
                };
                text.push_str(&line);
                text.push('\n');
            }
        }
        // Of a trial that was under way when the process died, this is all there is.
        outside.push_str(&inside);
        Ok(outside)
    }
}
