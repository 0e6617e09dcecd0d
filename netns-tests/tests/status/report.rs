//! Status with a daemon and without.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use netns_tests::{Address, Endpoint, eventually, programs};
use serde_json::json;

use crate::scene::{
    FOLLOW, Node, eventually_report, flanneld, lab, list, probe, readable, report, two_nodes,
    wait_probe,
};

pub(crate) fn a_node_that_is_well_tells_all() -> Result<()> {
    let lab = lab()?;
    let (a, b) = two_nodes(&lab)?;
    let pod = a.host.pod("web-0")?;
    let report = eventually_report(&a.host, "all is well", |report| {
        report["problems"] == json!([])
    })?;
    ensure!(report["daemon"]["state"] == "running" && report["daemon"]["ready"] == true);
    let node = &report["node"];
    ensure!(node["name"] == "a" && node["mtu"] == 1450, "{node:#}");
    ensure!(node["subnets"] == json!(a.host.subnets()?), "{node:#}");
    ensure!(
        node["uplink"]["public"] == json!([a.host.ipv4()]),
        "{node:#}"
    );
    ensure!(node["store"]["kind"] == "etcd" && node["store"]["healthy"] == true);
    ensure!(node["lease"]["expires"].is_string(), "{node:#}");
    let network = &report["network"];
    ensure!(
        network["networks"] == json!(["10.244.0.0/16"]),
        "{network:#}"
    );
    ensure!(network["backend"] == "vxlan" && network["vni"] == 1 && network["port"] == 8472);
    let mac = a.host.sh("cat /sys/class/net/flannel.1/address")?;
    ensure!(network["devices"][0]["mac"] == mac.trim(), "{network:#}");
    let peers = list(&report, "peers")?;
    ensure!(peers.len() == 1, "{peers:#?}");
    ensure!(peers[0]["subnets"] == json!(b.host.subnets()?) && peers[0]["kernel"] == "right");
    ensure!(peers[0]["public"] == json!([b.host.ipv4()]), "{peers:#?}");
    // The first probe may be over by now.
    let asked = peers[0]["probe"]["state"].as_str();
    ensure!(matches!(asked, Some("notProbed" | "answers")), "{peers:#?}");
    let pods = list(&report, "pods")?;
    ensure!(pods.len() == 1 && pods[0]["name"] == "web-0", "{pods:#?}");
    ensure!(pods[0]["namespace"] == "default" && pods[0]["kind"] == "routed");
    ensure!(pods[0]["addresses"] == json!([pod.address()]), "{pods:#?}");
    ensure!(pods[0]["containerId"] == pod.container_id() && pods[0]["linked"] == true);
    let addresses = &list(&report, "addresses")?[0];
    ensure!(
        addresses["used"] == 1 && addresses["cooling"] == 0,
        "{addresses:#}"
    );

    let text = flanneld(&a.host, &["status"])?;
    ensure!(text.status == 0, "{text:?}");
    readable(&text.out)?;
    for part in [
        "node a: flanneld",
        "all is well",
        "default/web-0",
        "1 peer: 1 right",
        "VNI 1",
    ] {
        ensure!(
            text.out.contains(part),
            "{part:?} is missing in\n{}",
            text.out
        );
    }
    let plan = flanneld(&a.host, &["plan"])?;
    ensure!(
        plan.status == 0 && plan.out.contains("nothing is to be changed"),
        "{plan:?}"
    );
    wait_probe(&a.host, "/readyz", "200 OK").map(drop)?;
    let hidden = probe(&a.host, "/status")?;
    ensure!(hidden.contains(" 404 "), "the port tells all: {hidden}");
    let mode = fs::metadata(a.host.path("/run/flannel/flanneld.sock"))?
        .permissions()
        .mode();
    ensure!(mode & 0o777 == 0o600, "{mode:o}");

    pod.delete()?;
    let (report, _) = report_of(&a)?;
    ensure!(list(&report, "pods")?.is_empty(), "{report:#}");
    ensure!(list(&report, "addresses")?[0]["cooling"] == 1, "{report:#}");
    Ok(())
}

fn report_of(node: &Node) -> Result<(serde_json::Value, i32)> {
    report(&node.host)
}

pub(crate) fn a_node_whose_daemon_is_stopped_tells_what_is_there() -> Result<()> {
    let lab = lab()?;
    let (mut a, b) = two_nodes(&lab)?;
    let pod = a.host.pod("web-0")?;
    a.daemon.terminate()?;
    let before = a.host.snapshot()?;
    let (found, status) = report(&a.host)?;
    ensure!(
        status == 1 && found["daemon"]["state"] == "notRunning",
        "{found:#}"
    );
    ensure!(
        found["daemon"]["since"].is_string(),
        "the stop was noted: {found:#}"
    );
    ensure!(
        found["node"]["subnets"] == json!(a.host.subnets()?),
        "{found:#}"
    );
    ensure!(found["network"]["backend"] == "vxlan" && found["network"]["vni"] == 1);
    ensure!(found["network"]["firewall"] == "nftables", "{found:#}");
    let peer = &list(&found, "peers")?[0];
    ensure!(peer["subnets"] == json!(b.host.subnets()?), "{peer:#}");
    ensure!(
        peer["public"] == json!([b.host.ipv4()]) && peer["kernel"] == "unknown",
        "{peer:#}"
    );
    ensure!(
        list(&found, "pods")?[0]["addresses"] == json!([pod.address()]),
        "{found:#}"
    );
    let text = flanneld(&a.host, &["status"])?;
    readable(&text.out)?;
    ensure!(text.out.contains("flanneld was stopped"), "{}", text.out);
    let plan = flanneld(&a.host, &["plan"])?;
    ensure!(
        plan.status == 2 && plan.err.contains("only the daemon knows"),
        "{plan:?}"
    );
    a.host
        .snapshot()?
        .same_as(&before)
        .context("status changed something")?;

    // A gap in the way to the peer shows without leases too.
    a.host.sh(
        "bridge fdb del $(bridge fdb show dev flannel.1 | cut -d' ' -f1 | head -1) dev flannel.1",
    )?;
    let (found, _) = report(&a.host)?;
    ensure!(list(&found, "peers")?[0]["kernel"] == "wrong", "{found:#}");

    a.daemon.restart()?;
    a.daemon.wait_ready()?;
    a.daemon.kill()?;
    let (found, _) = report(&a.host)?;
    ensure!(found["daemon"]["state"] == "notRunning", "{found:#}");
    ensure!(
        found["daemon"]["since"].is_null(),
        "nobody noted a kill: {found:#}"
    );
    Ok(())
}

pub(crate) fn who_may_not_ask_the_daemon_is_told_so() -> Result<()> {
    let lab = lab()?;
    let (a, _b) = two_nodes(&lab)?;
    // Out of the lab's directories, which are root's.
    let program = programs::find("flanneld")?;
    a.host.sh(&format!(
        "cp {} /var/log/flanneld && chmod 755 /var/log/flanneld",
        program.display()
    ))?;
    let as_nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    let words = [
        &as_nobody[..],
        &["/var/log/flanneld", "status", "-o", "json"],
    ]
    .concat();
    let finished = a.host.attempt(&words)?;
    let report: serde_json::Value =
        serde_json::from_str(&finished.stdout).with_context(|| finished.stderr.clone())?;
    ensure!(report["daemon"]["state"] == "unknown", "{report:#}");
    let unseen = report["unseen"].to_string();
    ensure!(
        unseen.contains("cannot be asked") && unseen.contains("firewall"),
        "{unseen}"
    );
    ensure!(list(&report, "peers")?.len() == 1, "{report:#}");
    Ok(())
}

pub(crate) fn a_daemon_that_waits_for_its_store_says_so() -> Result<()> {
    let mut lab = lab()?;
    lab.etcd_mut()?.stop()?;
    let host = lab.host("a")?;
    let mut daemon = host.start_flanneld(&[])?;
    let waiting = eventually_report(&host, "the store is in trouble", |report| {
        report["node"]["store"]["healthy"] == false
    })?;
    ensure!(waiting["daemon"]["ready"] == false, "{waiting:#}");
    ensure!(
        waiting["daemon"]["reason"].to_string().contains("no lease"),
        "{waiting:#}"
    );
    let plan = flanneld(&host, &["plan"])?;
    ensure!(
        plan.status == 2 && plan.out.contains("still waits"),
        "{plan:?}"
    );
    lab.etcd_mut()?.restart()?;
    daemon.wait_ready()?;
    eventually_report(&host, "all is well", |report| {
        report["problems"] == json!([])
    })?;
    Ok(())
}

pub(crate) fn a_daemons_socket_is_not_taken_by_another() -> Result<()> {
    let lab = lab()?;
    let mut a = Node::start(&lab, "a")?;
    let pid = |host| -> Result<u64> {
        let (report, _) = report(host)?;
        report["daemon"]["pid"].as_u64().context("no pid")
    };
    let first = pid(&a.host)?;
    let second = a.host.start_flanneld(&["--subnet-file=/run/other.env"])?;
    second.wait_log("another flanneld answers on")?;
    ensure!(pid(&a.host)? == first);
    drop(second);
    a.daemon.kill()?;
    a.daemon.restart()?;
    a.daemon.wait_ready()?;
    ensure!(pid(&a.host)? == u64::from(a.daemon.pid()));
    Ok(())
}

pub(crate) fn five_thousand_peers_are_told_quickly() -> Result<()> {
    const LEASES: u32 = 5000;
    const TOGETHER: u32 = 100;
    let lab = lab()?;
    lab.put_net_conf(r#"{"Network": "10.0.0.0/8", "Backend": {"Type": "vxlan"}}"#)?;
    let etcd = lab.etcd()?;
    let put = |number: u32| {
        let [.., high, low] = number.to_be_bytes();
        let value = format!(
            r#"{{"PublicIP":"203.0.{high}.{low}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"02:00:00:01:{high:02x}:{low:02x}"}}}}"#
        );
        let key = format!("/coreos.com/network/subnets/10.{}.{low}.0-24", 100 + high);
        format!("put {key} \"{}\"", value.replace('"', "\\\""))
    };
    for first in (0..LEASES).step_by(TOGETHER as usize) {
        let puts: Vec<String> = (first..first + TOGETHER).map(put).collect();
        etcd.host().sh(&format!(
            "ETCDCTL_API=3 etcdctl txn >/dev/null <<'END'\n\n{}\n\n\nEND",
            puts.join("\n")
        ))?;
    }
    let a = Node::start(&lab, "a")?;
    let right = |report: &serde_json::Value| {
        let peers = report["peers"].as_array();
        peers.is_some_and(|peers| {
            peers.len() == LEASES as usize && peers.iter().all(|peer| peer["kernel"] == "right")
        })
    };
    eventually("all peers are right", 6 * FOLLOW, || {
        let (report, _) = report(&a.host)?;
        ensure!(
            right(&report),
            "{} peers",
            report["peers"].as_array().map_or(0, Vec::len)
        );
        Ok(())
    })?;
    let start = std::time::Instant::now();
    let text = flanneld(&a.host, &["status"])?;
    let took = start.elapsed();
    readable(&text.out)?;
    ensure!(text.out.lines().count() < 60, "{}", text.out);
    ensure!(
        text.out.contains("… and 4980 more, --all shows them"),
        "{}",
        text.out
    );
    let resident = fs::read_to_string(format!("/proc/{}/status", a.daemon.pid()))?;
    let resident = resident.lines().find(|line| line.starts_with("VmRSS:"));
    println!(
        "status of {LEASES} peers took {took:?}; the daemon afterwards: {}",
        resident.unwrap_or_default()
    );
    Ok(())
}
