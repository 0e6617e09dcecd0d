//! `hostnet::nft` and the firewall of `flanneld` against the kernel, with the `nft` program as the second opinion.

#[path = "nft/drift.rs"]
mod drift;
#[path = "nft/expressions.rs"]
mod expressions;
#[path = "nft/firewall.rs"]
mod firewall;
#[path = "nft/packets.rs"]
mod packets;
#[path = "nft/ports.rs"]
mod ports;
#[path = "nft/program.rs"]
mod program;
#[path = "nft/transactions.rs"]
mod transactions;

use drift::*;
use expressions::*;
use firewall::*;
use packets::*;
use ports::*;
use transactions::*;

netns_tests::tests![
    a_changed_map_is_found_and_put_right,
    a_large_set_is_written_and_read,
    a_refused_batch_leaves_everything_as_it_was,
    absent_tables_can_be_deleted,
    all_prefix_lengths_are_those_of_nft,
    chains_of_others_are_listed,
    changes_by_others_are_found_and_put_right,
    constant_writers_keep_nobody_from_replacing,
    deleting_takes_just_the_named_tables,
    every_expression_is_that_of_nft,
    flannels_own_table_is_replaced,
    foreign_tables_stay_untouched,
    frames_are_looked_at_as_by_nft,
    maps_of_ports_are_those_of_nft,
    new_connections_are_masqueraded_while_rules_are_replaced,
    new_elements_are_exchanged_in_place,
    new_rules_leave_the_chains_in_place,
    no_packet_is_dropped_while_rules_are_replaced,
    packets_counted_are_no_drift,
    sets_are_those_of_nft,
    the_firewall_is_written_and_read,
    the_firewall_masquerades_and_forwards,
    what_the_kernel_could_hold_is_not_written,
    what_the_kernel_has_no_table_of_is_absent,
];
