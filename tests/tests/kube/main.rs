//! The lease store on Kubernetes against a real API server with RBAC: each test has Nodes and annotations of its own on one
//! server, but for those that kill theirs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod absence;
mod child;
mod log;
mod outages;
mod own;
mod peers;
mod reach;
mod scene;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use loden_tests::kube::{Unavailable, api_server};

type Running = Pin<Box<dyn Future<Output = Result<()>>>>;

/// Each with its name.
macro_rules! tests {
    ($($module:ident::$test:ident),* $(,)?) => {
        [$((
            concat!(stringify!($module), "::", stringify!($test)),
            (|program| Box::pin($module::$test(program))) as fn(PathBuf) -> Running,
        )),*]
    };
}

fn main() -> ExitCode {
    if let Some(code) = child::main() {
        return code;
    }
    let arguments = Arguments::from_args();
    let tests = tests![
        own::annotations_are_flannels_to_the_byte,
        own::a_node_without_annotations_is_no_trouble,
        own::a_pod_cidr_may_come_late,
        own::a_pod_cidr_outside_the_network_is_told_and_waited_out,
        own::what_is_stripped_is_put_back,
        own::people_overwrite_the_public_address,
        own::people_wish_a_public_address_and_macs_are_kept,
        own::another_pod_cidr_moves_the_node,
        own::the_condition_is_set_and_kept,
        own::the_pod_tells_the_node,
        own::only_permissions_of_the_manifest_are_used_and_all_are,
        peers::peers_come_change_and_go,
        peers::one_family_may_change_alone,
        peers::a_peers_pod_cidr_may_change,
        peers::heartbeats_are_silent,
        peers::nodes_that_are_not_ours_are_left_out,
        peers::alloc_watches_only_its_own_node,
        outages::an_api_server_that_comes_back_tells_what_was_missed,
        outages::an_api_server_may_be_absent_at_start,
        outages::a_token_may_be_replaced,
        absence::a_dead_connection_is_noticed,
        absence::a_forgotten_version_costs_a_listing,
        absence::each_reason_is_told_once,
        absence::hours_cost_nothing,
        reach::an_address_goes_before_that_of_the_file,
        reach::a_pod_needs_no_settings,
        reach::a_large_cluster_costs_little_memory,
    ];
    let program = match api_server() {
        Ok(program) => program,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(Unavailable(reason)) = &program {
        println!("skipped: {reason}");
    }
    let mounts = child::may_mount();
    let trials = tests
        .into_iter()
        .map(|(name, test)| {
            let here = program.as_ref().ok().cloned();
            let cannot = name == "reach::a_pod_needs_no_settings" && !mounts;
            if cannot {
                println!("skipped {name}: this user may not make namespaces for mounts");
            }
            Trial::test(name, move || run(test, here.unwrap_or_default()))
                .with_ignored_flag(program.is_err() || cannot)
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn run(test: fn(PathBuf) -> Running, program: PathBuf) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime
        .block_on(test(program))
        .map_err(|error| format!("{error:#}").into())
}
