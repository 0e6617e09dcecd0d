//! Real container runtimes as Debian packages them: containerd (by `ctr run --cni`) and podman (with its CNI backend), each on
//! hosts of the lab, with images made on the spot.
//!
//! `place` makes a host fit for a runtime and says what must not be left there, `containerd` and `podman` drive them, and
//! `scenes` has the tests.

#[path = "runtimes/containerd.rs"]
mod containerd;
#[path = "runtimes/place.rs"]
mod place;
#[path = "runtimes/podman.rs"]
mod podman;
#[path = "runtimes/scenes.rs"]
mod scenes;

use scenes::*;

netns_tests::tests![
    containers_of_containerd_talk,
    containers_of_podman_talk,
    a_killed_containerd_leaves_nothing,
    a_killed_client_of_containerd_is_collected,
    a_killed_monitor_of_podman_leaves_nothing,
    a_reboot_under_containerd_leaks_no_address,
    a_reboot_under_podman_leaks_no_address,
];
