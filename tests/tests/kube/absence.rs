//! An API server that is out of reach, for moments and for hours: what that costs, what it does to the log, and how it ends.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use flanneld::store::{OwnEvent, PeerEvent};
use loden_tests::kube::{ApiServer, Cluster};
use loden_tests::{Cable, eventually, next_that};
use tokio::time::Instant;

use crate::log::Log;
use crate::peers::{foreign, publish};
use crate::scene::{DUAL, Daemon, Member, Scene, cidrs, prefix, record, shared, user};

/// A member whose connections go through a cable, with a foreign peer that it knows.
async fn behind_a_cable(
    server: &ApiServer,
    cluster: &Cluster,
    name: &str,
    prefix: &str,
) -> Result<(Member, Daemon, Cable)> {
    let peer = format!("{name}-peer");
    foreign(cluster, &peer, prefix, 2, &record(2)).await?;
    let cidrs = cidrs(1);
    cluster.create_node(name, &[&cidrs[0], &cidrs[1]]).await?;
    let mut member = Member::new(server, cluster, name, prefix, DUAL).await?;
    let cable = Cable::to(server.port()).await?;
    member.config.access.api_url = Some(format!("https://127.0.0.1:{}", cable.port()));
    let mut daemon = member.run(record(1)).await?;
    ensure!(daemon.snapshot().await?.len() == 1, "not one peer");
    Ok((member, daemon, cable))
}

async fn told_of(daemon: &mut Daemon, public: u8) -> Result<()> {
    next_that(&mut daemon.peers, |event| match event {
        PeerEvent::Changed(lease) if lease.record == record(public) => Some(()),
        PeerEvent::Snapshot { peers, .. } => peers
            .iter()
            .any(|peer| peer.record == record(public))
            .then_some(()),
        _ => None,
    })
    .await
}

/// A firewall loses its memory: nobody is told, bytes go nowhere, new connections work. HTTP/2's pings tell.
pub(crate) async fn a_dead_connection_is_noticed(program: PathBuf) -> Result<()> {
    let (server, cluster) = shared(&program).await?;
    let prefix = prefix();
    let (member, mut daemon, cable) = behind_a_cable(server, &cluster, "dead", &prefix).await?;
    cable.forget();
    let since = Instant::now();
    publish(&cluster, "dead-peer", &prefix, &record(22)).await?;
    told_of(&mut daemon, 22).await?;
    let noticed = since.elapsed();
    println!("a dead connection was noticed after {noticed:?}");
    ensure!(noticed < Duration::from_secs(40), "after {noticed:?}");
    // And one through which only something is sent.
    cable.forget();
    let since = Instant::now();
    daemon.record.send_replace(record(11));
    eventually("what is wanted is written", async || {
        let found = member.annotations(&cluster).await.ok()?;
        (found.get("public-ip").map(String::as_str) == Some("192.0.2.11")).then_some(())
    })
    .await?;
    let noticed = since.elapsed();
    ensure!(noticed < Duration::from_secs(40), "after {noticed:?}");
    Ok(())
}

/// etcd keeps no history of the time without a connection, so that the server answers the watch with status 410.
pub(crate) async fn a_forgotten_version_costs_a_listing(program: PathBuf) -> Result<()> {
    // Without its cache the server has no memory but etcd's. And this one shows that HTTP/1.1 will do.
    let arguments = ["--watch-cache=false", "--disable-http2-serving"];
    let server = ApiServer::start_with(&program, &arguments).await?;
    let cluster = server.admin().await?;
    cluster
        .grant(std::path::Path::new(crate::scene::MANIFEST))
        .await?;
    let (log, _guard) = Log::take();
    let prefix = prefix();
    foreign(&cluster, "gone", &prefix, 3, &record(3)).await?;
    let lists = || -> Result<usize> {
        let entries = server.audit_entries(&user())?;
        Ok(entries
            .iter()
            .filter(|entry| entry["verb"] == "list")
            .count())
    };
    foreign(&cluster, "a-peer", &prefix, 2, &record(2)).await?;
    let own = cidrs(1);
    cluster.create_node("a", &[&own[0], &own[1]]).await?;
    let mut member = Member::new(&server, &cluster, "a", &prefix, DUAL).await?;
    let cable = Cable::to(server.port()).await?;
    member.config.access.api_url = Some(format!("https://127.0.0.1:{}", cable.port()));
    let mut daemon = member.run(record(1)).await?;
    ensure!(daemon.snapshot().await?.len() == 2, "not two peers");
    let before = lists()?;
    cable.cut();
    publish(&cluster, "a-peer", &prefix, &record(22)).await?;
    cluster.delete_node("gone").await?;
    server.compact().await?;
    cable.mend();
    let (mut changed, mut removed) = (false, false);
    next_that(&mut daemon.peers, |event| {
        match event {
            PeerEvent::Changed(lease) => changed |= lease.record == record(22),
            PeerEvent::Removed(key) => removed |= key.subnets().to_string().contains("10.244.3.0"),
            PeerEvent::Snapshot { .. } | PeerEvent::Unreadable(_) | PeerEvent::Mended(_) => {}
        }
        (changed && removed).then_some(())
    })
    .await?;
    ensure!(
        lists()? == before + 1,
        "{} listings, not one more than {before}",
        lists()?
    );
    // That the watch had to begin anew is nothing to trouble anybody with.
    let told: Vec<String> = log
        .lines()
        .into_iter()
        .filter(|line| line.contains("410") || line.contains("too old"))
        .collect();
    ensure!(told.is_empty(), "{told:#?}");
    Ok(())
}

/// Ten seconds without a server, counted: tries, lines in the log, and how soon all is well again.
pub(crate) async fn each_reason_is_told_once(program: PathBuf) -> Result<()> {
    let (server, cluster) = shared(&program).await?;
    let (log, _guard) = Log::take();
    let prefix = prefix();
    let (member, mut daemon, cable) = behind_a_cable(server, &cluster, "cut", &prefix).await?;
    let before = (log.lines().len(), cable.connections());
    cable.cut();
    daemon.record.send_replace(record(11));
    let end = Instant::now() + Duration::from_secs(10);
    let (mut troubles, mut tries) = (Vec::new(), 0);
    while let Ok(event) = tokio::time::timeout_at(end, daemon.own.recv()).await {
        match event {
            Some(OwnEvent::Trouble { reason }) => troubles.push(reason),
            other => ensure!(other.is_none(), "{other:?}"),
        }
        tries += 1;
    }
    let lines = log.lines().split_off(before.0);
    let connections = cable.connections() - before.1;
    println!("{connections} connections, {tries} events, {lines:#?}, {troubles:#?}");
    // The watch and the write back off by themselves: 0.1 to 0.2 s, twice that, ... make seven or eight tries in ten seconds for each.
    ensure!((4..=40).contains(&connections), "{connections} tries");
    for said in [&lines, &troubles] {
        let different: BTreeSet<&String> = said.iter().collect();
        ensure!(
            !said.is_empty() && different.len() == said.len() && said.len() <= 5,
            "{said:#?}"
        );
    }
    cable.mend();
    let since = Instant::now();
    publish(&cluster, "cut-peer", &prefix, &record(22)).await?;
    told_of(&mut daemon, 22).await?;
    eventually("what was wanted meanwhile is written", async || {
        let found = member.annotations(&cluster).await.ok()?;
        (found.get("public-ip").map(String::as_str) == Some("192.0.2.11")).then_some(())
    })
    .await?;
    let back = since.elapsed();
    ensure!(back < Duration::from_secs(15), "back after {back:?}");
    let works = log
        .lines()
        .into_iter()
        .filter(|line| line.contains("works again"));
    ensure!(works.count() == 1, "{:#?}", log.lines());
    Ok(())
}

/// Half a day on a clock that jumps from one try to the next.
pub(crate) async fn hours_cost_nothing(program: PathBuf) -> Result<()> {
    const ABSENCE: Duration = Duration::from_secs(12 * 3600);
    let mut scene = Scene::start(&program).await?;
    let (log, _guard) = Log::take();
    let prefix = prefix();
    let (a, mut daemon) =
        crate::scene::member(&scene.server, &scene.cluster, "a", &prefix, 1).await?;
    daemon.snapshot().await?;
    daemon.works.send_replace(true);
    eventually("the condition is set", async || {
        let node = scene.cluster.node("a").await.ok()?;
        node["status"]["conditions"]
            .to_string()
            .contains("FlannelIsUp")
            .then_some(())
    })
    .await?;
    scene.server.kill()?;
    daemon.record.send_replace(record(11));
    next_that(&mut daemon.own, |event| {
        matches!(event, OwnEvent::Trouble { .. }).then_some(())
    })
    .await?;
    let before = log.lines().len();
    let metrics = tokio::runtime::Handle::current().metrics();
    let (tasks, memory) = (metrics.num_alive_tasks(), resident()?);
    tokio::time::pause();
    tokio::time::sleep(ABSENCE).await;
    tokio::time::resume();
    let lines = log.lines().split_off(before);
    let grown = resident()?.saturating_sub(memory);
    println!(
        "{ABSENCE:?}: {grown} KiB more, {} tasks after {tasks}, {lines:#?}",
        metrics.num_alive_tasks()
    );
    let different: BTreeSet<&String> = lines.iter().collect();
    ensure!(
        different.len() == lines.len() && lines.len() <= 5,
        "{lines:#?}"
    );
    ensure!(metrics.num_alive_tasks() <= tasks + 2, "tasks are left");
    // Other tests of this process have their memory, too.
    ensure!(grown < 64 * 1024, "{grown} KiB more");
    ensure!(daemon.peers.try_recv().is_err(), "a peer changed");
    scene.server.up().await?;
    let since = Instant::now();
    let cluster = scene.server.admin().await?;
    eventually("what was wanted meanwhile is written", async || {
        let found = a.annotations(&cluster).await.ok()?;
        (found.get("public-ip").map(String::as_str) == Some("192.0.2.11")).then_some(())
    })
    .await?;
    let back = since.elapsed();
    ensure!(back < Duration::from_secs(20), "back after {back:?}");
    Ok(())
}

/// Resident memory of this process in KiB.
fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.unwrap_or_default().parse()?)
}
