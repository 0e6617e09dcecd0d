//! What the log says of the uplink and of leases.

use tracing::{debug, error, info, warn};

use crate::leases::Change;
use crate::network;
use crate::store::{self, OwnEvent, PeerEvent, Unreadable, Used};
use crate::uplink::Uplink;

pub(super) fn tell_uplink(uplink: &Uplink) {
    info!(
        "uplink {} with MTU {}, public address {}",
        uplink.name,
        uplink.mtu,
        public(uplink)
    );
}

pub(super) fn public(uplink: &Uplink) -> String {
    let v4 = uplink.public.v4.map(|address| address.to_string());
    let v6 = uplink.public.v6.map(|address| address.to_string());
    v4.into_iter().chain(v6).collect::<Vec<_>>().join(" and ")
}

/// Pods keep the MTU they were attached with.
pub(super) fn tell_mtu(before: u32, now: u32) {
    if before != now {
        warn!(
            "pods attached from now on get an MTU of {now} bytes; those that are there keep {before} until they are attached anew"
        );
    }
}

pub(super) fn tell_change(change: &Change) {
    match change {
        Change::Joined(lease) => info!(
            "peer {} joined at {}",
            network::describe(&lease.key),
            reach(lease)
        ),
        Change::Altered { now, .. } => info!(
            "peer {} is now reached at {}",
            network::describe(&now.key),
            reach(now)
        ),
        Change::Left(lease) => info!(
            "peer {} left: its lease is gone",
            network::describe(&lease.key)
        ),
    }
}

fn reach(lease: &store::PeerLease) -> String {
    let public = lease.record.public;
    let v4 = public.v4.map(|address| address.to_string());
    let v6 = public.v6.map(|address| address.to_string());
    let mut text = v4.into_iter().chain(v6).collect::<Vec<_>>().join(" and ");
    if let ipam::LeaseBackend::Vxlan(data) = &lease.record.backend {
        let macs: Vec<String> = data
            .v4
            .iter()
            .chain(&data.v6)
            .map(|data| data.mac.to_string())
            .collect();
        text = format!("{text} (VTEP {})", macs.join(", "));
    }
    text
}

pub(super) fn tell_unreadable(event: &PeerEvent) {
    let entries = match event {
        PeerEvent::Snapshot { skipped, .. } => skipped.as_slice(),
        PeerEvent::Unreadable(entry) => std::slice::from_ref(entry),
        PeerEvent::Changed(_) | PeerEvent::Removed(_) | PeerEvent::Mended(_) => &[],
    };
    for entry in entries {
        match entry.used {
            Used::NotOurs => debug!("{}", unreadable(entry)),
            _ => warn!("{}", unreadable(entry)),
        }
    }
}

/// What is wrong with an entry, and what that means for it.
fn unreadable(entry: &Unreadable) -> String {
    let (key, reason) = (&entry.key, &entry.reason);
    match &entry.used {
        Used::Nothing => format!("{key} is no lease and is left out: {reason}"),
        Used::InPart => format!("{key} is used only in part: {reason}"),
        Used::Former => format!("{key} is used as it was before: {reason}"),
        Used::NotOurs => format!("{key} is not in this network: {reason}"),
        Used::Duplicate { .. } => format!("{key} is left out: {reason}"),
    }
}

/// `lost` is whether it was told before that the lease is lost.
pub(super) fn tell_own(event: &OwnEvent, lost: bool) {
    match event {
        OwnEvent::Renewed { .. } => debug!("our lease was renewed"),
        OwnEvent::Published(_) => info!("our lease was published anew"),
        OwnEvent::Moved(own) => warn!(
            "this node has another subnet now: {} ({}); pods with addresses of the former one are not reached by other hosts any more",
            network::describe(&own.key),
            own.origin
        ),
        OwnEvent::Lost { reason } if lost => {
            error!("there is no lease for us yet, forwarding goes on: {reason}");
        }
        OwnEvent::Lost { reason } => error!("our lease is lost, forwarding goes on: {reason}"),
        OwnEvent::Reacquired(_) => info!("our lease is ours again, with the same subnet"),
        OwnEvent::Trouble { reason } => warn!("our lease is not being kept: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_of_an_entry_is_used_is_told() {
        let told = |used| {
            unreadable(&Unreadable {
                key: "Node a".to_owned(),
                lease: None,
                reason: "no MAC".to_owned(),
                used,
            })
        };
        for (used, expected) in [
            (Used::Nothing, "Node a is no lease and is left out: no MAC"),
            (Used::InPart, "Node a is used only in part: no MAC"),
            (Used::Former, "Node a is used as it was before: no MAC"),
            (
                Used::Duplicate {
                    later: "Node a".to_owned(),
                },
                "Node a is left out: no MAC",
            ),
        ] {
            assert_eq!(told(used), expected);
        }
    }
}
