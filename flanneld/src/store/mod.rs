//! Lease stores: where the network configuration and the leases of all nodes come from, and where our own lease is kept.
//!
//! This file is all that the daemon sees of a store; only the modules below know etcd or Kubernetes. Nothing here touches the
//! kernel.

use std::fmt;
use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipam::{LeaseKey, LeaseRecord, Mac, NetConf, PerFamily, Subnets};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub(crate) mod backoff;
#[cfg(feature = "etcd")]
mod claim;
#[cfg(feature = "etcd")]
pub mod etcd;
mod health;
#[cfg(feature = "kube")]
pub mod kube;

pub use self::health::{Answers, Health};
use backoff::{Backoff, Trouble};

/// First and longest delay between tries of [`wait_for_lease`].
const ACQUIRE_RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// A node's lease as the store has it. Our own is among them; the daemon tells it by its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerLease {
    /// The subnets that are leased.
    pub key: LeaseKey,
    /// Who holds them and how to reach the holder.
    pub record: LeaseRecord,
    /// The store's revision of this version; later versions have larger ones.
    pub revision: i64,
    /// The store's revision at which the lease came into being; renewals do not change it.
    pub created: i64,
}

/// An entry among the leases that is not a lease, or not all of one. It is skipped as far as it cannot be used; whoever knew an earlier, readable version may go on with that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The entry's full key in the store.
    pub key: String,
    /// The lease key, if at least that could be read. Its subnets count as taken.
    pub lease: Option<LeaseKey>,
    /// What is wrong with it.
    pub reason: String,
    /// What of it is used nevertheless.
    pub used: Used,
}

/// What is used of an entry that is not a lease as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Used {
    /// Nothing, as far as the store knows.
    Nothing,
    /// One of its address families.
    InPart,
    /// What it said before.
    Former,
    /// Nothing, because nobody has written there what makes an entry a lease of this network.
    NotOurs,
    /// Nothing, because another node has the same subnets: this node, or else the one that came first.
    Duplicate {
        /// The entry that came later, which may be this node's.
        later: String,
    },
}

/// What [`LeaseStore::watch_peers`] reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerEvent {
    /// All leases there are. Comes first, and again whenever changes may have been missed, and from time to time; what is
    /// not in it is gone, except for entries in `skipped`, of which nothing is known.
    Snapshot {
        /// The leases.
        peers: Vec<PeerLease>,
        /// Entries that are not leases.
        skipped: Vec<Unreadable>,
    },
    /// A lease is new or was written again, perhaps with the same content.
    Changed(PeerLease),
    /// A lease is gone: removed or expired. May name one that was never reported.
    Removed(LeaseKey),
    /// An entry was written that is not a lease.
    Unreadable(Unreadable),
    /// What was told of the entry with this key holds no more: it is a lease as it should be, or gone.
    Mended(String),
}

/// How we came to our subnets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Another program gave them to this node: Kubernetes' controller manager.
    Assigned,
    /// The store had them under our public address.
    Reused,
    /// They were ours before (from the subnet file), and free.
    Previous,
    /// Chosen among the free ones.
    Chosen,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Assigned => "the Node's podCIDR",
            Self::Reused => "found under our address",
            Self::Previous => "held before",
            Self::Chosen => "chosen among the free ones",
        })
    }
}

/// Our lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnLease {
    /// The subnets.
    pub key: LeaseKey,
    /// What the store tells the other nodes about us.
    pub record: LeaseRecord,
    /// When it ends if it is not renewed, by the monotonic clock and rather too early than too late. None for a
    /// reservation, which does not end.
    pub expires: Option<Instant>,
    /// How we came to it.
    pub origin: Origin,
}

/// What [`LeaseStore::keep`] reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnEvent {
    /// The lease was renewed, by us or by another program with the same content. The first one comes at once.
    Renewed {
        /// The new end; None if it is now a reservation.
        expires: Option<Instant>,
    },
    /// A new record of ours stands in the store.
    Published(LeaseRecord),
    /// The lease is not ours any more, as a sentence. Forwarding may go on; the store goes on trying to win it back.
    Lost {
        /// What happened.
        reason: String,
    },
    /// Other subnets are ours now, perhaps after [`OwnEvent::Lost`]; those we had are not any more.
    Moved(OwnLease),
    /// The same subnets are ours again after [`OwnEvent::Lost`].
    Reacquired(OwnLease),
    /// The store does not answer or refuses. The lease is still ours as far as known. Said once per reason.
    Trouble {
        /// What does not work and why, as a sentence.
        reason: String,
    },
}

/// What a store knows of this node before it has a lease.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ThisNode {
    /// The public addresses that it should take, whatever the flags say.
    pub public: PerFamily<Ipv4Addr, Ipv6Addr>,
    /// The MACs of its VTEPs that the peers know, from before a reboot perhaps.
    pub macs: PerFamily<Mac, Mac>,
}

/// What goes wrong with a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A setting makes no sense; trying again does not help.
    #[error("{setting}: {reason}")]
    Settings {
        /// The command line flag.
        setting: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Subnets are given to nodes by another program, and this one has none that it can use.
    #[error("this node has no subnet yet: {reason}")]
    NotAssigned {
        /// Why, with what has to happen.
        reason: String,
    },
    /// Nobody answers.
    #[error("cannot {action} {object}: {store} does not answer ({reasons})")]
    Unreachable {
        /// The store.
        store: &'static str,
        /// What was to be done.
        action: &'static str,
        /// To what.
        object: String,
        /// Each endpoint with its reason.
        reasons: String,
    },
    /// The store answers with a refusal.
    #[error("cannot {action} {object}: {store} refuses: {reason}")]
    Refused {
        /// The store and its endpoint.
        store: String,
        /// What was to be done.
        action: &'static str,
        /// To what.
        object: String,
        /// The store's words.
        reason: String,
    },
    /// All subnets are taken.
    #[error(
        "no subnet of {range} is free, {leases} leases exist: remove leases of hosts that are gone, or enlarge the Network"
    )]
    NoSubnetFree {
        /// Where a subnet was looked for.
        range: String,
        /// The number of leases that exist.
        leases: usize,
    },
    /// Other nodes were quicker, each time.
    #[error("other nodes took the subnets we tried for, {tries} times in a row")]
    Contended {
        /// How often we tried.
        tries: usize,
    },
}

impl StoreError {
    /// Trying again may help.
    pub fn may_pass(&self) -> bool {
        !matches!(self, Self::Settings { .. })
    }
}

/// A place where the nodes' leases are kept.
pub trait LeaseStore: Send + Sync {
    /// How it does.
    fn health(&self) -> Health;

    /// The network configuration, checked. Waits for the store to answer and for the configuration to exist and be valid;
    /// logs once what it waits for and when that is over. Fails only where waiting cannot help.
    fn net_conf(&self) -> impl Future<Output = Result<NetConf, StoreError>> + Send;

    /// What the store knows of this node already. Waits for the store if it has to be asked; fails only where waiting cannot
    /// help. A store that chooses leases by what is published knows nothing.
    fn this_node(
        &self,
        _conf: &NetConf,
    ) -> impl Future<Output = Result<ThisNode, StoreError>> + Send {
        async { Ok(ThisNode::default()) }
    }

    /// Makes a lease ours and publishes `record` in it: one that has our public address, else `previous` if it is free and
    /// fits `conf`, else one of the free ones. Losing a race is no error, another try is made.
    ///
    /// # Errors
    /// At once when the store does not answer or refuses or no subnet is free; see [`wait_for_lease`].
    fn acquire(
        &self,
        conf: &NetConf,
        record: &LeaseRecord,
        previous: Option<&Subnets>,
    ) -> impl Future<Output = Result<OwnLease, StoreError>> + Send;

    /// Keeps `own` ours: renews it in time, publishes what `record` holds whenever that changes, wins the same subnets back
    /// when they are lost and nobody else has them, and reports all that. Never writes over what another node wrote.
    /// Ends when the receiver of `events` is dropped.
    fn keep(
        &self,
        own: OwnLease,
        record: watch::Receiver<LeaseRecord>,
        events: mpsc::Sender<OwnEvent>,
    ) -> impl Future<Output = ()> + Send;

    /// Tells whoever waits for it that this node's network works, once `works` says so, and keeps telling it. Never ends. A
    /// store without anybody who waits does nothing.
    fn announce(&self, _works: watch::Receiver<bool>) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// Reports all leases and then every change, through any break of the connection. Ends when the receiver is dropped.
    fn watch_peers(&self, events: mpsc::Sender<PeerEvent>) -> impl Future<Output = ()> + Send;
}

/// [`LeaseStore::acquire`] with patience: tries until it works, with growing delays, and logs each reason once.
///
/// # Errors
/// Only what does not pass by waiting ([`StoreError::may_pass`]).
pub async fn wait_for_lease<S: LeaseStore>(
    store: &S,
    conf: &NetConf,
    record: &LeaseRecord,
    previous: Option<&Subnets>,
) -> Result<OwnLease, StoreError> {
    let mut patience = Patience::new().shown_in(store.health());
    loop {
        match store.acquire(conf, record, previous).await {
            Ok(own) => {
                patience.over();
                return Ok(own);
            }
            Err(error) => patience.after(error)?.wait().await,
        }
    }
}

/// What is to be done after tries to acquire a lease.
#[derive(Debug)]
pub(crate) struct Patience {
    backoff: Backoff,
    trouble: Trouble,
}

impl Patience {
    /// Before the first try.
    pub(crate) fn new() -> Self {
        Self {
            backoff: Backoff::new(ACQUIRE_RETRY.0, ACQUIRE_RETRY.1),
            trouble: Trouble::new("acquiring a lease"),
        }
    }

    /// Shows what is waited for there too.
    fn shown_in(mut self, health: Health) -> Self {
        self.trouble = self.trouble.shown_in(health);
        self
    }

    /// A try has failed: the delay to wait before the next, or the error if it does not pass by waiting.
    pub(crate) fn after(&mut self, error: StoreError) -> Result<&mut Backoff, StoreError> {
        if !error.may_pass() {
            return Err(error);
        }
        if self.trouble.report(&error.to_string()) {
            // Something else than before, so the store is moving.
            self.backoff.reset();
        }
        Ok(&mut self.backoff)
    }

    /// It worked.
    pub(crate) fn over(&mut self) {
        self.trouble.over();
    }
}
