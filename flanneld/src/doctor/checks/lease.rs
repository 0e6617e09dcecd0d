//! The store and this node's lease.

use crate::doctor::facts::{Facts, NotAsked};
use crate::doctor::finding::{Check, Finding, Remedy};
use crate::status::report::Store;

pub(super) fn store(facts: &Facts) -> Finding {
    let report = match &facts.daemon {
        Ok(report) => report,
        Err(reason) => return Finding::not_seen(Check::Store, without_daemon(reason)),
    };
    let Some(store) = &report.node.store else {
        return Finding::not_seen(
            Check::Store,
            "flanneld has not said yet where leases are kept",
        );
    };
    let place = format!("{} at {}", store.kind, store.endpoints.join(" "));
    match store.healthy {
        Some(true) => Finding::ok(Check::Store, format!("{place} answers")),
        None => Finding::not_seen(Check::Store, format!("{place} was not asked yet")),
        Some(false) => {
            let trouble = store.trouble.as_deref().unwrap_or("it does not answer");
            let evidence = format!("{place} does not answer: {trouble}");
            if report.node.lease.is_some() {
                Finding::warn(Check::Store, evidence, reach_store(store)).also([
                    "pods go on talking; no changes of the other nodes arrive, and the lease is not renewed".to_owned(),
                ])
            } else {
                Finding::fail(Check::Store, evidence, reach_store(store))
            }
        }
    }
}

fn reach_store(store: &Store) -> Remedy {
    let mut remedy = Remedy::say(if store.kind == "etcd" {
        "start etcd, or open the way to it; then this is to answer"
    } else {
        "start the API server, or open the way to it; then this is to answer"
    });
    let page = if store.kind == "etcd" {
        "health"
    } else {
        "readyz"
    };
    for endpoint in &store.endpoints {
        remedy = remedy.run(format!(
            "curl -sk --max-time 3 {}/{page}",
            endpoint.trim_end_matches('/')
        ));
    }
    remedy
}

pub(super) fn without_daemon(reason: &NotAsked) -> String {
    match reason {
        NotAsked::NotRunning => "only the daemon knows, and it does not run".to_owned(),
        NotAsked::Unknown(reason) => format!("only the daemon knows: {reason}"),
    }
}

pub(super) fn lease(facts: &Facts) -> Finding {
    let report = match &facts.daemon {
        Ok(report) => report,
        Err(reason) => {
            let subnets: Vec<String> = facts.subnets().iter().map(ToString::to_string).collect();
            let seen = without_daemon(reason);
            return if subnets.is_empty() {
                Finding::not_seen(Check::Lease, format!("{seen}; there is no subnet file"))
            } else {
                Finding::not_seen(
                    Check::Lease,
                    format!("{seen}; the subnet file says {}", subnets.join(" ")),
                )
            };
        }
    };
    let restart =
        || Remedy::say("see why flanneld cannot keep it").run("journalctl -u flanneld -n 50");
    let Some(lease) = &report.node.lease else {
        return Finding::fail(Check::Lease, "this node has no lease yet", restart());
    };
    if let Some(lost) = &lease.lost {
        return Finding::fail(
            Check::Lease,
            format!("the lease is lost: {lost}"),
            restart(),
        );
    }
    let left = lease
        .expires
        .map(|expires| expires.as_second() - report.at.as_second());
    let subnets = report.node.subnets.join(" ");
    match left {
        Some(left) if left <= 0 => Finding::fail(
            Check::Lease,
            format!(
                "the lease of {subnets} ended {}; another node may get the subnet",
                ago(-left)
            ),
            restart(),
        )
        .also(lease.trouble.clone()),
        Some(left) if left < SOON => Finding::warn(
            Check::Lease,
            format!("the lease of {subnets} ends in {left} s and is not renewed"),
            restart(),
        )
        .also(lease.trouble.clone()),
        _ => match &lease.trouble {
            Some(trouble) => Finding::warn(
                Check::Lease,
                format!("the lease is not being kept: {trouble}"),
                restart(),
            ),
            None => Finding::ok(
                Check::Lease,
                match left {
                    Some(left) => format!("{subnets}, ends in {} unless renewed", span(left)),
                    None => format!("{subnets}, without an end"),
                },
            ),
        },
    }
}

/// A lease is renewed an hour before its end, so one with less than this left is not.
const SOON: i64 = 300;

fn ago(seconds: i64) -> String {
    format!("{} ago", span(seconds))
}

pub(super) fn span(seconds: i64) -> String {
    match seconds {
        ..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}
