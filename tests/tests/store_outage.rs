//! A host whose etcd is gone for long, or comes back from a backup.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use flanneld::store::etcd::EtcdStore;
use flanneld::store::{LeaseStore, OwnEvent, PeerEvent};
use loden_tests::store::{
    Kept, conf, entries, entry, etcd_with, settings, store, store_with_ttl, vxlan, watch_peers,
};
use loden_tests::{eventually, next, next_that};
use tokio::time::{Instant, timeout_at};

const CONF: &str = r#"{"Network": "10.5.0.0/16"}"#;

fn lost(event: OwnEvent) -> Option<String> {
    match event {
        OwnEvent::Lost { reason } => Some(reason),
        _ => None,
    }
}

fn renewed(event: OwnEvent) -> Option<()> {
    matches!(event, OwnEvent::Renewed { .. }).then_some(())
}

fn held_again(event: OwnEvent) -> Option<()> {
    matches!(event, OwnEvent::Reacquired(_) | OwnEvent::Renewed { .. }).then_some(())
}

#[tokio::test]
async fn an_etcd_gone_for_longer_than_a_lease_takes_no_subnet_away() -> Result<()> {
    let (mut etcd, mut client) = etcd_with(CONF).await?;
    let ours = store_with_ttl(&etcd.endpoint(), 2)?;
    let own = ours.acquire(&conf(CONF)?, &vxlan(1), None).await?;
    let lease = own.key.to_string();
    let before = entry(&mut client, &lease).await?.context("the lease")?;
    let mut kept = Kept::new(&ours, own);
    next_that(&mut kept.events, renewed).await?;
    let mut peers = watch_peers(&store(&etcd.endpoint())?);
    let first = next(&mut peers).await?;
    ensure!(matches!(first, PeerEvent::Snapshot { .. }), "{first:?}");

    // The time of the lease stands for the hours.
    etcd.kill()?;
    let reason = next_that(&mut kept.events, lost).await?;
    ensure!(reason.contains("before its time was over"), "{reason}");
    etcd.up().await?;
    next_that(&mut kept.events, |event| match event {
        OwnEvent::Reacquired(own) => Some(own),
        _ => None,
    })
    .await?;
    let mut client = etcd.client().await?;
    let after = entry(&mut client, &lease).await?.context("the lease")?;
    assert_eq!(after.create_revision(), before.create_revision());
    // Nobody was told that we are gone.
    let quiet = Instant::now() + Duration::from_millis(500);
    while let Ok(event) = timeout_at(quiet, next(&mut peers)).await {
        ensure!(!matches!(event?, PeerEvent::Removed(_)), "it was removed");
    }
    Ok(())
}

#[tokio::test]
async fn a_backup_that_is_older_than_leases_costs_nobody_a_subnet() -> Result<()> {
    let (mut etcd, mut client) = etcd_with(CONF).await?;
    let mut hosts = Vec::new();
    let start = async |host: u8| -> Result<(String, Kept)> {
        let store = store(&etcd.endpoint())?;
        let own = store.acquire(&conf(CONF)?, &vxlan(host), None).await?;
        let lease = own.key.to_string();
        let mut kept = Kept::new(&store, own);
        next_that(&mut kept.events, renewed).await?;
        Ok((lease, kept))
    };
    // One lease is in the backup, of one an older version is in it, and one is not.
    hosts.push(start(1).await?);
    hosts.push(start(2).await?);
    let backup = etcd.save()?;
    let mut newer = vxlan(2);
    newer.backend = vxlan(22).backend;
    hosts[1].1.record.send_replace(newer.clone());
    next_that(&mut hosts[1].1.events, |event| match event {
        OwnEvent::Published(_) => Some(()),
        _ => None,
    })
    .await?;
    hosts.push(start(3).await?);
    let mut config = settings(&etcd.endpoint());
    config.timing.grace = Duration::from_secs(30);
    let mut peers = watch_peers(&EtcdStore::new(config)?);
    match next(&mut peers).await? {
        PeerEvent::Snapshot { peers, .. } => assert_eq!(peers.len(), 3),
        other => bail!("{other:?}"),
    }
    assert_eq!(entries(&mut client).await?.len(), 3);

    etcd.kill()?;
    etcd.restore(&backup)?;
    etcd.up().await?;
    for (_, kept) in &mut hosts {
        next_that(&mut kept.events, held_again).await?;
    }
    let wanted = [vxlan(1), newer, vxlan(3)];
    for ((lease, _), record) in hosts.iter().zip(wanted) {
        eventually("the lease is as it was", || async {
            let mut client = etcd.client().await.ok()?;
            let kv = entry(&mut client, lease).await.ok()??;
            (kv.value() == record.to_json().as_bytes()).then_some(())
        })
        .await?;
    }
    let mut client = etcd.client().await?;
    assert_eq!(entries(&mut client).await?.len(), 3);
    // No peer was taken away meanwhile.
    let quiet = Instant::now() + Duration::from_millis(500);
    while let Ok(event) = timeout_at(quiet, next(&mut peers)).await {
        match event? {
            PeerEvent::Removed(key) => bail!("{key} was taken away"),
            PeerEvent::Snapshot { peers, .. } => assert_eq!(peers.len(), 3),
            PeerEvent::Changed(_) | PeerEvent::Unreadable(_) | PeerEvent::Mended(_) => {}
        }
    }
    Ok(())
}
