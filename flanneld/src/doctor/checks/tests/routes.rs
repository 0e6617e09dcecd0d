//! The way to the peers in this host's tables.

use super::*;

#[test]
fn routes_of_others_are_told_from_those_of_pods() {
    let with = |destination: &'static str, link: LinkIndex| {
        move |facts: &mut Facts| {
            facts.links.push(self::link(LinkIndex(9), "docker0"));
            let mut pod = self::link(LinkIndex(10), "pod1");
            pod.kind = Some("veth".to_owned());
            facts.links.push(pod);
            facts.routes.push(Route::direct(network(destination), link));
        }
    };
    let (check, evidence, command) = cause_after(with("10.244.2.128/25", LinkIndex(9)));
    assert_eq!(check, Check::Overlap);
    assert_eq!(
        evidence,
        "the route 10.244.2.128/25 dev docker0 (Docker) takes a part of the pod network away"
    );
    assert_eq!(command, "ip -4 route del 10.244.2.128/25 dev docker0");
    // Our own pods, and what is somewhere else.
    for (destination, link) in [
        ("10.244.1.5/32", LinkIndex(10)),
        ("172.17.0.0/16", LinkIndex(9)),
        ("0.0.0.0/0", UPLINK),
    ] {
        let (check, evidence, _) = cause_after(with(destination, link));
        assert_eq!(check, Check::Daemon, "{destination}: {evidence}");
    }
    // In the network and in nobody's subnet yet: no more than a warning.
    let mut facts = well();
    with("10.244.77.0/24", LinkIndex(9))(&mut facts);
    let findings = all(&facts);
    let overlap = findings
        .iter()
        .find(|finding| finding.check == Check::Overlap)
        .unwrap();
    assert_eq!(overlap.verdict, Verdict::Warn);
}

#[test]
fn a_rule_of_a_vpn_is_seen_by_where_packets_leave() {
    let (check, evidence, command) = cause_after(|facts| {
        facts.links.push(link(LinkIndex(9), "wg0"));
        facts.peers[0].leaves_by = Some(Some(LinkIndex(9)));
    });
    assert_eq!(check, Check::Overlap);
    assert!(
        evidence.starts_with("packets to pods in 10.244.2.0/24 leave by wg0"),
        "{evidence}"
    );
    assert_eq!(command, "ip rule show");
}

#[test]
fn what_the_kernel_has_of_a_peer_must_hold_together() {
    let (check, evidence, _) = cause_after(|facts| facts.tunnels[0].fdb.clear());
    assert_eq!(check, Check::Peers);
    assert_eq!(
        evidence,
        "flannel.1 has no FDB entry for 02:00:00:00:00:12, behind which 10.244.2.0/24 is"
    );
}
