//! Hosts as the lease store knows them, with times short enough for tests.

use std::time::Duration;

use anyhow::{Context, Result};
use etcd_client::{Client, GetOptions, KeyValue};
use flanneld::store::etcd::{EtcdConfig, EtcdStore};
use flanneld::store::{LeaseStore, OwnEvent, OwnLease, PeerEvent, StoreError};
use ipam::{LeaseBackend, LeaseRecord, Mac, NetConf, PerFamily, Subnets, Vni, VxlanLease};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::Etcd;

/// Where flannel keeps its keys.
pub const PREFIX: &str = "/coreos.com/network";

/// A lease's key in etcd.
pub fn path(lease: &str) -> String {
    format!("{PREFIX}/subnets/{lease}")
}

/// The record of a vxlan host with the public address `192.0.2.<host>`.
pub fn vxlan(host: u8) -> LeaseRecord {
    LeaseRecord {
        public: PerFamily::v4([192, 0, 2, host].into()),
        backend: LeaseBackend::Vxlan(PerFamily::v4(VxlanLease {
            vni: Some(Vni::DEFAULT),
            mac: Mac([0x0e, 0x2a, 0, 0, 0, host]),
        })),
    }
}

/// A network configuration.
///
/// # Errors
/// When it is none.
pub fn conf(json: &str) -> Result<NetConf> {
    NetConf::parse(json.as_bytes()).context("the network configuration of the test")
}

/// Subnets from a lease key.
///
/// # Errors
/// When it is none.
pub fn subnets(lease: &str) -> Result<Subnets> {
    let key = lease.parse::<ipam::LeaseKey>().context("a lease key")?;
    Ok(key.subnets())
}

/// Settings for an endpoint, patient with requests and impatient between tries.
pub fn settings(endpoint: &str) -> EtcdConfig {
    let mut config = EtcdConfig {
        endpoints: vec![endpoint.to_owned()],
        ..EtcdConfig::default()
    };
    config.timing.retry_first = Duration::from_millis(20);
    config.timing.retry_cap = Duration::from_millis(200);
    config
}

/// The same for several endpoints.
pub fn settings_for(endpoints: &[String]) -> EtcdConfig {
    EtcdConfig {
        endpoints: endpoints.to_vec(),
        ..settings("")
    }
}

/// The store of a host on that endpoint.
///
/// # Errors
/// When the settings are refused.
pub fn store(endpoint: &str) -> Result<EtcdStore, StoreError> {
    EtcdStore::new(settings(endpoint))
}

/// The store of a host whose leases last for `seconds`.
///
/// # Errors
/// When the settings are refused.
pub fn store_with_ttl(endpoint: &str, seconds: u64) -> Result<EtcdStore, StoreError> {
    let mut config = settings(endpoint);
    config.timing.lease = Duration::from_secs(seconds);
    EtcdStore::new(config)
}

/// A lease being kept.
#[derive(Debug)]
pub struct Kept {
    /// What is reported about it.
    pub events: mpsc::Receiver<OwnEvent>,
    /// What it should say.
    pub record: watch::Sender<LeaseRecord>,
    task: JoinHandle<()>,
}

impl Kept {
    /// Keeps a lease in the background.
    pub fn new(store: &EtcdStore, own: OwnLease) -> Self {
        let (record, desired) = watch::channel(own.record.clone());
        let (sender, events) = mpsc::channel(100);
        let store = store.clone();
        let task = tokio::spawn(async move { store.keep(own, desired, sender).await });
        Self {
            events,
            record,
            task,
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Watches the leases in the background, until the receiver is dropped.
pub fn watch_peers(store: &EtcdStore) -> mpsc::Receiver<PeerEvent> {
    let (sender, events) = mpsc::channel(1000);
    let store = store.clone();
    tokio::spawn(async move { store.watch_peers(sender).await });
    events
}

/// All entries below the leases.
///
/// # Errors
/// When etcd does not answer.
pub async fn entries(client: &mut Client) -> Result<Vec<KeyValue>> {
    let options = GetOptions::new().with_prefix();
    let mut response = client.get(path(""), Some(options)).await?;
    Ok(response.take_kvs())
}

/// The entry of a lease.
///
/// # Errors
/// When etcd does not answer.
pub async fn entry(client: &mut Client, lease: &str) -> Result<Option<KeyValue>> {
    let mut response = client.get(path(lease), None).await?;
    Ok(response.take_kvs().pop())
}

/// The number of etcd leases there are, with keys or without.
///
/// # Errors
/// When etcd does not answer.
pub async fn etcd_leases(client: &mut Client) -> Result<usize> {
    Ok(client.leases().await?.leases().len())
}

/// An etcd with this network configuration, and a client to look into it.
///
/// # Errors
/// When etcd does not start.
pub async fn etcd_with(conf: &str) -> Result<(Etcd, Client)> {
    let etcd = Etcd::start().await?;
    let mut client = etcd.client().await?;
    client.put(format!("{PREFIX}/config"), conf, None).await?;
    Ok((etcd, client))
}
