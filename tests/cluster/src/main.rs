//! `make cluster-test`: tries Loden on a real Kubernetes cluster, from the install to the removal, and tells what held and how long
//! it took. It drives `kubectl`; what Kubernetes cannot do to a machine goes through commands that the user gives
//! (docs/testing.md). Whatever it changes it puts back, also when it is interrupted.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;

mod args;
mod bench;
mod cluster;
mod command;
mod daemons;
mod interrupt;
mod killer;
mod kubectl;
mod manifest;
mod probe;
mod report;
mod sandboxes;
mod scenarios;
mod state;
mod stream;
mod workload;

use crate::args::Args;
use crate::bench::Bench;
use crate::kubectl::Kubectl;
use crate::manifest::Manifest;
use crate::report::Report;
use crate::scenarios::Scenario;

fn main() -> ExitCode {
    let args = Args::parse();
    match run(args) {
        _ if interrupt::asked() => {
            eprintln!(
                "interrupted; what was made has been removed, unless a line above says otherwise"
            );
            ExitCode::from(130)
        }
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            eprintln!("cluster-test: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// How many checks failed.
fn run(args: Args) -> Result<usize> {
    let scenarios = chosen(&args)?;
    if args.list {
        for scenario in scenarios {
            println!("{:<12} {}", scenario.name, scenario.about);
        }
        return Ok(0);
    }
    interrupt::listen()?;
    let kubectl = Kubectl::new(&args);
    let nodes = cluster::nodes(&kubectl, &args)?;
    let dual = nodes.iter().all(|node| node.v6.is_some());
    let name = cluster::describe(&kubectl, &nodes, dual)?;
    let manifest = Manifest::read(&args, dual)?;
    let expected = scenarios.iter().map(|scenario| scenario.expected).collect();
    let report = Report::new(args.output, expected);
    let mut bench = Bench::new(args, nodes, manifest, report);
    scenarios::run(&mut bench, &scenarios);
    Ok(bench.report.close(&name))
}

fn chosen(args: &Args) -> Result<Vec<Scenario>> {
    for name in args.only.iter().chain(&args.skip) {
        if !scenarios::ALL.iter().any(|scenario| scenario.name == name) {
            bail!("there is no scenario {name}; --list tells which there are");
        }
    }
    let wanted = |scenario: &&Scenario| {
        let name = &scenario.name.to_owned();
        (args.only.is_empty() || args.only.contains(name)) && !args.skip.contains(name)
    };
    Ok(scenarios::ALL.iter().filter(wanted).copied().collect())
}
