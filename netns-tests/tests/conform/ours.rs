//! Our own plugin: everything that applies holds, in every version.

use anyhow::{Result, ensure};
use netns_tests::conform::{Options, SpecVersion};
use netns_tests::programs;
use serde_json::{Value, json};

use crate::{complaints, run};

fn everything_holds(config: Option<Value>) -> Result<()> {
    let mut options = Options::new(programs::find("flannel")?);
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
    everything_holds(None)
}

pub(crate) fn our_plugin_holds_routed() -> Result<()> {
    everything_holds(Some(json!({
        "type": "flannel",
        "delegate": {"type": "ptp"},
        "ipam": {"routes": [{"dst": "0.0.0.0/0"}]},
    })))
}
