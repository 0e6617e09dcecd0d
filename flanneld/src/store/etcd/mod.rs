//! The lease store on etcd 3: flannel's keys, values and times, so that both may share one.

use std::sync::Arc;
use std::time::Duration;

use ipam::{LeaseRecord, NetConf, Subnets};
use tokio::sync::{mpsc, watch};

mod acquire;
mod client;
mod config;
mod connection;
mod keep;
mod keys;
mod leases;
mod listing;
mod peers;
mod port;
#[cfg(test)]
mod simulation;

pub use config::{EtcdConfig, Secret, Timing, endpoint_list};

use super::backoff::{Backoff, Trouble};
use super::{Health, LeaseStore, OwnEvent, OwnLease, PeerEvent, StoreError};
use client::EtcdClient;
use connection::Connection;
use keys::Keys;
use leases::Leases;

/// The longest delay between two looks for a network configuration that is not there (flannel: one second).
const CONFIG_RETRY: Duration = Duration::from_secs(1);

/// The leases in an etcd. Clones share the connections.
#[derive(Clone)]
pub struct EtcdStore {
    leases: Arc<Leases<EtcdClient>>,
}

impl EtcdStore {
    /// Checks the settings. Connects only when something is asked, so etcd need not be there yet.
    ///
    /// # Errors
    /// [`StoreError::Settings`] for endpoints, files or users that make no sense.
    pub fn new(config: EtcdConfig) -> Result<Self, StoreError> {
        let keys = Keys::new(&config.prefix);
        let connection = Connection::new(config)?;
        Ok(Self {
            leases: Arc::new(Leases {
                port: EtcdClient { connection, keys },
            }),
        })
    }

    /// The network configuration, or what is wrong.
    async fn read_net_conf(&self) -> Result<NetConf, String> {
        let key = self.leases.port.keys.config();
        let response = self
            .leases
            .port
            .connection
            .call("read", &key, |mut client| {
                let key = key.clone();
                async move { client.get(key, None).await }
            })
            .await
            .map_err(|error| StoreError::from(error).to_string())?;
        let Some(kv) = response.kvs().first() else {
            return Err(format!(
                "etcd has no {key}; store one, for example with \
                 `etcdctl put {key} '{{\"Network\": \"10.244.0.0/16\", \"Backend\": {{\"Type\": \"vxlan\"}}}}'`"
            ));
        };
        let conf = NetConf::parse(kv.value()).map_err(|error| format!("{key}: {error}"))?;
        // In etcd mode the subnets are chosen by the nodes, so there must be room to choose.
        conf.subnet_plan()
            .map_err(|error| format!("{key}: {error}"))?;
        Ok(conf)
    }
}

impl LeaseStore for EtcdStore {
    fn health(&self) -> Health {
        self.leases.port.connection.health().clone()
    }

    async fn net_conf(&self) -> Result<NetConf, StoreError> {
        let first = self.leases.port.connection.config().timing.retry_first;
        let mut backoff = Backoff::new(first, CONFIG_RETRY);
        let mut trouble = Trouble::new("reading the network configuration").shown_in(self.health());
        loop {
            match self.read_net_conf().await {
                Ok(conf) => {
                    trouble.over();
                    return Ok(conf);
                }
                Err(reason) => trouble.report(&reason),
            };
            backoff.wait().await;
        }
    }

    async fn acquire(
        &self,
        conf: &NetConf,
        record: &LeaseRecord,
        previous: Option<&Subnets>,
    ) -> Result<OwnLease, StoreError> {
        acquire::acquire(&self.leases, conf, record, previous).await
    }

    async fn keep(
        &self,
        own: OwnLease,
        record: watch::Receiver<LeaseRecord>,
        events: mpsc::Sender<OwnEvent>,
    ) {
        keep::keep(&self.leases, own, record, events).await;
    }

    async fn watch_peers(&self, events: mpsc::Sender<PeerEvent>) {
        peers::follow(&self.leases.port, &events).await;
    }
}
