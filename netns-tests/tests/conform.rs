//! The conformance runner judged: what it says of reference plugins whose faults are known, and whether it catches a plugin
//! that was broken on purpose in one place; then what it says of ours.

#[path = "conform/faults.rs"]
mod faults;
#[path = "conform/ours.rs"]
mod ours;
#[path = "conform/program.rs"]
mod program;
#[path = "conform/protocol_faults.rs"]
mod protocol_faults;
#[path = "conform/reference.rs"]
mod reference;
#[path = "conform/verb_faults.rs"]
mod verb_faults;

use std::path::Path;

use anyhow::{Context, Result};
use netns_tests::conform::{self, Entry, Options, Outcome, Report};
use netns_tests::skip;

use faults::*;
use ours::*;
use program::*;
use reference::*;

netns_tests::tests![
    the_catalogue_is_in_order,
    the_catalogue_is_documented,
    known_facts_about_bridge within 300,
    known_facts_about_ptp within 300,
    known_facts_about_host_local within 300,
    known_facts_about_loopback within 300,
    the_honest_stand_in_holds within 300,
    faults_of_the_protocol_are_caught within 300,
    faults_of_results_are_caught within 300,
    faults_of_add_are_caught within 300,
    faults_of_del_are_caught within 300,
    faults_of_check_are_caught within 300,
    faults_of_gc_and_status_are_caught within 300,
    faults_of_addresses_are_caught within 300,
    faults_at_once_and_in_chains_are_caught within 300,
    a_status_that_ignores_the_daemon_is_caught within 300,
    no_check_is_blind,
    the_setup_prepares_each_host,
    a_plugin_that_hangs_is_killed within 300,
    the_program_tells_a_table_and_json within 300,
    the_program_says_what_is_wrong_with_its_arguments,
    our_plugin_holds_with_a_bridge within 600,
    our_plugin_holds_routed within 600,
    our_bridge_holds within 600,
    our_ptp_holds within 600,
    our_host_local_holds within 600,
    our_loopback_holds within 600,
];

/// Where Debian has the reference plugins.
const REFERENCE: &str = "/usr/lib/cni";

/// The options for a reference plugin, or a skip where it is not installed.
fn reference_plugin(name: &str) -> Result<Options> {
    let path = Path::new(REFERENCE).join(name);
    if !path.is_file() {
        return skip(format!("there is no {}", path.display()));
    }
    Ok(Options::new(path))
}

fn run(options: &Options) -> Result<Report> {
    conform::run(options, &|_, _, _| {})
}

fn entry<'r>(report: &'r Report, id: &str) -> Result<&'r Entry> {
    report
        .entry(id)
        .with_context(|| format!("no check {id} was made"))
}

/// Everything that does not hold, for the message of a test.
fn complaints(report: &Report) -> String {
    let lines = report.checks.iter().flat_map(|entry| {
        entry
            .findings
            .iter()
            .filter_map(move |finding| match &finding.outcome {
                Outcome::Holds | Outcome::NotApplicable { .. } => None,
                other => Some(format!("\n{} {:?}: {other:?}", entry.id, finding.version)),
            })
    });
    lines.collect()
}
