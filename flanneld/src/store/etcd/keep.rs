//! How our lease stays ours: look at its key whenever something may have changed, and do what is needed then.
//!
//! Nothing is remembered about why it was looked at; each look compares what etcd has with what should be there, so no event
//! can be missed for good.

use std::collections::BTreeSet;
use std::time::Duration;

use etcd_client::{WatchOptions, WatchStream};
use ipam::{LeaseKey, LeaseRecord};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::leases::{Held, Leases};
use super::listing::Listing;
use crate::store::backoff::Backoff;
use crate::store::claim::{self, Entry, Standing};
use crate::store::{Origin, OwnEvent, OwnLease, StoreError};

/// So many reasons of one trouble are told.
const MOST_REASONS: usize = 16;

/// See [`crate::store::LeaseStore::keep`].
pub(super) async fn keep(
    leases: &Leases,
    own: OwnLease,
    desired: watch::Receiver<LeaseRecord>,
    events: mpsc::Sender<OwnEvent>,
) {
    let changed = Notify::new();
    let key = own.key;
    let mut keeper = Keeper::new(leases, own, desired, &events);
    tokio::select! {
        () = events.closed() => {}
        () = alarm(leases, &key, &changed) => {}
        () = keeper.run(&changed) => {}
    }
}

/// Tells of every change of our key, and of every break in the telling, for changes may be missed then.
async fn alarm(leases: &Leases, key: &LeaseKey, changed: &Notify) {
    let timing = &leases.connection.config().timing;
    let mut backoff = Backoff::new(timing.retry_first, timing.retry_cap);
    let path = leases.keys.lease(key);
    loop {
        let began = Instant::now();
        if let Ok((mut stream, at)) = leases.connection.watch(&path, WatchOptions::new()).await {
            while live(&mut stream).await {
                changed.notify_one();
            }
            leases.connection.avoid(at).await;
        }
        changed.notify_one();
        if began.elapsed() > timing.retry_cap {
            backoff.reset();
        }
        backoff.wait().await;
    }
}

/// Waits for the next message of a watch: true for one that tells something, false when the watch is over.
async fn live(stream: &mut WatchStream) -> bool {
    match stream.message().await {
        Ok(Some(response)) => !response.canceled(),
        Ok(None) | Err(_) => false,
    }
}

/// When a lease that ends at `expires` is to be renewed: `margin` before its end, and not later than at half of its time so
/// that an etcd that is away for hours costs no lease. A margin as long as the lease itself means nothing.
fn renewal(expires: Instant, lease: Duration, margin: Duration) -> Instant {
    let ahead = if margin < lease {
        margin.max(lease / 2)
    } else {
        lease / 2
    };
    expires.checked_sub(ahead).unwrap_or(expires)
}

struct Keeper<'a> {
    leases: &'a Leases,
    events: &'a mpsc::Sender<OwnEvent>,
    desired: watch::Receiver<LeaseRecord>,
    key: LeaseKey,
    /// What we wrote, or tried to write since that was last confirmed. What stands there is ours if it is one of these.
    written: Vec<LeaseRecord>,
    /// What stood there when we last made sure.
    confirmed: LeaseRecord,
    /// The etcd lease our key hangs on, once known.
    grant: Option<i64>,
    expires: Option<Instant>,
    /// The lease is to be made sure of at the next look, whatever the clock says.
    doubtful: bool,
    /// Why it is not ours now.
    lost: Option<String>,
    /// The reasons said since etcd last answered.
    troubles: BTreeSet<String>,
    backoff: Backoff,
}

impl<'a> Keeper<'a> {
    fn new(
        leases: &'a Leases,
        own: OwnLease,
        desired: watch::Receiver<LeaseRecord>,
        events: &'a mpsc::Sender<OwnEvent>,
    ) -> Self {
        let timing = &leases.connection.config().timing;
        Self {
            leases,
            events,
            desired,
            key: own.key,
            written: vec![own.record.clone()],
            confirmed: own.record,
            grant: None,
            expires: own.expires,
            // Between the taking and the keeping anything may have happened.
            doubtful: true,
            lost: None,
            troubles: BTreeSet::new(),
            backoff: Backoff::new(timing.retry_first, timing.retry_cap),
        }
    }

    async fn run(&mut self, changed: &Notify) {
        loop {
            let again = match self.look().await {
                Ok(Next::Renewal) => {
                    self.backoff.reset();
                    self.renewal()
                }
                Ok(Next::Soon) => Some(Instant::now() + self.backoff.delay()),
                Ok(Next::Change) => None,
                Err(error) => {
                    self.trouble(error).await;
                    Some(Instant::now() + self.backoff.delay())
                }
            };
            let closed = self.desired.has_changed().is_err();
            tokio::select! {
                () = changed.notified() => {}
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
                _ = self.desired.changed(), if !closed => {}
            }
        }
    }

    /// Looks at our key and does what is needed.
    async fn look(&mut self) -> Result<Next, StoreError> {
        let entry = self.leases.read(&self.key).await?;
        self.troubles.clear();
        match (claim::standing(entry.as_ref(), &self.written), entry) {
            (Standing::Ours, Some(entry)) => self.maintain(&entry).await,
            (Standing::Foreign(says), _) => {
                let path = self.path();
                self.lose(format!("another host or program wrote over {path}: {says}"))
                    .await;
                Ok(Next::Change)
            }
            (Standing::Gone | Standing::Ours, _) => {
                if self.lost.is_none() {
                    let path = self.path();
                    self.lose(format!(
                        "etcd has no {path} any more: it expired or was removed"
                    ))
                    .await;
                }
                self.win_back().await
            }
        }
    }

    /// The entry is ours: publishes a changed record, renews, or finds nothing to do.
    async fn maintain(&mut self, entry: &Entry) -> Result<Next, StoreError> {
        let desired = self.desired.borrow_and_update().clone();
        let publish = entry.record.as_ref() != Ok(&desired);
        // Another program renewed it under an etcd lease of its own, or made it a reservation.
        let left = self.grant.replace(entry.grant);
        let left = left.filter(|grant| *grant != entry.grant);
        let due = self.renewal().is_some_and(|due| due <= Instant::now());
        if !(publish || left.is_some() || due || self.doubtful || self.lost.is_some()) {
            return Ok(Next::Renewal);
        }
        self.attempt(&desired);
        let Some(held) = self.leases.hold(entry, &desired).await? else {
            return Ok(Next::Soon);
        };
        self.confirm(&desired, held).await;
        if let Some(grant) = left {
            self.leases.drop_if_empty(grant).await;
        }
        Ok(Next::Renewal)
    }

    /// Nobody has our key: takes it again unless another lease overlaps it by now.
    async fn win_back(&mut self) -> Result<Next, StoreError> {
        let listing = Listing::read(&self.leases.connection, &self.leases.keys).await?;
        if let Some(rival) = claim::overlapping(&listing.entries, &self.key.subnets()) {
            let rival = self.leases.keys.lease(&rival.key);
            let subnets = self.key.subnets();
            self.lose(format!(
                "another host holds {rival}, which overlaps our {subnets}"
            ))
            .await;
            return Ok(Next::Soon);
        }
        let desired = self.desired.borrow_and_update().clone();
        self.attempt(&desired);
        let as_of = listing.history.revision;
        let created = self.leases.create(&self.key, &desired, &[], as_of).await?;
        let Some(held) = created else {
            return Ok(Next::Soon);
        };
        self.confirm(&desired, held).await;
        Ok(Next::Renewal)
    }

    /// A write of `record` begins, whose answer may get lost.
    fn attempt(&mut self, record: &LeaseRecord) {
        self.doubtful = true;
        if !self.written.contains(record) {
            self.written.push(record.clone());
        }
    }

    /// The entry says `record` and lasts.
    async fn confirm(&mut self, record: &LeaseRecord, held: Held) {
        let published = self.confirmed != *record;
        self.written = vec![record.clone()];
        self.confirmed = record.clone();
        self.grant = Some(held.grant);
        self.expires = held.expires;
        self.doubtful = false;
        if self.lost.take().is_some() {
            self.tell(OwnEvent::Reacquired(OwnLease {
                key: self.key,
                record: record.clone(),
                expires: held.expires,
                origin: Origin::Previous,
            }))
            .await;
            return;
        }
        if published {
            self.tell(OwnEvent::Published(record.clone())).await;
        }
        self.tell(OwnEvent::Renewed {
            expires: held.expires,
        })
        .await;
    }

    async fn lose(&mut self, reason: String) {
        if self.lost.as_ref() != Some(&reason) {
            self.lost = Some(reason.clone());
            self.tell(OwnEvent::Lost { reason }).await;
        }
    }

    async fn trouble(&mut self, error: StoreError) {
        self.doubtful = true;
        let reason = error.to_string();
        if self.troubles.len() < MOST_REASONS && self.troubles.insert(reason.clone()) {
            self.tell(OwnEvent::Trouble { reason }).await;
        }
        let over = self
            .expires
            .is_some_and(|expires| expires <= Instant::now());
        if over && self.lost.is_none() {
            let path = self.path();
            self.lose(format!(
                "{path} could not be renewed before its time was over; another host may take it"
            ))
            .await;
        }
    }

    fn renewal(&self) -> Option<Instant> {
        let config = self.leases.connection.config();
        let expires = self.expires?;
        Some(renewal(expires, config.timing.lease, config.renew_margin))
    }

    fn path(&self) -> String {
        self.leases.keys.lease(&self.key)
    }

    async fn tell(&self, event: OwnEvent) {
        // Nobody listening ends `keep` as a whole.
        let _ = self.events.send(event).await;
    }
}

/// What to wait for after a look.
enum Next {
    /// A change or the time to renew.
    Renewal,
    /// A change, and not for long.
    Soon,
    /// A change.
    Change,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn renewal_comes_at_half_time_or_as_early_as_the_margin_asks() {
        let day = 24 * HOUR;
        let expires = Instant::now() + day;
        assert_eq!(renewal(expires, day, HOUR), expires - 12 * HOUR);
        assert_eq!(renewal(expires, day, 23 * HOUR), expires - 23 * HOUR);
    }

    proptest! {
        #[test]
        fn renewal_is_before_the_end_and_not_at_once(lease in 1u64..200_000, margin in 0u64..200_000) {
            let (lease, margin) = (Duration::from_secs(lease), Duration::from_secs(margin));
            let granted = Instant::now();
            let due = renewal(granted + lease, lease, margin);
            prop_assert!(due > granted && due < granted + lease);
        }
    }
}
