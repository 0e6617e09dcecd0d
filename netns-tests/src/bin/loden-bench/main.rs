//! `loden-bench` measures Loden in the lab, side by side with the reference and with the floor, in the same run and in
//! alternation. The results go to the terminal as a table, and as JSON, Markdown and SVG into a directory.
//!
//! Each part runs in namespaces of its own, in a process of its own, and reports to the one that draws the bar.

#![forbid(unsafe_code)]

mod addresses;
mod answers;
mod api_server;
mod attach;
mod call;
mod calm;
mod converge;
mod daemons;
mod figure;
mod footprint;
mod goals;
mod job;
mod leases;
mod machine;
mod micro;
mod options;
mod packets;
mod peers;
mod plot;
mod progress;
mod report;
mod run;
mod statistics;
mod table;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use netns_tests::isolation::{self, Side};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use job::Job;
use options::Options;
use progress::{Teller, Told};

fn main() -> ExitCode {
    let outcome = match isolation::side() {
        Side::Inside(arguments) => inside(&arguments),
        Side::Outside => run::run(&Options::parse()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loden-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One part, told as JSON.
fn inside(arguments: &[OsString]) -> Result<()> {
    let job = arguments.first().and_then(|job| job.to_str());
    let job: Job = serde_json::from_str(job.context("no part to measure")?)?;
    // Every pod's namespace is held by a descriptor.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let figures = job.run(&Teller::default())?;
    Told::Figures(figures).tell();
    Ok(())
}
