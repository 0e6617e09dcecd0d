//! What is broken on purpose shows, and the node says that it is not ready where it is not.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netns_tests::{Endpoint, Traffic, eventually};
use serde_json::{Value, json};

use crate::scene::{
    FOLLOW, Node, eventually_report, flanneld, lab, list, report, two_nodes, wait_probe,
};

pub(crate) fn a_lease_that_is_left_out_is_shown_with_the_reason() -> Result<()> {
    let lab = lab()?;
    let (a, _b) = two_nodes(&lab)?;
    let wrong = r#"{"PublicIP":"203.0.113.9","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:09"}}"#;
    lab.etcd()?
        .put("/coreos.com/network/subnets/10.99.9.0-24", wrong)?;
    let found = eventually_report(&a.host, "the lease is left out", |report| {
        report["peers"]
            .as_array()
            .is_some_and(|peers| peers.len() == 2)
    })?;
    let peers = list(&found, "peers")?.iter();
    let mut left_out = peers.filter(|peer| peer["kernel"] == "leftOut");
    let left_out = left_out.next().context("none is left out")?;
    ensure!(
        left_out["subnets"] == json!(["10.99.9.0/24"]),
        "{left_out:#}"
    );
    ensure!(
        left_out["reasons"]
            .to_string()
            .contains("outside the pod network"),
        "{left_out:#}"
    );
    let text = flanneld(&a.host, &["status"])?;
    ensure!(
        text.status == 1 && text.out.contains("left out"),
        "{text:?}"
    );
    Ok(())
}

/// Undoes something again and again until the daemon calls it contested; the report then.
fn contest(node: &Node, undo: &str) -> Result<Value> {
    eventually("it is contested", 3 * FOLLOW, || {
        for _ in 0..10 {
            node.host.sh(&format!("{undo} || true"))?;
        }
        let (report, _) = report(&node.host)?;
        ensure!(
            !list(&report, "contested")?.is_empty(),
            "{:#}",
            report["repairs"]
        );
        Ok(report)
    })
}

pub(crate) fn what_somebody_keeps_undoing_is_in_plan_and_status_and_not_ready() -> Result<()> {
    let lab = lab()?;
    let (a, b) = two_nodes(&lab)?;
    wait_probe(&a.host, "/readyz", "200 OK")?;
    let subnet = b.host.subnets()?.remove(0);
    let undo = format!("ip route del {subnet}");
    contest(&a, &undo)?;
    // From now on the pauses grow: undone again and again, there comes one that is long enough to look at.
    let deadline = Instant::now() + 3 * FOLLOW;
    let plan = loop {
        a.host.sh(&format!("{undo} 2>/dev/null || true"))?;
        let plan = flanneld(&a.host, &["plan", "-o", "json"])?;
        let found: Value = serde_json::from_str(&plan.out).with_context(|| format!("{plan:?}"))?;
        if found["steps"][0]["heldUntil"].is_string() {
            ensure!(plan.status == 1, "{plan:?}");
            break found;
        }
        ensure!(Instant::now() < deadline, "{found:#}");
        thread::sleep(Duration::from_millis(20));
    };
    ensure!(
        plan["steps"][0]["object"] == format!("route {subnet}"),
        "{plan:#}"
    );
    eventually("the node is not ready", 3 * FOLLOW, || {
        a.host.sh(&format!("{undo} 2>/dev/null || true"))?;
        let answer = crate::scene::probe(&a.host, "/readyz")?;
        ensure!(answer.contains(" 503 "), "{answer}");
        ensure!(
            answer.contains(&format!("somebody keeps undoing route {subnet}")),
            "{answer}"
        );
        Ok(())
    })?;
    let (found, status) = report(&a.host)?;
    ensure!(status == 1, "{found:#}");
    ensure!(found["problems"].to_string().contains(&subnet), "{found:#}");
    // Left alone it is put right, and the node is ready again.
    let patience = Duration::from_secs(90);
    eventually("the node is ready again", patience, || {
        let answer = crate::scene::probe(&a.host, "/readyz")?;
        ensure!(answer.contains(" 200 OK"), "{answer}");
        Ok(())
    })
}

pub(crate) fn repairs_are_remembered() -> Result<()> {
    let lab = lab()?;
    let (a, b) = two_nodes(&lab)?;
    let subnet = b.host.subnets()?.remove(0);
    a.host.sh(&format!("ip route del {subnet}"))?;
    let object = format!("route {subnet}");
    let found = eventually_report(&a.host, "the repair is there", |report| {
        let repairs = report["repairs"].as_array();
        repairs.is_some_and(|repairs| repairs.iter().any(|repair| repair["object"] == object))
    })?;
    let repair = list(&found, "repairs")?.last().context("none")?;
    ensure!(
        repair["reason"] == "it is missing" && repair["at"].is_string(),
        "{repair:#}"
    );
    // The same again is one repair, done twice.
    a.host.sh(&format!("ip route del {subnet}"))?;
    let found = eventually_report(&a.host, "it was put right again", |report| {
        let repairs = report["repairs"].as_array();
        repairs.is_some_and(|repairs| repairs.iter().any(|repair| repair["times"] == 2))
    })?;
    let same = list(&found, "repairs")?
        .iter()
        .filter(|repair| repair["object"] == object);
    let same: Vec<_> = same.collect();
    ensure!(
        same.len() == 1 && same[0]["first"].as_str() <= same[0]["at"].as_str(),
        "{same:#?}"
    );
    let text = flanneld(&a.host, &["status"])?;
    ensure!(
        text.status == 0 && text.out.contains(&object) && text.out.contains("2 times in"),
        "{text:?}"
    );
    Ok(())
}

pub(crate) fn a_lost_store_leaves_the_node_ready_and_status_wrong() -> Result<()> {
    let mut lab = lab()?;
    let (a, _b) = two_nodes(&lab)?;
    lab.etcd_mut()?.stop()?;
    let found = eventually_report(&a.host, "the store is in trouble", |report| {
        report["node"]["store"]["healthy"] == false
    })?;
    ensure!(found["daemon"]["ready"] == true, "{found:#}");
    ensure!(found["problems"].to_string().contains("store"), "{found:#}");
    wait_probe(&a.host, "/readyz", "200 OK")?;
    lab.etcd_mut()?.restart()?;
    eventually_report(&a.host, "all is well", |report| {
        report["problems"] == json!([])
    })?;
    Ok(())
}

pub(crate) fn a_pod_whose_link_is_gone_is_shown() -> Result<()> {
    let lab = lab()?;
    let (a, _b) = two_nodes(&lab)?;
    let pod = a.host.pod("web-0")?;
    let (before, _) = report(&a.host)?;
    let link = before["pods"][0]["interface"]
        .as_str()
        .context("no interface")?
        .to_owned();
    a.host.sh(&format!("ip link del {link}"))?;
    let (found, status) = report(&a.host)?;
    ensure!(
        status == 1 && found["pods"][0]["linked"] == false,
        "{found:#}"
    );
    let text = flanneld(&a.host, &["status"])?;
    ensure!(text.out.contains(&format!("{link} gone")), "{}", text.out);
    ensure!(pod.ping(&a.host).is_err());
    pod.delete()
}
