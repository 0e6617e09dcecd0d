//! Routes into the pod network: those of others that are in the way, and ours to the peers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hostnet::{Link, Mac, Route, RouteKind};
use ipnetwork::IpNetwork;

use super::{RESTART, some_of};
use crate::doctor::facts::{Facts, PeerFacts};
use crate::doctor::finding::{Check, Finding, Remedy};
use crate::reconcile::ROUTE_PROTOCOL;
use crate::status::report::PeerInKernel;

pub(super) fn overlap(facts: &Facts) -> Finding {
    let networks = facts.networks();
    if networks.is_empty() {
        return Finding::not_seen(Check::Overlap, "the pod network is not known yet");
    }
    let subnets = facts.subnets();
    let foreign: Vec<&Route> = facts
        .routes
        .iter()
        .filter(|route| {
            networks
                .iter()
                .any(|network| overlaps(network, &route.destination))
        })
        .filter(|route| is_foreign(facts, route, &subnets))
        .collect();
    // What is inside of another wins over it; of two for the same, the one with the lower metric.
    let spoils = |route: &&&Route| {
        let behind = facts.routes.iter().any(|ours| {
            ours.protocol == ROUTE_PROTOCOL
                && ours.destination == route.destination
                && ours.priority.unwrap_or(0) < route.priority.unwrap_or(0)
        });
        let mut taken = facts.peers.iter().map(|peer| &peer.subnet).chain(&subnets);
        !behind && taken.any(|subnet| covers(subnet, &route.destination))
    };
    if let Some(route) = foreign.iter().find(spoils) {
        return Finding::fail(
            Check::Overlap,
            taken_by(facts, route),
            removal(facts, route),
        );
    }
    if let Some((peer, link)) = astray(facts) {
        let link = link.map_or("nowhere".to_owned(), |link| format!("by {}", link.name));
        return Finding::fail(
            Check::Overlap,
            format!("packets to pods in {} leave {link}, by a rule or a table of somebody else's", peer.subnet),
            Remedy::say("find the rule (of a VPN?) that comes before the main table, and leave the pod network out of it").run("ip rule show"),
        );
    }
    match foreign.first() {
        Some(route) => Finding::warn(
            Check::Overlap,
            taken_by(facts, route),
            Remedy::say(
                "nodes that get a subnet in there will not be reached; let the other program use another range",
            ),
        ),
        None => {
            let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
            Finding::ok(
                Check::Overlap,
                format!("nothing else is in {}", networks.join(" ")),
            )
        }
    }
}

fn taken_by(facts: &Facts, route: &Route) -> String {
    let by = route.link.and_then(|link| facts.link(link));
    let by = by.map_or_else(String::new, |link| {
        format!(" dev {}{}", link.name, known_as(link))
    });
    format!(
        "the route {}{by} takes a part of the pod network away",
        route.destination
    )
}

/// Programs whose links are known by their names.
fn known_as(link: &Link) -> &'static str {
    match link.name.as_str() {
        name if name.starts_with("docker") || name.starts_with("br-") => " (Docker)",
        name if name.starts_with("wg") || name.starts_with("tun") || name.starts_with("tap") => {
            " (a VPN)"
        }
        name if name.starts_with("virbr") => " (libvirt)",
        name if name.starts_with("cali") => " (Calico)",
        name if name.starts_with("cilium") || name.starts_with("lxc") => " (Cilium)",
        _ => "",
    }
}

fn removal(facts: &Facts, route: &Route) -> Remedy {
    let link = route.link.and_then(|link| facts.link(link));
    let docker = link.is_some_and(|link| known_as(link) == " (Docker)");
    let dev = link.map_or_else(String::new, |link| format!(" dev {}", link.name));
    let family = if route.destination.is_ipv4() {
        "-4"
    } else {
        "-6"
    };
    let kind = match route.kind {
        RouteKind::Blackhole => "blackhole ",
        RouteKind::Unreachable => "unreachable ",
        RouteKind::Prohibit => "prohibit ",
        _ => "",
    };
    let metric = route
        .priority
        .map_or_else(String::new, |metric| format!(" metric {metric}"));
    let remedy = if docker {
        Remedy::say(
            "give Docker another range (\"bip\" and \"default-address-pools\" in /etc/docker/daemon.json); until then",
        )
    } else {
        Remedy::say("take it away, and see that whoever made it does not put it back")
    };
    remedy.run(format!(
        "ip {family} route del {kind}{}{dev}{metric}",
        route.destination
    ))
}

/// Whether it is neither ours, nor the kernel's for something of ours, nor one to a pod of this node.
fn is_foreign(facts: &Facts, route: &Route, subnets: &[IpNetwork]) -> bool {
    if route.protocol == ROUTE_PROTOCOL || route.destination.prefix() == 0 {
        return false;
    }
    let link = route.link.and_then(|link| facts.link(link));
    let ours = link.is_some_and(|link| {
        facts
            .tunnels
            .iter()
            .any(|tunnel| tunnel.link.index == link.index)
    });
    let in_own = subnets
        .iter()
        .any(|subnet| covers(subnet, &route.destination));
    // A bridge of pods holds the gateway of our subnet, and a pod's link the route to that one.
    let of_pods = link.is_some_and(|link| matches!(link.kind.as_deref(), Some("bridge" | "veth")));
    // flannel's blackhole, and ours, catch what no node has.
    let catches_all = route.kind.drops() && facts.networks().contains(&route.destination);
    !(ours || in_own && of_pods || catches_all)
}

fn astray(facts: &Facts) -> Option<(&PeerFacts, Option<&Link>)> {
    facts.peers.iter().find_map(|peer| {
        let link = peer.leaves_by?.and_then(|link| facts.link(link));
        let expected = if peer.tunnelled {
            facts
                .tunnel(peer.subnet.is_ipv4())
                .map(|tunnel| tunnel.link.index)
        } else {
            facts.uplink().map(|uplink| uplink.index)
        };
        // That there is no route at all is for the next check to say.
        let known = facts
            .routes
            .iter()
            .any(|route| route.destination == peer.subnet && route.protocol == ROUTE_PROTOCOL);
        (known && link.map(|link| link.index) != expected).then_some((peer, link))
    })
}

pub(super) fn peers(facts: &Facts) -> Finding {
    match facts.report() {
        Some(report) => {
            let is = |state| move |peer: &&crate::status::report::Peer| peer.kernel == state;
            let wrong: Vec<String> = report
                .peers
                .iter()
                .filter(is(PeerInKernel::Wrong))
                .flat_map(|peer| peer.reasons.clone())
                .collect();
            if let Some(first) = wrong.first() {
                return Finding::fail(
                    Check::Peers,
                    first.clone(),
                    Remedy::say(
                        "flanneld puts this right within seconds; see what keeps undoing it",
                    )
                    .run("flanneld plan"),
                )
                .also(wrong.iter().skip(1).take(super::SHOWN).cloned());
            }
            if let Some(contested) = report.contested.first() {
                return Finding::warn(
                    Check::Peers,
                    format!(
                        "somebody keeps undoing {}: put right {} times",
                        contested.object, contested.repairs
                    ),
                    Remedy::say("find the other program").run("flanneld status"),
                );
            }
            let right = report.peers.iter().filter(is(PeerInKernel::Right)).count();
            let unknown = report
                .peers
                .iter()
                .filter(is(PeerInKernel::Unknown))
                .count();
            if unknown > 0 {
                return Finding::not_seen(
                    Check::Peers,
                    format!(
                        "{unknown} of {} peers could not be compared with the kernel",
                        report.peers.len()
                    ),
                );
            }
            Finding::ok(
                Check::Peers,
                format!("the kernel has what leads to {right} peers"),
            )
        }
        None => without_report(facts),
    }
}

/// Of what the kernel has, whether it holds together: behind each route into a tunnel a neighbour, behind that an FDB entry.
fn without_report(facts: &Facts) -> Finding {
    let mut torn = Vec::new();
    for tunnel in &facts.tunnels {
        let name = &tunnel.link.name;
        let macs = tunnel.neighbours.iter();
        let macs: BTreeMap<IpAddr, Mac> = macs
            .filter_map(|neighbour| Some((neighbour.address, neighbour.mac?)))
            .collect();
        let hosts: BTreeSet<Mac> = tunnel.fdb.iter().map(|entry| entry.mac).collect();
        let routes = facts
            .routes
            .iter()
            .filter(|route| route.link == Some(tunnel.link.index));
        for (gateway, route) in routes.filter_map(|route| Some((route.gateway?, route))) {
            match macs.get(&gateway) {
                None => torn.push(format!(
                    "{name} has no neighbour {gateway}, which leads to {}",
                    route.destination
                )),
                Some(mac) if !hosts.contains(mac) => {
                    torn.push(format!(
                        "{name} has no FDB entry for {mac}, behind which {} is",
                        route.destination
                    ));
                }
                Some(_) => {}
            }
        }
    }
    match torn.first() {
        Some(_) => Finding::fail(
            Check::Peers,
            some_of(&torn),
            Remedy::say("start flanneld, which puts it right").run(RESTART),
        ),
        None if facts.peers.is_empty() => Finding::ok(Check::Peers, "the kernel knows no peers"),
        None => Finding::ok(
            Check::Peers,
            format!(
                "the kernel's entries for {} peers hold together",
                facts.peers.len()
            ),
        ),
    }
}

fn covers(outer: &IpNetwork, inner: &IpNetwork) -> bool {
    outer.is_ipv4() == inner.is_ipv4()
        && outer.prefix() <= inner.prefix()
        && outer.contains(inner.network())
}

fn overlaps(one: &IpNetwork, other: &IpNetwork) -> bool {
    covers(one, other) || covers(other, one)
}
