//! `hostnet` against the kernel, with iproute2 as the second opinion on everything it reads and writes.

#[path = "hostnet/addresses.rs"]
mod addresses;
#[path = "hostnet/batches.rs"]
mod batches;
#[path = "hostnet/links.rs"]
mod links;
#[path = "hostnet/monitor.rs"]
mod monitor;
#[path = "hostnet/namespaces.rs"]
mod namespaces;
#[path = "hostnet/neighbours.rs"]
mod neighbours;
#[path = "hostnet/opinion.rs"]
mod opinion;
#[path = "hostnet/routes.rs"]
mod routes;

use addresses::*;
use batches::*;
use links::*;
use monitor::*;
use namespaces::*;
use neighbours::*;
use routes::*;

netns_tests::tests![
    a_bridge_gets_and_loses_a_port,
    a_dump_during_changes_lacks_nothing_that_stays,
    a_link_is_altered,
    a_link_that_is_not_there_is_told_as_such,
    a_monitor_sees_things_go,
    a_monitor_tells_of_forwarding,
    a_monitor_tells_of_lost_notifications,
    a_namespace_is_visited_and_entered,
    a_neighbour_is_replaced,
    a_route_is_looked_up,
    a_route_is_replaced,
    a_sysctl_is_the_namespaces_own,
    a_taken_name_or_number_is_told_as_such,
    a_veth_is_born_in_two_namespaces_in_one_message,
    a_vxlan_device_is_made_as_flannel_makes_it,
    addresses_are_written_and_read,
    addresses_that_are_there_or_not_are_told_as_such,
    all_kinds_of_links_are_read,
    every_refusal_of_a_batch_is_brought_back,
    fdb_entries_are_replaced_by_mac,
    foreign_routes_are_read,
    forwarding_is_switched_by_many_at_once,
    four_thousand_fdb_entries,
    neighbours_and_fdb_entries_that_are_not_there_are_told_as_such,
    refusals_find_their_change_in_the_middle_of_batches,
    routes_are_filtered,
    routes_are_written_and_read,
    routes_that_are_there_or_not_are_told_as_such,
    the_checksum_offload_is_switched,
    the_firewall_is_monitored,
    things_that_are_no_namespaces_are_told_as_such,
];
