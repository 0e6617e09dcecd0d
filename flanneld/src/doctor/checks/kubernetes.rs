//! What Kubernetes says of the Nodes: the podCIDRs that its controller gave out, and the annotations that each Node's flanneld writes.

use std::net::IpAddr;

use hostnet::Mac;
use ipnetwork::IpNetwork;

use super::some_of;
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Check, Finding, Remedy};
use crate::status::report::{EntryUse, LeftOutPart, Peer, Report, Unreadable};

/// Where the store is Kubernetes, whether each Node's podCIDRs and annotations can be used, and this host's kernel has them.
pub(super) fn kubernetes(facts: &Facts) -> Option<Finding> {
    let report = facts.report()?;
    let store = report.node.store.as_ref()?;
    if store.kind != "kubernetes" {
        return None;
    }
    let finding = outside(facts, report)
        .or_else(|| unusable(report))
        .or_else(|| in_part(report))
        .or_else(|| strayed(facts, report))
        .or_else(|| strangers(report));
    Some(finding.unwrap_or_else(|| {
        let nodes = report.peers.len() + 1;
        Finding::ok(
            Check::Kubernetes,
            format!("the podCIDRs of {nodes} Nodes lie in Network, their annotations can be used"),
        )
    }))
}

fn outside(facts: &Facts, report: &Report) -> Option<Finding> {
    let networks = facts.networks();
    let lies_outside = |subnet: &&String| {
        let subnet = subnet.parse::<IpNetwork>().ok();
        subnet.is_some_and(|subnet| {
            !networks
                .iter()
                .any(|network| network.contains(subnet.network()))
        })
    };
    let peers = report.peers.iter().flat_map(|peer| &peer.subnets);
    let unreadable = report.unreadable.iter().flat_map(|entry| &entry.subnets);
    let all = peers.chain(unreadable).chain(&report.node.subnets);
    let outside: Vec<String> = all.filter(lies_outside).cloned().collect();
    if outside.is_empty() {
        return None;
    }
    let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
    Some(Finding::fail(
        Check::Kubernetes,
        format!("podCIDR {} lies outside Network {}", some_of(&outside), networks.join(" ")),
        Remedy::say("make Network in the ConfigMap kube-flannel-cfg what the controller manager has as --cluster-cidr")
            .run("kubectl -n kube-flannel edit configmap kube-flannel-cfg"),
    ))
}

/// Something about a Node, and the entry that tells its name where there is one.
type Told<'a> = (String, Option<&'a Unreadable>);

/// Nodes to which nothing is sent.
fn unusable(report: &Report) -> Option<Finding> {
    let whole = |peer: &&Peer| is_left_out(peer) && !is_partly_used(peer);
    let left_out = report.peers.iter().filter(whole);
    let left_out = left_out.map(|peer| left_out_of(report, peer));
    let all: Vec<Told> = told(report, EntryUse::Nothing)
        .map(sentence)
        .chain(left_out)
        .collect();
    let (first, entry) = all.first()?;
    let remedy = entry.map_or_else(
        || Remedy::say("give all Nodes the same network configuration; the list tells which Node it is and what is written on it").run(LIST),
        have_written,
    );
    Some(
        Finding::fail(
            Check::Kubernetes,
            format!("nothing is sent to {first}"),
            remedy,
        )
        .also(others(&all)),
    )
}

/// Nodes that are reached in one family only, or as they were.
fn in_part(report: &Report) -> Option<Finding> {
    let entries = told(report, EntryUse::InPart).chain(told(report, EntryUse::Former));
    let partly = |peer: &&Peer| {
        is_left_out(peer) && is_partly_used(peer) && entry_of(report, peer).is_none()
    };
    let left_out = report.peers.iter().filter(partly);
    let left_out = left_out.map(|peer| left_out_of(report, peer));
    let all: Vec<Told> = entries.map(sentence).chain(left_out).collect();
    let (first, entry) = all.first()?;
    let remedy = entry.map_or_else(
        || Remedy::say("give its flanneld what it lacks: an address of that family on its uplink, and the same network configuration").run(LIST),
        have_written,
    );
    Some(
        Finding::warn(Check::Kubernetes, format!("used in part: {first}"), remedy)
            .also(others(&all)),
    )
}

/// Nodes whose annotations say other than what this host's kernel holds. What it lacks is for the next checks to say.
fn strayed(facts: &Facts, report: &Report) -> Option<Finding> {
    let strayed = report.peers.iter().find_map(|peer| {
        let macs: Vec<Mac> = peer
            .macs
            .iter()
            .filter_map(|mac| mac.parse().ok())
            .collect();
        let mut tunnels = facts.tunnels.iter();
        tunnels.find_map(|tunnel| {
            let ipv4 = !tunnel.link.name.starts_with("flannel-v6.");
            let vtep = vtep(peer, ipv4)?;
            let device = &tunnel.link.name;
            let neighbour = tunnel
                .neighbours
                .iter()
                .find(|neighbour| neighbour.address == vtep);
            let held = neighbour.and_then(|neighbour| neighbour.mac);
            if let Some(held) = held.filter(|held| !macs.contains(held)) {
                return Some(format!(
                    "{device} has the MAC {held} for {vtep}, the annotations say {}",
                    peer.macs.join(" ")
                ));
            }
            let entry = tunnel.fdb.iter().find(|entry| macs.contains(&entry.mac))?;
            (!peer.public.contains(&entry.destination)).then(|| {
                let public: Vec<String> = peer.public.iter().map(ToString::to_string).collect();
                format!(
                    "{device} sends to {} for {vtep}, the annotations say {}",
                    entry.destination,
                    public.join(" ")
                )
            })
        })
    })?;
    Some(Finding::fail(
        Check::Kubernetes,
        strayed,
        Remedy::say("flanneld puts this right within seconds; see what keeps undoing it")
            .run("flanneld plan"),
    ))
}

/// Nodes that have subnets and no annotations.
fn strangers(report: &Report) -> Option<Finding> {
    let names: Vec<String> = told(report, EntryUse::NotOurs)
        .map(|entry| entry.entry.clone())
        .collect();
    let first = told(report, EntryUse::NotOurs).next()?;
    Some(Finding::warn(
        Check::Kubernetes,
        format!(
            "{} has a podCIDR and is not in this network: {}",
            some_of(&names),
            first.reason
        ),
        Remedy::say("see whether flanneld runs there, unless another network plugin does").run(
            format!(
                "kubectl -n kube-flannel get pod -o wide --field-selector spec.nodeName={}",
                name_of(first)
            ),
        ),
    ))
}

fn told(report: &Report, used: EntryUse) -> impl Iterator<Item = &Unreadable> + Clone {
    report
        .unreadable
        .iter()
        .filter(move |entry| entry.used == used)
}

fn sentence(entry: &Unreadable) -> Told<'_> {
    let former = match entry.used {
        EntryUse::Former => " (what it said before is used)",
        _ => "",
    };
    let text = format!("{}: {}{former}", entry.entry, entry.reason);
    (text, Some(entry))
}

fn left_out_of<'a>(report: &'a Report, peer: &Peer) -> Told<'a> {
    let reasons = peer.reasons.join("; ");
    if let Some(entry) = entry_of(report, peer) {
        let text = format!("{}: {}: {reasons}", entry.entry, entry.reason);
        return (text, Some(entry));
    }
    let public: Vec<String> = peer.public.iter().map(ToString::to_string).collect();
    let (subnets, public) = (peer.subnets.join(" "), public.join(" "));
    (
        format!("the Node of {subnets} at {public}: {reasons}"),
        None,
    )
}

fn entry_of<'a>(report: &'a Report, peer: &Peer) -> Option<&'a Unreadable> {
    let mut entries = report.unreadable.iter();
    entries.find(|entry| entry.subnets == peer.subnets)
}

fn others<'a>(all: &'a [Told<'a>]) -> impl Iterator<Item = String> + 'a {
    let more = all.iter().skip(1).take(super::SHOWN);
    more.map(|(text, _)| text.clone())
}

/// Annotations are written anew by the daemon of their Node when it starts.
fn have_written(entry: &Unreadable) -> Remedy {
    let name = name_of(entry);
    Remedy::say("its flanneld writes the annotations; start it anew")
        .run(format!("kubectl -n kube-flannel delete pod -l app=flannel --field-selector spec.nodeName={name}"))
        .run(format!("kubectl describe node {name}"))
}

fn name_of(entry: &Unreadable) -> &str {
    node_name(&entry.entry)
}

/// What kubectl calls the Node that an entry stands for.
pub(super) fn node_name(entry: &str) -> &str {
    entry.strip_prefix("Node ").unwrap_or(entry)
}

/// Leases in each other's way are another check's.
fn is_left_out(peer: &Peer) -> bool {
    peer.is_left_out() && !peer.left_out.iter().any(|part| part.code.is_clash())
}

fn is_partly_used(peer: &Peer) -> bool {
    let is_part = |part: &LeftOutPart| part.subnet.is_some();
    peer.left_out.iter().all(is_part) && peer.subnets.iter().any(|subnet| !peer.leaves_out(subnet))
}

/// The address of a peer's end of the tunnel.
fn vtep(peer: &Peer, ipv4: bool) -> Option<IpAddr> {
    let used = peer
        .subnets
        .iter()
        .filter(|subnet| !peer.leaves_out(subnet));
    let mut parsed = used.filter_map(|subnet| subnet.parse::<IpNetwork>().ok());
    let subnet = parsed.find(|subnet| subnet.is_ipv4() == ipv4)?;
    Some(subnet.network())
}

/// Shows the Nodes with what each says.
const LIST: &str = "kubectl get nodes -o custom-columns=NAME:.metadata.name,CIDR:.spec.podCIDRs,SAYS:.metadata.annotations";
