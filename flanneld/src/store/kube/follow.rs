//! The one watch: of all Nodes, or of our own where nothing is sent to peers. What it tells goes into [`Shared`], from where the
//! keeper of our Node and the reporter of the peers take it.

use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use ipam::AnnotationPrefix;
use kube::Api;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::{Notify, watch};
use tracing::debug;

use super::access::{chain, store_error};
use super::connect::WATCH;
use super::node::{Node, NodeView};
use super::peers::Peers;
use crate::store::backoff::{Backoff, Trouble};
use crate::store::{Health, StoreError};

/// Nodes a page of the listing. A Node with its images has some 15 kB, and a page is in memory as a whole.
const PAGE: u32 = 100;
/// After this long without an error a watch that had trouble is taken for working again, if the API server answers.
const QUIET: Duration = Duration::from_secs(1);
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// What is known of our own Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Own {
    /// Nobody has told yet.
    Unknown,
    /// There is no such Node.
    Absent,
    /// It is there.
    There(Box<NodeView>),
}

/// What the watch tells.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) node: String,
    pub(super) own: watch::Sender<Own>,
    /// Rung when [`Peers::news`] may have some.
    pub(super) news: Notify,
    peers: Mutex<Peers>,
    pub(super) health: Health,
}

impl Shared {
    pub(super) fn new(node: String, peers: Peers, health: Health) -> Self {
        Self {
            node,
            own: watch::Sender::new(Own::Unknown),
            news: Notify::new(),
            peers: Mutex::new(peers),
            health,
        }
    }

    pub(super) fn peers(&self) -> MutexGuard<'_, Peers> {
        // A thread that panicked while it held the lock takes the process down with it, except in tests.
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what is known of our Node, unless something later is known already. `authoritative` is a listing, which may
    /// come from an API server that began anew.
    pub(super) fn take_own(&self, node: NodeView, authoritative: bool) {
        self.own.send_if_modified(|own| {
            if let Own::There(before) = own {
                let older = before.uid == node.uid && node.revision < before.revision;
                if older && !authoritative {
                    return false;
                }
                if before.same_as(&node) {
                    before.revision = node.revision;
                    return false;
                }
            }
            *own = Own::There(Box::new(node));
            true
        });
    }

    pub(super) fn own_is_absent(&self) {
        self.own
            .send_if_modified(|own| std::mem::replace(own, Own::Absent) != Own::Absent);
    }
}

/// What is watched, and how it is read.
pub(super) struct Follower {
    pub(super) nodes: watch::Receiver<Api<Node>>,
    pub(super) prefix: AnnotationPrefix,
    /// Only our own Node is of interest.
    pub(super) only_own: bool,
}

impl Follower {
    /// Follows the Nodes for ever, through any break, and from the beginning over another way to them.
    pub(super) async fn run(self, shared: &Shared) {
        let mut ways = self.nodes.clone();
        loop {
            let nodes = ways.borrow_and_update().clone();
            tokio::select! {
                () = self.follow(nodes, shared) => {}
                // The sender lives as long as this task.
                _ = ways.changed() => debug!("the watch of the Nodes begins anew over other connections"),
            }
        }
    }

    async fn follow(&self, nodes: Api<Node>, shared: &Shared) {
        let mut config = watcher::Config::default().page_size(PAGE).timeout(WATCH);
        if self.only_own {
            config = config.fields(&format!("metadata.name={}", shared.node));
        }
        let mut stream = pin!(watcher(nodes, config));
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut trouble = Trouble::new("watching the Nodes");
        let mut own_listed = false;
        loop {
            let event = tokio::select! {
                event = stream.next() => event,
                () = tokio::time::sleep(QUIET), if trouble.lasts() => {
                    if self.read_own(shared).await.is_ok() {
                        trouble.over();
                        backoff.reset();
                    }
                    continue;
                }
            };
            match event {
                Some(Ok(event)) => {
                    // That a listing begins is no answer yet: it comes before the first request, and again after each that failed.
                    if !matches!(event, Event::Init) {
                        shared.health.answered();
                        trouble.over();
                        backoff.reset();
                    }
                    self.take(shared, event, &mut own_listed);
                }
                Some(Err(error)) => {
                    if is_expiry(&error) {
                        debug!(
                            "the API server has forgotten where the watch was; listing the Nodes anew"
                        );
                        continue;
                    }
                    let reason = reason(&error).to_string();
                    shared.health.failed(&reason);
                    trouble.report(&reason);
                    backoff.wait().await;
                }
                // The stream has no end, says its documentation.
                None => backoff.wait().await,
            }
        }
    }

    /// Asks for our Node by itself.
    pub(super) async fn read_own(&self, shared: &Shared) -> Result<(), StoreError> {
        let nodes = self.nodes.borrow().clone();
        let found = nodes.get_opt(&shared.node).await;
        let object = format!("Node {}", shared.node);
        let found = found.map_err(|error| store_error("read", &object, &error));
        shared.health.note(&found);
        match found? {
            Some(node) => shared.take_own(NodeView::new(&self.prefix, node), false),
            None => shared.own_is_absent(),
        }
        Ok(())
    }

    fn take(&self, shared: &Shared, event: Event<Node>, own_listed: &mut bool) {
        match event {
            Event::Init => {
                *own_listed = false;
                shared.peers().begin();
            }
            Event::InitApply(node) => {
                let node = NodeView::new(&self.prefix, node);
                shared.peers().put(&node);
                if node.name == shared.node {
                    *own_listed = true;
                    shared.take_own(node, true);
                }
            }
            Event::InitDone => {
                shared.peers().end();
                if !*own_listed {
                    shared.own_is_absent();
                }
            }
            Event::Apply(node) => {
                let node = NodeView::new(&self.prefix, node);
                shared.peers().put(&node);
                if node.name == shared.node {
                    shared.take_own(node, false);
                }
            }
            Event::Delete(node) => {
                let node = NodeView::new(&self.prefix, node);
                shared.peers().remove(&node.name);
                if node.name == shared.node {
                    shared.own_is_absent();
                }
            }
        }
        shared.news.notify_one();
    }
}

/// Whether the server only says that it keeps no history as old as that.
fn is_expiry(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchError(status) => status.code == 410,
        watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => status.code == 410,
        _ => false,
    }
}

fn reason(error: &watcher::Error) -> StoreError {
    const OBJECT: &str = "the Nodes";
    match error {
        watcher::Error::InitialListFailed(error) => store_error("list", OBJECT, error),
        watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => {
            store_error("watch", OBJECT, error)
        }
        watcher::Error::WatchError(status) => {
            store_error("watch", OBJECT, &kube::Error::Api(status.clone()))
        }
        error => StoreError::Unreachable {
            store: super::access::SERVER,
            action: "watch",
            object: OBJECT.to_owned(),
            reasons: chain(error),
        },
    }
}
