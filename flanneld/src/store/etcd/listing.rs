//! All leases in one request, and what an etcd entry says.

use etcd_client::ResponseHeader;
use ipam::{LeaseKey, LeaseRecord};

use super::keys::Keys;
use crate::store::claim::Entry;
use crate::store::{PeerLease, Unreadable, Used};

/// The history that an etcd told us about, to notice when it tells another one: restored from a backup, or set up afresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct History {
    pub(super) cluster: u64,
    pub(super) term: u64,
    pub(super) revision: i64,
}

impl History {
    pub(super) fn of(header: Option<&ResponseHeader>) -> Self {
        Self {
            cluster: header.map_or(0, ResponseHeader::cluster_id),
            term: header.map_or(0, ResponseHeader::raft_term),
            revision: header.map_or(0, ResponseHeader::revision),
        }
    }

    /// Whether `later`, heard afterwards, can be the same history. A member that lags behind the others may be taken for
    /// another history, which costs one listing.
    pub(super) fn goes_on_in(&self, later: &Self) -> bool {
        later.cluster == self.cluster && later.term >= self.term && later.revision >= self.revision
    }
}

/// All leases as of one revision.
#[derive(Debug)]
pub(super) struct Listing {
    /// Entries whose key is a lease key.
    pub(super) entries: Vec<Entry>,
    /// The other entries.
    pub(super) foreign: Vec<Unreadable>,
    /// The entry that came into being last.
    pub(super) newest: Option<Newest>,
    /// When it was.
    pub(super) history: History,
}

impl Listing {
    /// Reads the entries of an answer.
    pub(super) fn new<'a>(
        keys: &Keys,
        raws: impl Iterator<Item = Raw<'a>>,
        history: History,
    ) -> Self {
        let mut listing = Self {
            entries: Vec::new(),
            foreign: Vec::new(),
            newest: None,
            history,
        };
        for raw in raws {
            if listing.since() < raw.created {
                listing.newest = Some(Newest {
                    path: raw.key.to_vec(),
                    created: raw.created,
                    grant: raw.grant,
                });
            }
            match entry(keys, &raw) {
                Ok(entry) => listing.entries.push(entry),
                Err(unreadable) => listing.foreign.push(unreadable),
            }
        }
        listing
    }

    /// The revision at which the last of these entries came into being; 0 without entries.
    pub(super) fn since(&self) -> i64 {
        self.newest.as_ref().map_or(0, |newest| newest.created)
    }

    /// The listing as the daemon wants it.
    pub(super) fn into_peers(self, keys: &Keys) -> (Vec<PeerLease>, Vec<Unreadable>) {
        let mut skipped = self.foreign;
        let mut peers = Vec::new();
        for entry in self.entries {
            match peer(keys, entry) {
                Ok(lease) => peers.push(lease),
                Err(unreadable) => skipped.push(unreadable),
            }
        }
        (peers, skipped)
    }
}

/// An entry below the leases, lease or not, as it came into being: its etcd lease has a random number, so it cannot be mistaken
/// for another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Newest {
    pub(super) path: Vec<u8>,
    pub(super) created: i64,
    pub(super) grant: i64,
}

/// An entry as etcd has it; the numbers as in [`Entry`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) revision: i64,
    pub(super) created: i64,
    pub(super) grant: i64,
}

/// What an entry of etcd says.
pub(super) fn entry(keys: &Keys, raw: &Raw<'_>) -> Result<Entry, Unreadable> {
    let key = match keys.parse(raw.key) {
        Ok(key) => key,
        Err(reason) => return Err(unreadable(raw.key, None, reason)),
    };
    Ok(Entry {
        key,
        record: LeaseRecord::parse(raw.value).map_err(|error| error.to_string()),
        revision: raw.revision,
        created: raw.created,
        grant: raw.grant,
    })
}

/// A lease for the daemon, if its value can be read.
pub(super) fn peer(keys: &Keys, entry: Entry) -> Result<PeerLease, Unreadable> {
    let Entry {
        key,
        record,
        revision,
        created,
        ..
    } = entry;
    match record {
        Ok(record) => Ok(PeerLease {
            key,
            record,
            revision,
            created,
        }),
        Err(reason) => Err(unreadable(keys.lease(&key).as_bytes(), Some(key), reason)),
    }
}

fn unreadable(key: &[u8], lease: Option<LeaseKey>, reason: String) -> Unreadable {
    Unreadable {
        key: String::from_utf8_lossy(key).into_owned(),
        lease,
        reason,
        used: Used::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_history_is_noticed() {
        let seen = History {
            cluster: 7,
            term: 3,
            revision: 100,
        };
        let later = |cluster, term, revision| History {
            cluster,
            term,
            revision,
        };
        assert!(seen.goes_on_in(&later(7, 3, 100)));
        assert!(seen.goes_on_in(&later(7, 4, 5000)));
        assert!(!seen.goes_on_in(&later(8, 3, 100)), "another cluster");
        assert!(!seen.goes_on_in(&later(7, 2, 200)), "elections undone");
        assert!(!seen.goes_on_in(&later(7, 3, 99)), "writes undone");
    }
}
