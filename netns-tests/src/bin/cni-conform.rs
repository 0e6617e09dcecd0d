//! `cni-conform` drives any CNI plugin by the protocol and reports what holds and what does not, per check and version of the
//! specification. `docs/conformance.md` is its manual.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use netns_tests::conform::{self, Kind, Options, Report, Severity, SpecVersion, Style};
use netns_tests::isolation::{self, Side};
use serde::{Deserialize, Serialize};

/// Some applicable check that counts does not hold.
const DOES_NOT_HOLD: u8 = 1;
/// The plugin could not be judged: wrong arguments, no namespaces, trouble of the runner's.
const NOT_JUDGED: u8 = 2;

/// Drives a CNI plugin by the protocol and reports what holds and what does not.
///
/// Runs as root, or as an ordinary user where the kernel allows user namespaces. Every check runs on a host of its own made
/// of namespaces; nothing of the machine's network or files is touched. Ends with status 0 when every applicable "must"
/// holds, 1 when one does not, 2 when the plugin could not be judged.
#[derive(Parser)]
#[command(name = "cni-conform", version)]
struct Arguments {
    /// The plugin's program, such as /opt/cni/bin/bridge
    #[arg(long, value_name = "FILE", required_unless_present = "list")]
    plugin: Option<PathBuf>,

    /// Its config, a plugin's own or a list that contains it [default: built in for bridge, flannel, host-local, loopback,
    /// macvlan, ptp]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// What the plugin does [default: known by its type, otherwise interface]
    #[arg(long, value_enum)]
    kind: Option<KindName>,

    /// A line of shell that prepares each check's host, for a plugin that needs a file or a daemon there
    #[arg(long, value_name = "LINE", default_value = "")]
    setup: String,

    /// Directories of further plugins (IPAM, chained ones), separated by colons, after the plugin's own
    #[arg(long, value_name = "DIRS", default_value = "/opt/cni/bin:/usr/lib/cni")]
    cni_path: OsString,

    /// Versions of the specification to try [default: those the plugin says it supports]
    #[arg(long, value_name = "VERSIONS", value_delimiter = ',')]
    versions: Vec<SpecVersion>,

    /// Only checks whose name contains this; may be repeated
    #[arg(long, value_name = "PATTERN")]
    only: Vec<String>,

    /// How many checks run at a time [default: two for each processor]
    #[arg(long, value_name = "NUMBER")]
    jobs: Option<usize>,

    /// How the report is printed
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,

    /// Ends with status 0 only if every applicable check holds, not only every "must"
    #[arg(long)]
    strict: bool,

    /// Prints the catalogue of checks and ends
    #[arg(long)]
    list: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum KindName {
    /// Makes an interface in the container
    Interface,
    /// Sets up the container's loopback
    Loopback,
    /// Hands out addresses
    Ipam,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

/// What goes from the outer process to the one inside the namespaces.
#[derive(Serialize, Deserialize)]
struct Order {
    options: Options,
    output: Output,
    strict: bool,
}

fn main() -> ExitCode {
    let done = match isolation::side() {
        Side::Inside(arguments) => inside(&arguments),
        Side::Outside => outside(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("cni-conform: {error:#}");
        ExitCode::from(NOT_JUDGED)
    })
}

fn outside() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.list {
        print(&conform::list(conform::catalogue()));
        return Ok(ExitCode::SUCCESS);
    }
    let order = Order {
        output: arguments.output,
        strict: arguments.strict,
        options: options(arguments)?,
    };
    let code = isolation::run([serde_json::to_string(&order)?])?;
    Ok(match code {
        isolation::REFUSED => ExitCode::from(NOT_JUDGED),
        code => ExitCode::from(u8::try_from(code).unwrap_or(NOT_JUDGED)),
    })
}

fn options(arguments: Arguments) -> Result<Options> {
    let plugin = arguments.plugin.context("--plugin is missing")?;
    let mut options = Options::new(absolute(&plugin)?);
    if let Some(path) = arguments.config {
        let text = fs::read_to_string(&path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        let config = serde_json::from_str(&text)
            .with_context(|| format!("{} is not JSON", path.display()))?;
        options.config = Some(config);
    }
    options.kind = arguments.kind.map(|kind| match kind {
        KindName::Interface => Kind::Interface,
        KindName::Loopback => Kind::Loopback,
        KindName::Ipam => Kind::Ipam,
    });
    options.cni_path = std::env::split_paths(&arguments.cni_path)
        .filter(|path| path.is_dir())
        .map(|path| absolute(&path))
        .collect::<Result<_>>()?;
    options.setup = arguments.setup;
    options.versions = arguments.versions;
    options.only = arguments.only;
    options.jobs = arguments.jobs.unwrap_or(options.jobs);
    let known = conform::catalogue().any(|(_, check)| options.wants(check));
    ensure!(
        known,
        "no check's name contains {}; --list shows them",
        options.only.join(" or ")
    );
    Ok(options)
}

/// Without links on the way; the last name stays, by which programs for several purposes tell what they are.
fn absolute(path: &Path) -> Result<PathBuf> {
    let problem = || format!("{} cannot be found", path.display());
    let Some(name) = path.file_name() else {
        bail!(problem());
    };
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let directory = directory.canonicalize().with_context(problem)?;
    let path = directory.join(name);
    ensure!(path.exists(), problem());
    Ok(path)
}

fn inside(arguments: &[OsString]) -> Result<ExitCode> {
    let order = arguments.first().and_then(|order| order.to_str());
    let order: Order = serde_json::from_str(order.context("no order came from outside")?)?;
    let shows = io::stderr().is_terminal();
    let report = conform::run(&order.options, &|done, all, id| {
        if shows {
            eprint!("\r\x1b[K{done}/{all} {id}");
        }
    });
    if shows {
        eprint!("\r\x1b[K");
    }
    let report = report?;
    match order.output {
        Output::Json => print(&format!("{}\n", serde_json::to_string_pretty(&report)?)),
        Output::Table => {
            let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            print(&conform::table(&report, Style { colour }));
        }
    }
    Ok(ExitCode::from(status(&report, order.strict)))
}

fn status(report: &Report, strict: bool) -> u8 {
    let counted = |severity: &Severity| strict || *severity == Severity::Must;
    let counts: Vec<_> = report
        .summary
        .iter()
        .filter(|(severity, _)| counted(severity))
        .map(|(_, count)| *count)
        .collect();
    if counts.iter().any(|count| count.does_not_hold > 0) {
        return DOES_NOT_HOLD;
    }
    if counts.iter().any(|count| count.undecided > 0) {
        return NOT_JUDGED;
    }
    0
}

/// A reader that goes away early, such as `head`, is no trouble.
fn print(text: &str) {
    io::stdout().write_all(text.as_bytes()).ok();
}
