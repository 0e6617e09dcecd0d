//! All metrics. docs/metrics.md has the same ones, which a test compares.

use super::exposition::Kind::{self, Counter, Gauge, Histogram};
use super::exposition::Metric;

const fn metric(name: &'static str, kind: Kind, help: &'static str) -> Metric {
    Metric { name, kind, help }
}

macro_rules! catalogue {
    ($($constant:ident: $kind:ident $name:literal $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Metric = metric($name, $kind, $help);
        )*
        /// All of them, in the order of the page.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

catalogue! {
    BUILD: Gauge "loden_build_info" "The version that runs, as a label; always 1.";
    READY: Gauge "loden_ready" "Whether the node's network works (1) or not (0), as /readyz tells.";

    LEASE_HELD: Gauge "loden_lease_held" "Whether this node has a lease (1) or not (0).";
    LEASE_INFO: Gauge "loden_lease_info" "The subnet of this node's lease and how it came to it, as labels; always 1.";
    LEASE_EXPIRY: Gauge "loden_lease_expiry_timestamp_seconds" "When the lease ends unless it is renewed; absent for one that does not end.";
    LEASE_RENEWED: Gauge "loden_lease_renewed_timestamp_seconds" "When the lease was last made sure of.";

    PEERS_WANTED: Gauge "loden_peers_wanted" "Nodes whose pods are to be reached.";
    PEERS_PROGRAMMED: Gauge "loden_peers_programmed" "Those of them for which the kernel has all it should.";
    PEERS_LEFT_OUT: Gauge "loden_peers_left_out" "Nodes with a lease that cannot be used; the log says why.";
    PEERS_PROBED: Gauge "loden_peers_probed" "Peers in the sample that is probed.";
    PROBE_SUCCESS: Gauge "loden_peer_probe_success" "Whether a peer of the sample answered the last probe (1) or not (0).";
    PROBE_DURATION: Gauge "loden_peer_probe_duration_seconds" "How long the answer to the last probe took, while there was one.";

    KERNEL_IN_LINE: Gauge "loden_kernel_in_line" "Whether the kernel holds what it should (1) or not (0).";
    KERNEL_LAG: Histogram "loden_kernel_lag_seconds" "How long it took from news of a lease or of the uplink until the kernel held what follows from it.";
    RECONCILE_DURATION: Histogram "loden_reconcile_duration_seconds" "How long it took to bring the kernel in line with what it should hold.";
    RECONCILE_PASSES: Counter "loden_reconcile_passes_total" "Comparisons; one that found something is followed by another.";
    REPAIRS: Counter "loden_repairs_total" "What somebody changed and was put right, by kind of object.";
    CONTESTED: Gauge "loden_contested_objects" "What somebody keeps undoing, so that it is put right less often.";
    NETLINK_CHANGES: Counter "loden_netlink_changes_total" "Changes sent to the kernel's network tables.";
    NETLINK_BATCHES: Counter "loden_netlink_batches_total" "Messages that carried these changes.";
    NETLINK_DUMPS: Counter "loden_netlink_dumps_total" "Whole tables asked of the kernel.";
    NETLINK_LOOKUPS: Counter "loden_netlink_lookups_total" "Single objects asked of the kernel.";
    NETLINK_ERRORS: Counter "loden_netlink_errors_total" "What the kernel refused.";

    STORE_UP: Gauge "loden_store_up" "Whether the store answered the last request (1) or not (0); absent before the first.";
    STORE_DURATION: Histogram "loden_store_request_duration_seconds" "How long requests to the store took, by operation and result.";
    STORE_ANSWER: Gauge "loden_store_answer_timestamp_seconds" "When the store last answered or told something.";
    WATCH_EVENTS: Counter "loden_store_watch_events_total" "Leases that the watch told of as new, changed or gone.";
    WATCH_EVENT: Gauge "loden_store_watch_event_timestamp_seconds" "When the watch last told of one.";

    IPAM: Gauge "loden_ipam_addresses" "Addresses for pods, by what has become of them.";
    CNI_DURATION: Histogram "loden_cni_operation_duration_seconds" "How long calls of the CNI program took, by verb and by the code of the error (0 is success).";

    PROCESS_CPU: Counter "process_cpu_seconds_total" "User and system CPU time of the daemon.";
    PROCESS_MEMORY: Gauge "process_resident_memory_bytes" "Resident memory of the daemon.";
    PROCESS_VIRTUAL: Gauge "process_virtual_memory_bytes" "Virtual memory of the daemon.";
    PROCESS_FDS: Gauge "process_open_fds" "Open file descriptors of the daemon.";
    PROCESS_START: Gauge "process_start_time_seconds" "When the daemon was started.";
}
