//! What the leases ask a host's kernel to hold for its peers, worked out from what stands in etcd and from flannel's rules, and compared
//! line by line with what `ip` and `bridge` say.

use std::collections::BTreeSet;

use netns_tests::{Lease, Snapshot};

/// The kind of network.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Vxlan,
    HostGw,
}

impl Backend {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::HostGw => "host-gw",
        }
    }

    /// What a lease adds to every other host.
    fn lines(self, lease: &Lease) -> Vec<String> {
        let first = |subnet: &str| subnet.split('/').next().unwrap_or_default().to_owned();
        let (v4, v6) = (lease.subnet(), lease.ipv6_subnet());
        let (gw4, gw6) = (first(&v4), first(&v6));
        let (public4, public6) = (lease.public_ip(), lease.public_ipv6());
        let kept6 = "metric 1024 pref medium protocol 76";
        if self == Self::HostGw {
            return vec![
                format!("route dev eth0 {v4} gateway {public4} protocol 76"),
                format!("route6 dev eth0 {v6} gateway {public6} {kept6}"),
            ];
        }
        let (mac4, mac6) = (lease.vtep_mac(), lease.ipv6_vtep_mac());
        let mut lines = vec![
            format!("route dev flannel.1 {v4} gateway {gw4} protocol 76 onlink"),
            format!("route6 dev flannel-v6.1 {v6} gateway {gw6} {kept6} onlink"),
        ];
        for (device, gateway, mac, public) in [
            ("flannel.1", gw4, mac4, public4),
            ("flannel-v6.1", gw6, mac6, public6),
        ] {
            lines.push(format!(
                "neighbour dev {device} dst {gateway} lladdr {mac} state [\"PERMANENT\"]"
            ));
            lines.push(format!(
                "fdb dst {public} flags [\"self\"] ifname {device} mac {mac} state permanent"
            ));
        }
        lines
    }
}

/// What these leases of others ask for.
pub(crate) fn for_peers<'a>(
    backend: Backend,
    leases: impl Iterator<Item = &'a Lease>,
) -> BTreeSet<String> {
    leases.flat_map(|lease| backend.lines(lease)).collect()
}

/// The lines that are about peers, and the others, which no peer changes.
pub(crate) fn part(snapshot: &Snapshot) -> (BTreeSet<String>, BTreeSet<String>) {
    let about_peers = |line: &String| {
        line.contains(" protocol 76")
            || line.starts_with("neighbour ")
            || line.starts_with("fdb dst ")
    };
    snapshot.lines().map(str::to_owned).partition(about_peers)
}
