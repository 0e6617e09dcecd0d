//! How a host comes to its lease in a real etcd.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use etcd_client::{KeyValue, PutOptions};
use flanneld::store::{LeaseStore, Origin, OwnLease, StoreError, wait_for_lease};
use ipam::{LeaseRecord, NetConf, Subnets};
use loden_tests::store::{
    conf, entries, entry, etcd_leases, etcd_with, path, settings, store, store_with_ttl, subnets,
    vxlan,
};
use loden_tests::{Etcd, eventually};
use tokio::task::JoinSet;

/// Three subnets: 10.5.1.0/24 to 10.5.3.0/24.
const THREE: &str = r#"{"Network": "10.5.0.0/22", "SubnetLen": 24, "Backend": {"Type": "vxlan"}}"#;

const DAY: i64 = 86_400;

#[tokio::test]
async fn the_lease_has_flannels_bytes() -> Result<()> {
    let one = r#"{"Network": "10.5.0.0/16", "SubnetMin": "10.5.52.0", "SubnetMax": "10.5.52.0"}"#;
    let (etcd, mut client) = etcd_with(one).await?;
    let store = store(&etcd.endpoint())?;
    let conf = store.net_conf().await?;
    let own = store.acquire(&conf, &vxlan(1), None).await?;
    assert_eq!(own.origin, Origin::Chosen);
    assert_eq!(
        etcd.etcdctl(&["get", "--prefix", "/coreos.com/network/subnets"])?,
        "/coreos.com/network/subnets/10.5.52.0-24\n\
         {\"PublicIP\":\"192.0.2.1\",\"PublicIPv6\":null,\"BackendType\":\"vxlan\",\
         \"BackendData\":{\"VNI\":1,\"VtepMAC\":\"0e:2a:00:00:00:01\"}}\n"
    );
    let kv = entry(&mut client, "10.5.52.0-24").await?.context("entry")?;
    let ttl = client.lease_time_to_live(kv.lease(), None).await?;
    assert_eq!(ttl.granted_ttl(), DAY);
    let left = own.expires.context("ends")? - tokio::time::Instant::now();
    ensure!(left.as_secs() > 86_000 && left.as_secs() <= 86_400);
    Ok(())
}

#[tokio::test]
async fn the_lease_of_our_public_address_is_taken_over() -> Result<()> {
    let (etcd, mut client) = etcd_with(THREE).await?;
    let conf = conf(THREE)?;
    let store = store(&etcd.endpoint())?;
    // As flannel leaves it: the VNI missing as before 0.14, and another device.
    let old = r#"{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VtepMAC":"c6:d8:1b:2a:d6:81"}}"#;
    for (granted, kept) in [(DAY, true), (3600, false)] {
        let id = client.lease_grant(granted, None).await?.id();
        let options = PutOptions::new().with_lease(id);
        client.put(path("10.5.2.0-24"), old, Some(options)).await?;
        let own = store
            .acquire(&conf, &vxlan(1), Some(&subnets("10.5.3.0-24")?))
            .await?;
        assert_eq!(
            (own.key.to_string().as_str(), own.origin),
            ("10.5.2.0-24", Origin::Reused)
        );
        let kv = entry(&mut client, "10.5.2.0-24").await?.context("entry")?;
        assert_eq!(kv.value_str()?, vxlan(1).to_json());
        assert_eq!(kv.lease() == id, kept, "an etcd lease of a day is kept");
        let ttl = client.lease_time_to_live(kv.lease(), None).await?;
        assert_eq!(ttl.granted_ttl(), DAY);
        assert_eq!(etcd_leases(&mut client).await?, 1, "none is left over");
        client.lease_revoke(kv.lease()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn starting_again_writes_nothing() -> Result<()> {
    let (etcd, mut client) = etcd_with(THREE).await?;
    let conf = conf(THREE)?;
    let first = store(&etcd.endpoint())?
        .acquire(&conf, &vxlan(1), None)
        .await?;
    let versions = |all: Vec<KeyValue>| -> Vec<(i64, i64)> {
        all.iter()
            .map(|kv| (kv.mod_revision(), kv.lease()))
            .collect()
    };
    let before = versions(entries(&mut client).await?);
    let again = store(&etcd.endpoint())?
        .acquire(&conf, &vxlan(1), None)
        .await?;
    assert_eq!(again.key, first.key);
    assert_eq!(versions(entries(&mut client).await?), before);
    assert_eq!(etcd_leases(&mut client).await?, 1);
    Ok(())
}

#[tokio::test]
async fn the_previous_subnet_is_taken_unless_another_host_has_it() -> Result<()> {
    let (etcd, mut client) = etcd_with(THREE).await?;
    let (conf, previous) = (conf(THREE)?, subnets("10.5.2.0-24")?);
    let store = store(&etcd.endpoint())?;
    let first = store.acquire(&conf, &vxlan(1), Some(&previous)).await?;
    assert_eq!(
        (first.key.subnets(), first.origin),
        (previous, Origin::Previous)
    );
    let second = store.acquire(&conf, &vxlan(2), Some(&previous)).await?;
    ensure!(!second.key.subnets().overlap(&previous), "{second:?}");
    assert_eq!(second.origin, Origin::Chosen);
    assert_eq!(entries(&mut client).await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_reservation_stays_one() -> Result<()> {
    let (etcd, mut client) = etcd_with(THREE).await?;
    // As an operator writes it.
    client
        .put(path("10.5.2.0-24"), r#"{"PublicIP": "192.0.2.1"}"#, None)
        .await?;
    let store = store(&etcd.endpoint())?;
    for _ in 0..2 {
        let own = store.acquire(&conf(THREE)?, &vxlan(1), None).await?;
        assert_eq!(own.key.to_string(), "10.5.2.0-24");
        assert_eq!(own.expires, None);
        let kv = entry(&mut client, "10.5.2.0-24").await?.context("entry")?;
        assert_eq!(kv.value_str()?, vxlan(1).to_json());
        assert_eq!(kv.lease(), 0);
    }
    assert_eq!(etcd_leases(&mut client).await?, 0);
    Ok(())
}

#[tokio::test]
async fn what_does_not_fit_any_more_is_replaced_but_a_reservation_is_left_alone() -> Result<()> {
    let (etcd, mut client) = etcd_with(THREE).await?;
    let id = client.lease_grant(DAY, None).await?.id();
    let bound = PutOptions::new().with_lease(id);
    client
        .put(path("10.9.0.0-24"), vxlan(1).to_json(), Some(bound))
        .await?;
    client
        .put(path("10.9.1.0-24"), vxlan(1).to_json(), None)
        .await?;
    let own = store(&etcd.endpoint())?
        .acquire(&conf(THREE)?, &vxlan(1), None)
        .await?;
    let keys: Vec<String> = entries(&mut client)
        .await?
        .iter()
        .map(|kv| kv.key_str().map(str::to_owned))
        .collect::<Result<_, _>>()?;
    assert_eq!(keys, [path(&own.key.to_string()), path("10.9.1.0-24")]);
    assert_eq!(etcd_leases(&mut client).await?, 1);
    Ok(())
}

#[tokio::test]
async fn entries_that_are_no_leases_of_ours_do_no_harm() -> Result<()> {
    let (etcd, mut client) = etcd_with(THREE).await?;
    for (lease, value) in [
        ("10.5.1.0-24", "this is not JSON"),
        // A foreign backend, and a subnet that covers two of ours' size.
        (
            "10.5.2.0-24",
            r#"{"PublicIP":"192.0.2.9","PublicIPv6":null,"BackendType":"carrier-pigeon"}"#,
        ),
        ("hello", "{}"),
        ("10.5.0.0-33", "{}"),
    ] {
        client.put(path(lease), value, None).await?;
    }
    let store = store(&etcd.endpoint())?;
    let own = store.acquire(&conf(THREE)?, &vxlan(1), None).await?;
    assert_eq!(
        own.key.to_string(),
        "10.5.3.0-24",
        "the only one nobody has"
    );
    client.delete(path("10.5.3.0-24"), None).await?;
    client.delete(path("10.5.2.0-24"), None).await?;
    client.put(path("10.5.2.0-23"), "{}", None).await?;
    let refused = store.acquire(&conf(THREE)?, &vxlan(1), None).await;
    ensure!(
        matches!(refused, Err(StoreError::NoSubnetFree { .. })),
        "a lease of another length covers the rest: {refused:?}"
    );
    Ok(())
}

/// Hosts that each want a lease at once, each with connections of its own.
async fn start_at_once(
    endpoint: &str,
    conf: &NetConf,
    hosts: impl Iterator<Item = u8>,
) -> Result<JoinSet<Result<OwnLease>>> {
    let mut racing = JoinSet::new();
    for host in hosts {
        let (store, conf) = (store(endpoint)?, conf.clone());
        let record = record_of(host, &conf);
        racing.spawn(async move { Ok(wait_for_lease(&store, &conf, &record, None).await?) });
    }
    Ok(racing)
}

fn record_of(host: u8, conf: &NetConf) -> LeaseRecord {
    let mut record = vxlan(host);
    if conf.networks.v4.is_none() {
        record.public.v4 = None;
        record.public.v6 = Some([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(host)].into());
    }
    record
}

fn assert_disjoint(leases: &[Subnets]) -> Result<()> {
    for (index, one) in leases.iter().enumerate() {
        for other in &leases[index + 1..] {
            ensure!(!one.overlap(other), "{one} and {other} overlap");
        }
    }
    Ok(())
}

#[tokio::test]
async fn forty_hosts_share_thirty_subnets() -> Result<()> {
    let thirty =
        r#"{"Network": "10.5.0.0/16", "SubnetMin": "10.5.10.0", "SubnetMax": "10.5.39.0"}"#;
    let (etcd, mut client) = etcd_with(thirty).await?;
    let conf = conf(thirty)?;
    let mut racing = start_at_once(&etcd.endpoint(), &conf, 1..=40).await?;
    let mut winners = Vec::new();
    for _ in 0..30 {
        let own = racing.join_next().await.context("a winner")???;
        winners.push(own.key.subnets());
    }
    assert_disjoint(&winners)?;
    assert_eq!(entries(&mut client).await?.len(), 30);
    let refused = store(&etcd.endpoint())?
        .acquire(&conf, &vxlan(99), None)
        .await;
    let text = refused.err().context("was not refused")?.to_string();
    ensure!(
        text.contains("no subnet of 10.5.0.0/16 is free, 30 leases exist"),
        "{text}"
    );

    // One host leaves, one of those that wait gets its subnet.
    let freed = entries(&mut client).await?.swap_remove(7);
    client.lease_revoke(freed.lease()).await?;
    let late = racing.join_next().await.context("a late winner")???;
    ensure!(
        freed.key_str()?.ends_with(&late.key.to_string()),
        "{late:?}"
    );
    eventually("those that lost give their etcd leases back", || {
        let mut client = client.clone();
        async move { (etcd_leases(&mut client).await.ok()? == 30).then_some(()) }
    })
    .await?;
    assert_eq!(racing.len(), 9, "the others wait");
    Ok(())
}

#[tokio::test]
async fn as_many_subnets_as_hosts_are_enough_in_every_family() -> Result<()> {
    let ten_v4 = r#""Network": "10.5.0.0/16", "SubnetMin": "10.5.10.0", "SubnetMax": "10.5.19.0""#;
    let ten_v6 = r#""EnableIPv6": true, "IPv6Network": "fd00::/48", "IPv6SubnetMin": "fd00:0:0:10::", "IPv6SubnetMax": "fd00:0:0:19::""#;
    for json in [
        format!("{{{ten_v4}}}"),
        format!("{{{ten_v4}, {ten_v6}}}"),
        format!("{{\"EnableIPv4\": false, {ten_v6}}}"),
    ] {
        let (etcd, mut client) = etcd_with(&json).await?;
        let mut racing = start_at_once(&etcd.endpoint(), &conf(&json)?, 1..=10).await?;
        let mut winners = Vec::new();
        while let Some(own) = racing.join_next().await {
            winners.push(own??.key.subnets());
        }
        assert_eq!(winners.len(), 10);
        assert_disjoint(&winners)?;
        assert_eq!(etcd_leases(&mut client).await?, 10, "none is left over");
    }
    Ok(())
}

#[tokio::test]
async fn leases_of_two_lengths_never_overlap() -> Result<()> {
    // While an operator changes SubnetLen some hosts work by the old value and some by the new one.
    let long = r#"{"Network": "10.5.0.0/18", "SubnetLen": 26}"#;
    let short = r#"{"Network": "10.5.0.0/18", "SubnetLen": 23}"#;
    let (etcd, mut client) = etcd_with(long).await?;
    let mut racing = start_at_once(&etcd.endpoint(), &conf(long)?, 1..=20).await?;
    let mut others = start_at_once(&etcd.endpoint(), &conf(short)?, 101..=103).await?;
    while let Some(own) = others.join_next().await {
        own??;
    }
    while let Some(own) = racing.join_next().await {
        own??;
    }
    let all: BTreeSet<String> = entries(&mut client)
        .await?
        .iter()
        .map(|kv| kv.key_str().map(str::to_owned))
        .collect::<Result<_, _>>()?;
    assert_eq!(all.len(), 23);
    let all: Vec<Subnets> = all
        .iter()
        .filter_map(|key| key.rsplit('/').next())
        .map(subnets)
        .collect::<Result<_>>()?;
    assert_disjoint(&all)
}

#[tokio::test]
async fn an_absent_etcd_is_named() -> Result<()> {
    let etcd = Etcd::prepare(Default::default())?;
    let store = store(&etcd.endpoint())?;
    let refused = store.acquire(&conf(THREE)?, &vxlan(1), None).await;
    let text = refused.err().context("was not refused")?.to_string();
    for part in [
        etcd.endpoint().as_str(),
        "/coreos.com/network/subnets/",
        "refused",
    ] {
        ensure!(text.contains(part), "{part} is not in: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn a_dead_endpoint_beside_a_live_one_does_not_matter() -> Result<()> {
    let (etcd, _) = etcd_with(THREE).await?;
    let dead = Etcd::prepare(Default::default())?;
    for host in 1..=3 {
        let mut config = settings(&dead.endpoint());
        config.endpoints.push(etcd.endpoint());
        config.timing.lease = std::time::Duration::from_secs(100);
        let store = flanneld::store::etcd::EtcdStore::new(config)?;
        store.acquire(&conf(THREE)?, &vxlan(host), None).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_lease_ends_with_its_time() -> Result<()> {
    let (etcd, client) = etcd_with(THREE).await?;
    let store = store_with_ttl(&etcd.endpoint(), 1)?;
    store.acquire(&conf(THREE)?, &vxlan(1), None).await?;
    eventually("the lease nobody keeps expires", || {
        let mut client = client.clone();
        async move { entries(&mut client).await.ok()?.is_empty().then_some(()) }
    })
    .await
}
