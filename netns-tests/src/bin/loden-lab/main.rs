//! `loden-lab demo` shows Loden at work on three hosts and checks it; `loden-lab lab` leaves the three hosts standing with a
//! shell in the middle; `loden-lab screens` prints the screens of docs/screens. All run in namespaces of their own: however they end, nothing stays on the machine.

#![forbid(unsafe_code)]

mod cluster;
mod demo;
mod screen;
mod shell;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use netns_tests::isolation::{self, Side};
use netns_tests::screens;

use screen::Screen;

const USAGE: &str = "\
Usage: loden-lab demo    three hosts, six pods: attach, ping, measure, remove, clean up
       loden-lab lab     the same hosts and pods, left standing, with a shell
       loden-lab screens DIRECTORY    writes what flanneld status and its like print into files there

Runs as root, or as an ordinary user where the kernel allows user namespaces.
LODEN_PROGRAMS names the directory of flanneld and flannel when they do not lie beside this program.
";

fn main() -> ExitCode {
    match isolation::side() {
        Side::Inside(arguments) => inside(&arguments),
        Side::Outside => outside(&env::args_os().skip(1).collect::<Vec<_>>()),
    }
}

fn outside(arguments: &[OsString]) -> ExitCode {
    let mode = arguments.first().and_then(|mode| mode.to_str());
    match mode {
        Some("demo" | "lab") if arguments.len() == 1 => {}
        Some("screens") if arguments.len() == 2 => {}
        Some("help" | "--help" | "-h") => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    }
    match isolation::run(arguments) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Err(error) => {
            eprintln!("loden-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn inside(arguments: &[OsString]) -> ExitCode {
    let screen = Screen::new();
    let outcome = match arguments.first().and_then(|mode| mode.to_str()) {
        Some("lab") => shell::run(&screen),
        Some("screens") => write_screens(arguments.get(1).map(Path::new)),
        _ => demo::run(&screen),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen.failure(&error);
            ExitCode::FAILURE
        }
    }
}

fn write_screens(directory: Option<&Path>) -> Result<()> {
    let directory = directory.context("no directory is given")?;
    for (name, text) in screens::draw()? {
        let path = directory.join(format!("{name}.txt"));
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(())
}
