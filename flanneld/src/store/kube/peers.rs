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
    /// Our own Node's subnets, and when it came; nobody else may have the same.
    own_lease: Option<(LeaseKey, i64)>,
    /// The Nodes of each lease: two may have been given the same subnet by mistake.
    holders: BTreeMap<LeaseKey, BTreeSet<(i64, String)>>,
    /// Why Nodes are left out, or go on with what was known before.
    reasons: BTreeMap<String, Unreadable>,
    /// Nodes that are left out because others have their subnets; this goes before the reasons.
    duplicates: BTreeMap<String, Unreadable>,
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
            own_lease: None,
            holders: BTreeMap::new(),
            reasons: BTreeMap::new(),
            duplicates: BTreeMap::new(),
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
            self.put_own(key.map(|key| (key, node.created)));
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
                skipped: self.entries().cloned().collect(),
            }];
        }
        // While a listing is under way, a Node that is gone may still hold what another has by now.
        let (told, mended) = match self.listed {
            Some(_) => Default::default(),
            None => (
                std::mem::take(&mut self.told),
                std::mem::take(&mut self.mended),
            ),
        };
        let reasons = told.iter().filter_map(|name| self.entry(name));
        let unreadable = reasons.cloned().map(PeerEvent::Unreadable);
        let unreadable: Vec<PeerEvent> = unreadable.collect();
        let mended = mended
            .into_iter()
            .map(|name| PeerEvent::Mended(entry_of(&name)));
        let changed = std::mem::take(&mut self.changed);
        let leases = changed.into_iter().map(|key| match self.holder(&key) {
            Some(lease) => PeerEvent::Changed(lease.clone()),
            None => PeerEvent::Removed(key),
        });
        unreadable.into_iter().chain(leases).chain(mended).collect()
    }

    /// Whoever has the subnets: the Node that came first.
    fn holder(&self, key: &LeaseKey) -> Option<&PeerLease> {
        if self.is_ours(key) {
            return None;
        }
        let (_, name) = self.holders.get(key)?.first()?;
        self.leases.get(name)
    }

    fn is_ours(&self, key: &LeaseKey) -> bool {
        self.own_lease.is_some_and(|(own, _)| own == *key)
    }

    fn put_own(&mut self, lease: Option<(LeaseKey, i64)>) {
        if lease.is_some() && self.own_lease != lease {
            let before = std::mem::replace(&mut self.own_lease, lease);
            let keys = before.into_iter().chain(lease).map(|(key, _)| key);
            for key in keys {
                self.changed.insert(key);
                self.compare(key);
            }
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
        self.leases.insert(name.to_owned(), lease);
        self.compare(key);
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
        self.tell(name, |peers| drop(peers.duplicates.remove(name)));
        self.compare(lease.key);
    }

    /// Two Nodes have the same subnets if somebody gave them by hand, or two controllers gave. Tells of all of these but whoever has them.
    fn compare(&mut self, key: LeaseKey) {
        let holders: Vec<(i64, String)> = self
            .holders
            .get(&key)
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        let ours = self.own_lease.filter(|(own, _)| *own == key);
        let ours = ours.map(|(_, created)| (created, self.own.clone()));
        for holder in &holders {
            let duplicate = match (&ours, holders.first()) {
                (Some(ours), _) => Some(duplicate(key, holder, ours, true)),
                (None, Some(first)) if first != holder => {
                    Some(duplicate(key, holder, first, false))
                }
                _ => None,
            };
            self.tell(&holder.1, |peers| {
                put_or_take(&mut peers.duplicates, &holder.1, duplicate)
            });
        }
    }

    fn forget_reason(&mut self, name: &str) {
        self.tell(name, |peers| drop(peers.reasons.remove(name)));
    }

    fn leave_out(&mut self, node: &NodeView, lease: Option<LeaseKey>, used: Used, reason: String) {
        let entry = Unreadable {
            key: entry_of(&node.name),
            lease,
            reason,
            used,
        };
        self.tell(&node.name, |peers| {
            drop(peers.reasons.insert(node.name.clone(), entry))
        });
    }

    /// What there is to be told of a Node.
    fn entry(&self, name: &str) -> Option<&Unreadable> {
        let duplicate = self.duplicates.get(name);
        duplicate.or_else(|| self.reasons.get(name))
    }

    fn entries(&self) -> impl Iterator<Item = &Unreadable> {
        let others = self
            .reasons
            .iter()
            .filter(|(name, _)| !self.duplicates.contains_key(*name));
        others
            .map(|(_, entry)| entry)
            .chain(self.duplicates.values())
    }

    /// Changes something, and notes whether there is something else to be told of this Node now.
    fn tell(&mut self, name: &str, change: impl FnOnce(&mut Self)) {
        let before = self.entry(name).cloned();
        change(self);
        match self.entry(name) {
            None if before.is_some() => {
                self.told.remove(name);
                self.mended.insert(name.to_owned());
            }
            now if now != before.as_ref() => {
                self.mended.remove(name);
                self.told.insert(name.to_owned());
            }
            _ => {}
        }
    }
}

/// What is told of `node`, which has the subnets that `other` has, too; `ours` is whether that is this Node.
fn duplicate(key: LeaseKey, node: &(i64, String), other: &(i64, String), ours: bool) -> Unreadable {
    let subnets = key.subnets();
    let (name, other_name) = (&node.1, &other.1);
    let (later, and) = match node < other {
        true => (
            other_name,
            "and came first: other nodes send there what is for pods of this one",
        ),
        false => (name, "which came first"),
    };
    let other_name = match ours {
        true => format!("this Node ({other_name})"),
        false => entry_of(other_name),
    };
    Unreadable {
        key: entry_of(name),
        lease: Some(key),
        reason: format!("it has {subnets}, as has {other_name}, {and}"),
        used: Used::Duplicate {
            later: entry_of(later),
        },
    }
}

fn put_or_take<T>(map: &mut BTreeMap<String, T>, name: &str, value: Option<T>) {
    match value {
        Some(value) => drop(map.insert(name.to_owned(), value)),
        None => drop(map.remove(name)),
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
