//! The CNI program as `portmap`: ports of a host that lead to pods, in the kernel, beside Debian's plugin of that name.
//!
//! `ways` is about packets, `life` about what comes and goes; `scene` has the hosts and the pods.

#[path = "portmap/life.rs"]
mod life;
#[path = "portmap/scene.rs"]
mod scene;
#[path = "portmap/ways.rs"]
mod ways;

use life::*;
use ways::*;

netns_tests::tests![
    every_way_leads_to_a_routed_pod,
    every_way_leads_to_a_bridged_pod,
    one_port_on_two_addresses_leads_to_two_pods,
    the_reference_does_the_same,
    everybody_is_masqueraded_if_asked_for,
    a_flow_of_udp_moves_to_the_pod_that_has_the_port,
    neighbours_do_not_reach_the_hosts_loopback,
    del_leaves_nothing,
    flushed_rules_are_noticed_and_heal,
    a_call_killed_anywhere_heals,
    a_crowd_gets_all_its_ports,
    an_address_that_is_given_again_leads_to_one_pod,
    gc_takes_what_nobody_knows,
    without_ports_nothing_is_touched,
    a_cleanup_takes_ports_too,
];
