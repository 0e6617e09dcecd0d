//! The CNI program under its other names, judged by Debian's reference plugins of those names: what they give, it gives; what
//! they keep on disk, it keeps; and what one side has made the other can take away.
//!
//! `addresses` is about host-local, `links` about bridge, ptp and loopback, `turns` about both sides on one host; `scene` has the
//! two sides.

#[path = "multicall/addresses.rs"]
mod addresses;
#[path = "multicall/links.rs"]
mod links;
#[path = "multicall/scene.rs"]
mod scene;
#[path = "multicall/turns.rs"]
mod turns;

use addresses::*;
use links::*;
use turns::*;

netns_tests::tests![
    each_name_is_its_plugin,
    loopback_is_switched_on_and_off,
    loopback_passes_results_on,
    host_local_gives_what_the_reference_gives,
    host_local_refuses_what_the_reference_refuses,
    host_local_tells_when_it_is_full,
    ptp_makes_what_the_reference_makes,
    bridge_makes_what_the_reference_makes,
    a_bridge_has_one_address_of_ipv4,
    isolated_pods_do_not_meet,
    a_pod_keeps_its_mac,
    an_interface_can_stay_off,
    what_the_kernel_lacks_is_refused,
    addresses_may_come_from_another_plugin,
    a_failed_add_gives_its_address_back,
    del_needs_nothing_but_the_name,
    gc_detaches_what_nobody_knows,
    host_local_takes_turns_with_the_reference,
    a_crowd_shares_host_local,
    pods_of_the_reference_are_detached,
    the_reference_detaches_our_pods,
];
