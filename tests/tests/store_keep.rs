//! How a lease in a real etcd stays that of its host.

use anyhow::{Context, Result, bail, ensure};
use etcd_client::{Client, PutOptions, Txn, TxnOp};
use flanneld::store::etcd::EtcdStore;
use flanneld::store::{LeaseStore, OwnEvent, OwnLease};
use ipam::LeaseRecord;
use loden_tests::store::{
    Kept, conf, entry, etcd_leases, etcd_with, path, store, store_with_ttl, vxlan,
};
use loden_tests::{Cable, Etcd, eventually, next, next_that};
use tokio::time::Instant;

/// One subnet, so that it is always the same.
const ONE: &str =
    r#"{"Network": "10.5.0.0/16", "SubnetMin": "10.5.52.0", "SubnetMax": "10.5.52.0"}"#;
const LEASE: &str = "10.5.52.0-24";

const DAY: i64 = 86_400;

async fn acquire(store: &EtcdStore) -> Result<OwnLease> {
    Ok(store.acquire(&conf(ONE)?, &vxlan(1), None).await?)
}

/// A lease of a day that is being kept, and what else a test needs.
async fn kept() -> Result<(Etcd, Client, Kept)> {
    let (etcd, client) = etcd_with(ONE).await?;
    let store = store(&etcd.endpoint())?;
    let own = acquire(&store).await?;
    let mut kept = Kept::new(&store, own);
    next_that(&mut kept.events, renewed).await?;
    Ok((etcd, client, kept))
}

fn lost(event: OwnEvent) -> Option<String> {
    match event {
        OwnEvent::Lost { reason } => Some(reason),
        _ => None,
    }
}

fn reacquired(event: OwnEvent) -> Option<OwnLease> {
    match event {
        OwnEvent::Reacquired(own) => Some(own),
        _ => None,
    }
}

fn renewed(event: OwnEvent) -> Option<Option<Instant>> {
    match event {
        OwnEvent::Renewed { expires } => Some(expires),
        _ => None,
    }
}

async fn says(client: &mut Client, record: &LeaseRecord) -> Result<bool> {
    let kv = entry(client, LEASE).await?.context("the lease")?;
    Ok(kv.value() == record.to_json().as_bytes())
}

#[tokio::test]
async fn it_is_renewed_before_its_end_without_writing_anything() -> Result<()> {
    let (etcd, mut client) = etcd_with(ONE).await?;
    let store = store_with_ttl(&etcd.endpoint(), 1)?;
    let own = acquire(&store).await?;
    let before = entry(&mut client, LEASE).await?.context("the lease")?;
    let mut kept = Kept::new(&store, own);
    let started = Instant::now();
    for _ in 0..5 {
        match next(&mut kept.events).await? {
            OwnEvent::Renewed {
                expires: Some(expires),
            } => ensure!(expires > Instant::now()),
            other => bail!("{other:?}"),
        }
    }
    ensure!(
        started.elapsed().as_secs() >= 1,
        "the lease would have ended in this time"
    );
    let after = entry(&mut client, LEASE).await?.context("the lease")?;
    assert_eq!(
        after.mod_revision(),
        before.mod_revision(),
        "other hosts hear of nothing"
    );
    assert_eq!(etcd_leases(&mut client).await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_deleted_key_is_won_back() -> Result<()> {
    let (_etcd, mut client, mut kept) = kept().await?;
    for round in 0..2 {
        if round == 0 {
            client.delete(path(LEASE), None).await?;
        } else {
            let kv = entry(&mut client, LEASE).await?.context("the lease")?;
            client.lease_revoke(kv.lease()).await?;
        }
        let reason = next_that(&mut kept.events, lost).await?;
        ensure!(reason.contains(&path(LEASE)), "{reason}");
        let own = next_that(&mut kept.events, reacquired).await?;
        assert_eq!(own.key.to_string(), LEASE);
        ensure!(says(&mut client, &vxlan(1)).await?);
        let kv = entry(&mut client, LEASE).await?.context("the lease")?;
        let ttl = client.lease_time_to_live(kv.lease(), None).await?;
        assert_eq!(ttl.granted_ttl(), DAY);
    }
    Ok(())
}

#[tokio::test]
async fn what_another_host_wrote_is_left_alone_until_it_goes() -> Result<()> {
    let (_etcd, mut client, mut kept) = kept().await?;
    client.put(path(LEASE), vxlan(2).to_json(), None).await?;
    let reason = next_that(&mut kept.events, lost).await?;
    ensure!(
        reason.contains("192.0.2.2") && reason.contains(&path(LEASE)),
        "{reason}"
    );
    // What we want to say changes meanwhile.
    let mut newer = vxlan(1);
    newer.public.v4 = Some([192, 0, 2, 111].into());
    kept.record.send_replace(newer.clone());
    client
        .put(
            path("10.5.52.0"),
            "not a lease, only to pass some time",
            None,
        )
        .await?;
    ensure!(says(&mut client, &vxlan(2)).await?);
    client.delete(path(LEASE), None).await?;
    let own = next_that(&mut kept.events, reacquired).await?;
    assert_eq!(own.record, newer);
    ensure!(says(&mut client, &newer).await?);
    Ok(())
}

#[tokio::test]
async fn garbage_in_our_key_is_reported_and_left_alone() -> Result<()> {
    let (_etcd, mut client, mut kept) = kept().await?;
    client.put(path(LEASE), "{", None).await?;
    let reason = next_that(&mut kept.events, lost).await?;
    ensure!(reason.contains("cannot be read"), "{reason}");
    let kv = entry(&mut client, LEASE).await?.context("the lease")?;
    assert_eq!(kv.value_str()?, "{");
    Ok(())
}

#[tokio::test]
async fn a_subnet_that_others_took_meanwhile_is_not_taken_from_them() -> Result<()> {
    let (_etcd, mut client, mut kept) = kept().await?;
    let wide = "10.5.48.0-20";
    let txn = Txn::new().and_then([
        TxnOp::delete(path(LEASE), None),
        TxnOp::put(path(wide), vxlan(2).to_json(), None),
    ]);
    client.txn(txn).await?;
    let reason = next_that(&mut kept.events, |event| {
        lost(event).filter(|reason| reason.contains("overlaps"))
    })
    .await?;
    ensure!(reason.contains(wide), "{reason}");
    ensure!(entry(&mut client, LEASE).await?.is_none());
    client.delete(path(wide), None).await?;
    next_that(&mut kept.events, reacquired).await?;
    Ok(())
}

#[tokio::test]
async fn a_changed_record_is_published() -> Result<()> {
    let (_etcd, mut client, mut kept) = kept().await?;
    let before = entry(&mut client, LEASE).await?.context("the lease")?;
    let mut record = vxlan(1);
    for host in [11, 12] {
        record.public.v4 = Some([192, 0, 2, host].into());
        kept.record.send_replace(record.clone());
        let published = next_that(&mut kept.events, |event| match event {
            OwnEvent::Published(record) => Some(record),
            _ => None,
        })
        .await?;
        assert_eq!(published, record);
        ensure!(says(&mut client, &record).await?);
    }
    let after = entry(&mut client, LEASE).await?.context("the lease")?;
    assert_eq!(after.lease(), before.lease());
    assert_eq!(after.create_revision(), before.create_revision());
    Ok(())
}

#[tokio::test]
async fn another_program_may_renew_our_lease() -> Result<()> {
    let (_etcd, mut client, mut kept) = kept().await?;
    // As flannel does: the same content under an etcd lease of its own. The order of members and spaces does not matter.
    let same = r#"{"BackendData":{"VtepMAC":"0e:2a:00:00:00:01","VNI":1}, "BackendType":"vxlan", "PublicIP":"192.0.2.1"}"#;
    for (granted, kept_theirs) in [(DAY, true), (60, false)] {
        let theirs = client.lease_grant(granted, None).await?.id();
        let options = PutOptions::new().with_lease(theirs);
        client.put(path(LEASE), same, Some(options)).await?;
        match next(&mut kept.events).await? {
            OwnEvent::Renewed { expires: Some(_) } => {}
            other => bail!("{other:?}"),
        }
        let kv = entry(&mut client, LEASE).await?.context("the lease")?;
        assert_eq!(kv.lease() == theirs, kept_theirs, "a short one is replaced");
        eventually("the etcd lease without key goes", || {
            let mut client = client.clone();
            async move { (etcd_leases(&mut client).await.ok()? == 1).then_some(()) }
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_lease_made_a_reservation_stays_one() -> Result<()> {
    let (_etcd, mut client, mut kept) = kept().await?;
    client.put(path(LEASE), vxlan(1).to_json(), None).await?;
    assert_eq!(next_that(&mut kept.events, renewed).await?, None);
    // Also when what it says changes.
    kept.record.send_replace(vxlan(3));
    next_that(&mut kept.events, renewed).await?;
    let kv = entry(&mut client, LEASE).await?.context("the lease")?;
    assert_eq!(
        (kv.lease(), kv.value_str()?),
        (0, vxlan(3).to_json().as_str())
    );
    Ok(())
}

#[tokio::test]
async fn an_etcd_that_comes_back_is_told_at_once() -> Result<()> {
    let (mut etcd, mut client, mut kept) = kept().await?;
    etcd.kill()?;
    let reason = next_that(&mut kept.events, |event| match event {
        OwnEvent::Trouble { reason } => Some(reason),
        _ => None,
    })
    .await?;
    ensure!(reason.contains(&etcd.endpoint()), "{reason}");
    kept.record.send_replace(vxlan(3));
    etcd.up().await?;
    next_that(&mut kept.events, renewed).await?;
    ensure!(says(&mut client, &vxlan(3)).await?);
    assert_eq!(etcd_leases(&mut client).await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_lease_that_cannot_be_renewed_is_lost_and_found_again() -> Result<()> {
    let (etcd, mut client) = etcd_with(ONE).await?;
    let cable = Cable::to(etcd.port()).await?;
    let store = store_with_ttl(&cable.endpoint(), 2)?;
    let own = acquire(&store).await?;
    let mut kept = Kept::new(&store, own);
    next_that(&mut kept.events, renewed).await?;
    cable.cut();
    let reason = next_that(&mut kept.events, lost).await?;
    ensure!(
        reason.contains("renewed before its time was over"),
        "{reason}"
    );
    // Another host takes the subnet while we are away.
    eventually("the lease expires", || {
        let mut client = client.clone();
        async move {
            entry(&mut client, LEASE)
                .await
                .ok()?
                .is_none()
                .then_some(())
        }
    })
    .await?;
    client.put(path(LEASE), vxlan(2).to_json(), None).await?;
    cable.mend();
    let reason = next_that(&mut kept.events, lost).await?;
    ensure!(reason.contains("192.0.2.2"), "{reason}");
    client.delete(path(LEASE), None).await?;
    next_that(&mut kept.events, reacquired).await?;
    ensure!(says(&mut client, &vxlan(1)).await?);
    Ok(())
}
