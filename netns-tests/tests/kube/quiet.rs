//! What a cluster at rest costs.

use std::time::Duration;

use anyhow::{Result, ensure};
use netns_tests::{Endpoint, eventually};

use crate::scene::{Scene, V4, wait_tunnel};

const BEATS: u32 = 30;
const PAUSE: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(60);

/// What `ip monitor` calls the object that shows that it listens.
const MARK: &str = "[NEXTHOP]";

/// Every Node's status changes ten times a second: nothing of it reaches the kernel or the log, debugging lines included.
pub(crate) fn heartbeats_touch_neither_kernel_nor_log() -> Result<()> {
    let scene = Scene::new(V4)?;
    let members = scene.members_told(&["-v=1"])?;
    let [a, ..] = &members;
    // The last of the start: the condition.
    for member in &members {
        member.daemon.wait_log("NetworkUnavailable is False")?;
    }
    // What it has to do for its peers is done and told.
    eventually("a has both its peers", PATIENCE, || {
        let log = a.daemon.log();
        let (_, behind) = log
            .split_once("peer 10.244.2.0/24 joined")
            .unwrap_or_default();
        let (_, behind) = behind
            .split_once("peer 10.244.3.0/24 joined")
            .unwrap_or_default();
        ensure!(behind.contains("altered:"), "its log:\n{log}");
        Ok(())
    })?;
    let monitor = a.host.start("ip", &["monitor", "all"])?;
    // Begun anew until the monitor listens; the daemon does not care for nexthop objects.
    eventually("the monitor listens", PATIENCE, || {
        a.host
            .sh("ip nexthop add id 77 blackhole; ip nexthop delete id 77")?;
        ensure!(monitor.log().contains(MARK), "it heard {:?}", monitor.log());
        Ok(())
    })?;
    let log = a.daemon.log();
    scene.admin(|cluster| async move {
        for beat in 0..BEATS {
            let status = if beat % 2 == 0 { "True" } else { "Unknown" };
            for name in ["a", "b", "c"] {
                cluster.set_condition(name, "Ready", status, "Beat").await?;
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    })?;
    let now = a.daemon.log();
    // Once a minute it compares, whatever the Nodes do.
    let said: Vec<&str> = now[log.len()..]
        .lines()
        .filter(|line| !line.contains("compared: 0 changes in 0 batches"))
        .collect();
    ensure!(said.is_empty(), "it said:\n{said:#?}");
    let heard = monitor.log();
    // What the hosts know of each other's MACs on the uplink ages by itself.
    let said: Vec<&str> = heard
        .lines()
        .filter(|line| !line.contains(MARK))
        .filter(|line| !(line.contains("[NEIGH]") && line.contains("dev eth0")))
        .collect();
    ensure!(said.is_empty(), "the kernel said:\n{said:#?}");

    // A real change behind all beats is seen: the watch was alive.
    scene.annotate("c", &[("public-ip-overwrite", Some("192.0.2.99"))])?;
    wait_tunnel(a, 4, &["dst 192.0.2.99 "], &[])?;
    eventually("the monitor hears of it", PATIENCE, || {
        ensure!(monitor.log() != heard, "it heard nothing");
        Ok(())
    })
}
