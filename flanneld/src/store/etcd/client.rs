//! The world of the daemon: requests to a real etcd, the system's clock and its randomness.

use etcd_client::{
    Compare, CompareOp, Event, EventType, GetOptions, KeyValue, LeaseTimeToLiveOptions, PutOptions,
    Txn, TxnOp, WatchOptions, WatchResponse, WatchStream,
};
use ipam::LeaseKey;
use tokio::time::Instant;

use super::config::EtcdConfig;
use super::connection::{CallError, Connection, large, reason_of};
use super::keys::Keys;
use super::listing::{self, History, Listing, Newest, Raw};
use super::port::{
    Change, Condition, Granted, Limit, News, Notice, Port, Scope, Watch, What, Write,
};
use crate::store::claim::Entry;
use crate::store::{Health, StoreError, Unreadable, backoff};

/// A real etcd.
pub(super) struct EtcdClient {
    pub(super) connection: Connection,
    pub(super) keys: Keys,
}

impl Port for EtcdClient {
    type Watch = OpenWatch;

    fn keys(&self) -> &Keys {
        &self.keys
    }

    fn config(&self) -> &EtcdConfig {
        self.connection.config()
    }

    async fn list(&self) -> Result<Listing, StoreError> {
        let prefix = self.keys.subnets();
        let response = self
            .connection
            .call("list", &prefix, |client| {
                let prefix = prefix.clone();
                async move {
                    let options = GetOptions::new().with_prefix();
                    large(&client).get(prefix, Some(options)).await
                }
            })
            .await?;
        let history = History::of(response.header());
        let raws = response.kvs().iter().map(raw);
        Ok(Listing::new(&self.keys, raws, history))
    }

    async fn read(&self, key: &LeaseKey) -> Result<Option<Entry>, StoreError> {
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
        let entry = listing::entry(&self.keys, &raw(kv));
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

    async fn write(&self, write: &Write) -> Result<Option<i64>, StoreError> {
        let path = self.keys.lease(&write.key);
        let txn = self.transaction(write);
        let response = self
            .connection
            .call("write", &path, |mut client| {
                let txn = txn.clone();
                async move { client.txn(txn).await }
            })
            .await;
        let written = found(response)?.filter(etcd_client::TxnResponse::succeeded);
        Ok(written.map(|response| History::of(response.header()).revision))
    }

    async fn grant(&self, seconds: i64) -> Result<Granted, StoreError> {
        let response = self
            .connection
            .call("get", "an etcd lease", |mut client| async move {
                client.lease_grant(seconds, None).await
            })
            .await?;
        Ok(Granted {
            id: response.id(),
            seconds: response.ttl(),
        })
    }

    async fn limit(&self, id: i64, with_keys: bool) -> Result<Option<Limit>, StoreError> {
        let known = self
            .connection
            .call("look up", "our etcd lease", |mut client| async move {
                let options = with_keys.then(|| LeaseTimeToLiveOptions::new().with_keys());
                client.lease_time_to_live(id, options).await
            })
            .await;
        // The time left is of no use: rounded down, it is 0 in the last second. One that is gone was granted nothing.
        let known = found(known)?.filter(|known| known.granted_ttl() > 0);
        Ok(known.map(|known| Limit {
            granted: known.granted_ttl(),
            keys: known.keys().len(),
        }))
    }

    async fn keep_alive(&self, id: i64) -> Result<bool, StoreError> {
        let renewed = self
            .connection
            .call("renew", "our etcd lease", |mut client| async move {
                client.lease_keep_alive(id).await.map(|_| ())
            })
            .await;
        Ok(found(renewed)?.is_some())
    }

    async fn revoke(&self, id: i64) -> Result<(), StoreError> {
        let revoked = self
            .connection
            .call("give back", "an etcd lease", |mut client| async move {
                client.lease_revoke(id).await
            })
            .await;
        found(revoked).map(|_| ())
    }

    async fn watch(&self, scope: Scope) -> Result<OpenWatch, StoreError> {
        let (path, options) = match scope {
            Scope::One(key) => (self.keys.lease(&key), WatchOptions::new()),
            Scope::AllSince(revision) => {
                let options = WatchOptions::new()
                    .with_prefix()
                    .with_start_revision(revision + 1)
                    .with_progress_notify();
                (self.keys.subnets(), options)
            }
        };
        let (stream, at) = self.connection.watch(&path, options).await?;
        Ok(OpenWatch {
            stream,
            at,
            keys: self.keys.clone(),
            health: self.connection.health().clone(),
        })
    }

    async fn abandon(&self, watch: OpenWatch) -> String {
        self.connection.avoid(watch.at).await;
        self.connection.url(watch.at).to_owned()
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    async fn sleep_until(&self, at: Instant) {
        tokio::time::sleep_until(at).await;
    }

    fn random(&self) -> u64 {
        backoff::random()
    }
}

impl EtcdClient {
    fn transaction(&self, write: &Write) -> Txn {
        let mut conditions = Vec::new();
        for condition in &write.conditions {
            self.compare(condition, &mut conditions);
        }
        let mut actions: Vec<TxnOp> = write
            .withdraw
            .iter()
            .map(|key| TxnOp::delete(self.keys.lease(key), None))
            .collect();
        let options = PutOptions::new().with_lease(write.grant);
        let path = self.keys.lease(&write.key);
        actions.push(TxnOp::put(path, write.value.clone(), Some(options)));
        Txn::new().when(conditions).and_then(actions)
    }

    fn compare(&self, condition: &Condition, into: &mut Vec<Compare>) {
        match condition {
            Condition::Absent(key) => {
                into.push(Compare::version(self.keys.lease(key), CompareOp::Equal, 0));
            }
            Condition::Unchanged {
                key,
                revision,
                grant,
            } => {
                let path = self.keys.lease(key);
                into.push(Compare::mod_revision(
                    path.clone(),
                    CompareOp::Equal,
                    *revision,
                ));
                into.push(Compare::lease(path, CompareOp::Equal, *grant));
            }
            Condition::Stands(Newest {
                path,
                created,
                grant,
            }) => {
                into.push(Compare::create_revision(
                    path.clone(),
                    CompareOp::Equal,
                    *created,
                ));
                into.push(Compare::lease(path.clone(), CompareOp::Equal, *grant));
            }
            Condition::NoneSince {
                beginning,
                revision,
            } => {
                let path = format!("{}{beginning}", self.keys.subnets());
                let compare = Compare::create_revision(path, CompareOp::Less, revision + 1);
                into.push(compare.with_prefix());
            }
        }
    }
}

/// A watch on a real etcd.
pub(super) struct OpenWatch {
    stream: WatchStream,
    /// The endpoint that serves it.
    at: usize,
    keys: Keys,
    health: Health,
}

impl Watch for OpenWatch {
    async fn next(&mut self) -> Result<Notice, String> {
        let reason = match self.stream.message().await {
            Ok(Some(response)) => {
                self.health.answered();
                return Ok(notice(&self.keys, &response));
            }
            Ok(None) => "the watch ended".to_owned(),
            Err(error) => reason_of(&error),
        };
        self.health.failed(&reason);
        Err(reason)
    }
}

fn notice(keys: &Keys, response: &WatchResponse) -> Notice {
    let news = if response.compact_revision() > 0 {
        News::Compacted(response.compact_revision())
    } else if response.canceled() {
        News::Cancelled(response.cancel_reason().to_owned())
    } else if response.created() {
        News::Open
    } else {
        let changes = response.events().iter();
        News::Changes(changes.filter_map(|event| change(keys, event)).collect())
    };
    Notice {
        history: History::of(response.header()),
        news,
    }
}

fn change(keys: &Keys, event: &Event) -> Option<Change> {
    let kv = event.kv()?;
    let what = if event.event_type() == EventType::Delete {
        keys.parse(kv.key()).map_or(What::ForeignGone, What::Gone)
    } else {
        match listing::entry(keys, &raw(kv)) {
            Ok(entry) => What::Put(entry),
            Err(unreadable) => What::Foreign(unreadable),
        }
    };
    Some(Change {
        revision: kv.mod_revision(),
        what,
    })
}

fn raw(kv: &KeyValue) -> Raw<'_> {
    Raw {
        key: kv.key(),
        value: kv.value(),
        revision: kv.mod_revision(),
        created: kv.create_revision(),
        grant: kv.lease(),
    }
}

/// Takes "there is no such etcd lease" for an answer.
fn found<T>(answer: Result<T, CallError>) -> Result<Option<T>, StoreError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
