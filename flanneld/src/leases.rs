//! The leases of all nodes as this node knows them.
//!
//! Which of them can be used is not decided here but by the network ([`crate::network`]), which knows what it needs of a peer.

use std::collections::BTreeMap;

use ipam::LeaseKey;

use crate::store::{PeerEvent, PeerLease, Used};

/// The other nodes' leases.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    own: Option<LeaseKey>,
    all: BTreeMap<LeaseKey, PeerLease>,
    known: bool,
}

/// What an event came to, for the log and for whoever has to act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A node is new.
    Joined(PeerLease),
    /// A node is reached differently than before.
    Altered {
        /// How it was reached.
        before: PeerLease,
        /// How it is now.
        now: PeerLease,
    },
    /// A node is gone.
    Left(PeerLease),
}

impl Leases {
    /// Says which lease is ours, so that it is not taken for a peer's.
    pub fn set_own(&mut self, own: LeaseKey) {
        self.own = Some(own);
    }

    /// Whether the first snapshot has been seen; before that, an absent lease means nothing.
    pub fn known(&self) -> bool {
        self.known
    }

    /// The peers.
    pub fn peers(&self) -> impl Iterator<Item = &PeerLease> + Clone {
        self.all
            .values()
            .filter(|lease| Some(lease.key) != self.own)
    }

    /// The store's revision of a lease, as it was last told.
    pub fn revision(&self, key: &LeaseKey) -> Option<i64> {
        self.all.get(key).map(|lease| lease.revision)
    }

    /// Takes an event in. What changes nothing but a lease's term (a renewal) returns no change.
    pub fn apply(&mut self, event: PeerEvent) -> Vec<Change> {
        match event {
            PeerEvent::Snapshot { peers, skipped } => {
                let mut fresh: BTreeMap<LeaseKey, PeerLease> =
                    peers.into_iter().map(|lease| (lease.key, lease)).collect();
                // Of an entry that cannot be read nothing new is known; what was known of it goes on to hold.
                let former = skipped
                    .into_iter()
                    .filter(|entry| matches!(entry.used, Used::Nothing | Used::Former));
                for key in former.filter_map(|entry| entry.lease) {
                    if let Some(before) = self.all.get(&key) {
                        fresh.insert(key, before.clone());
                    }
                }
                self.known = true;
                self.replace(fresh)
            }
            PeerEvent::Changed(lease) => self.put(lease).into_iter().collect(),
            PeerEvent::Removed(key) => self
                .all
                .remove(&key)
                .filter(|lease| Some(lease.key) != self.own)
                .map(Change::Left)
                .into_iter()
                .collect(),
            PeerEvent::Unreadable(_) | PeerEvent::Mended(_) => Vec::new(),
        }
    }

    fn replace(&mut self, fresh: BTreeMap<LeaseKey, PeerLease>) -> Vec<Change> {
        let gone: Vec<LeaseKey> = self
            .all
            .keys()
            .filter(|key| !fresh.contains_key(key))
            .copied()
            .collect();
        let mut changes: Vec<Change> = gone
            .into_iter()
            .flat_map(|key| self.apply(PeerEvent::Removed(key)))
            .collect();
        changes.extend(fresh.into_values().filter_map(|lease| self.put(lease)));
        changes
    }

    fn put(&mut self, lease: PeerLease) -> Option<Change> {
        let before = self.all.insert(lease.key, lease.clone());
        if Some(lease.key) == self.own {
            return None;
        }
        match before {
            None => Some(Change::Joined(lease)),
            Some(before) if before.record != lease.record => {
                Some(Change::Altered { before, now: lease })
            }
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use ipam::{LeaseBackend, LeaseRecord, PerFamily};

    use super::*;
    use crate::store::Unreadable;

    fn key(number: u8) -> LeaseKey {
        format!("10.244.{number}.0-24").parse().unwrap()
    }

    fn lease(number: u8, public: u8, revision: i64) -> PeerLease {
        let record = LeaseRecord {
            public: PerFamily::v4(Ipv4Addr::new(192, 0, 2, public)),
            backend: LeaseBackend::HostGw,
        };
        PeerLease {
            key: key(number),
            record,
            revision,
            created: revision,
        }
    }

    fn snapshot(peers: Vec<PeerLease>) -> PeerEvent {
        PeerEvent::Snapshot {
            peers,
            skipped: Vec::new(),
        }
    }

    #[test]
    fn a_renewal_is_no_change() {
        let mut leases = Leases::default();
        assert_eq!(
            leases.apply(PeerEvent::Changed(lease(2, 2, 1))),
            [Change::Joined(lease(2, 2, 1))]
        );
        assert_eq!(leases.apply(PeerEvent::Changed(lease(2, 2, 9))), []);
        assert_eq!(leases.peers().next().unwrap().revision, 9);
    }

    #[test]
    fn a_second_snapshot_tells_what_was_missed() {
        let mut leases = Leases::default();
        assert!(!leases.known());
        leases.apply(snapshot(vec![
            lease(2, 2, 1),
            lease(3, 3, 2),
            lease(4, 4, 3),
        ]));
        assert!(leases.known());
        let changes = leases.apply(snapshot(vec![
            lease(3, 33, 5),
            lease(4, 4, 6),
            lease(5, 5, 7),
        ]));
        assert_eq!(
            changes,
            [
                Change::Left(lease(2, 2, 1)),
                Change::Altered {
                    before: lease(3, 3, 2),
                    now: lease(3, 33, 5)
                },
                Change::Joined(lease(5, 5, 7))
            ]
        );
    }

    #[test]
    fn our_own_lease_is_no_peer_whatever_happens_to_it() {
        let mut leases = Leases::default();
        leases.set_own(key(1));
        assert_eq!(leases.apply(snapshot(vec![lease(1, 1, 1)])), []);
        assert_eq!(leases.apply(PeerEvent::Changed(lease(1, 9, 2))), []);
        assert_eq!(leases.peers().count(), 0);
        assert_eq!(leases.apply(PeerEvent::Removed(key(1))), []);
        assert_eq!(leases.apply(snapshot(vec![])), []);
    }

    #[test]
    fn an_entry_that_becomes_unreadable_leaves_what_was_known() {
        let mut leases = Leases::default();
        leases.apply(snapshot(vec![lease(2, 2, 1)]));
        let unreadable = Unreadable {
            key: "k".to_owned(),
            lease: Some(key(2)),
            reason: "not JSON".to_owned(),
            used: Used::Nothing,
        };
        assert_eq!(leases.apply(PeerEvent::Unreadable(unreadable.clone())), []);
        assert_eq!(
            leases.apply(PeerEvent::Snapshot {
                peers: vec![],
                skipped: vec![unreadable]
            }),
            []
        );
        assert_eq!(leases.peers().count(), 1);
    }
}
