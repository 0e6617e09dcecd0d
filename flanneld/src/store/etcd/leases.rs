//! Single leases in etcd: create, hold. Every write is a transaction that compares first; no etcd lease is left without a key
//! where that can be helped.

use std::time::Duration;

use ipam::{LeaseKey, LeaseRecord};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::listing::Listing;
use super::port::{Condition, Port, Write};
use crate::store::StoreError;
use crate::store::claim::{self, Entry};

/// The leases of one cluster below one prefix.
pub(super) struct Leases<P> {
    pub(super) port: P,
}

/// A lease that was just made sure of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    /// The etcd lease it hangs on; 0 for none.
    pub(super) grant: i64,
    /// When it ends at the earliest; None for never.
    pub(super) expires: Option<Instant>,
    /// The revision of the entry.
    pub(super) revision: i64,
}

/// An etcd lease and its end.
#[derive(Debug, Clone, Copy)]
struct Grant {
    id: i64,
    expires: Instant,
}

impl Grant {
    fn holds(self, revision: i64) -> Held {
        Held {
            grant: self.id,
            expires: Some(self.expires),
            revision,
        }
    }
}

impl<P: Port> Leases<P> {
    /// Makes a lease that nobody has, and removes those in `withdraw`. None if it is not free any more, or another one that
    /// overlaps it came into being after the listing.
    pub(super) async fn create(
        &self,
        key: &LeaseKey,
        record: &LeaseRecord,
        withdraw: &[Entry],
        listing: &Listing,
    ) -> Result<Option<Held>, StoreError> {
        let mut conditions = vec![Condition::Absent(*key)];
        // Not the revision of the listing counts but that of its newest entry, which has to stand: an etcd restored from a
        // backup meanwhile counts the same revisions for other entries.
        conditions.extend(listing.newest.clone().map(Condition::Stands));
        let rivals = claim::rivals(&key.subnets()).into_iter();
        conditions.extend(rivals.map(|beginning| Condition::NoneSince {
            beginning,
            revision: listing.since(),
        }));
        conditions.extend(withdraw.iter().map(unchanged));
        let grant = self.grant().await?;
        let write = Write {
            key: *key,
            value: record.to_json(),
            grant: grant.id,
            conditions,
            withdraw: withdraw.iter().map(|entry| entry.key).collect(),
        };
        let written = self.port.write(&write).await;
        if !matches!(written, Ok(Some(_))) {
            // Also when it is not known whether the write took place: it goes with the etcd lease it hangs on.
            self.revoke(grant.id).await;
            return written.map(|_| None);
        }
        for entry in withdraw {
            self.drop_if_empty(entry.grant).await;
        }
        Ok(written?.map(|revision| grant.holds(revision)))
    }

    /// Makes sure that our entry says `record` and lasts: a reservation stays one, any other gets the full time again, on the
    /// etcd lease it hangs on where possible. Writes only what differs. None if the entry is not `entry` any more.
    pub(super) async fn hold(
        &self,
        entry: &Entry,
        record: &LeaseRecord,
    ) -> Result<Option<Held>, StoreError> {
        if entry.is_reservation() {
            let written = self.put(entry, record, 0).await?;
            return Ok(written.map(|revision| Held {
                grant: 0,
                expires: None,
                revision,
            }));
        }
        if let Some(grant) = self.extend(entry.grant).await? {
            let written = self.put(entry, record, grant.id).await?;
            return Ok(written.map(|revision| grant.holds(revision)));
        }
        // The etcd lease is gone (and the key with it, as the comparison will find) or another program made it shorter.
        let grant = self.grant().await?;
        // An error leaves the new etcd lease alone: it would take our key away if the write took place after all.
        let written = self.put(entry, record, grant.id).await?;
        let idle = if written.is_some() {
            entry.grant
        } else {
            grant.id
        };
        self.drop_if_empty(idle).await;
        Ok(written.map(|revision| grant.holds(revision)))
    }

    /// Makes the entry say `record` and hang on `grant`, unless it does. The revision it has then; None if it is not `entry` any
    /// more.
    async fn put(
        &self,
        entry: &Entry,
        record: &LeaseRecord,
        grant: i64,
    ) -> Result<Option<i64>, StoreError> {
        if entry.grant == grant && entry.record.as_ref() == Ok(record) {
            return Ok(Some(entry.revision));
        }
        let write = Write {
            key: entry.key,
            value: record.to_json(),
            grant,
            conditions: vec![unchanged(entry)],
            withdraw: Vec::new(),
        };
        self.port.write(&write).await
    }

    /// A fresh etcd lease of full length.
    async fn grant(&self) -> Result<Grant, StoreError> {
        let asked = self.port.now();
        let granted = self.port.grant(self.seconds()).await?;
        Ok(Grant {
            id: granted.id,
            expires: asked + duration(granted.seconds),
        })
    }

    /// Gives an etcd lease its full time again. None if it is gone, or is shorter than ours have to be.
    async fn extend(&self, id: i64) -> Result<Option<Grant>, StoreError> {
        let known = self.port.limit(id, false).await?;
        let Some(known) = known.filter(|known| known.granted >= self.seconds()) else {
            return Ok(None);
        };
        let asked = self.port.now();
        let renewed = self.port.keep_alive(id).await?;
        let expires = asked + duration(known.granted);
        Ok(renewed.then_some(Grant { id, expires }))
    }

    /// Ends an etcd lease, and with it what hangs on it.
    async fn revoke(&self, id: i64) {
        if let Err(error) = self.port.revoke(id).await {
            warn!("{error}; it ends by itself in time");
        }
    }

    /// Ends an etcd lease on which nothing hangs any more.
    pub(super) async fn drop_if_empty(&self, id: i64) {
        if id == 0 {
            return;
        }
        match self.port.limit(id, true).await {
            Ok(Some(known)) if known.keys == 0 => self.revoke(id).await,
            Ok(_) => {}
            Err(error) => debug!("{error}; it ends by itself in time"),
        }
    }

    fn seconds(&self) -> i64 {
        let lease = self.port.config().timing.lease;
        i64::try_from(lease.as_secs()).unwrap_or(i64::MAX).max(1)
    }
}

/// That the entry is still the one we know.
fn unchanged(entry: &Entry) -> Condition {
    Condition::Unchanged {
        key: entry.key,
        revision: entry.revision,
        grant: entry.grant,
    }
}

fn duration(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
