//! On what, and with what, was measured.

use std::fs;
use std::num::NonZero;
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::Result;
use netns_tests::programs;
use serde::Serialize;

use crate::peers;

/// The machine and the versions of everything that took part.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    processor: String,
    processors: usize,
    memory_mib: u64,
    kernel: String,
    system: String,
    /// The load averages when it began: over one a processor, others were at work.
    load: String,
    /// Whether Loden was built with optimisation.
    optimised: bool,
    /// Program and version.
    versions: Vec<(String, String)>,
}

impl Machine {
    pub(crate) fn look() -> Result<Self> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let kib: u64 = memory
            .split_whitespace()
            .next()
            .and_then(|number| number.parse().ok())
            .unwrap_or_default();
        let system = field(&read("/etc/os-release").replace('=', ":"), "PRETTY_NAME");
        Ok(Self {
            processor: field(&read("/proc/cpuinfo"), "model name"),
            processors: thread::available_parallelism().map_or(1, NonZero::get),
            memory_mib: kib / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            system: system.trim_matches('"').to_owned(),
            load: read("/proc/loadavg").trim().to_owned(),
            optimised: !cfg!(debug_assertions),
            versions: versions()?,
        })
    }
}

/// The value of the first line `name: value`.
fn field(text: &str, name: &str) -> String {
    let line = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name);
    line.map_or_else(String::new, |(_, value)| value.trim().to_owned())
}

fn versions() -> Result<Vec<(String, String)>> {
    let mut versions = Vec::new();
    let mut add = |name: &str, text: Option<String>| {
        versions.extend(text.map(|text| (name.to_owned(), text)));
    };
    let ours = programs::find("flanneld")?;
    add("Loden's flanneld", said(&ours, "--version"));
    add(
        "Loden's flannel",
        Some(peers::banner(&programs::find("flannel")?)?),
    );
    if let Some(path) = peers::flanneld()? {
        add("flanneld", said(&path, "--version"));
    }
    for name in ["flannel", "bridge", "ptp", "host-local"] {
        if let Some(path) = peers::plugin(name)? {
            add(name, Some(peers::banner(&path)?));
        }
    }
    for (program, argument) in [("etcd", "--version"), ("ip", "-V"), ("iperf3", "--version")] {
        add(program, said(Path::new(program), argument));
    }
    Ok(versions)
}

/// The first line that a program answers.
fn said(program: &Path, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    Some(said.lines().next()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc_are_found() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2.5GHz: fast\n";
        assert_eq!(field(text, "model name"), "Some CPU @ 2.5GHz: fast");
        assert_eq!(field(text, "flags"), "");
    }
}
