//! Leases that cannot be used because another is in their way.

use std::net::IpAddr;

use super::kubernetes::node_name;
use super::lease::without_daemon;
use crate::doctor::clash::{Clash, clashes};
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Check, Finding, Remedy};
use crate::status::report::{EntryUse, Peer, Report, Store};

pub(super) fn duplicates(facts: &Facts) -> Finding {
    let report = match &facts.daemon {
        Ok(report) => report,
        Err(reason) => return Finding::not_seen(Check::Duplicates, without_daemon(reason)),
    };
    let clashes = clashes(report);
    if let Some(first) = clashes.first() {
        let more = clashes.iter().skip(1).map(|clash| told(clash.left_out));
        let evidence = told(first.left_out);
        return resolve(facts, report, first, evidence).also(more.take(super::SHOWN));
    }
    if let Some(finding) = same_pod_cidr(report) {
        return finding;
    }
    // What of Nodes cannot be used is told by the check of Kubernetes.
    let store = report.node.store.as_ref();
    let by_nodes = store.is_some_and(|store| store.kind == "kubernetes");
    let left_out = report
        .peers
        .iter()
        .filter(|peer| peer.is_left_out() && !by_nodes);
    let left_out: Vec<&Peer> = left_out.collect();
    match left_out.first() {
        Some(first) => Finding::warn(
            Check::Duplicates,
            format!(
                "{} of {} leases cannot be used: {}",
                left_out.len(),
                report.peers.len(),
                told(first)
            ),
            Remedy::say(
                "give all nodes the same network configuration and a flannel or Loden of this decade",
            ),
        ),
        None => Finding::ok(
            Check::Duplicates,
            format!("none of {} is in another's way", report.peers.len() + 1),
        ),
    }
}

/// Nodes with the same podCIDRs, which cannot be changed in a Node once they are there.
fn same_pod_cidr(report: &Report) -> Option<Finding> {
    let entries = report.unreadable.iter();
    let entries = entries.filter(|entry| entry.used == EntryUse::Duplicate);
    let mut all = entries.map(|entry| {
        (
            format!("{} is left out: {}", entry.entry, entry.reason),
            entry,
        )
    });
    let (first, entry) = all.next()?;
    let later = entry.later.as_ref().unwrap_or(&entry.entry);
    let name = node_name(later);
    let remedy = Remedy::say(format!(
        "delete {later}, which came later, and start its kubelet anew: it comes back, and the controller manager gives it another podCIDR, unless the kubelet's own settings name one"
    ));
    Some(
        Finding::fail(
            Check::Duplicates,
            first,
            remedy.run(format!("kubectl delete node {name}")),
        )
        .also(all.map(|(text, _)| text).take(super::SHOWN)),
    )
}

fn told(peer: &Peer) -> String {
    format!(
        "the lease of {} (host {}) is left out: {}",
        peer.subnets.join(" "),
        hosts(peer),
        peer.reasons.join("; ")
    )
}

fn hosts(peer: &Peer) -> String {
    let public: Vec<String> = peer.public.iter().map(ToString::to_string).collect();
    public.join(" ")
}

fn resolve(facts: &Facts, report: &Report, clash: &Clash<'_>, evidence: String) -> Finding {
    let store = report.node.store.as_ref();
    let fail = |remedy| Finding::fail(Check::Duplicates, evidence, remedy);
    if store.is_some_and(|store| store.kind == "kubernetes") {
        return fail(Remedy::say("one of the two has to go: that of the node that is gone").run(
            "kubectl get nodes -o custom-columns=NAME:.metadata.name,CIDR:.spec.podCIDR,IP:.metadata.annotations",
        ));
    }
    let ours: Vec<IpAddr> = facts.addresses.iter().map(|held| held.address).collect();
    let Some(gone) = clash.left_over(&facts.rivals, &ours) else {
        return fail(
            Remedy::say(format!(
                "one of the two has to go, and it could not be told which: delete the key of the one that no host runs with{}",
                certificates(store)
            ))
                .run(etcdctl(store, &format!("get --prefix --keys-only '{}'", prefix(store)))),
        );
    };
    let seen = if gone.public.iter().any(|public| ours.contains(public)) {
        format!("{} is this host, which has another lease", hosts(gone))
    } else {
        format!("no host answers at {}", hosts(gone))
    };
    fail(
        Remedy::say(format!(
            "delete the lease of {}, unless its host is to come back{}",
            gone.subnets.join(" "),
            certificates(store)
        ))
        .run(etcdctl(
            store,
            &format!("del '{}{}'", prefix(store), key(gone)),
        )),
    )
    .also([seen])
}

/// What etcdctl needs beside the endpoints, where flanneld shows certificates.
fn certificates(store: Option<&Store>) -> &'static str {
    let mut endpoints = store.iter().flat_map(|store| &store.endpoints);
    if endpoints.any(|endpoint| endpoint.starts_with("https://")) {
        "; etcdctl needs flanneld's certificates, too (ETCDCTL_CACERT, ETCDCTL_CERT, ETCDCTL_KEY)"
    } else {
        ""
    }
}

fn etcdctl(store: Option<&Store>, words: &str) -> String {
    let endpoints = store
        .map(|store| store.endpoints.join(","))
        .unwrap_or_default();
    format!("ETCDCTL_API=3 etcdctl --endpoints={endpoints} {words}")
}

fn prefix(store: Option<&Store>) -> &str {
    store
        .and_then(|store| store.prefix.as_deref())
        .unwrap_or("/coreos.com/network/subnets/")
}

/// As [`ipam::LeaseKey`] writes it.
fn key(peer: &Peer) -> String {
    let part = |ipv6: bool| {
        let mut subnets = peer.subnets.iter();
        let subnet = subnets.find(|subnet| subnet.contains(':') == ipv6)?;
        Some(subnet.replace('/', "-"))
    };
    let v4 = part(false).unwrap_or_else(|| "0.0.0.0-0".to_owned());
    match part(true) {
        Some(v6) => format!("{v4}&{v6}"),
        None => v4,
    }
}
