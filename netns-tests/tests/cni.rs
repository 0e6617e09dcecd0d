//! The CNI program on a host whose daemon has got a subnet: what it makes in the kernel, what it leaves there, what it says.
//!
//! No `flanneld` runs here: `subnet.env` is all that the two programs share. `attach` is about pods that come, `detach` about
//! those that go, `delegate` about plugins of others that do a part of the work, `chain` about plugins behind ours, `prompt` about
//! pods that come while the kernel is busy, `refusals` about bad input, `switch` about nodes that
//! change from flannel's plugin to ours and back, `cost` about system calls, `counted` about what is counted of calls, `upkeep` about
//! CHECK, GC and STATUS; `scene` sets the stage.

#[path = "cni/attach.rs"]
mod attach;
#[path = "cni/chain.rs"]
mod chain;
#[path = "cni/cost.rs"]
mod cost;
#[path = "cni/counted.rs"]
mod counted;
#[path = "cni/delegate.rs"]
mod delegate;
#[path = "cni/detach.rs"]
mod detach;
#[path = "cni/prompt.rs"]
mod prompt;
#[path = "cni/refusals.rs"]
mod refusals;
#[path = "cni/scene.rs"]
mod scene;
#[path = "cni/switch.rs"]
mod switch;
#[path = "cni/upkeep.rs"]
mod upkeep;

use attach::*;
use chain::*;
use cost::*;
use counted::*;
use delegate::*;
use detach::*;
use prompt::*;
use refusals::*;
use switch::*;
use upkeep::*;

netns_tests::tests![
    a_routed_pod_is_as_the_result_says,
    a_bridged_pod_is_as_the_result_says,
    every_version_has_its_result,
    pods_of_one_host_talk_whatever_their_kind,
    pods_of_one_host_talk_by_ipv6_whatever_their_kind,
    pods_and_their_host_talk,
    pods_are_masqueraded_when_the_daemon_does_not,
    pods_have_both_families_at_once,
    a_routed_pod_leaves_nothing,
    a_bridged_pod_leaves_nothing,
    a_second_add_is_refused_and_harms_nothing,
    a_second_interface_is_another_attachment,
    a_second_interface_shares_the_gateways_of_both_families,
    del_needs_no_netns,
    del_works_when_the_netns_is_dead,
    del_works_with_another_config,
    del_works_without_a_record,
    del_before_add_is_fine,
    a_failed_add_leaves_nothing,
    no_call_waits_for_ever,
    an_add_cut_short_is_taken_over,
    a_foreign_link_of_our_name_is_left_alone,
    first_pods_come_at_once,
    a_pod_answers_its_first_packet_however_busy_the_kernel_is,
    links_left_out_of_forwarding_are_switched,
    stdin_that_is_no_config_is_refused,
    a_missing_environment_is_refused,
    a_netns_path_that_is_none_is_refused,
    the_own_netns_is_refused,
    a_missing_subnet_file_names_the_daemon,
    an_exhausted_pool_has_its_code,
    unsupported_delegates_are_named,
    a_result_that_cannot_be_told_is_taken_back,
    version_and_banner,
    flannels_own_conflist_serves_a_host_port,
    our_conflist_serves_a_host_port,
    the_whole_chain_works_behind_both,
    an_add_is_cheap,
    calls_are_counted_with_their_codes,
    a_place_for_counters_that_is_none_disturbs_no_call,
    a_delegate_of_others_attaches,
    addresses_may_come_from_another_plugin,
    del_calls_whom_the_add_called,
    what_a_faulty_delegate_began_is_taken_back,
    a_delegate_that_hangs_is_killed,
    an_add_at_work_is_not_taken_over,
    a_delegate_is_asked_whether_all_is_well,
    a_delegate_is_asked_for_its_status,
    a_delegate_collects_too,
    addresses_of_the_reference_are_honoured,
    reservations_of_a_former_boot_are_void,
    what_the_reference_released_can_be_given,
    the_reference_releases_what_we_reserved,
    the_reference_detaches_what_we_attached,
    pods_of_the_reference_are_detached,
    pods_of_the_reference_are_checked_and_collected,
    check_finds_what_is_broken,
    check_lets_pass_what_others_change,
    check_needs_the_result_of_the_add,
    gc_without_a_list_does_nothing,
    gc_frees_what_the_dead_left,
    gc_spares_the_young,
    gc_finds_links_without_a_record,
    status_says_whether_pods_can_come,
];
