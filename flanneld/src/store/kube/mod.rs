//! The lease store on the Kubernetes API: subnets are the Nodes' pod CIDRs, which the controller manager gives; how a Node is
//! reached stands in its annotations, which its daemon writes.
//!
//! Names, texts and permissions are flannel's, so that both may share a cluster.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipam::{AnnotationPrefix, Backend, LeaseRecord, NetConf, NodeLeaseError, Subnets};
use kube::Api;
use tokio::sync::{OnceCell, mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{debug, warn};

mod access;
mod connect;
mod follow;
mod keep;
mod node;
mod peers;
mod token;
mod unprocessed;

pub use access::{KubeAccess, NodeName};

use super::backoff::{Backoff, Trouble};
use super::{Health, LeaseStore, Origin, OwnEvent, OwnLease, PeerEvent, StoreError, ThisNode};
use follow::{Follower, Own, Shared};
use node::Node;
use peers::{Families, Peers};

/// Delays while waiting for the configuration, the API server or our Node.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// How long [`LeaseStore::acquire`] waits for a Node that is not ready to be leased from.
const PATIENCE: Duration = Duration::from_secs(1);

/// Settings of the store.
#[derive(Clone, Debug)]
pub struct KubeConfig {
    /// How the API server is reached, and which Node is this one.
    pub access: KubeAccess,
    /// The file that holds the network configuration (`--net-config-path`).
    pub net_conf: PathBuf,
    /// The prefix of the annotations (`--kube-annotation-prefix`).
    pub prefix: String,
    /// Whether the Node's condition is to be kept (`--set-node-network-unavailable`).
    pub set_condition: bool,
}

/// The leases in a Kubernetes API server.
pub struct KubeStore {
    config: KubeConfig,
    prefix: AnnotationPrefix,
    running: OnceCell<Running>,
    health: Health,
}

/// The store once it knows who this is and what it is for.
struct Running {
    shared: Arc<Shared>,
    access: KubeAccess,
    /// The way to the Nodes; another one when the connections of the former can be expected to be dead.
    nodes: watch::Sender<Api<Node>>,
    prefix: AnnotationPrefix,
    conf: NetConf,
    /// Faults of annotations that were told already.
    faults: Mutex<Vec<NodeLeaseError>>,
    watch: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl KubeStore {
    /// Checks the settings. Connects only when something is asked, so the API server need not be there yet.
    ///
    /// # Errors
    /// [`StoreError::Settings`] for a prefix that is none.
    pub fn new(config: KubeConfig) -> Result<Self, StoreError> {
        let prefix =
            config
                .prefix
                .parse()
                .map_err(|error: ipam::PrefixError| StoreError::Settings {
                    setting: "--kube-annotation-prefix".to_owned(),
                    reason: error.to_string(),
                })?;
        let health = Health::new("kubernetes", vec![config.access.to_string()]);
        Ok(Self {
            config,
            prefix,
            running: OnceCell::new(),
            health,
        })
    }

    fn read_net_conf(&self) -> Result<NetConf, String> {
        let path = self.config.net_conf.display();
        let text = std::fs::read(&self.config.net_conf)
            .map_err(|error| format!("{path} cannot be read: {error}"))?;
        NetConf::parse(&text).map_err(|error| format!("{path}: {error}"))
    }

    /// Finds out who this is and starts the watch, once.
    async fn running(&self, conf: &NetConf) -> Result<&Running, StoreError> {
        self.running
            .get_or_try_init(|| self.start(conf.clone()))
            .await
    }

    async fn start(&self, conf: NetConf) -> Result<Running, StoreError> {
        let client = self.config.access.client(&self.health).await?;
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut trouble =
            Trouble::new("finding out which Node this is").shown_in(self.health.clone());
        let node = loop {
            match self.config.access.node.resolve(&client).await {
                Ok(node) => break node,
                Err(error) => {
                    self.health.failed(&error.to_string());
                    trouble.report(&error.to_string())
                }
            };
            backoff.wait().await;
        };
        trouble.over();
        let families = Families {
            v4: conf.networks.v4.is_some(),
            v6: conf.networks.v6.is_some(),
        };
        let shared = Arc::new(Shared::new(
            node.clone(),
            Peers::new(&node, families),
            self.health.clone(),
        ));
        let nodes = watch::Sender::new(Api::<Node>::all(client));
        let follower = |only_own| Follower {
            nodes: nodes.subscribe(),
            prefix: self.prefix.clone(),
            only_own,
        };
        self.see_own(&follower(true), &shared).await;
        let watcher = follower(matches!(conf.backend, Backend::Alloc));
        let told = Arc::clone(&shared);
        let watch = tokio::spawn(async move { watcher.run(&told).await });
        Ok(Running {
            shared,
            access: self.config.access.clone(),
            nodes,
            prefix: self.prefix.clone(),
            conf,
            faults: Mutex::default(),
            watch,
        })
    }

    /// Waits until our Node has been seen. In a large cluster it is there long before the list of all.
    async fn see_own(&self, follower: &Follower, shared: &Shared) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut trouble = Trouble::new("reading our Node").shown_in(self.health.clone());
        loop {
            let reason = match follower.read_own(shared).await {
                Ok(()) if *shared.own.borrow() != Own::Absent => break,
                Ok(()) => format!("there is no Node {}; the kubelet creates it", shared.node),
                Err(error) => error.to_string(),
            };
            trouble.report(&reason);
            backoff.wait().await;
        }
        trouble.over();
    }
}

impl Running {
    fn families(&self) -> Families {
        Families {
            v4: self.conf.networks.v4.is_some(),
            v6: self.conf.networks.v6.is_some(),
        }
    }

    /// Leaves all connections and makes new ones. A connection from an address that this host has no more is dead, but would be found to be so
    /// only when an answer is long overdue.
    async fn reconnect(&self) {
        match self.access.client(&self.shared.health).await {
            Ok(client) => drop(self.nodes.send_replace(Api::all(client))),
            Err(error) => debug!("the connections to the API server are kept: {error}"),
        }
    }

    /// Logs what is wrong with annotations that people wrote on our Node, once.
    fn tell_faults(&self, faults: &[NodeLeaseError]) {
        let mut told = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        for fault in faults
            .iter()
            .filter(|fault| !told.contains(fault))
            .cloned()
            .collect::<Vec<_>>()
        {
            warn!("Node {}: {fault}; it is not used", self.shared.node);
            told.push(fault);
        }
    }
}

impl LeaseStore for KubeStore {
    fn health(&self) -> Health {
        self.health.clone()
    }

    async fn net_conf(&self) -> Result<NetConf, StoreError> {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut trouble =
            Trouble::new("reading the network configuration").shown_in(self.health.clone());
        loop {
            match self.read_net_conf() {
                Ok(conf) => {
                    trouble.over();
                    return Ok(conf);
                }
                Err(reason) => trouble.report(&reason),
            };
            backoff.wait().await;
        }
    }

    async fn this_node(&self, conf: &NetConf) -> Result<ThisNode, StoreError> {
        let running = self.running(conf).await?;
        let own = running.shared.own.borrow().clone();
        let Own::There(node) = own else {
            return Ok(ThisNode::default());
        };
        let (public, faults) = node.annotations.wishes();
        running.tell_faults(&faults);
        Ok(ThisNode {
            public,
            macs: node.annotations.macs(),
        })
    }

    async fn acquire(
        &self,
        conf: &NetConf,
        record: &LeaseRecord,
        _previous: Option<&Subnets>,
    ) -> Result<OwnLease, StoreError> {
        let running = self.running(conf).await?;
        let mut own = running.shared.own.subscribe();
        let ready = own.wait_for(|own| keep::lease_of(running, own).is_ok());
        // Over when it is ready or the time is; what is known then decides.
        let _ = tokio::time::timeout(PATIENCE, ready).await.map(drop);
        let seen = running.shared.own.borrow().clone();
        let (key, node) = keep::lease_of(running, &seen)?;
        keep::publish(running, &node, record).await?;
        Ok(OwnLease {
            key,
            record: record.clone(),
            expires: None,
            origin: Origin::Assigned,
        })
    }

    async fn keep(
        &self,
        own: OwnLease,
        record: watch::Receiver<LeaseRecord>,
        events: mpsc::Sender<OwnEvent>,
    ) {
        match self.running.get() {
            Some(running) => keep::keep(running, own, record, events).await,
            // Nobody has a lease who has not acquired it.
            None => events.closed().await,
        }
    }

    async fn announce(&self, works: watch::Receiver<bool>) {
        match self.running.get() {
            Some(running) if self.config.set_condition => keep::announce(running, works).await,
            _ => std::future::pending().await,
        }
    }

    async fn watch_peers(&self, events: mpsc::Sender<PeerEvent>) {
        let Some(running) = self.running.get() else {
            return events.closed().await;
        };
        loop {
            let news = running.shared.peers().news();
            for event in news {
                if events.send(event).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                () = running.shared.news.notified() => {}
                () = events.closed() => return,
            }
        }
    }
}
