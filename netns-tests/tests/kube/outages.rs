//! The API server is away, or does not take our token any more.

use std::time::Duration;

use anyhow::{Result, ensure};
use netns_tests::traffic::Pings;
use netns_tests::{Daemon, eventually};

use crate::scene::{DEADLINE, DUAL, Scene, V4, all_talk};

/// How long a token lasts that ends during a test.
const SHORT: Duration = Duration::from_secs(15);
/// What the log says of one that is not accepted.
const REFUSAL: &str = "does not accept the service account's token";

pub(crate) fn an_absent_api_server_stops_nothing_but_changes() -> Result<()> {
    let mut scene = Scene::new(DUAL)?;
    let mut members = scene.members()?;
    let pods = [members[0].host.pod("a1")?, members[1].host.pod("b1")?];
    let macs = [members[1].mac(4)?, members[1].mac(6)?];
    let pings = Pings::between(&pods[0], &pods[1])?;
    scene.server.kill()?;
    members[0].daemon.wait_log("watching the Nodes: ")?;

    // One that starts meanwhile leaves everything as it is, and pods come and go.
    let kernel = members[1].host.snapshot()?.kernel();
    members[1].daemon.restart()?;
    members[1].daemon.wait_log("reading our Node: ")?;
    members[1].host.snapshot()?.kernel().same_as(&kernel)?;
    let late = [
        members[1].host.pod("late1")?,
        members[1].host.pod("late2")?,
        members[0].host.pod("late3")?,
    ];
    all_talk(&late)?;
    let log = members[0].daemon.log();
    let warnings = log.lines().filter_map(|line| line.split_once(" WARN "));
    let mut warnings: Vec<&str> = warnings.map(|(_, text)| text).collect();
    warnings.sort_unstable();
    let twice = warnings.windows(2).find(|pair| pair[0] == pair[1]);
    ensure!(twice.is_none(), "said twice: {twice:?}");

    scene.up()?;
    members[1].daemon.wait_ready()?;
    ensure!([members[1].mac(4)?, members[1].mac(6)?] == macs);
    // What changed since is followed by those that lived through it.
    let d = scene.member("d", 4)?;
    for member in &members {
        member.host.wait_peers([&d.host])?;
    }
    d.host.wait_peers([&members[0].host, &members[1].host])?;
    pings.finish()?;
    let [a1, b1] = pods;
    all_talk(&[d.host.pod("d1")?, a1, b1])
}

/// A host whose token ends soon, and two more, one of which gets another token in time, as the kubelet sees to it.
pub(crate) fn an_expired_token_stops_nothing_but_changes() -> Result<()> {
    let scene = Scene::new(V4)?;
    let [mut a, mut b, c] = scene.members()?;
    let pods = [a.host.pod("a1")?, b.host.pod("b1")?];
    let short = scene.short_token(SHORT)?;
    for member in [&mut a, &mut b] {
        member.give_token(&short)?;
        member.daemon.restart()?;
        member.daemon.wait_ready()?;
    }
    a.give_token(&scene.token()?)?;
    let pings = Pings::between(&pods[0], &pods[1])?;
    let written = scene.annotations("b")?;

    eventually("the token has ended", DEADLINE, || {
        ensure!(!scene.accepts(&short)?, "it is accepted");
        Ok(())
    })?;

    // Whatever is to be written now is written by those with a good token.
    let strip = |name| scene.annotate(name, &[("backend-type", None)]);
    strip("b")?;
    b.daemon.wait_log(REFUSAL)?;
    for name in ["a", "c"] {
        strip(name)?;
        eventually("it is put right with a good token", DEADLINE, || {
            let now = scene.annotations(name)?;
            ensure!(
                now.get("backend-type").is_some_and(|text| text == "vxlan"),
                "{now:?}"
            );
            Ok(())
        })?;
    }
    let late = [b.host.pod("late")?, c.host.pod("c1")?];
    all_talk(&late)?;

    b.give_token(&scene.token()?)?;
    eventually("the new token is taken", DEADLINE, || {
        let now = scene.annotations("b")?;
        ensure!(now == written, "{now:?}\n{}", b.daemon.log_tail());
        Ok(())
    })?;
    pings.finish()?;
    ensure!(
        refusals(&b.daemon) == 1,
        "told more than once:\n{}",
        b.daemon.log()
    );
    for member in [&a, &c] {
        ensure!(refusals(&member.daemon) == 0, "{}", member.daemon.log());
    }
    Ok(())
}

/// How many lines of the log are about a token that is not accepted.
fn refusals(daemon: &Daemon) -> usize {
    let log = daemon.log();
    log.matches(REFUSAL).count()
}
