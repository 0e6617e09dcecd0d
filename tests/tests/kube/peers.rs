//! The other Nodes: what is told of them, and what is not.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use flanneld::store::{PeerEvent, PeerLease, Unreadable, Used};
use ipam::{LeaseBackend, LeaseKey, LeaseRecord};
use loden_tests::kube::Cluster;
use loden_tests::{next, next_that};

use crate::scene::{Daemon, Member, cidrs, member, prefix, record, shared, user};

/// Whether it is about a Node that has nothing of this network: those of other tests, and Nodes before they are annotated.
fn is_of_strangers(event: &PeerEvent) -> bool {
    match event {
        PeerEvent::Unreadable(entry) => entry.used == Used::NotOurs,
        PeerEvent::Mended(_) => true,
        _ => false,
    }
}

async fn told(daemon: &mut Daemon) -> Result<PeerEvent> {
    loop {
        let event = next(&mut daemon.peers).await?;
        if !is_of_strangers(&event) {
            return Ok(event);
        }
    }
}

async fn changed(daemon: &mut Daemon) -> Result<PeerLease> {
    match told(daemon).await? {
        PeerEvent::Changed(lease) => Ok(lease),
        other => bail!("no change but {other:?}"),
    }
}

async fn removed(daemon: &mut Daemon) -> Result<LeaseKey> {
    match told(daemon).await? {
        PeerEvent::Removed(key) => Ok(key),
        other => bail!("no removal but {other:?}"),
    }
}

fn key(number: u8) -> LeaseKey {
    format!("10.244.{number}.0-24&fd00:10:0:{number}::-64")
        .parse()
        .unwrap()
}

/// A Node whose daemon is flannel: it only has annotations.
pub(crate) async fn foreign(
    cluster: &Cluster,
    name: &str,
    prefix: &str,
    number: u8,
    record: &LeaseRecord,
) -> Result<()> {
    let cidrs = cidrs(number);
    cluster.create_node(name, &[&cidrs[0], &cidrs[1]]).await?;
    publish(cluster, name, prefix, record).await
}

pub(crate) async fn publish(
    cluster: &Cluster,
    name: &str,
    prefix: &str,
    record: &LeaseRecord,
) -> Result<()> {
    let LeaseBackend::Vxlan(data) = &record.backend else {
        bail!("not vxlan")
    };
    let json = |mac: ipam::Mac| format!(r#"{{"VNI":1,"VtepMAC":"{mac}"}}"#);
    let texts = [
        ("kube-subnet-manager", "true".to_owned()),
        ("backend-type", "vxlan".to_owned()),
        ("backend-data", json(data.v4.unwrap().mac)),
        ("backend-v6-data", json(data.v6.unwrap().mac)),
        ("public-ip", record.public.v4.unwrap().to_string()),
        ("public-ipv6", record.public.v6.unwrap().to_string()),
    ];
    let annotations: Vec<(String, Option<&str>)> = texts
        .iter()
        .map(|(key, text)| (format!("{prefix}/{key}"), Some(text.as_str())))
        .collect();
    cluster.annotate(name, &annotations).await
}

pub(crate) async fn peers_come_change_and_go(program: PathBuf) -> Result<()> {
    let (server, cluster) = shared(&program).await?;
    let prefix = prefix();
    foreign(&cluster, "pc-before", &prefix, 2, &record(2)).await?;
    let (_member, mut daemon) = member(server, &cluster, "pc-own", &prefix, 1).await?;
    assert_eq!(
        daemon.snapshot().await?,
        ["10.244.2.0/24 and fd00:10:0:2::/64"]
    );
    // Another daemon of ours.
    let (_other, other) = member(server, &cluster, "pc-other", &prefix, 3).await?;
    let joined = changed(&mut daemon).await?;
    assert_eq!((joined.key, joined.record), (key(3), record(3)));
    other.record.send_replace(record(33));
    assert_eq!(changed(&mut daemon).await?.record, record(33));
    cluster.delete_node("pc-before").await?;
    assert_eq!(removed(&mut daemon).await?, key(2));
    Ok(())
}

/// flannel drops it (its defect D1).
pub(crate) async fn one_family_may_change_alone(program: PathBuf) -> Result<()> {
    let (server, cluster) = shared(&program).await?;
    let prefix = prefix();
    foreign(&cluster, "of-peer", &prefix, 2, &record(2)).await?;
    let (_member, mut daemon) = member(server, &cluster, "of-own", &prefix, 1).await?;
    daemon.snapshot().await?;
    let mut record = record(2);
    record.public.v6 = Some("2001:db8::99".parse()?);
    publish(&cluster, "of-peer", &prefix, &record).await?;
    assert_eq!(changed(&mut daemon).await?.record, record);
    let LeaseBackend::Vxlan(data) = &mut record.backend else {
        bail!("not vxlan")
    };
    data.v4.as_mut().unwrap().mac = "0a:00:00:00:00:99".parse()?;
    publish(&cluster, "of-peer", &prefix, &record).await?;
    assert_eq!(changed(&mut daemon).await?.record, record);
    Ok(())
}

pub(crate) async fn a_peers_pod_cidr_may_change(program: PathBuf) -> Result<()> {
    let (server, cluster) = shared(&program).await?;
    let prefix = prefix();
    foreign(&cluster, "cc-peer", &prefix, 2, &record(2)).await?;
    let (_member, mut daemon) = member(server, &cluster, "cc-own", &prefix, 1).await?;
    daemon.snapshot().await?;
    cluster.delete_node("cc-peer").await?;
    foreign(&cluster, "cc-peer", &prefix, 5, &record(2)).await?;
    assert_eq!(removed(&mut daemon).await?, key(2));
    assert_eq!(changed(&mut daemon).await?.key, key(5));
    Ok(())
}

pub(crate) async fn heartbeats_are_silent(program: PathBuf) -> Result<()> {
    let (server, cluster) = shared(&program).await?;
    let prefix = prefix();
    foreign(&cluster, "hb-peer", &prefix, 2, &record(2)).await?;
    let (member, mut daemon) = member(server, &cluster, "hb-own", &prefix, 1).await?;
    daemon.snapshot().await?;
    let patches = || {
        let entries = server.audit_entries(&user()).unwrap();
        let ours = entries
            .into_iter()
            .filter(|entry| entry["verb"] == "patch" && entry["objectRef"]["name"] == "hb-own");
        ours.count()
    };
    let before = patches();
    for beat in 0..20 {
        for node in ["hb-peer", "hb-own"] {
            let status = if beat % 2 == 0 { "True" } else { "Unknown" };
            cluster.set_condition(node, "Ready", status, "Beat").await?;
            cluster
                .annotate(
                    node,
                    &[("example.net/beat".to_owned(), Some(&beat.to_string()))],
                )
                .await?;
        }
    }
    // A real change comes behind all beats, and must be the first that is heard of.
    publish(&cluster, "hb-peer", &prefix, &record(22)).await?;
    assert_eq!(changed(&mut daemon).await?.record, record(22));
    ensure!(
        daemon.own.try_recv().is_err(),
        "a heartbeat of our own was heard of"
    );
    assert_eq!(patches(), before);
    assert_eq!(member.annotations(&cluster).await?.len(), 6);
    Ok(())
}

pub(crate) async fn nodes_that_are_not_ours_are_left_out(program: PathBuf) -> Result<()> {
    let (server, cluster) = shared(&program).await?;
    let prefix = prefix();
    // A Node without annotations, one that cannot be read, one that has only one family, one of another backend.
    cluster
        .create_node("no-windows", &["10.244.8.0/24"])
        .await?;
    foreign(&cluster, "no-broken", &prefix, 4, &record(4)).await?;
    let bad = |name: &str, text| (format!("{prefix}/{name}"), text);
    cluster
        .annotate(
            "no-broken",
            &[bad("public-ip", Some("many")), bad("public-ipv6", None)],
        )
        .await?;
    foreign(&cluster, "no-half", &prefix, 5, &record(5)).await?;
    cluster
        .annotate(
            "no-half",
            &[bad("public-ipv6", None), bad("backend-v6-data", None)],
        )
        .await?;
    foreign(&cluster, "no-other", &prefix, 6, &record(6)).await?;
    cluster
        .annotate("no-other", &[bad("backend-type", Some("wireguard"))])
        .await?;
    let (_member, mut daemon) = member(server, &cluster, "no-own", &prefix, 1).await?;
    let PeerEvent::Snapshot { peers, skipped } = next(&mut daemon.peers).await? else {
        bail!("no snapshot")
    };
    let keys: Vec<LeaseKey> = peers.iter().map(|peer| peer.key).collect();
    assert_eq!(keys, [key(5), key(6)]);
    assert_eq!(peers[0].record.public.v4, record(5).public.v4);
    assert_eq!(peers[0].record.public.v6, None);
    assert_eq!(peers[1].record.backend.name(), "wireguard");
    let is_stranger = |entry: &&Unreadable| entry.used == Used::NotOurs;
    let (strangers, skipped): (Vec<&Unreadable>, Vec<&Unreadable>) =
        skipped.iter().partition(is_stranger);
    let strangers: Vec<&str> = strangers.iter().map(|entry| entry.key.as_str()).collect();
    assert!(strangers.contains(&"Node no-windows"), "{strangers:?}");
    let [entry] = skipped.as_slice() else {
        bail!("left out: {skipped:?}")
    };
    assert_eq!(
        (entry.key.as_str(), entry.lease),
        ("Node no-broken", Some(key(4)))
    );
    ensure!(entry.reason.contains("public-ip"), "{}", entry.reason);
    // Mended, it is a peer like any other.
    publish(&cluster, "no-broken", &prefix, &record(4)).await?;
    let mended = next_that(&mut daemon.peers, |event| match event {
        PeerEvent::Changed(lease) if lease.key == key(4) => Some(lease),
        _ => None,
    })
    .await?;
    assert_eq!(mended.record, record(4));
    Ok(())
}

pub(crate) async fn alloc_watches_only_its_own_node(program: PathBuf) -> Result<()> {
    let (server, cluster) = shared(&program).await?;
    let prefix = prefix();
    let cidrs = cidrs(1);
    cluster.create_node("alloc", &[&cidrs[0]]).await?;
    let conf = r#"{"Network":"10.244.0.0/16","Backend":{"Type":"alloc"}}"#;
    let alloc = Member::new(server, &cluster, "alloc", &prefix, conf).await?;
    let mut record = record(1);
    record.backend = LeaseBackend::Unnamed;
    let mut daemon = alloc.run(record).await?;
    assert_eq!(daemon.snapshot().await?, Vec::<String>::new());
    let found = alloc.annotations(&cluster).await?;
    let found: Vec<(&str, &str)> = found
        .iter()
        .map(|(k, t)| (k.as_str(), t.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            ("backend-data", "null"),
            ("backend-type", ""),
            ("kube-subnet-manager", "true"),
            ("public-ip", "192.0.2.1")
        ]
    );
    let (_other, _running) = member(server, &cluster, "alloc-other", &prefix, 2).await?;
    cluster
        .annotate("alloc", &[(alloc.key("public-ip"), None)])
        .await?;
    loden_tests::eventually("its own Node is still watched", async || {
        let found = alloc.annotations(&cluster).await.ok()?;
        found.contains_key("public-ip").then_some(())
    })
    .await?;
    ensure!(daemon.peers.try_recv().is_err(), "it heard of a peer");
    Ok(())
}
