//! A host and an etcd of three members, of which some are gone now and then.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use flanneld::store::etcd::EtcdStore;
use flanneld::store::{LeaseStore, OwnEvent, PeerEvent, wait_for_lease};
use loden_tests::store::{
    Kept, PREFIX, conf, entries, entry, path, settings_for, vxlan, watch_peers,
};
use loden_tests::{Cluster, eventually, next_that};

const CONF: &str = r#"{"Network": "10.5.0.0/16"}"#;

async fn cluster() -> Result<Cluster> {
    let cluster = Cluster::start().await?;
    let mut client = cluster.client(0).await?;
    client.put(format!("{PREFIX}/config"), CONF, None).await?;
    Ok(cluster)
}

fn renewed(event: OwnEvent) -> Option<Result<()>> {
    match event {
        OwnEvent::Renewed { .. } => Some(Ok(())),
        OwnEvent::Lost { reason } => Some(Err(anyhow::anyhow!("lost: {reason}"))),
        _ => None,
    }
}

#[tokio::test]
async fn member_after_member_is_restarted_and_no_lease_is_lost() -> Result<()> {
    let mut cluster = cluster().await?;
    let mut config = settings_for(&cluster.endpoints());
    // Renewed all the time, so that each restart comes across some renewal.
    config.timing.lease = Duration::from_secs(12);
    config.renew_margin = Duration::from_secs(11);
    let store = EtcdStore::new(config)?;
    let own = store.acquire(&conf(CONF)?, &vxlan(1), None).await?;
    let lease = own.key.to_string();
    let mut client = cluster.client(0).await?;
    let before = entry(&mut client, &lease).await?.context("the lease")?;
    let mut kept = Kept::new(&store, own);
    next_that(&mut kept.events, renewed).await??;
    let mut peers = watch_peers(&store);

    // One of the three is the one that the host is connected to, one is the leader.
    for member in 0..3 {
        cluster.members()[member].kill()?;
        // Another host gets its lease meanwhile, is seen, and what we publish is written.
        let other = EtcdStore::new(settings_for(&cluster.endpoints()))?;
        let host = 10 + u8::try_from(member)?;
        let theirs = wait_for_lease(&other, &conf(CONF)?, &vxlan(host), None).await?;
        next_that(&mut peers, |event| match event {
            PeerEvent::Changed(peer) if peer.key == theirs.key => Some(()),
            PeerEvent::Snapshot { peers, .. } if peers.iter().any(|p| p.key == theirs.key) => {
                Some(())
            }
            _ => None,
        })
        .await?;
        kept.record.send_replace(vxlan(2 + u8::try_from(member)?));
        next_that(&mut kept.events, |event| match event {
            OwnEvent::Published(_) => Some(Ok(())),
            OwnEvent::Lost { reason } => Some(Err(anyhow::anyhow!("lost: {reason}"))),
            _ => None,
        })
        .await??;
        cluster.members()[member].up().await?;
        cluster.wait_quorum(member).await?;
        next_that(&mut kept.events, renewed).await??;
    }
    let mut client = cluster.client(0).await?;
    let after = entry(&mut client, &lease).await?.context("the lease")?;
    assert_eq!(
        (after.create_revision(), after.lease()),
        (before.create_revision(), before.lease()),
        "it was never taken anew"
    );
    assert_eq!(entries(&mut client).await?.len(), 4);
    Ok(())
}

#[tokio::test]
async fn a_member_that_is_dead_at_the_start_does_not_matter() -> Result<()> {
    let mut cluster = cluster().await?;
    cluster.members()[1].kill()?;
    cluster.wait_quorum(0).await?;
    // The first endpoint is drawn, so several hosts.
    for host in 1..=6 {
        let store = EtcdStore::new(settings_for(&cluster.endpoints()))?;
        let conf = store.net_conf().await?;
        let own = store.acquire(&conf, &vxlan(host), None).await?;
        let mut kept = Kept::new(&store, own);
        next_that(&mut kept.events, renewed).await??;
    }
    Ok(())
}

#[tokio::test]
async fn without_most_members_nothing_is_lost_and_with_them_all_goes_on() -> Result<()> {
    let mut cluster = cluster().await?;
    let mut config = settings_for(&cluster.endpoints());
    config.timing.request = Duration::from_secs(1);
    let store = EtcdStore::new(config)?;
    let own = store.acquire(&conf(CONF)?, &vxlan(1), None).await?;
    let lease = own.key.to_string();
    let mut kept = Kept::new(&store, own);
    next_that(&mut kept.events, renewed).await??;
    for member in [1, 2] {
        cluster.members()[member].kill()?;
    }
    kept.record.send_replace(vxlan(2));
    next_that(&mut kept.events, |event| match event {
        OwnEvent::Trouble { .. } => Some(Ok(())),
        OwnEvent::Lost { reason } => Some(Err(anyhow::anyhow!("lost: {reason}"))),
        _ => None,
    })
    .await??;
    cluster.members()[1].up().await?;
    match next_that(&mut kept.events, |event| {
        (!matches!(event, OwnEvent::Trouble { .. })).then_some(event)
    })
    .await?
    {
        OwnEvent::Published(record) => ensure!(record == vxlan(2), "{record}"),
        // The write was done before an answer could come.
        OwnEvent::Renewed { .. } => {}
        other => bail!("{other:?}"),
    }
    eventually("the record is there", || async {
        let mut client = cluster.client(0).await.ok()?;
        let response = client.get(path(&lease), None).await.ok()?;
        let kv = response.kvs().first()?;
        (kv.value() == vxlan(2).to_json().as_bytes()).then_some(())
    })
    .await
}
