//! The leases of all nodes, followed through any break: list, watch from the next revision on, and list again when etcd has
//! forgotten that revision or tells another history, and from time to time.
//!
//! An etcd that tells another history (restored from a backup, or emptied) lacks leases whose hosts are alive and are about to
//! write them again. So what is missing there is not reported as gone until they have had time for that.

use std::time::Duration;

use etcd_client::{Event, EventType, WatchOptions, WatchResponse};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::connection::{Connection, reason_of};
use super::keys::Keys;
use super::listing::{self, History, Listing};
use crate::store::PeerEvent;
use crate::store::backoff::{Backoff, Trouble};

/// Follows the leases until the receiver of `events` is dropped.
pub(super) async fn follow(connection: &Connection, keys: &Keys, events: &mpsc::Sender<PeerEvent>) {
    let timing = &connection.config().timing;
    let mut follower = Follower {
        connection,
        keys,
        events,
        settled_after: timing.retry_cap,
        left: None,
        listing_due: Instant::now(),
        backoff: Backoff::new(timing.retry_first, timing.retry_cap),
        trouble: Trouble::new("watching the leases"),
    };
    tokio::select! {
        () = events.closed() => {}
        () = follower.run() => {}
    }
}

struct Follower<'a> {
    connection: &'a Connection,
    keys: &'a Keys,
    events: &'a mpsc::Sender<PeerEvent>,
    /// A watch that lives that long has proved to work.
    settled_after: Duration,
    /// How far we had come when it was decided to list again.
    left: Option<History>,
    /// When all leases are to be listed again although nothing happened.
    listing_due: Instant,
    backoff: Backoff,
    trouble: Trouble,
}

/// Why a step ended.
enum Break {
    /// Nobody listens any more.
    Closed,
    /// The watch cannot go on from where it was.
    Relist(String),
    /// It is time to list again.
    Due,
    /// The watch can go on from where it was.
    Reconnect(String),
}

impl Follower<'_> {
    async fn run(&mut self) {
        // Up to where everything has been delivered.
        let mut position: Option<History> = None;
        loop {
            let broke = match &mut position {
                Some(position) => self.watch(position).await,
                None => match self.list().await {
                    Ok(listed) => {
                        position = Some(listed);
                        continue;
                    }
                    Err(broke) => broke,
                },
            };
            match broke {
                Break::Closed => return,
                Break::Reconnect(reason) => {
                    self.trouble.report(&reason);
                }
                Break::Relist(reason) => {
                    info!("{reason}; listing all leases again");
                    self.left = position.take();
                }
                Break::Due => self.left = position.take(),
            }
            // After every break, also one that promises to go on at once: no reason may turn this into a hot loop.
            self.backoff.wait().await;
        }
    }

    async fn list(&mut self) -> Result<History, Break> {
        let listing = Listing::read(self.connection, self.keys)
            .await
            .map_err(|error| Break::Reconnect(crate::store::StoreError::from(error).to_string()))?;
        let history = listing.history;
        let (peers, skipped) = listing.into_peers(self.keys);
        let timing = &self.connection.config().timing;
        let other = self.left.take().filter(|left| !left.goes_on_in(&history));
        if let Some(left) = other {
            warn!(
                "etcd was restored or emptied: it is at revision {}, before it was at {}; \
                 leases that are missing now count as gone after {} s",
                history.revision,
                left.revision,
                timing.grace.as_secs()
            );
            for lease in peers {
                self.deliver(PeerEvent::Changed(lease)).await?;
            }
            for entry in skipped {
                self.deliver(PeerEvent::Unreadable(entry)).await?;
            }
            self.listing_due = Instant::now() + timing.grace;
        } else {
            self.deliver(PeerEvent::Snapshot { peers, skipped }).await?;
            // Spread, or all hosts would go on listing at the moment at which etcd was restarted.
            self.listing_due = Instant::now() + Backoff::new(timing.relist, timing.relist).delay();
        }
        Ok(history)
    }

    async fn watch(&mut self, position: &mut History) -> Break {
        let options = WatchOptions::new()
            .with_prefix()
            .with_start_revision(position.revision + 1)
            .with_progress_notify();
        let opened = self.connection.watch(&self.keys.subnets(), options).await;
        let (mut stream, at) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                return Break::Reconnect(crate::store::StoreError::from(error).to_string());
            }
        };
        let settles = sleep_until(Instant::now() + self.settled_after);
        tokio::pin!(settles);
        let mut settled = false;
        let broke = loop {
            let message = tokio::select! {
                message = stream.message() => message,
                () = sleep_until(self.listing_due) => break Break::Due,
                () = &mut settles, if !settled => {
                    settled = true;
                    self.works();
                    continue;
                }
            };
            let step = match message {
                Ok(Some(response)) => self.take(&response, position).await,
                Ok(None) => Err(Break::Reconnect("the watch ended".to_owned())),
                Err(error) => Err(Break::Reconnect(reason_of(&error))),
            };
            if let Err(broke) = step {
                break broke;
            }
        };
        match broke {
            Break::Reconnect(reason) => {
                self.connection.avoid(at).await;
                let url = self.connection.url(at);
                Break::Reconnect(format!("etcd at {url}: {reason}"))
            }
            broke => broke,
        }
    }

    /// Delivers what a response says and moves `position` behind it.
    async fn take(
        &mut self,
        response: &WatchResponse,
        position: &mut History,
    ) -> Result<(), Break> {
        if response.compact_revision() > 0 {
            let reason = format!(
                "etcd has compacted its history up to revision {}, the watch was at {}",
                response.compact_revision(),
                position.revision
            );
            return Err(Break::Relist(reason));
        }
        if response.canceled() {
            let reason = format!("it cancelled the watch: {}", response.cancel_reason());
            return Err(Break::Reconnect(reason));
        }
        let now = History::of(response.header());
        if !position.goes_on_in(&now) {
            let reason = format!(
                "etcd is at revision {}, before it was at {}",
                now.revision, position.revision
            );
            return Err(Break::Relist(reason));
        }
        position.term = now.term;
        if response.created() {
            return Ok(());
        }
        for event in response.events() {
            if let Some(event) = self.event(event) {
                self.deliver(event).await?;
            }
        }
        // The header tells the store's revision, which may be ahead of the events sent so far; only a response without
        // events (a progress notification) promises that there is nothing up to it.
        let last = response.events().last().and_then(Event::kv);
        position.revision =
            last.map_or(now.revision, |kv| kv.mod_revision().max(position.revision));
        self.works();
        Ok(())
    }

    fn event(&self, event: &Event) -> Option<PeerEvent> {
        let kv = event.kv()?;
        if event.event_type() == EventType::Delete {
            return match self.keys.parse(kv.key()) {
                Ok(key) => Some(PeerEvent::Removed(key)),
                Err(reason) => {
                    let key = String::from_utf8_lossy(kv.key());
                    debug!("{key} is gone, which was no lease: {reason}");
                    None
                }
            };
        }
        let read = listing::entry(self.keys, kv).and_then(|entry| listing::peer(self.keys, entry));
        Some(match read {
            Ok(lease) => PeerEvent::Changed(lease),
            Err(unreadable) => PeerEvent::Unreadable(unreadable),
        })
    }

    async fn deliver(&self, event: PeerEvent) -> Result<(), Break> {
        self.events.send(event).await.map_err(|_| Break::Closed)
    }

    fn works(&mut self) {
        self.backoff.reset();
        self.trouble.over();
    }
}
