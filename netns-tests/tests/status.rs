//! What a node tells of itself: `flanneld status`, `plan` and `trace`, and the probes, in the lab.
//!
//! `report` is about status with a daemon and without, `wrong` about what is broken on purpose, `trace` about the ways of packets,
//! `terminal` about what a person at one sees, `screens` about what the documents show; `scene` asks.

#[path = "status/report.rs"]
mod report;
#[path = "status/scene.rs"]
mod scene;
#[path = "status/screens.rs"]
mod screens;
#[path = "status/terminal.rs"]
mod terminal;
#[path = "status/trace.rs"]
mod trace;
#[path = "status/wrong.rs"]
mod wrong;

use report::*;
use screens::*;
use terminal::*;
use trace::*;
use wrong::*;

netns_tests::tests![
    a_node_that_is_well_tells_all,
    a_node_whose_daemon_is_stopped_tells_what_is_there,
    who_may_not_ask_the_daemon_is_told_so,
    a_daemon_that_waits_for_its_store_says_so,
    a_daemons_socket_is_not_taken_by_another,
    five_thousand_peers_are_told_quickly within 300,
    a_lease_that_is_left_out_is_shown_with_the_reason,
    what_somebody_keeps_undoing_is_in_plan_and_status_and_not_ready,
    repairs_are_remembered,
    a_lost_store_leaves_the_node_ready_and_status_wrong,
    a_pod_whose_link_is_gone_is_shown,
    packets_are_followed_to_where_they_end,
    packets_of_both_families_are_followed,
    packets_of_bridged_pods_are_followed,
    a_broken_way_is_found,
    rules_of_others_are_followed_as_far_as_they_go,
    what_is_not_followed_is_said_to_be_so,
    a_terminal_gets_colours_unless_they_are_not_wanted,
    a_watched_status_follows_until_it_is_interrupted,
    a_watched_status_has_room_on_a_small_terminal,
    a_reader_who_goes_away_ends_it_quietly,
    the_screens_in_the_docs_are_what_is_printed,
];
