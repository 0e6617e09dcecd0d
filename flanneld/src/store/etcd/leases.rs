//! Single leases in etcd: read, create, hold. Every write is a transaction that compares first; no etcd lease is left without
//! a key.

use std::time::Duration;

use etcd_client::{Compare, CompareOp, LeaseTimeToLiveOptions, PutOptions, Txn, TxnOp};
use ipam::{LeaseKey, LeaseRecord};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::connection::{CallError, Connection};
use super::keys::Keys;
use super::listing;
use crate::store::claim::{self, Entry};
use crate::store::{StoreError, Unreadable};

/// The leases of one cluster below one prefix.
pub(super) struct Leases {
    pub(super) connection: Connection,
    pub(super) keys: Keys,
}

/// A lease that was just made sure of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    /// The etcd lease it hangs on; 0 for none.
    pub(super) grant: i64,
    /// When it ends at the earliest; None for never.
    pub(super) expires: Option<Instant>,
}

/// An etcd lease and its end.
#[derive(Debug, Clone, Copy)]
struct Grant {
    id: i64,
    expires: Instant,
}

impl Leases {
    /// The entry of a lease, if there is one.
    pub(super) async fn read(&self, key: &LeaseKey) -> Result<Option<Entry>, StoreError> {
        let path = self.keys.lease(key);
        let response = self
            .connection
            .call("read", &path, |mut client| {
                let path = path.clone();
                async move { client.get(path, None).await }
            })
            .await?;
        let Some(kv) = response.kvs().first() else {
            return Ok(None);
        };
        let entry = listing::entry(&self.keys, kv);
        entry.map(Some).map_err(|Unreadable { key, reason, .. }| {
            // Not possible: the key was made from a lease key.
            StoreError::Refused {
                store: "etcd".to_owned(),
                action: "read",
                object: key,
                reason,
            }
        })
    }

    /// Makes a lease that nobody has, and removes those in `withdraw`. None if it is not free any more, or another one that
    /// overlaps it was created after revision `as_of`.
    pub(super) async fn create(
        &self,
        key: &LeaseKey,
        record: &LeaseRecord,
        withdraw: &[Entry],
        as_of: i64,
    ) -> Result<Option<Held>, StoreError> {
        let path = self.keys.lease(key);
        let below = self.keys.subnets();
        let mut conditions = vec![Compare::version(path.clone(), CompareOp::Equal, 0)];
        conditions.extend(claim::rivals(&key.subnets()).into_iter().map(|beginning| {
            let rivals = format!("{below}{beginning}");
            Compare::create_revision(rivals, CompareOp::Less, as_of + 1).with_prefix()
        }));
        let mut actions = Vec::new();
        for entry in withdraw {
            let path = self.keys.lease(&entry.key);
            conditions.push(unchanged(&path, entry));
            actions.push(TxnOp::delete(path, None));
        }
        let held = self.write(&path, record, conditions, actions).await?;
        if held.is_some() {
            for entry in withdraw {
                self.drop_if_empty(entry.grant).await;
            }
        }
        Ok(held)
    }

    /// Makes sure that our entry says `record` and lasts: a reservation stays one, any other gets the full time again, on the
    /// etcd lease it hangs on where possible. Writes only what differs. None if the entry is not `entry` any more.
    pub(super) async fn hold(
        &self,
        entry: &Entry,
        record: &LeaseRecord,
    ) -> Result<Option<Held>, StoreError> {
        let path = self.keys.lease(&entry.key);
        let conditions = vec![unchanged(&path, entry)];
        let same = entry.record.as_ref() == Ok(record);
        if entry.is_reservation() {
            let held = Held {
                grant: 0,
                expires: None,
            };
            let written = same || self.put(&path, record, 0, conditions, Vec::new()).await?;
            return Ok(written.then_some(held));
        }
        if let Some(grant) = self.extend(entry.grant).await? {
            let held = Held {
                grant: grant.id,
                expires: Some(grant.expires),
            };
            let written = same
                || self
                    .put(&path, record, grant.id, conditions, Vec::new())
                    .await?;
            return Ok(written.then_some(held));
        }
        // The etcd lease is gone (and the key with it, as the comparison will find) or another program made it shorter.
        let held = self.write(&path, record, conditions, Vec::new()).await?;
        if held.is_some() {
            self.drop_if_empty(entry.grant).await;
        }
        Ok(held)
    }

    /// Writes a record under an etcd lease of its own.
    async fn write(
        &self,
        path: &str,
        record: &LeaseRecord,
        conditions: Vec<Compare>,
        actions: Vec<TxnOp>,
    ) -> Result<Option<Held>, StoreError> {
        let grant = self.grant().await?;
        match self.put(path, record, grant.id, conditions, actions).await {
            Ok(true) => Ok(Some(Held {
                grant: grant.id,
                expires: Some(grant.expires),
            })),
            // Also when it is not known whether the write took place: it goes with the etcd lease it hangs on.
            Ok(false) => {
                self.revoke(grant.id).await;
                Ok(None)
            }
            Err(error) => {
                self.revoke(grant.id).await;
                Err(error)
            }
        }
    }

    /// Writes a record if all conditions hold. False if one does not, or if the etcd lease is gone.
    async fn put(
        &self,
        path: &str,
        record: &LeaseRecord,
        grant: i64,
        conditions: Vec<Compare>,
        mut actions: Vec<TxnOp>,
    ) -> Result<bool, StoreError> {
        let options = PutOptions::new().with_lease(grant);
        actions.push(TxnOp::put(path, record.to_json(), Some(options)));
        let txn = Txn::new().when(conditions).and_then(actions);
        let response = self
            .connection
            .call("write", path, |mut client| {
                let txn = txn.clone();
                async move { client.txn(txn).await }
            })
            .await;
        found(response).map(|response| response.is_some_and(|response| response.succeeded()))
    }

    /// A fresh etcd lease of full length.
    async fn grant(&self) -> Result<Grant, StoreError> {
        let seconds = self.seconds();
        let asked = Instant::now();
        let response = self
            .connection
            .call("get", "an etcd lease", |mut client| async move {
                client.lease_grant(seconds, None).await
            })
            .await?;
        Ok(Grant {
            id: response.id(),
            expires: asked + duration(response.ttl()),
        })
    }

    /// Gives an etcd lease its full time again. None if it is gone, or is shorter than ours have to be.
    async fn extend(&self, id: i64) -> Result<Option<Grant>, StoreError> {
        let known = self
            .connection
            .call("look up", "our etcd lease", |mut client| async move {
                client.lease_time_to_live(id, None).await
            })
            .await;
        let Some(known) = found(known)? else {
            return Ok(None);
        };
        // The time left is of no use: rounded down, it is 0 in the last second. One that is gone was granted nothing.
        if known.granted_ttl() < self.seconds() {
            return Ok(None);
        }
        let asked = Instant::now();
        let renewed = self
            .connection
            .call("renew", "our etcd lease", |mut client| async move {
                client.lease_keep_alive(id).await.map(|_| ())
            })
            .await;
        let expires = asked + duration(known.granted_ttl());
        Ok(found(renewed)?.map(|()| Grant { id, expires }))
    }

    /// Ends an etcd lease, and with it what hangs on it.
    async fn revoke(&self, id: i64) {
        let revoked = self
            .connection
            .call("give back", "an etcd lease", |mut client| async move {
                client.lease_revoke(id).await
            })
            .await;
        if let Err(error) = found(revoked) {
            warn!("{error}; it ends by itself in time");
        }
    }

    /// Ends an etcd lease on which nothing hangs any more.
    pub(super) async fn drop_if_empty(&self, id: i64) {
        if id == 0 {
            return;
        }
        let known = self
            .connection
            .call("look up", "an etcd lease", |mut client| async move {
                let options = LeaseTimeToLiveOptions::new().with_keys();
                client.lease_time_to_live(id, Some(options)).await
            })
            .await;
        match found(known) {
            Ok(Some(known)) if known.granted_ttl() > 0 && known.keys().is_empty() => {
                self.revoke(id).await
            }
            Ok(_) => {}
            Err(error) => debug!("{error}; it ends by itself in time"),
        }
    }

    fn seconds(&self) -> i64 {
        let lease = self.connection.config().timing.lease;
        i64::try_from(lease.as_secs()).unwrap_or(i64::MAX).max(1)
    }
}

/// That the entry is still the one we know.
fn unchanged(path: &str, entry: &Entry) -> Compare {
    Compare::mod_revision(path, CompareOp::Equal, entry.revision)
}

/// Takes "there is no such etcd lease" for an answer.
fn found<T>(answer: Result<T, CallError>) -> Result<Option<T>, StoreError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn duration(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
