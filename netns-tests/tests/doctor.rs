//! `flanneld doctor`: each thing is broken on purpose, the very cause is named first, and the remedy, when typed, mends it.
//!
//! `backends` are other networks than VXLAN over IPv4, `firewall` the kinds of iptables, `offload` a network card. `path` breaks what packets between hosts go through, `host` what one node has, `pods` what new pods need; `well` breaks nothing.

#[path = "doctor/backends.rs"]
mod backends;
#[path = "doctor/firewall.rs"]
mod firewall;
#[path = "doctor/host.rs"]
mod host;
#[path = "doctor/offload.rs"]
mod offload;
#[path = "doctor/path.rs"]
mod path;
#[path = "doctor/pods.rs"]
mod pods;
#[path = "doctor/scene.rs"]
mod scene;
#[path = "doctor/well.rs"]
mod well;

use backends::*;
use firewall::*;
use host::*;
use offload::*;
use path::*;
use pods::*;
use well::*;

netns_tests::tests![
    a_node_that_is_well_is_told_so,
    without_a_daemon_what_works_is_told_to_work,
    a_user_is_told_what_could_not_be_seen,
    a_port_closed_at_the_peer_is_named_with_its_direction,
    a_port_closed_on_the_way_back_is_named_with_its_direction,
    a_firewall_here_that_drops_the_port_is_mended_by_fix,
    a_peer_without_a_tunnel_is_told_from_one_that_is_away,
    a_hole_in_the_mtu_of_the_underlay_is_measured,
    a_stolen_mac_is_given_back,
    a_route_over_a_peers_subnet_is_taken_away,
    a_forward_policy_that_drops_is_named,
    a_forward_policy_of_iptables_is_named,
    a_forward_policy_of_the_old_iptables_is_named,
    a_rule_behind_a_jump_is_named_by_its_place,
    a_broken_checksum_offload_is_switched_off,
    a_strict_filter_of_the_way_back_is_loosened,
    forwarding_switched_off_is_mended_by_fix,
    a_device_that_is_down_is_named,
    an_etcd_that_is_away_is_a_warning,
    a_lease_twice_is_named_by_its_key,
    a_lease_made_short_is_kept_by_the_daemon,
    a_clock_that_went_back_is_named,
    a_clock_apart_from_the_stores_is_named,
    a_link_manager_is_named,
    a_pool_full_of_what_is_gone_is_emptied_by_fix,
    a_conflist_that_comes_first_is_taken_out_of_the_way,
    a_program_of_another_version_is_replaced,
    host_gw_is_well_and_a_hole_in_its_mtu_is_measured,
    with_host_gw_a_neighbour_that_is_away_is_named,
    direct_routing_is_well_and_a_route_taken_from_it_is_named,
    both_families_are_well_and_the_one_that_is_broken_is_named,
    ipv6_alone_is_well_and_a_closed_port_is_named,
];
