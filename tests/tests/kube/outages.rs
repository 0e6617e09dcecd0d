//! An API server that is away, that comes back having forgotten where a watch was, and that refuses a token.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use flanneld::store::{LeaseStore, OwnEvent, PeerEvent, wait_for_lease};
use loden_tests::{eventually, next_that};
use tokio::time::{Instant, timeout};

use crate::scene::{Scene, member, prefix, record, user};

/// The API server dies; meanwhile nothing is removed. It comes back with a new watch cache, so that the watch cannot go on where it was
/// (status 410), and what happened before its listing is told nevertheless.
pub(crate) async fn an_api_server_that_comes_back_tells_what_was_missed(
    program: PathBuf,
) -> Result<()> {
    let mut scene = Scene::start(&program).await?;
    let prefix = prefix();
    let (a, mut daemon) = member(&scene.server, &scene.cluster, "a", &prefix, 1).await?;
    let (_b, other) = member(&scene.server, &scene.cluster, "b", &prefix, 2).await?;
    let (_c, gone) = member(&scene.server, &scene.cluster, "c", &prefix, 3).await?;
    let mut known = std::collections::BTreeMap::new();
    let mut take = |event: PeerEvent| {
        match event {
            PeerEvent::Snapshot { peers, .. } => {
                known = peers.into_iter().map(|p| (p.key, p.record)).collect()
            }
            PeerEvent::Changed(lease) => drop(known.insert(lease.key, lease.record)),
            PeerEvent::Removed(key) => drop(known.remove(&key)),
            PeerEvent::Unreadable(_) | PeerEvent::Mended(_) => {}
        }
        known.clone()
    };
    next_that(&mut daemon.peers, |event| {
        (take(event).len() == 2).then_some(())
    })
    .await?;
    scene.server.kill()?;
    // What is wanted meanwhile cannot be written, which is told.
    daemon.record.send_replace(record(11));
    next_that(&mut daemon.own, |event| match event {
        OwnEvent::Trouble { reason } => Some(reason),
        _ => None,
    })
    .await
    .and_then(|reason| {
        ensure!(reason.contains("does not answer"), "{reason}");
        Ok(())
    })?;
    // Of Nodes without annotations it may still be told that they have some by now.
    while let Ok(event) = daemon.peers.try_recv() {
        ensure!(
            matches!(event, PeerEvent::Unreadable(_) | PeerEvent::Mended(_)),
            "a peer changed without an API server: {event:?}"
        );
    }
    drop(gone);
    other.record.send_replace(record(22));
    scene.server.up().await?;
    scene.cluster = scene.server.admin().await?;
    scene.cluster.delete_node("c").await?;
    next_that(&mut daemon.peers, |event| {
        let known = take(event);
        let records: Vec<_> = known.into_values().collect();
        (records == [record(22)]).then_some(())
    })
    .await?;
    eventually("what was wanted meanwhile is written", async || {
        let found = a.annotations(&scene.cluster).await.ok()?;
        (found.get("public-ip").map(String::as_str) == Some("192.0.2.11")).then_some(())
    })
    .await
}

pub(crate) async fn an_api_server_may_be_absent_at_start(program: PathBuf) -> Result<()> {
    let mut scene = Scene::start(&program).await?;
    let prefix = prefix();
    let (a, daemon) = member(&scene.server, &scene.cluster, "a", &prefix, 1).await?;
    drop(daemon);
    scene.server.kill()?;
    let store = a.store()?;
    let conf = store.net_conf().await?;
    let lease = tokio::spawn(async move {
        let known = store.this_node(&conf).await?;
        let lease = wait_for_lease(&store, &conf, &record(1), None).await?;
        Ok::<_, flanneld::store::StoreError>((known, lease))
    });
    // It waits as long as it has to; a second of that is seen.
    let mut lease = std::pin::pin!(lease);
    ensure!(
        timeout(Duration::from_secs(1), &mut lease).await.is_err(),
        "leased without an API server"
    );
    scene.server.up().await?;
    let (known, lease) = lease.await??;
    assert_eq!(known.macs.v4, Some(ipam::Mac([0x12, 0, 0, 0, 0, 1])));
    assert_eq!(lease.record, record(1));
    Ok(())
}

/// The token in the file is refused from one moment on; another one in the same file is taken up without a restart.
pub(crate) async fn a_token_may_be_replaced(program: PathBuf) -> Result<()> {
    let scene = Scene::start(&program).await?;
    let (a, mut daemon) = member(&scene.server, &scene.cluster, "a", &prefix(), 1).await?;
    scene.cluster.renew_account().await?;
    // The server remembers for some seconds that the old one was right, so changes are wanted until one is refused.
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut number = 2;
    let refusal = loop {
        ensure!(Instant::now() < deadline, "the old token is still taken");
        daemon.record.send_replace(record(number));
        let event = timeout(Duration::from_secs(2), daemon.own.recv()).await;
        // The server ends the connection of whoever it refuses, which a request beside that may meet first.
        if let Ok(Some(OwnEvent::Trouble { reason })) = event
            && !reason.contains("does not answer")
        {
            break reason;
        }
        number = number % 200 + 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    ensure!(
        refusal.contains("401") && refusal.contains("token"),
        "{refusal}"
    );
    std::fs::write(&a.token_file, scene.cluster.token().await?)?;
    // The file is read for each request; one that was refused is repeated after ten seconds at the most.
    let deadline = Instant::now() + Duration::from_secs(150);
    let wanted = format!("192.0.2.{number}");
    loop {
        let found = a.annotations(&scene.cluster).await?;
        if found.get("public-ip") == Some(&wanted) {
            break;
        }
        ensure!(
            Instant::now() < deadline,
            "the new token is not taken; the Node says {found:?}"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    ensure!(
        scene
            .server
            .audited(&user())?
            .iter()
            .all(|request| request.allowed || request.verb.is_empty()),
        "refused by RBAC"
    );
    Ok(())
}
