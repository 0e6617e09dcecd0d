//! The firewall of running daemons: in nf_tables, by iptables on nf_tables, and by the old iptables.
//!
//! `packets` is about what becomes of packets, `drift` about rules that somebody changes, `takeover` about rules that flannel or the
//! other mode left; `scene` sets the stage.

#[path = "firewall/drift.rs"]
mod drift;
#[path = "firewall/packets.rs"]
mod packets;
#[path = "firewall/scene.rs"]
mod scene;
#[path = "firewall/takeover.rs"]
mod takeover;

use drift::*;
use packets::*;
use takeover::*;

netns_tests::tests![
    nf_tables_masquerades_what_flannel_does,
    iptables_on_nf_tables_masquerades_what_flannel_does,
    old_iptables_masquerades_what_flannel_does,
    pods_talk_although_forwarding_is_dropped_with_nf_tables,
    pods_talk_although_forwarding_is_dropped_with_iptables,
    without_forward_rules_nf_tables_lets_a_drop_be,
    without_forward_rules_iptables_lets_a_drop_be,
    outer_packets_are_not_tracked_with_nf_tables,
    outer_packets_are_not_tracked_with_iptables,
    outer_packets_are_not_tracked_with_old_iptables,
    answers_to_the_tunnels_port_find_back_with_nf_tables,
    answers_to_the_tunnels_port_find_back_with_iptables,
    changed_tables_are_put_right,
    changed_rules_of_iptables_are_put_right,
    changed_rules_of_old_iptables_are_put_right,
    changes_of_others_cost_nothing,
    nf_tables_takes_over_what_flannel_left_in_nf_tables,
    nf_tables_takes_over_what_flannel_left_in_old_tables,
    iptables_takes_over_what_flannel_left_in_nf_tables,
    iptables_takes_over_what_flannel_left_in_old_tables,
    old_iptables_takes_over_what_flannel_left_in_nf_tables,
    old_iptables_takes_over_what_flannel_left_in_old_tables,
    the_mode_is_switched_and_back_while_pods_talk,
    flannels_tables_go_when_iptables_is_asked_for,
    without_programs_nf_tables_does_it,
    everything_in_nf_tables_can_be_removed,
    everything_of_iptables_can_be_removed,
    everything_of_old_iptables_can_be_removed,
];
