//! A model of etcd as far as leases go: entries with revisions, etcd leases, transactions, a history that can be watched and
//! compacted, backups. It also knows what may never happen to it, and says so.

use std::collections::{BTreeMap, BTreeSet};

use ipam::LeaseKey;

use crate::store::claim::Entry;
use crate::store::etcd::keys::Keys;
use crate::store::etcd::listing::{self, History, Listing, Newest, Raw};
use crate::store::etcd::port::{Change, Condition, Granted, Limit, Scope, What, Write};

/// Times in the simulation: milliseconds since its beginning.
pub(super) type Millis = u64;

/// Who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// A daemon.
    Host,
    /// Somebody with etcdctl, or time itself.
    Other,
}

#[derive(Debug, Clone)]
struct Grant {
    seconds: i64,
    ends: Millis,
    keys: BTreeSet<LeaseKey>,
}

/// The state of the store.
#[derive(Debug, Clone)]
pub(super) struct Model {
    keys: Keys,
    term: u64,
    revision: i64,
    compacted: i64,
    entries: BTreeMap<LeaseKey, Entry>,
    grants: BTreeMap<i64, Grant>,
    changes: Vec<Change>,
    /// What happened that must not happen.
    pub(super) wrongs: Vec<String>,
}

impl Model {
    pub(super) fn new(keys: Keys) -> Self {
        Self {
            keys,
            term: 1,
            revision: 1,
            compacted: 0,
            entries: BTreeMap::new(),
            grants: BTreeMap::new(),
            changes: Vec::new(),
            wrongs: Vec::new(),
        }
    }

    pub(super) fn history(&self) -> History {
        History {
            cluster: 1,
            term: self.term,
            revision: self.revision,
        }
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    pub(super) fn entry(&self, key: &LeaseKey) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub(super) fn listing(&self) -> Listing {
        let newest = self.entries.values().max_by_key(|entry| entry.created);
        Listing {
            entries: self.entries.values().cloned().collect(),
            foreign: Vec::new(),
            newest: newest.map(|entry| Newest {
                path: self.keys.lease(&entry.key).into_bytes(),
                created: entry.created,
                grant: entry.grant,
            }),
            history: self.history(),
        }
    }

    pub(super) fn write(&mut self, write: &Write, by: By) -> Option<i64> {
        let known = write.grant == 0 || self.grants.contains_key(&write.grant);
        if !known || !write.conditions.iter().all(|one| self.holds(one)) {
            return None;
        }
        self.revision += 1;
        for key in &write.withdraw {
            self.remove(key, by);
        }
        self.insert(write, by);
        Some(self.revision)
    }

    fn holds(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Absent(key) => !self.entries.contains_key(key),
            Condition::Unchanged {
                key,
                revision,
                grant,
            } => self
                .entries
                .get(key)
                .is_some_and(|entry| entry.revision == *revision && entry.grant == *grant),
            Condition::Stands(newest) => self.entries.values().any(|entry| {
                self.keys.lease(&entry.key).as_bytes() == newest.path
                    && entry.created == newest.created
                    && entry.grant == newest.grant
            }),
            Condition::NoneSince {
                beginning,
                revision,
            } => self
                .entries
                .values()
                .filter(|entry| entry.key.to_string().starts_with(beginning))
                .all(|entry| entry.created <= *revision),
        }
    }

    fn insert(&mut self, write: &Write, by: By) {
        let (key, subnets) = (write.key, write.key.subnets());
        let before = self.entries.remove(&key);
        let clash = self
            .entries
            .values()
            .find(|other| other.key.subnets().overlap(&subnets));
        if let Some(other) = clash {
            let clash = format!("{key} was written beside {}, which it overlaps", other.key);
            self.wrongs.push(clash);
        }
        if let Some(before) = &before {
            if by == By::Host && before.is_reservation() && write.grant != 0 {
                self.wrongs
                    .push(format!("the reservation {key} became a lease"));
            }
            self.unhang(before);
        }
        let path = self.keys.lease(&key);
        let raw = Raw {
            key: path.as_bytes(),
            value: write.value.as_bytes(),
            revision: self.revision,
            created: before.map_or(self.revision, |before| before.created),
            grant: write.grant,
        };
        let Ok(entry) = listing::entry(&self.keys, &raw) else {
            self.wrongs.push(format!("{path} is no lease key"));
            return;
        };
        if let Some(grant) = self.grants.get_mut(&write.grant) {
            grant.keys.insert(key);
        }
        self.entries.insert(key, entry.clone());
        self.changes.push(Change {
            revision: self.revision,
            what: What::Put(entry),
        });
    }

    fn remove(&mut self, key: &LeaseKey, by: By) {
        let Some(entry) = self.entries.remove(key) else {
            return;
        };
        if by == By::Host && entry.is_reservation() {
            self.wrongs
                .push(format!("a host removed the reservation {key}"));
        }
        self.unhang(&entry);
        self.changes.push(Change {
            revision: self.revision,
            what: What::Gone(*key),
        });
    }

    fn unhang(&mut self, entry: &Entry) {
        if let Some(grant) = self.grants.get_mut(&entry.grant) {
            grant.keys.remove(&entry.key);
        }
    }

    /// What an operator does with `etcdctl del`.
    pub(super) fn delete(&mut self, key: &LeaseKey) {
        self.revision += 1;
        self.remove(key, By::Other);
    }

    pub(super) fn grant(&mut self, seconds: i64, id: i64, now: Millis) -> Granted {
        let grant = Grant {
            seconds,
            ends: now + millis(seconds),
            keys: BTreeSet::new(),
        };
        self.grants.insert(id, grant);
        Granted { id, seconds }
    }

    pub(super) fn limit(&self, id: i64) -> Option<Limit> {
        self.grants.get(&id).map(|grant| Limit {
            granted: grant.seconds,
            keys: grant.keys.len(),
        })
    }

    pub(super) fn keep_alive(&mut self, id: i64, now: Millis) -> bool {
        let Some(grant) = self.grants.get_mut(&id) else {
            return false;
        };
        grant.ends = now + millis(grant.seconds);
        true
    }

    pub(super) fn revoke(&mut self, id: i64, by: By) {
        let Some(grant) = self.grants.get(&id) else {
            return;
        };
        let keys = grant.keys.clone();
        if !keys.is_empty() {
            self.revision += 1;
        }
        for key in keys {
            self.remove(&key, by);
        }
        self.grants.remove(&id);
    }

    /// Ends what is over.
    pub(super) fn expire(&mut self, now: Millis) {
        let over: Vec<i64> = self
            .grants
            .iter()
            .filter(|(_, grant)| grant.ends <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            self.revoke(id, By::Other);
        }
    }

    /// When the next etcd lease ends.
    pub(super) fn next_end(&self) -> Option<Millis> {
        self.grants.values().map(|grant| grant.ends).min()
    }

    /// Another leader: every etcd lease gets its full time again, as in etcd.
    pub(super) fn elect(&mut self, now: Millis) {
        self.term += 1;
        for grant in self.grants.values_mut() {
            grant.ends = now + millis(grant.seconds);
        }
    }

    /// Forgets the history.
    pub(super) fn compact(&mut self) {
        self.compacted = self.revision;
        self.changes.clear();
    }

    /// Goes back to a backup.
    pub(super) fn restore(&mut self, backup: Self, now: Millis) {
        let wrongs = std::mem::take(&mut self.wrongs);
        *self = backup;
        self.wrongs = wrongs;
        self.elect(now);
    }

    /// What a watch that has told everything before revision `from` has to tell: the changes, or up to where they are
    /// forgotten.
    pub(super) fn since(&self, scope: Scope, from: i64) -> Result<Vec<Change>, i64> {
        if from <= self.compacted {
            return Err(self.compacted);
        }
        let seen = |change: &&Change| match (scope, &change.what) {
            (Scope::AllSince(_), _) => true,
            (Scope::One(key), What::Put(entry)) => entry.key == key,
            (Scope::One(key), What::Gone(gone)) => *gone == key,
            (Scope::One(_), What::Foreign(_) | What::ForeignGone) => false,
        };
        let first = self.changes.partition_point(|one| one.revision < from);
        Ok(self.changes[first..].iter().filter(seen).cloned().collect())
    }
}

fn millis(seconds: i64) -> Millis {
    u64::try_from(seconds).unwrap_or(0) * 1000
}
