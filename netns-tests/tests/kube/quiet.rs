//! What a cluster at rest costs.

use std::time::Duration;

use anyhow::{Result, ensure};
use netns_tests::Endpoint;

use crate::scene::{Scene, V4, wait_tunnel};

const BEATS: u32 = 30;
const PAUSE: Duration = Duration::from_millis(100);

/// Every Node's status changes ten times a second: nothing of it reaches the kernel or the log, debugging lines included.
pub(crate) fn heartbeats_touch_neither_kernel_nor_log() -> Result<()> {
    let scene = Scene::new(V4)?;
    let members = scene.members_told(&["-v=1"])?;
    let [a, ..] = &members;
    // The last of the start: the condition.
    for member in &members {
        member.daemon.wait_log("NetworkUnavailable is False")?;
    }
    let monitor = a.host.start("ip", &["monitor", "all"])?;
    // It hears of what happens now.
    a.host
        .sh("ip link add name began type veth peer name there && ip link delete began")?;
    monitor.wait_log("Deleted")?;
    let (log, heard) = (a.daemon.log(), monitor.log());
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
    ensure!(now == log, "it said:\n{}", &now[log.len()..]);
    let now = monitor.log();
    // What the hosts know of each other's MACs on the uplink ages by itself.
    let said: Vec<&str> = now[heard.len()..]
        .lines()
        .filter(|line| !(line.contains("[NEIGH]") && line.contains("dev eth0")))
        .collect();
    ensure!(said.is_empty(), "the kernel said:\n{said:#?}");

    // A real change behind all beats is seen: the watch was alive.
    scene.annotate("c", &[("public-ip-overwrite", Some("192.0.2.99"))])?;
    wait_tunnel(a, 4, &["dst 192.0.2.99 "], &[])?;
    ensure!(monitor.log() != heard, "the monitor hears nothing");
    Ok(())
}
