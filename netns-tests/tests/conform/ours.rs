//! Our own plugin under all its names: everything that applies holds, in every version.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use netns_tests::conform::{Options, SpecVersion};
use netns_tests::programs;
use serde_json::{Value, json};

use crate::{complaints, run};

fn everything_holds(program: PathBuf, config: Option<Value>) -> Result<()> {
    let mut options = Options::new(program);
    options.config = config;
    let report = run(&options)?;
    ensure!(
        report.versions == SpecVersion::ALL,
        "only {:?}",
        report.versions
    );
    ensure!(report.holds_strictly(), "{}", complaints(&report));
    Ok(())
}

pub(crate) fn our_plugin_holds_with_a_bridge() -> Result<()> {
    everything_holds(programs::find("flannel")?, None)
}

pub(crate) fn our_plugin_holds_routed() -> Result<()> {
    let config = json!({
        "type": "flannel",
        "delegate": {"type": "ptp"},
        "ipam": {"routes": [{"dst": "0.0.0.0/0"}]},
    });
    everything_holds(programs::find("flannel")?, Some(config))
}

fn everything_holds_as(name: &str) -> Result<()> {
    everything_holds(programs::by_all_names()?.join(name), None)
}

pub(crate) fn our_bridge_holds() -> Result<()> {
    everything_holds_as("bridge")
}

pub(crate) fn our_ptp_holds() -> Result<()> {
    everything_holds_as("ptp")
}

pub(crate) fn our_host_local_holds() -> Result<()> {
    everything_holds_as("host-local")
}

pub(crate) fn our_loopback_holds() -> Result<()> {
    everything_holds_as("loopback")
}
