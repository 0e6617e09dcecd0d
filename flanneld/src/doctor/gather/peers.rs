//! Who the peers are: by what the daemon says, or by what the kernel has of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hostnet::{LinkIndex, Mac, Route};
use ipnetwork::IpNetwork;

use crate::doctor::facts::{PeerFacts, TunnelFacts};
use crate::reconcile::ROUTE_PROTOCOL;
use crate::status::report::Report;

/// The peers by what the daemon says; what of a lease cannot be used is no peer, and its other family is one.
pub(super) fn told(report: &Report, routes: &[Route], tunnels: &[TunnelFacts]) -> Vec<PeerFacts> {
    let ours = routes
        .iter()
        .filter(|route| route.protocol == ROUTE_PROTOCOL);
    let ways: BTreeMap<IpNetwork, Option<LinkIndex>> =
        ours.map(|route| (route.destination, route.link)).collect();
    let is_tunnelled = |subnet: &IpNetwork| match ways.get(subnet) {
        Some(link) => tunnels
            .iter()
            .any(|tunnel| Some(tunnel.link.index) == *link),
        None => !tunnels.is_empty(),
    };
    let mut peers = Vec::new();
    for peer in &report.peers {
        let used = peer
            .subnets
            .iter()
            .filter(|subnet| !peer.leaves_out(subnet));
        for subnet in used.filter_map(|subnet| subnet.parse::<IpNetwork>().ok()) {
            let same_family = |public: &&IpAddr| public.is_ipv4() == subnet.is_ipv4();
            let public = peer.public.iter().find(same_family).or(peer.public.first());
            peers.extend(public.map(|&public| PeerFacts {
                subnet,
                public,
                tunnelled: is_tunnelled(&subnet),
                leaves_by: None,
                answered_by: None,
            }));
        }
    }
    peers
}

/// The peers by what the kernel has of them.
pub(super) fn of_kernel(routes: &[Route], tunnels: &[TunnelFacts]) -> Vec<PeerFacts> {
    let all = |tunnel: &TunnelFacts| {
        let macs = tunnel.neighbours.iter();
        let macs = macs.filter_map(|neighbour| Some((neighbour.address, neighbour.mac?)));
        let hosts = tunnel
            .fdb
            .iter()
            .map(|entry| (entry.mac, entry.destination));
        let tables: (BTreeMap<IpAddr, Mac>, BTreeMap<Mac, IpAddr>) =
            (macs.collect(), hosts.collect());
        (tunnel.link.index, tables)
    };
    let tables: BTreeMap<LinkIndex, _> = tunnels.iter().map(all).collect();
    let mut peers = Vec::new();
    for route in routes {
        let Some((gateway, link)) = route.gateway.zip(route.link) else {
            continue;
        };
        let (public, tunnelled) = match tables.get(&link) {
            Some((macs, hosts)) => (
                macs.get(&gateway).and_then(|mac| hosts.get(mac)).copied(),
                true,
            ),
            None => (
                Some(gateway).filter(|_| route.protocol == ROUTE_PROTOCOL),
                false,
            ),
        };
        peers.extend(public.map(|public| PeerFacts {
            subnet: route.destination,
            public,
            tunnelled,
            leaves_by: None,
            answered_by: None,
        }));
    }
    peers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::report::Report;

    /// A dual-stack peer of which the daemon says this.
    fn subnets(kernel: &str, left_out: &str) -> Vec<String> {
        let report = format!(
            r#"{{"apiVersion":"loden.status/v1","at":"2026-11-21T12:00:00Z","daemon":{{"state":"running","ready":true}},"node":{{}},
                "network":{{}},"peers":[{{"subnets":["10.244.2.0/24","fd00:2::/64"],"public":["192.0.2.12","2001:db8::12"],
                "kernel":"{kernel}","leftOut":{left_out}}}],"pods":[],"addresses":[],"repairs":[],"contested":[],"problems":[],"unseen":[]}}"#
        );
        let report: Report = serde_json::from_str(&report).unwrap();
        let peers = told(&report, &[], &[]);
        for peer in &peers {
            assert_eq!(peer.public.is_ipv4(), peer.subnet.is_ipv4());
        }
        peers.iter().map(|peer| peer.subnet.to_string()).collect()
    }

    #[test]
    fn a_peer_left_out_in_one_family_is_one_in_the_other() {
        let (v4, v6) = ("10.244.2.0/24", "fd00:2::/64");
        assert_eq!(subnets("right", "[]"), [v4, v6]);
        assert_eq!(
            subnets("leftOut", r#"[{"subnet":"fd00:2::/64","code":"lacks"}]"#),
            [v4]
        );
        assert_eq!(
            subnets(
                "leftOut",
                r#"[{"subnet":"10.244.2.0/24","code":"overlapsPeer"}]"#
            ),
            [v6]
        );
        assert!(subnets("leftOut", r#"[{"code":"foreignBackend"}]"#).is_empty());
        // A daemon that does not say which, or says what came later.
        assert!(subnets("leftOut", "[]").is_empty());
        assert!(subnets("leftOut", r#"[{"code":"neverHeardOf"}]"#).is_empty());
    }
}
