//! Runs tests, each in a process and in namespaces of its own (see [`isolation`]).
//!
//! For test binaries with `harness = false`; the command line and the closing line are those of `cargo test`:
//!
//! ```no_run
//! fn a_fresh_namespace_has_one_link() -> anyhow::Result<()> {
//!     let links = std::fs::read_dir("/sys/class/net")?.count();
//!     anyhow::ensure!(links == 1, "{links} links");
//!     Ok(())
//! }
//!
//! netns_tests::tests![a_fresh_namespace_has_one_link];
//! ```
//!
//! A test that cannot run here returns [`skip`] with the reason; it is counted and printed as ignored.

mod series;

use std::io::{self, Read};
use std::num::NonZero;
use std::process::{self, ExitCode, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::isolation::{self, Side};

pub use series::{Course, Series};

/// How long a test may take when it says nothing else.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Exit status of a test process that skipped (automake's convention).
const SKIPPED: i32 = 77;

/// Starts the line that carries the reason of a skip.
const SKIP_MARK: &str = "netns-tests skips: ";

/// Most of a test's output that is kept, in bytes: a runaway test must not take the machine's memory.
const OUTPUT_LIMIT: usize = 4 << 20;

/// One test: its name, what it does, and how long it may take.
#[derive(Clone, Copy, Debug)]
pub struct Test {
    /// The function's name.
    pub name: &'static str,
    /// What runs inside.
    pub run: fn() -> Result<()>,
    /// After this time the test is killed with everything it started, and fails.
    pub deadline: Duration,
}

/// The reason why a test did not run.
#[derive(Debug)]
pub struct Skipped(String);

impl std::fmt::Display for Skipped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "skipped: {}", self.0)
    }
}

impl std::error::Error for Skipped {}

/// What a test returns that cannot run here: `return skip("no wireguard in this kernel")`.
pub fn skip<T>(reason: impl Into<String>) -> Result<T> {
    Err(Skipped(reason.into()).into())
}

impl Test {
    /// A test with the usual deadline.
    pub const fn new(name: &'static str, run: fn() -> Result<()>) -> Self {
        Self {
            name,
            run,
            deadline: DEADLINE,
        }
    }

    /// The same test with this deadline.
    #[must_use]
    pub const fn within(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }
}

/// Generates `main` for a test binary: `tests![one, two, slow within 300]`, the deadline in seconds.
#[macro_export]
macro_rules! tests {
    ($($list:tt)*) => {
        fn main() -> ::std::process::ExitCode {
            $crate::harness::main($crate::test_list![$($list)*])
        }
    };
}

/// The list that [`tests!`] makes, for a test binary with a `main` of its own.
#[macro_export]
macro_rules! test_list {
    ($($name:ident $(within $seconds:literal)?),* $(,)?) => {{
        const TESTS: &[$crate::harness::Test] = &[$(
            $crate::harness::Test::new(stringify!($name), $name)
                $(.within(::std::time::Duration::from_secs($seconds)))?
        ),*];
        TESTS
    }};
}

/// Runs `tests` as the command line says. The first call of `main`, before there is a second thread.
pub fn main(tests: &'static [Test]) -> ExitCode {
    main_with_series(tests, Vec::new())
}

/// Like [`main`], with series beside the tests.
pub fn main_with_series(tests: &'static [Test], series: Vec<Series>) -> ExitCode {
    if let Side::Inside(arguments) = isolation::side() {
        let mut words = arguments
            .into_iter()
            .map(|word| word.into_string().unwrap_or_default());
        let name = words.next().unwrap_or_default();
        return match series.into_iter().find(|series| series.name == name) {
            Some(series) => verdict(&(series.run)(&mut Course::new(words.collect()))),
            None => run_inside(tests, &name),
        };
    }
    let mut arguments = Arguments::from_args();
    if arguments.test_threads.is_none() {
        // Tests wait more than they compute.
        arguments.test_threads = Some(2 * thread::available_parallelism().map_or(1, NonZero::get));
    }
    let show = arguments.nocapture;
    let mut trials: Vec<Trial> = tests
        .iter()
        .map(|test| Trial::ignorable_test(test.name, move || run_outside(test, show)))
        .collect();
    trials.extend(series::trials(series, &arguments));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The inner process: runs the one test and turns its result into an exit status.
fn run_inside(tests: &[Test], name: &str) -> ExitCode {
    let Some(test) = tests.iter().find(|test| test.name == name) else {
        eprintln!("there is no test named {name:?} in this program");
        return ExitCode::FAILURE;
    };
    verdict(&(test.run)())
}

/// The exit status of what ran inside; what went wrong goes to the output.
fn verdict(result: &Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    if let Some(Skipped(reason)) = error.downcast_ref() {
        println!("\n{SKIP_MARK}{}", reason.replace('\n', " "));
        process::exit(SKIPPED);
    }
    eprintln!("Error: {error:#}");
    for place in places(&error.backtrace().to_string()) {
        eprintln!("  at {place}");
    }
    ExitCode::FAILURE
}

/// The lines of the test in a backtrace; those below the working directory are told relative to it.
fn places(backtrace: &str) -> impl Iterator<Item = &str> {
    backtrace
        .lines()
        .filter_map(|line| line.trim().strip_prefix("at ./"))
        .filter(|place| !place.contains("/registry/src/") && !place.starts_with("rustc/"))
        .take_while(|place| !place.contains("src/harness.rs"))
}

/// A thread of the harness: starts the test's process and judges what comes back.
fn run_outside(test: &Test, show: bool) -> Result<Completion, Failed> {
    let finished = attend(test).map_err(|error| Failed::from(format!("{error:#}")))?;
    let (verdict, output) = (finished.verdict, finished.output);
    if show {
        eprint!("{output}");
    }
    let message = match verdict {
        Verdict::Ended(0) => return Ok(Completion::Completed),
        Verdict::Ended(SKIPPED) => match output
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix(SKIP_MARK))
        {
            Some(reason) => return Ok(Completion::ignored_with(reason)),
            None => format!("the test ended with status {SKIPPED} without a reason to skip"),
        },
        Verdict::Ended(isolation::REFUSED) => "no namespaces for the test".to_owned(),
        Verdict::Ended(code) => format!("the test ended with status {code}"),
        Verdict::Late => format!("killed: still running after {} s", test.deadline.as_secs()),
    };
    Err(Failed::from(format!("{message}\n{output}")))
}

enum Verdict {
    Ended(i32),
    Late,
}

struct Finished {
    verdict: Verdict,
    output: String,
}

fn attend(test: &Test) -> Result<Finished> {
    let (mut reader, writer) = io::pipe().context("no pipe for the output of the test")?;
    let mut command = isolation::command([test.name])?;
    command
        .stdin(Stdio::null())
        .stderr(writer.try_clone()?)
        .stdout(writer);
    let mut child = command.spawn().context("the test cannot be started")?;
    // The command holds the write ends; with it gone, the end of the output means that everything inside is dead.
    drop(command);

    let (ended, end) = mpsc::channel();
    let collector = thread::spawn(move || {
        let output = collect(&mut reader);
        ended.send(()).ok();
        output
    });
    let late = end.recv_timeout(test.deadline) == Err(RecvTimeoutError::Timeout);
    if late {
        child.kill().context("the late test cannot be killed")?;
    }
    let status = child.wait().context("the test's end cannot be awaited")?;
    let output = collector
        .join()
        .unwrap_or_else(|_| "(the output was lost)".to_owned());
    let verdict = if late {
        Verdict::Late
    } else {
        Verdict::Ended(status.code().unwrap_or(-1))
    };
    Ok(Finished { verdict, output })
}

/// Reads to the end, keeping the last [`OUTPUT_LIMIT`] bytes or a little more.
fn collect(reader: &mut impl Read) -> String {
    let mut output = Vec::new();
    let mut piece = [0; 64 << 10];
    while let Ok(length @ 1..) = reader.read(&mut piece) {
        output.extend_from_slice(&piece[..length]);
        if output.len() > 2 * OUTPUT_LIMIT {
            output.drain(..output.len() - OUTPUT_LIMIT);
        }
    }
    String::from_utf8_lossy(&output).into_owned()
}
