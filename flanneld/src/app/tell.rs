//! What the log says of the uplink and of leases.

use tracing::{debug, error, info, warn};

use crate::leases::Change;
use crate::network;
use crate::store::{self, OwnEvent, PeerEvent};
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
        PeerEvent::Changed(_) | PeerEvent::Removed(_) => &[],
    };
    for entry in entries {
        warn!(
            "{} is no lease and is left out: {}",
            entry.key, entry.reason
        );
    }
}

pub(super) fn tell_own(event: &OwnEvent) {
    match event {
        OwnEvent::Renewed { .. } => debug!("our lease was renewed"),
        OwnEvent::Published(_) => info!("our lease was published anew"),
        OwnEvent::Moved(own) => warn!(
            "this node has another subnet now: {} ({}); pods with addresses of the former one are not reached by other hosts any more",
            network::describe(&own.key),
            own.origin
        ),
        OwnEvent::Lost { reason } => error!("our lease is lost, forwarding goes on: {reason}"),
        OwnEvent::Reacquired(_) => info!("our lease is ours again, with the same subnet"),
        OwnEvent::Trouble { reason } => warn!("our lease is not being kept: {reason}"),
    }
}
