//! What the lease protocol needs of the world: an etcd, a clock and chance. The daemon gives it a client and real time
//! ([`super::client`]), the simulation gives it a model of all three. The protocol itself does no I/O and reads no clock.

use std::future::Future;
use std::time::Duration;

use ipam::LeaseKey;
use tokio::time::Instant;

use super::config::EtcdConfig;
use super::keys::Keys;
use super::listing::{History, Listing, Newest};
use crate::store::backoff::Backoff;
use crate::store::claim::Entry;
use crate::store::{StoreError, Unreadable};

/// The world as the protocol sees it. Requests end within the limits of [`Port::config`], with an answer or an error; after an
/// error nobody knows whether etcd did what was asked, did it twice, or will do it later.
pub(super) trait Port: Send + Sync {
    /// A watch that is open.
    type Watch: Watch;

    /// Where things are.
    fn keys(&self) -> &Keys;

    /// Times and limits.
    fn config(&self) -> &EtcdConfig;

    /// All leases.
    fn list(&self) -> impl Future<Output = Result<Listing, StoreError>> + Send;

    /// The entry of one lease.
    fn read(
        &self,
        key: &LeaseKey,
    ) -> impl Future<Output = Result<Option<Entry>, StoreError>> + Send;

    /// Writes if all conditions hold: the revision of the write. None if a condition does not hold or there is no such etcd lease.
    fn write(&self, write: &Write) -> impl Future<Output = Result<Option<i64>, StoreError>> + Send;

    /// A new etcd lease.
    fn grant(&self, seconds: i64) -> impl Future<Output = Result<Granted, StoreError>> + Send;

    /// What an etcd lease is; None if there is none.
    fn limit(
        &self,
        id: i64,
        with_keys: bool,
    ) -> impl Future<Output = Result<Option<Limit>, StoreError>> + Send;

    /// Gives an etcd lease its full time again; false if there is none.
    fn keep_alive(&self, id: i64) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Ends an etcd lease and what hangs on it; fine if there is none.
    fn revoke(&self, id: i64) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Opens a watch.
    fn watch(&self, scope: Scope) -> impl Future<Output = Result<Self::Watch, StoreError>> + Send;

    /// Turns away from the endpoint whose watch broke; returns its URL.
    fn abandon(&self, watch: Self::Watch) -> impl Future<Output = String> + Send;

    /// Now, by the host's monotonic clock.
    fn now(&self) -> Instant;

    /// Waits until then.
    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send;

    /// A random number.
    fn random(&self) -> u64;

    /// The next delay of a backoff.
    fn delay(&self, backoff: &mut Backoff) -> Duration {
        backoff.delay_drawn(self.random())
    }

    /// Waits for the next delay of a backoff.
    fn pause(&self, backoff: &mut Backoff) -> impl Future<Output = ()> + Send {
        self.sleep_until(self.now() + self.delay(backoff))
    }
}

/// An open watch.
pub(super) trait Watch: Send {
    /// Waits for what it tells next. An error, in words, is its end.
    fn next(&mut self) -> impl Future<Output = Result<Notice, String>> + Send;
}

/// One write in one step: a record under an etcd lease, and entries that go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) key: LeaseKey,
    /// The record in its wire form.
    pub(super) value: String,
    /// The etcd lease the key is to hang on; 0 for none.
    pub(super) grant: i64,
    /// All of them have to hold.
    pub(super) conditions: Vec<Condition>,
    /// Entries to delete.
    pub(super) withdraw: Vec<LeaseKey>,
}

/// What has to hold for a write to take place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    /// There is no such entry.
    Absent(LeaseKey),
    /// The entry is the version that we know. The etcd lease is compared too: its number is random, while a restored etcd counts
    /// the same revisions once more.
    Unchanged {
        key: LeaseKey,
        revision: i64,
        grant: i64,
    },
    /// This entry is still there as it came into being.
    Stands(Newest),
    /// No entry whose key begins so, below the leases, came into being after this revision.
    NoneSince { beginning: String, revision: i64 },
}

/// A new etcd lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) id: i64,
    pub(super) seconds: i64,
}

/// An etcd lease that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit {
    /// The seconds it was granted for.
    pub(super) granted: i64,
    /// Keys that hang on it, if they were asked for.
    pub(super) keys: usize,
}

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// One lease, from now on.
    One(LeaseKey),
    /// All leases, from after this revision on.
    AllSince(i64),
}

/// What a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    /// How far the store is, which may be ahead of what is told.
    pub(super) history: History,
    pub(super) news: News,
}

/// See [`Notice`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    /// The watch is open.
    Open,
    /// What happened since it was opened, or since the last notice; nothing if there is none.
    Changes(Vec<Change>),
    /// History up to this revision is forgotten, so the watch cannot begin where it was to begin.
    Compacted(i64),
    /// Etcd ended the watch.
    Cancelled(String),
}

/// A change of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    /// The revision of the change.
    pub(super) revision: i64,
    pub(super) what: What,
}

/// See [`Change`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// A lease was written.
    Put(Entry),
    /// Something that is no lease was written.
    Foreign(Unreadable),
    /// A lease is gone.
    Gone(LeaseKey),
    /// Something that was no lease is gone.
    ForeignGone,
}
