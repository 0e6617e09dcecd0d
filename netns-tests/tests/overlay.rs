//! The overlay as its users see it: real daemons on a real etcd, pods attached by the CNI program.
//!
//! `talk` is about who reaches whom, `life` about hosts and daemons that come, go and die, `leases` about what stands in etcd, `contest` about who gets it;
//! `scene` sets the stage.

#[path = "overlay/contest.rs"]
mod contest;
#[path = "overlay/leases.rs"]
mod leases;
#[path = "overlay/life.rs"]
mod life;
#[path = "overlay/scene.rs"]
mod scene;
#[path = "overlay/talk.rs"]
mod talk;
#[path = "overlay/upkeep.rs"]
mod upkeep;

use contest::*;
use leases::*;
use life::*;
use talk::*;
use upkeep::*;

netns_tests::tests![
    pods_on_bridges_talk,
    routed_pods_talk,
    pods_on_bridges_and_routed_pods_talk,
    hosts_and_pods_on_bridges_talk,
    hosts_and_routed_pods_talk,
    the_world_sees_the_host_instead_of_the_pod,
    without_ip_masq_the_plugin_masquerades,
    a_host_joins_and_leaves_while_others_talk,
    a_killed_daemon_costs_no_packet_and_no_lease,
    a_stopped_daemon_leaves_the_data_path,
    a_deleted_device_comes_back_with_everything_on_it,
    a_daemon_waits_for_etcd_and_says_so_once,
    an_outage_of_etcd_stops_nothing_but_changes,
    an_etcd_that_hangs_stops_nothing_but_changes,
    a_compacted_history_hides_no_host,
    foreign_leases_disturb_nobody,
    a_wrong_net_conf_is_named_and_can_be_mended,
    what_a_killed_add_left_goes_when_the_daemon_starts,
    settings_that_cannot_be_changed_are_lived_with,
    a_blackhole_catches_what_is_for_no_pod,
    a_changed_uplink_is_followed,
    host_gw_needs_no_tunnel,
    direct_routing_needs_no_tunnel_to_neighbours,
    a_taken_udp_port_is_named_and_waited_for,
    wrong_flags_are_refused_at_once,
    a_cut_cable_heals,
    a_subnet_file_that_somebody_removes_comes_back,
    hosts_that_start_at_once_get_different_subnets,
    a_lease_has_the_wire_form_of_flannel,
    a_deleted_lease_is_won_back_while_pods_talk,
    a_cleanup_leaves_what_is_of_others,
    a_changed_configuration_leaves_nothing_of_the_former,
    who_keeps_undoing_is_waited_for,
    five_thousand_leases_cost_little within 300,
    a_stream_outlives_restart_after_restart within 3600,
    probes_are_answered_as_by_flannel,
    thirty_daemons_share_thirty_subnets,
    forty_daemons_fight_for_thirty_subnets,
];
