//! How our Node stays as it should be: its annotations say how to reach this host, and its condition that the network works.
//!
//! Each look compares what the Node has with what it should have and writes the difference; so start, a changed uplink and
//! repair are the same.

use std::collections::BTreeMap;
use std::time::Duration;

use ipam::{LeaseKey, LeaseRecord, NodeAnnotations, NodeLeaseError};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use super::Running;
use super::access::store_error;
use super::follow::Own;
use super::node::{NETWORK_UNAVAILABLE, NodeView};
use crate::store::backoff::{Backoff, Trouble};
use crate::store::{Origin, OwnEvent, OwnLease, StoreError};

/// The condition as flannel writes it.
const WORKS: (&str, &str) = ("FlannelIsUp", "Flannel is running on this node");
/// Delays after a failed write, and between two repairs of what somebody keeps changing.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
const REPAIR: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));
/// After this long without a repair the next one is not delayed.
const REPAIR_MEMORY: Duration = Duration::from_secs(300);
/// So long a Node may lack its subnets before the lease counts as lost: a listing may come from an API server that is behind, and then has a
/// Node that just came as it was before the controller manager gave it any.
const DOUBT: Duration = Duration::from_secs(2);
/// A request that writes may take this long.
const REQUEST: Duration = Duration::from_secs(30);

/// The lease that our Node has, as it is known.
pub(super) fn lease_of(running: &Running, own: &Own) -> Result<(LeaseKey, NodeView), StoreError> {
    let name = &running.shared.node;
    let because = |reason: String| StoreError::NotAssigned { reason };
    let node = match own {
        Own::Unknown => return Err(because(format!("Node {name} has not been seen yet"))),
        Own::Absent => {
            return Err(because(format!(
                "there is no Node {name}; the kubelet creates it"
            )));
        }
        Own::There(node) => node,
    };
    let in_node = |error: &NodeLeaseError| because(format!("Node {name}: {error}"));
    let subnets = node.subnets.as_ref().map_err(in_node)?;
    let conf = &running.conf;
    let key = LeaseKey::new(running.families().of(*subnets))
        .ok_or_else(|| in_node(&NodeLeaseError::NoPodCidr))?;
    let outside = |subnet: String, setting: &str, network: String| {
        because(format!(
            "podCIDR {subnet} of Node {name} lies outside {setting} {network} of the network configuration; \
             make the {setting} the cluster's --cluster-cidr"
        ))
    };
    let subnets = key.subnets();
    if let Some((subnet, network)) = subnets.v4.zip(conf.networks.v4)
        && !network.covers(subnet)
    {
        return Err(outside(subnet.to_string(), "Network", network.to_string()));
    }
    if let Some((subnet, network)) = subnets.v6.zip(conf.networks.v6)
        && !network.covers(subnet)
    {
        return Err(outside(
            subnet.to_string(),
            "IPv6Network",
            network.to_string(),
        ));
    }
    Ok((key, (**node).clone()))
}

/// Writes `record` into our Node unless it says so already. What was written.
pub(super) async fn publish(
    running: &Running,
    node: &NodeView,
    record: &LeaseRecord,
) -> Result<Vec<String>, StoreError> {
    let (overwrite, faults) = node.annotations.overwrites();
    running.tell_faults(&faults);
    let wanted = NodeAnnotations::of(record, &overwrite);
    let changes: BTreeMap<String, Option<String>> = node
        .annotations
        .changes(&wanted)
        .into_iter()
        .map(|(annotation, text)| (running.prefix.key(annotation), text))
        .collect();
    if !changes.is_empty() {
        patch(running, json!({"metadata": {"annotations": changes}})).await?;
    }
    Ok(changes.into_keys().collect())
}

/// Writes through the subresource `status`, which is all that flannel's role allows.
async fn patch(running: &Running, patch: serde_json::Value) -> Result<(), StoreError> {
    let shared = &running.shared;
    let object = format!("Node {}", shared.node);
    let parameters = PatchParams::default();
    let patch = Patch::Strategic(patch);
    let nodes = running.nodes.borrow().clone();
    let written = nodes.patch_status(&shared.node, &parameters, &patch);
    let written = match tokio::time::timeout(REQUEST, written).await {
        Ok(written) => written.map_err(|error| store_error("annotate", &object, &error)),
        Err(_) => Err(StoreError::Unreachable {
            store: super::access::SERVER,
            action: "annotate",
            object,
            reasons: format!("no answer within {} s", REQUEST.as_secs()),
        }),
    };
    shared.health.note(&written);
    let node = written?;
    // The watch tells the same, but later; until then the next look must not write again.
    shared.take_own(NodeView::new(&running.prefix, node), false);
    Ok(())
}

/// See [`crate::store::LeaseStore::keep`].
pub(super) async fn keep(
    running: &Running,
    own: OwnLease,
    mut record: watch::Receiver<LeaseRecord>,
    events: mpsc::Sender<OwnEvent>,
) {
    let mut node = running.shared.own.subscribe();
    let mut keeper = Keeper {
        running,
        key: own.key,
        published: own.record,
        connected_for: None,
        missing: None,
        lost: None,
        said: None,
        events: &events,
        retry: Backoff::new(RETRY.0, RETRY.1),
        repair: Backoff::new(REPAIR.0, REPAIR.1),
        repaired: None,
    };
    loop {
        let seen = node.borrow_and_update().clone();
        let wanted = record.borrow_and_update().clone();
        let again = keeper.look(&seen, &wanted).await;
        let closed = record.has_changed().is_err();
        tokio::select! {
            () = events.closed() => return,
            // The sender lives in `running`.
            _ = node.changed() => {}
            _ = record.changed(), if !closed => {}
            () = tokio::time::sleep(again.unwrap_or_default()), if again.is_some() => {}
        }
    }
}

/// How much longer it is waited before a lease that is missing since then counts as lost, if at all.
fn remaining_doubt(missing: Instant, lost_already: bool) -> Option<Duration> {
    let left = DOUBT.saturating_sub(missing.elapsed());
    (!lost_already && !left.is_zero()).then_some(left)
}

struct Keeper<'a> {
    running: &'a Running,
    events: &'a mpsc::Sender<OwnEvent>,
    key: LeaseKey,
    /// What we last made sure of.
    published: LeaseRecord,
    /// The uplink's changed addresses for which connections were made anew.
    connected_for: Option<LeaseRecord>,
    /// Since when the Node has no lease for us.
    missing: Option<Instant>,
    /// Why we have no lease now.
    lost: Option<String>,
    /// The trouble last told.
    said: Option<String>,
    retry: Backoff,
    repair: Backoff,
    repaired: Option<Instant>,
}

impl Keeper<'_> {
    /// Compares and mends. When to look again, if nothing happens before.
    async fn look(&mut self, own: &Own, wanted: &LeaseRecord) -> Option<Duration> {
        let (key, node) = match lease_of(self.running, own) {
            Ok(found) => found,
            Err(error) => {
                let missing = *self.missing.get_or_insert_with(Instant::now);
                let doubtful = remaining_doubt(missing, self.lost.is_some());
                if doubtful.is_none() {
                    self.lose(error.to_string()).await;
                }
                return doubtful;
            }
        };
        self.missing = None;
        match self.write(&node, wanted).await {
            Ok(()) => {
                self.retry.reset();
                self.said = None;
            }
            Err(error) => {
                self.trouble(error.to_string()).await;
                return Some(self.retry.delay());
            }
        }
        self.settle(key, wanted).await;
        None
    }

    async fn write(&mut self, node: &NodeView, wanted: &LeaseRecord) -> Result<(), StoreError> {
        let (overwrite, _) = node.annotations.overwrites();
        let right = NodeAnnotations::of(wanted, &overwrite);
        if node.annotations.changes(&right).is_empty() {
            return Ok(());
        }
        let repair = *wanted == self.published && self.lost.is_none();
        if repair {
            self.wait_for_repair().await;
        }
        if *wanted != self.published && self.connected_for.as_ref() != Some(wanted) {
            self.running.reconnect().await;
            self.connected_for = Some(wanted.clone());
        }
        let written = publish(self.running, node, wanted).await?;
        if repair && !written.is_empty() {
            warn!(
                "Node {} lacked what other nodes need to know, or said something else; put right: {}",
                self.running.shared.node,
                written.join(", ")
            );
        }
        Ok(())
    }

    /// Two programs that undo each other's work must not do so as fast as they can.
    async fn wait_for_repair(&mut self) {
        if self
            .repaired
            .is_none_or(|before| before.elapsed() > REPAIR_MEMORY)
        {
            self.repair.reset();
        } else {
            self.repair.wait().await;
        }
        self.repaired = Some(Instant::now());
    }

    /// The Node has `key` and says `record`.
    async fn settle(&mut self, key: LeaseKey, record: &LeaseRecord) {
        let was_lost = self.lost.take().is_some();
        let news = std::mem::replace(&mut self.published, record.clone()) != *record;
        let lease = OwnLease {
            key,
            record: record.clone(),
            expires: None,
            origin: Origin::Assigned,
        };
        if self.key != key {
            self.key = key;
            self.tell(OwnEvent::Moved(lease)).await;
        } else if was_lost {
            self.tell(OwnEvent::Reacquired(lease)).await;
        } else if news {
            self.tell(OwnEvent::Published(record.clone())).await;
        }
    }

    async fn lose(&mut self, reason: String) {
        if self.lost.as_ref() != Some(&reason) {
            self.lost = Some(reason.clone());
            self.tell(OwnEvent::Lost { reason }).await;
        }
    }

    async fn trouble(&mut self, reason: String) {
        if self.said.as_ref() != Some(&reason) {
            self.said = Some(reason.clone());
            self.tell(OwnEvent::Trouble { reason }).await;
        }
    }

    async fn tell(&self, event: OwnEvent) {
        // Nobody listening ends `keep` as a whole.
        let _ = self.events.send(event).await;
    }
}

/// Keeps the Node's condition true to the network, from the moment it works.
pub(super) async fn announce(running: &Running, mut works: watch::Receiver<bool>) {
    if works.wait_for(|works| *works).await.is_err() {
        return std::future::pending().await;
    }
    let mut node = running.shared.own.subscribe();
    let mut trouble = Trouble::new("telling the scheduler that the network works");
    let mut retry = Backoff::new(RETRY.0, RETRY.1);
    let mut repair = Backoff::new(REPAIR.0, REPAIR.1);
    let mut said: Option<Instant> = None;
    loop {
        let needed = matches!(&*node.borrow_and_update(), Own::There(node) if !is_told(node, said.is_some()));
        if needed {
            if said.is_some_and(|at| at.elapsed() > REPAIR_MEMORY) {
                repair.reset();
            } else if said.is_some() {
                repair.wait().await;
            }
            match patch(running, condition(Timestamp::now())).await {
                Ok(()) => {
                    trouble.over();
                    retry.reset();
                    let again = said.replace(Instant::now()).is_some();
                    let verb = if again { "again " } else { "" };
                    info!(
                        "Node {}: {NETWORK_UNAVAILABLE} is {verb}False",
                        running.shared.node
                    );
                }
                Err(error) => {
                    trouble.report(&error.to_string());
                    retry.wait().await;
                }
            }
            continue;
        }
        // The sender lives in `running`.
        let _ = node.changed().await;
    }
}

/// At first the condition must be as flannel has it; later another program may give another reason for the same.
fn is_told(node: &NodeView, before: bool) -> bool {
    node.network_unavailable.as_ref().is_some_and(|condition| {
        condition.status == "False" && (before || condition.reason.as_deref() == Some(WORKS.0))
    })
}

fn condition(now: Timestamp) -> serde_json::Value {
    let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    json!({"status": {"conditions": [{
        "type": NETWORK_UNAVAILABLE,
        "status": "False",
        "reason": WORKS.0,
        "message": WORKS.1,
        "lastTransitionTime": now,
        "lastHeartbeatTime": now,
    }]}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_missing_for_a_moment_is_not_lost() {
        let missing = Instant::now();
        let left = remaining_doubt(missing, false).unwrap();
        assert_eq!(remaining_doubt(missing, true), None, "lost already");
        tokio::time::advance(left / 2).await;
        assert_eq!(remaining_doubt(missing, false), Some(left / 2));
        tokio::time::advance(left / 2).await;
        assert_eq!(remaining_doubt(missing, false), None);
    }

    #[test]
    fn the_condition_is_flannels() {
        let patch = condition(Timestamp::from_second(1_795_262_400).unwrap());
        assert_eq!(
            patch.to_string(),
            r#"{"status":{"conditions":[{"lastHeartbeatTime":"2026-11-21T12:00:00Z","lastTransitionTime":"2026-11-21T12:00:00Z","message":"Flannel is running on this node","reason":"FlannelIsUp","status":"False","type":"NetworkUnavailable"}]}}"#
        );
    }
}
