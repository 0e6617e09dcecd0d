//! Hosts that take their subnets from Kubernetes: a real API server on a host of its own, Nodes as the kubelet and the controller
//! manager make them, `flanneld` as the manifest starts it.

#[path = "kube/doctor.rs"]
mod doctor;
#[path = "kube/nodes.rs"]
mod nodes;
#[path = "kube/one_family.rs"]
mod one_family;
#[path = "kube/outages.rs"]
mod outages;
#[path = "kube/quiet.rs"]
mod quiet;
#[path = "kube/scene.rs"]
mod scene;
#[path = "kube/switch.rs"]
mod switch;
#[path = "kube/talk.rs"]
mod talk;
#[path = "kube/update.rs"]
mod update;

use std::process::ExitCode;

use loden_tests::kube::api_server;

use doctor::{
    a_clock_apart_from_the_api_servers_is_named, annotations_that_cannot_be_used_are_named,
    two_nodes_with_one_pod_cidr_are_told_apart,
};
use nodes::{
    a_node_made_anew_with_another_subnet_is_followed,
    nodes_that_are_not_ours_are_left_out_with_a_reason, stripped_and_deleted_nodes_come_back,
};
use one_family::{a_change_in_one_family_is_followed, a_rebooted_host_has_its_macs_again};
use outages::{
    an_absent_api_server_stops_nothing_but_changes, an_expired_token_stops_nothing_but_changes,
};
use quiet::heartbeats_touch_neither_kernel_nor_log;
use switch::{a_node_is_switched_from_flannel, a_node_of_both_families_is_switched_from_flannel};
use talk::{pods_talk_across_hosts_in_both_families, pods_talk_across_hosts_in_ipv4};
use update::a_rolling_update_loses_nothing;

fn main() -> ExitCode {
    // Inside, where there is no network, it could not be built.
    if let Err(error) = api_server() {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    netns_tests::harness::main(netns_tests::test_list![
        pods_talk_across_hosts_in_ipv4 within 300,
        pods_talk_across_hosts_in_both_families within 300,
        a_node_made_anew_with_another_subnet_is_followed within 300,
        stripped_and_deleted_nodes_come_back within 300,
        nodes_that_are_not_ours_are_left_out_with_a_reason within 300,
        a_change_in_one_family_is_followed within 300,
        annotations_that_cannot_be_used_are_named within 300,
        a_clock_apart_from_the_api_servers_is_named within 300,
        two_nodes_with_one_pod_cidr_are_told_apart within 300,
        a_rebooted_host_has_its_macs_again within 300,
        an_absent_api_server_stops_nothing_but_changes within 300,
        an_expired_token_stops_nothing_but_changes within 300,
        heartbeats_touch_neither_kernel_nor_log within 300,
        a_rolling_update_loses_nothing within 300,
        a_node_is_switched_from_flannel within 300,
        a_node_of_both_families_is_switched_from_flannel within 300,
    ])
}
