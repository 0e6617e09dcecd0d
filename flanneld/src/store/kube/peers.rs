//! The other Nodes' leases as the watch tells them, and what of it is news.
//!
//! Nothing is queued: whoever asks gets what is true then for each lease that changed, so a slow listener costs no memory.

use std::collections::{BTreeMap, BTreeSet};

use ipam::{LeaseKey, PerFamily, Subnets};
use tracing::warn;

use super::node::NodeView;
use crate::store::{PeerEvent, PeerLease, Unreadable, Used};

/// Which address families the network has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Families {
    pub(super) v4: bool,
    pub(super) v6: bool,
}

impl Families {
    /// The subnets that are of these families.
    pub(super) fn of(self, subnets: Subnets) -> Subnets {
        PerFamily {
            v4: subnets.v4.filter(|_| self.v4),
            v6: subnets.v6.filter(|_| self.v6),
        }
    }
}

/// The leases of all Nodes but our own.
#[derive(Debug)]
pub(super) struct Peers {
    own: String,
    families: Families,
    /// What each Node that has a lease has, by the Node's name.
    leases: BTreeMap<String, PeerLease>,
    /// Our own Node's subnets; nobody else may have the same.
    own_key: Option<LeaseKey>,
    /// The Nodes of each lease: two may have been given the same subnet by mistake.
    holders: BTreeMap<LeaseKey, BTreeSet<(i64, String)>>,
    /// Why Nodes are left out, or go on with what was known before.
    reasons: BTreeMap<String, Unreadable>,
    /// The Nodes seen by the listing that is under way.
    listed: Option<BTreeSet<String>>,
    /// Nodes that a listing lacked, not believed to be gone because it lacked our own Node, too.
    unlisted: BTreeSet<String>,
    complete: bool,
    reported: bool,
    /// Leases about which there is news.
    changed: BTreeSet<LeaseKey>,
    /// Nodes whose reason is news.
    told: BTreeSet<String>,
    /// Nodes whose reason holds no more.
    mended: BTreeSet<String>,
}

impl Peers {
    pub(super) fn new(own: &str, families: Families) -> Self {
        Self {
            own: own.to_owned(),
            families,
            leases: BTreeMap::new(),
            own_key: None,
            holders: BTreeMap::new(),
            reasons: BTreeMap::new(),
            listed: None,
            unlisted: BTreeSet::new(),
            complete: false,
            reported: false,
            changed: BTreeSet::new(),
            told: BTreeSet::new(),
            mended: BTreeSet::new(),
        }
    }

    /// A listing begins.
    pub(super) fn begin(&mut self) {
        self.listed = Some(BTreeSet::new());
    }

    /// The listing is over: whom it lacks is gone. Not so if it lacks our own Node, too: then it is rather that of an API server
    /// that has lost its data, and routes stay as they are until our Node is back.
    pub(super) fn end(&mut self) {
        self.complete = true;
        let Some(listed) = self.listed.take() else {
            return;
        };
        let known = self.leases.keys().chain(self.reasons.keys());
        self.unlisted = known
            .filter(|name| !listed.contains(*name))
            .cloned()
            .collect();
        if listed.contains(&self.own) {
            self.drop_unlisted();
        } else if !self.unlisted.is_empty() {
            warn!(
                "the API server knows neither this Node nor {} others that it knew; their routes stay until this Node is back",
                self.unlisted.len()
            );
        }
    }

    /// A Node is there, as it is now.
    pub(super) fn put(&mut self, node: &NodeView) {
        if let Some(listed) = &mut self.listed {
            listed.insert(node.name.clone());
        }
        self.unlisted.remove(&node.name);
        let subnets = node
            .subnets
            .clone()
            .map(|subnets| self.families.of(subnets));
        let key = subnets.as_ref().ok().copied().and_then(LeaseKey::new);
        if node.name == self.own {
            self.put_own(key);
            return;
        }
        let before = self.leases.get(&node.name);
        let stays = before.is_some_and(|before| Some(before.key) == key);
        if !node.annotations.is_managed() {
            if stays {
                let reason =
                    "its annotations are gone, which its daemon will write again if it runs";
                self.leave_out(node, key, Used::Former, reason.to_owned());
            } else {
                self.release(&node.name);
                match key {
                    Some(_) => self.leave_out(node, key, Used::NotOurs, STRANGER.to_owned()),
                    None => self.forget_reason(&node.name),
                }
            }
            return;
        }
        match subnets.and_then(|subnets| node.annotations.lease(subnets)) {
            Ok(lease) => {
                let faults: Vec<String> = lease.faults.iter().map(ToString::to_string).collect();
                self.hold(
                    &node.name,
                    PeerLease {
                        key: lease.key,
                        record: lease.record,
                        revision: node.revision,
                        created: node.created,
                    },
                );
                match faults.is_empty() {
                    true => self.forget_reason(&node.name),
                    false => self.leave_out(node, key, Used::InPart, faults.join("; ")),
                }
            }
            Err(error) => {
                if !stays {
                    self.release(&node.name);
                }
                let used = if stays { Used::Former } else { Used::Nothing };
                self.leave_out(node, key, used, error.to_string());
            }
        }
    }

    /// A Node is gone.
    pub(super) fn remove(&mut self, name: &str) {
        self.unlisted.remove(name);
        if name == self.own {
            // Our subnets stay ours until the daemon has others.
            return;
        }
        self.release(name);
        self.forget_reason(name);
    }

    /// What has changed since this was last asked; everything, the first time there is something to tell.
    pub(super) fn news(&mut self) -> Vec<PeerEvent> {
        if !self.complete {
            return Vec::new();
        }
        if !std::mem::replace(&mut self.reported, true) {
            self.changed.clear();
            self.told.clear();
            self.mended.clear();
            let peers = self.holders.keys().filter_map(|key| self.holder(key));
            return vec![PeerEvent::Snapshot {
                peers: peers.cloned().collect(),
                skipped: self.reasons.values().cloned().collect(),
            }];
        }
        let told = std::mem::take(&mut self.told);
        let reasons = told.iter().filter_map(|name| self.reasons.get(name));
        let unreadable = reasons.cloned().map(PeerEvent::Unreadable);
        let unreadable: Vec<PeerEvent> = unreadable.collect();
        let mended = std::mem::take(&mut self.mended).into_iter();
        let mended = mended.map(|name| PeerEvent::Mended(entry_of(&name)));
        let changed = std::mem::take(&mut self.changed);
        let leases = changed.into_iter().map(|key| match self.holder(&key) {
            Some(lease) => PeerEvent::Changed(lease.clone()),
            None => PeerEvent::Removed(key),
        });
        unreadable.into_iter().chain(leases).chain(mended).collect()
    }

    /// Whoever has the subnets: the Node that came first.
    fn holder(&self, key: &LeaseKey) -> Option<&PeerLease> {
        if self.own_key == Some(*key) {
            return None;
        }
        let (_, name) = self.holders.get(key)?.first()?;
        self.leases.get(name)
    }

    fn put_own(&mut self, key: Option<LeaseKey>) {
        if key.is_some() && self.own_key != key {
            self.changed.extend(self.own_key.into_iter().chain(key));
            self.own_key = key;
        }
        self.drop_unlisted_if_listed();
    }

    fn drop_unlisted_if_listed(&mut self) {
        if self.listed.is_none() {
            self.drop_unlisted();
        }
    }

    fn drop_unlisted(&mut self) {
        for name in std::mem::take(&mut self.unlisted) {
            self.remove(&name);
        }
    }

    /// The Node has this lease now.
    fn hold(&mut self, name: &str, lease: PeerLease) {
        let before = self.leases.get_mut(name);
        if let Some(before) = before {
            let same = before.key == lease.key
                && before.record == lease.record
                && before.created == lease.created;
            if same {
                before.revision = lease.revision;
                return;
            }
            self.release(name);
        }
        let key = lease.key;
        self.changed.insert(key);
        let holders = self.holders.entry(key).or_default();
        holders.insert((lease.created, name.to_owned()));
        let contended = holders.len() > 1 || self.own_key == Some(key);
        self.leases.insert(name.to_owned(), lease);
        if contended {
            warn!(
                "Node {name} has the subnet {} that another Node has, too; the Node that came first is taken for its holder, delete the other",
                key.subnets()
            );
        }
    }

    fn release(&mut self, name: &str) {
        let Some(lease) = self.leases.remove(name) else {
            return;
        };
        self.changed.insert(lease.key);
        if let Some(holders) = self.holders.get_mut(&lease.key) {
            holders.remove(&(lease.created, name.to_owned()));
            if holders.is_empty() {
                self.holders.remove(&lease.key);
            }
        }
    }

    fn forget_reason(&mut self, name: &str) {
        self.told.remove(name);
        if self.reasons.remove(name).is_some() {
            self.mended.insert(name.to_owned());
        }
    }

    fn leave_out(&mut self, node: &NodeView, lease: Option<LeaseKey>, used: Used, reason: String) {
        let entry = Unreadable {
            key: entry_of(&node.name),
            lease,
            reason,
            used,
        };
        if self.reasons.get(&node.name) != Some(&entry) {
            self.mended.remove(&node.name);
            self.told.insert(node.name.clone());
            self.reasons.insert(node.name.clone(), entry);
        }
    }
}

/// How a Node is called among the entries.
fn entry_of(name: &str) -> String {
    format!("Node {name}")
}

/// Why nothing is sent to a Node that has subnets.
const STRANGER: &str = "it has no annotations of this network, which its flanneld writes";

#[cfg(test)]
mod tests;
