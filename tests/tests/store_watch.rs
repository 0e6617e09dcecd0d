//! How a host hears of the leases of the others, through everything that may happen to a real etcd.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use etcd_client::{Client, Txn, TxnOp};
use flanneld::store::etcd::EtcdStore;
use flanneld::store::{PeerEvent, PeerLease};
use loden_tests::store::{etcd_with, path, settings, store, vxlan, watch_peers};
use loden_tests::{Cable, Etcd, next};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;

const CONF: &str = r#"{"Network": "10.5.0.0/16"}"#;

async fn put(client: &mut Client, lease: &str, host: u8) -> Result<i64> {
    let response = client.put(path(lease), vxlan(host).to_json(), None).await?;
    Ok(response.header().context("a header")?.revision())
}

/// What a daemon knows after events: who has which lease.
#[derive(Debug, Default)]
struct Known {
    hosts: BTreeMap<String, u8>,
    snapshots: usize,
}

impl Known {
    fn learn(&mut self, event: PeerEvent) {
        match event {
            PeerEvent::Snapshot { peers, .. } => {
                self.snapshots += 1;
                self.hosts.clear();
                for peer in peers {
                    self.insert(peer);
                }
            }
            PeerEvent::Changed(peer) => self.insert(peer),
            PeerEvent::Removed(key) => {
                self.hosts.remove(&key.to_string());
            }
            PeerEvent::Unreadable(_) | PeerEvent::Mended(_) => {}
        }
    }

    fn insert(&mut self, peer: PeerLease) {
        let host = peer.record.public.v4.map_or(0, |v4| v4.octets()[3]);
        self.hosts.insert(peer.key.to_string(), host);
    }

    async fn until(
        &mut self,
        events: &mut mpsc::Receiver<PeerEvent>,
        hosts: &[(&str, u8)],
    ) -> Result<()> {
        let wanted: BTreeMap<String, u8> = hosts
            .iter()
            .map(|(lease, host)| ((*lease).to_owned(), *host))
            .collect();
        while self.hosts != wanted {
            let event = next(events)
                .await
                .with_context(|| format!("known {self:?}, wanted {wanted:?}"))?;
            self.learn(event);
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_snapshot_and_then_every_change() -> Result<()> {
    let (etcd, mut client) = etcd_with(CONF).await?;
    let first = put(&mut client, "10.5.1.0-24", 1).await?;
    client.put(path("10.5.2.0-24"), "{", None).await?;
    client.put(path("hello"), "{}", None).await?;
    let mut events = watch_peers(&store(&etcd.endpoint())?);

    let PeerEvent::Snapshot { peers, skipped } = next(&mut events).await? else {
        bail!("no snapshot first");
    };
    let expected = PeerLease {
        key: "10.5.1.0-24".parse()?,
        record: vxlan(1),
        revision: first,
        created: first,
    };
    assert_eq!(peers, std::slice::from_ref(&expected));
    let skipped: BTreeMap<&str, bool> = skipped
        .iter()
        .map(|entry| (entry.key.as_str(), entry.lease.is_some()))
        .collect();
    assert_eq!(
        skipped,
        BTreeMap::from([
            (path("10.5.2.0-24").as_str(), true),
            (path("hello").as_str(), false)
        ])
    );

    let second = put(&mut client, "10.5.1.0-24", 1).await?;
    let again = PeerLease {
        revision: second,
        ..expected
    };
    assert_eq!(next(&mut events).await?, PeerEvent::Changed(again));
    client.delete(path("10.5.1.0-24"), None).await?;
    assert_eq!(
        next(&mut events).await?,
        PeerEvent::Removed("10.5.1.0-24".parse()?)
    );
    // Deleting what was no lease is no event; writing such a thing is.
    client.delete(path("hello"), None).await?;
    client.put(path("10.5.3.0-24"), "[]", None).await?;
    match next(&mut events).await? {
        PeerEvent::Unreadable(entry) => assert_eq!(entry.key, path("10.5.3.0-24")),
        other => bail!("{other:?}"),
    }
    Ok(())
}

#[tokio::test]
async fn foreign_and_overlapping_leases_are_delivered_as_they_are() -> Result<()> {
    let (etcd, mut client) = etcd_with(CONF).await?;
    let foreign = r#"{"PublicIP":"192.0.2.9","PublicIPv6":null,"BackendType":"carrier-pigeon","BackendData":{"Loft":7}}"#;
    client.put(path("10.5.0.0-16"), foreign, None).await?;
    put(&mut client, "10.5.1.0-24&fd00:10:5::-64", 1).await?;
    let mut events = watch_peers(&store(&etcd.endpoint())?);
    let PeerEvent::Snapshot { peers, skipped } = next(&mut events).await? else {
        bail!("no snapshot first");
    };
    assert_eq!((peers.len(), skipped.len()), (2, 0));
    assert_eq!(peers[0].record.backend.name(), "carrier-pigeon");
    Ok(())
}

#[tokio::test]
async fn no_change_is_lost_when_etcd_is_killed_and_started_again() -> Result<()> {
    let (mut etcd, mut client) = etcd_with(CONF).await?;
    put(&mut client, "10.5.1.0-24", 1).await?;
    let mut events = watch_peers(&store(&etcd.endpoint())?);
    let mut known = Known::default();
    known.until(&mut events, &[("10.5.1.0-24", 1)]).await?;
    let mut created = None;
    for round in 2..5 {
        etcd.kill()?;
        etcd.up().await?;
        let mut client = etcd.client().await?;
        // More than the end of it: each single change is to arrive, in order.
        let mut revisions = Vec::new();
        for host in 1..=20 {
            revisions.push(put(&mut client, "10.5.2.0-24", host).await?);
        }
        let first = *created.get_or_insert(revisions[0]);
        for (host, revision) in (1..=20).zip(revisions) {
            let expected = PeerLease {
                key: "10.5.2.0-24".parse()?,
                record: vxlan(host),
                revision,
                created: first,
            };
            assert_eq!(
                next(&mut events).await?,
                PeerEvent::Changed(expected),
                "round {round}"
            );
        }
    }
    assert_eq!(known.snapshots, 1, "no need to list again");
    Ok(())
}

#[tokio::test]
async fn an_etcd_that_comes_late_is_waited_for() -> Result<()> {
    let mut etcd = Etcd::prepare(Default::default())?;
    let mut events = watch_peers(&store(&etcd.endpoint())?);
    etcd.up().await?;
    let empty = PeerEvent::Snapshot {
        peers: Vec::new(),
        skipped: Vec::new(),
    };
    assert_eq!(next(&mut events).await?, empty);
    let mut client = etcd.client().await?;
    put(&mut client, "10.5.1.0-24", 1).await?;
    Known::default()
        .until(&mut events, &[("10.5.1.0-24", 1)])
        .await
}

#[tokio::test]
async fn a_history_compacted_meanwhile_brings_a_new_snapshot() -> Result<()> {
    let (etcd, mut client) = etcd_with(CONF).await?;
    put(&mut client, "10.5.1.0-24", 1).await?;
    put(&mut client, "10.5.2.0-24", 2).await?;
    let cable = Cable::to(etcd.port()).await?;
    let mut events = watch_peers(&store(&cable.endpoint())?);
    let mut known = Known::default();
    known
        .until(&mut events, &[("10.5.1.0-24", 1), ("10.5.2.0-24", 2)])
        .await?;

    cable.cut();
    client.delete(path("10.5.1.0-24"), None).await?;
    put(&mut client, "10.5.2.0-24", 22).await?;
    let last = put(&mut client, "10.5.3.0-24", 3).await?;
    client.compact(last, None).await?;
    cable.mend();

    known
        .until(&mut events, &[("10.5.2.0-24", 22), ("10.5.3.0-24", 3)])
        .await?;
    assert_eq!(known.snapshots, 2);
    put(&mut client, "10.5.4.0-24", 4).await?;
    known
        .until(
            &mut events,
            &[("10.5.2.0-24", 22), ("10.5.3.0-24", 3), ("10.5.4.0-24", 4)],
        )
        .await?;
    assert_eq!(known.snapshots, 2, "and then changes again");
    Ok(())
}

#[tokio::test]
async fn an_emptied_etcd_takes_nobody_away_at_once() -> Result<()> {
    let (mut etcd, mut client) = etcd_with(CONF).await?;
    put(&mut client, "10.5.1.0-24", 1).await?;
    for host in 1..=9 {
        put(&mut client, "10.5.2.0-24", host).await?;
    }
    let mut config = settings(&etcd.endpoint());
    config.timing.grace = Duration::from_secs(2);
    let mut events = watch_peers(&EtcdStore::new(config)?);
    let mut known = Known::default();
    known
        .until(&mut events, &[("10.5.1.0-24", 1), ("10.5.2.0-24", 9)])
        .await?;
    // As after a backup: the revisions start from further back, below the one the watch waits for.
    etcd.kill()?;
    etcd.wipe()?;
    etcd.up().await?;
    let mut client = etcd.client().await?;
    // One host writes its lease again, one is new, one has died meanwhile.
    put(&mut client, "10.5.2.0-24", 9).await?;
    put(&mut client, "10.5.3.0-24", 3).await?;
    let all = [("10.5.1.0-24", 1), ("10.5.2.0-24", 9), ("10.5.3.0-24", 3)];
    known.until(&mut events, &all).await?;
    assert_eq!(known.snapshots, 1);
    known.until(&mut events, &all[1..]).await?;
    assert_eq!(known.snapshots, 2, "the first full one after the grace");
    Ok(())
}

#[tokio::test]
async fn all_leases_are_listed_again_from_time_to_time() -> Result<()> {
    let (etcd, mut client) = etcd_with(CONF).await?;
    put(&mut client, "10.5.1.0-24", 1).await?;
    let mut config = settings(&etcd.endpoint());
    config.timing.relist = Duration::from_millis(100);
    let mut events = watch_peers(&EtcdStore::new(config)?);
    for _ in 0..3 {
        match next(&mut events).await? {
            PeerEvent::Snapshot { peers, .. } => assert_eq!(peers.len(), 1),
            other => bail!("{other:?}"),
        }
    }
    Ok(())
}

#[tokio::test]
async fn five_thousand_leases_come_in_one_listing() -> Result<()> {
    const HOSTS: usize = 5000;
    let (etcd, mut client) = etcd_with(CONF).await?;
    // With members nobody knows, so that all together exceed the 4 MiB that gRPC libraries take by default.
    let record = vxlan(1).to_json();
    let record = format!("{{\"Unknown\":\"{}\",{}", "x".repeat(1000), &record[1..]);
    let all: Vec<usize> = (0..HOSTS).collect();
    for some in all.chunks(100) {
        let puts: Vec<TxnOp> = some
            .iter()
            .map(|host| {
                let lease = path(&format!("10.{}.{}.0-24", host / 256, host % 256));
                TxnOp::put(lease, record.clone(), None)
            })
            .collect();
        client.txn(Txn::new().and_then(puts)).await?;
    }
    let mut events = watch_peers(&store(&etcd.endpoint())?);
    let PeerEvent::Snapshot { peers, skipped } = next(&mut events).await? else {
        bail!("no snapshot first");
    };
    assert_eq!((peers.len(), skipped.len()), (HOSTS, 0));
    Ok(())
}

#[tokio::test]
async fn a_connection_that_falls_silent_is_given_up() -> Result<()> {
    let (etcd, mut client) = etcd_with(CONF).await?;
    let (silent, whole) = (Cable::to(etcd.port()).await?, Cable::to(etcd.port()).await?);
    whole.cut();
    let mut config = settings(&silent.endpoint());
    config.endpoints.push(whole.endpoint());
    config.timing.probe = Duration::from_secs(1);
    config.timing.request = Duration::from_secs(1);
    let mut events = watch_peers(&EtcdStore::new(config)?);
    let mut known = Known::default();
    put(&mut client, "10.5.1.0-24", 1).await?;
    known.until(&mut events, &[("10.5.1.0-24", 1)]).await?;
    silent.silence();
    whole.mend();
    put(&mut client, "10.5.1.0-24", 2).await?;
    known.until(&mut events, &[("10.5.1.0-24", 2)]).await
}

#[tokio::test]
async fn a_server_that_hangs_up_each_time_is_not_asked_in_a_hot_loop() -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    let mut config = settings(&format!("http://127.0.0.1:{port}"));
    config.timing.retry_first = Duration::from_millis(10);
    config.timing.retry_cap = Duration::from_millis(100);
    let _events = watch_peers(&EtcdStore::new(config)?);
    let began = Instant::now();
    let mut connections = 0;
    while began.elapsed() < Duration::from_secs(1) {
        let accepted = tokio::time::timeout(Duration::from_secs(1), listener.accept()).await;
        connections += u32::from(accepted.is_ok());
    }
    // Delays of 5, 10, 20, 40, 50, 50 ms at the least, and the client library may connect twice for a request.
    ensure!(
        (2..=60).contains(&connections),
        "{connections} connections in a second"
    );
    Ok(())
}
