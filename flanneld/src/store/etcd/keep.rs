//! How our lease stays ours: look at its key whenever something may have changed, and do what is needed then.
//!
//! Nothing is remembered about why it was looked at; each look compares what etcd has with what should be there, so no event
//! can be missed for good.

use std::collections::BTreeSet;
use std::time::Duration;

use ipam::{LeaseKey, LeaseRecord};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::leases::{Held, Leases};
use super::port::{News, Port, Scope, Watch};
use crate::store::backoff::Backoff;
use crate::store::claim::{self, Entry, Known, Standing};
use crate::store::{Origin, OwnEvent, OwnLease, StoreError};

/// So many reasons of one trouble are told.
const MOST_REASONS: usize = 16;

/// See [`crate::store::LeaseStore::keep`].
pub(super) async fn keep<P: Port>(
    leases: &Leases<P>,
    own: OwnLease,
    desired: watch::Receiver<LeaseRecord>,
    events: mpsc::Sender<OwnEvent>,
) {
    let changed = Notify::new();
    let key = own.key;
    let mut keeper = Keeper::new(leases, own, desired, &events);
    tokio::select! {
        biased;
        () = events.closed() => {}
        () = alarm(&leases.port, key, &changed) => {}
        () = keeper.run(&changed) => {}
    }
}

/// Tells of every change of our key, and of every break in the telling, for changes may be missed then.
async fn alarm<P: Port>(port: &P, key: LeaseKey, changed: &Notify) {
    let timing = &port.config().timing;
    let mut backoff = Backoff::new(timing.retry_first, timing.retry_cap);
    loop {
        let began = port.now();
        if let Ok(mut watch) = port.watch(Scope::One(key)).await {
            while live(&mut watch).await {
                changed.notify_one();
            }
            port.abandon(watch).await;
        }
        changed.notify_one();
        if port.now() > began + timing.retry_cap {
            backoff.reset();
        }
        port.pause(&mut backoff).await;
    }
}

/// Waits for the next notice of a watch: true for one that tells something, false when the watch is over.
async fn live(watch: &mut impl Watch) -> bool {
    let told = watch.next().await.map(|notice| notice.news);
    matches!(told, Ok(News::Open | News::Changes(_)))
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

struct Keeper<'a, P> {
    leases: &'a Leases<P>,
    events: &'a mpsc::Sender<OwnEvent>,
    desired: watch::Receiver<LeaseRecord>,
    key: LeaseKey,
    /// By this the entry is known as ours.
    known: Known,
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

impl<'a, P: Port> Keeper<'a, P> {
    fn new(
        leases: &'a Leases<P>,
        own: OwnLease,
        desired: watch::Receiver<LeaseRecord>,
        events: &'a mpsc::Sender<OwnEvent>,
    ) -> Self {
        let timing = &leases.port.config().timing;
        Self {
            leases,
            events,
            desired,
            key: own.key,
            known: Known::new(own.record.clone()),
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
                Ok(Next::Soon) => Some(self.later()),
                Ok(Next::Change) => None,
                Err(error) => {
                    self.trouble(error).await;
                    Some(self.later())
                }
            };
            let closed = self.desired.has_changed().is_err();
            let port = &self.leases.port;
            let again_at = again.unwrap_or_else(|| port.now());
            tokio::select! {
                biased;
                () = changed.notified() => {}
                () = port.sleep_until(again_at), if again.is_some() => {}
                _ = self.desired.changed(), if !closed => {}
            }
        }
    }

    /// Looks at our key and does what is needed.
    async fn look(&mut self) -> Result<Next, StoreError> {
        let entry = self.leases.port.read(&self.key).await?;
        self.troubles.clear();
        let standing = self.known.standing(entry.as_ref(), &self.desired.borrow());
        match (standing, entry) {
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
        let due = self
            .renewal()
            .is_some_and(|due| due <= self.leases.port.now());
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
        let listing = self.leases.port.list().await?;
        if let Some(rival) = claim::overlapping(&listing.entries, &self.key.subnets()) {
            let rival = self.leases.port.keys().lease(&rival.key);
            let subnets = self.key.subnets();
            self.lose(format!(
                "another host holds {rival}, which overlaps our {subnets}"
            ))
            .await;
            return Ok(Next::Soon);
        }
        let desired = self.desired.borrow_and_update().clone();
        self.attempt(&desired);
        let created = self.leases.create(&self.key, &desired, &[], &listing);
        let Some(held) = created.await? else {
            return Ok(Next::Soon);
        };
        self.confirm(&desired, held).await;
        Ok(Next::Renewal)
    }

    /// A write of `record` begins, whose answer may get lost.
    fn attempt(&mut self, record: &LeaseRecord) {
        self.doubtful = true;
        self.known.attempt(record);
    }

    /// The entry says `record` and lasts.
    async fn confirm(&mut self, record: &LeaseRecord, held: Held) {
        let published = self.confirmed != *record;
        self.known.confirm(record, held.revision);
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
            .is_some_and(|expires| expires <= self.leases.port.now());
        if over && self.lost.is_none() {
            let path = self.path();
            self.lose(format!(
                "{path} could not be renewed before its time was over; another host may take it"
            ))
            .await;
        }
    }

    fn later(&mut self) -> Instant {
        let port = &self.leases.port;
        port.now() + port.delay(&mut self.backoff)
    }

    fn renewal(&self) -> Option<Instant> {
        let config = self.leases.port.config();
        let expires = self.expires?;
        Some(renewal(expires, config.timing.lease, config.renew_margin))
    }

    fn path(&self) -> String {
        self.leases.port.keys().lease(&self.key)
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
