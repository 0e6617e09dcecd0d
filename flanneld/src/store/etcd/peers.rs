//! The leases of all nodes, followed through any break: list, watch from the next revision on, and list again when etcd has
//! forgotten that revision or tells another history, and from time to time.
//!
//! An etcd that tells another history (restored from a backup, or emptied) lacks leases whose hosts are alive and are about to
//! write them again. So what is missing there is not reported as gone until they have had time for that.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{info, warn};

use super::listing::{self, History};
use super::port::{Change, News, Notice, Port, Scope, Watch, What};
use crate::store::PeerEvent;
use crate::store::backoff::{Backoff, Trouble};

/// Follows the leases until the receiver of `events` is dropped.
pub(super) async fn follow<P: Port>(port: &P, events: &mpsc::Sender<PeerEvent>) {
    let timing = &port.config().timing;
    let mut follower = Follower {
        port,
        events,
        settled_after: timing.retry_cap,
        left: None,
        listing_due: port.now(),
        backoff: Backoff::new(timing.retry_first, timing.retry_cap),
        trouble: Trouble::new("watching the leases"),
    };
    tokio::select! {
        biased;
        () = events.closed() => {}
        () = follower.run() => {}
    }
}

struct Follower<'a, P> {
    port: &'a P,
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

impl<P: Port> Follower<'_, P> {
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
            self.port.pause(&mut self.backoff).await;
        }
    }

    async fn list(&mut self) -> Result<History, Break> {
        let listing = self.port.list().await;
        let listing = listing.map_err(|error| Break::Reconnect(error.to_string()))?;
        let history = listing.history;
        let (peers, skipped) = listing.into_peers(self.port.keys());
        let timing = &self.port.config().timing;
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
            self.listing_due = self.port.now() + timing.grace;
        } else {
            self.deliver(PeerEvent::Snapshot { peers, skipped }).await?;
            // Spread, or all hosts would go on listing at the moment at which etcd was restarted.
            let spread = &mut Backoff::new(timing.relist, timing.relist);
            self.listing_due = self.port.now() + self.port.delay(spread);
        }
        Ok(history)
    }

    async fn watch(&mut self, position: &mut History) -> Break {
        let opened = self.port.watch(Scope::AllSince(position.revision)).await;
        let mut watch = match opened {
            Ok(watch) => watch,
            Err(error) => return Break::Reconnect(error.to_string()),
        };
        let settles_at = self.port.now() + self.settled_after;
        let mut settled = false;
        let broke = loop {
            let port = self.port;
            let told = tokio::select! {
                biased;
                () = port.sleep_until(self.listing_due) => break Break::Due,
                () = port.sleep_until(settles_at), if !settled => {
                    settled = true;
                    self.works();
                    continue;
                }
                told = watch.next() => told,
            };
            let step = match told {
                Ok(notice) => self.take(notice, position).await,
                Err(reason) => Err(Break::Reconnect(reason)),
            };
            if let Err(broke) = step {
                break broke;
            }
        };
        match broke {
            Break::Reconnect(reason) => {
                let url = self.port.abandon(watch).await;
                Break::Reconnect(format!("etcd at {url}: {reason}"))
            }
            broke => broke,
        }
    }

    /// Delivers what a notice says and moves `position` behind it.
    async fn take(&mut self, notice: Notice, position: &mut History) -> Result<(), Break> {
        let Notice { history: now, news } = notice;
        match &news {
            News::Compacted(up_to) => {
                let reason = format!(
                    "etcd has compacted its history up to revision {up_to}, the watch was at {}",
                    position.revision
                );
                return Err(Break::Relist(reason));
            }
            News::Cancelled(reason) => {
                let reason = format!("it cancelled the watch: {reason}");
                return Err(Break::Reconnect(reason));
            }
            News::Open | News::Changes(_) => {}
        }
        if !position.goes_on_in(&now) {
            let reason = format!(
                "etcd is at revision {}, before it was at {}",
                now.revision, position.revision
            );
            return Err(Break::Relist(reason));
        }
        position.term = now.term;
        let News::Changes(changes) = news else {
            return Ok(());
        };
        // The history tells the store's revision, which may be ahead of the changes told so far; only a notice without changes
        // promises that there is nothing up to it.
        let reached = changes
            .last()
            .map_or(now.revision, |last| last.revision.max(position.revision));
        for change in changes {
            if let Some(event) = self.event(change) {
                self.deliver(event).await?;
            }
        }
        position.revision = reached;
        self.works();
        Ok(())
    }

    fn event(&self, change: Change) -> Option<PeerEvent> {
        match change.what {
            What::Put(entry) => Some(match listing::peer(self.port.keys(), entry) {
                Ok(lease) => PeerEvent::Changed(lease),
                Err(unreadable) => PeerEvent::Unreadable(unreadable),
            }),
            What::Foreign(unreadable) => Some(PeerEvent::Unreadable(unreadable)),
            What::Gone(key) => Some(PeerEvent::Removed(key)),
            What::ForeignGone => None,
        }
    }

    async fn deliver(&self, event: PeerEvent) -> Result<(), Break> {
        self.events.send(event).await.map_err(|_| Break::Closed)
    }

    fn works(&mut self) {
        self.backoff.reset();
        self.trouble.over();
    }
}
