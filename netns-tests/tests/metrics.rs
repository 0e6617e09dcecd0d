//! The metrics, seen by a real Prometheus that scrapes hosts of the lab, and by `promtool`.

#[path = "metrics/prometheus.rs"]
mod prometheus;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_tests::{Daemon, Endpoint, Host, Lab, eventually, skip};
use serde_json::Value;

use prometheus::{MONITORING, Prometheus, get};

const NET_CONF: &str = r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}"#;
/// Where the hosts answer.
const PORT: u16 = 8081;
/// How long a value may take to be scraped: two rounds of it, and what happens in between.
const FOLLOW: Duration = Duration::from_secs(20);

netns_tests::tests![
    a_prometheus_sees_what_happens,
    promtool_accepts_the_page,
    promtool_accepts_the_alerts,
    a_node_that_may_not_ask_peers_says_so_once,
    logs_are_json_when_asked_for,
    what_is_said_again_and_again_is_summed_up,
    a_quiet_daemon_lets_go_of_its_start,
];

/// Whether Debian's package `prometheus` is here.
fn installed(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

fn lab() -> Result<Lab> {
    let mut lab = Lab::new()?;
    lab.start_etcd()?;
    lab.put_net_conf(NET_CONF)?;
    Ok(lab)
}

fn node(lab: &Lab, name: &str) -> Result<(Host, Daemon)> {
    let host = lab.host(name)?;
    let daemon = host.flanneld(&["--ip-masq", &format!("--healthz-port={PORT}")])?;
    Ok((host, daemon))
}

fn page(host: &Host) -> Result<String> {
    let (head, body) = get(host, ([127, 0, 0, 1], PORT).into(), "/metrics")?;
    ensure!(head.contains(" 200 "), "{head}");
    ensure!(
        head.to_lowercase()
            .contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    Ok(body)
}

fn a_prometheus_sees_what_happens() -> Result<()> {
    if !installed("prometheus") {
        return skip("there is no prometheus");
    }
    let mut lab = lab()?;
    let (a, _a) = node(&lab, "a")?;
    let (b, _b) = node(&lab, "b")?;
    a.wait_peers([&b])?;
    let seen = Prometheus::start(lab.world(), &[("a", a.ipv4()), ("b", b.ipv4())], PORT)?;
    seen.wait(r#"sum(up{job="loden"})"#, 2.0)?;
    seen.wait("min(loden_ready)", 1.0)?;
    seen.wait("min(loden_lease_held)", 1.0)?;
    seen.wait("count(loden_lease_info)", 2.0)?;
    seen.wait("min(loden_peers_wanted)", 1.0)?;
    seen.wait("min(loden_peers_programmed)", 1.0)?;
    seen.wait("min(loden_kernel_in_line)", 1.0)?;
    seen.wait("min(loden_store_up)", 1.0)?;
    // A lease is for a day.
    seen.wait(
        "min(loden_lease_expiry_timestamp_seconds - time() > bool 80000)",
        1.0,
    )?;
    // The daemon's own first probe is due.
    seen.wait("min(loden_peer_probe_success)", 1.0)?;
    seen.wait("max(loden_peer_probe_duration_seconds < bool 1)", 1.0)?;

    // Pods come, one more than is allowed, and go.
    let web = a.pod("web")?;
    let db = a.pod("db")?;
    seen.wait(r#"loden_ipam_addresses{instance="a",state="used"}"#, 2.0)?;
    let calls = |verb: &str, code: &str| {
        format!(
            r#"loden_cni_operation_duration_seconds_count{{instance="a",verb="{verb}",code="{code}"}}"#
        )
    };
    seen.wait(&calls("ADD", "0"), 2.0)?;
    // The daemon would write its own file anew.
    let conflist = r#"{"cniVersion":"1.0.0","name":"cbr0","plugins":[{"type":"flannel","subnetFile":"/run/absent.env"}]}"#;
    let mut again = a.pod_spec("again").conflist(conflist).create()?;
    ensure!(again.add().is_err(), "attached without a subnet");
    seen.wait(&calls("ADD", "11"), 1.0)?;
    web.delete()?;
    seen.wait(&calls("DEL", "0"), 1.0)?;
    seen.wait(r#"loden_ipam_addresses{instance="a",state="cooling"}"#, 1.0)?;

    // A route is deleted, and repaired.
    let route = a.sh("ip -4 route show dev flannel.1 | head -n 1 | cut -d ' ' -f 1")?;
    a.sh(&format!("ip route delete {}", route.trim()))?;
    seen.wait(
        r#"loden_repairs_total{instance="a",object="route"} >= bool 1"#,
        1.0,
    )?;
    seen.wait(r#"sum(loden_repairs_total{instance="b"})"#, 0.0)?;

    // The store goes away and comes back.
    lab.etcd_mut()?.stop()?;
    seen.wait("max(loden_store_up)", 0.0)?;
    seen.wait(
        r#"count(ALERTS{alertname="LodenStoreUnreachable",alertstate="pending"})"#,
        2.0,
    )?;
    seen.wait("min(loden_ready)", 1.0)?;
    lab.etcd_mut()?.restart()?;
    seen.wait("min(loden_store_up)", 1.0)?;
    seen.wait(
        r#"count(loden_store_request_duration_seconds_count{instance="a",operation="list",result="ok"})"#,
        1.0,
    )?;

    seen.dashboard_is_understood()?;

    // The peer's host is cut off: nothing answers, although nothing is wrong in the kernel.
    lab.cut(&b)?;
    seen.wait_for(
        r#"loden_peer_probe_success{instance="a"}"#,
        0.0,
        Duration::from_secs(60),
    )?;
    seen.wait(r#"loden_peers_programmed{instance="a"}"#, 1.0)?;
    lab.mend(&b)?;
    drop(db);
    Ok(())
}

fn promtool_accepts_the_page() -> Result<()> {
    if !installed("promtool") {
        return skip("there is no promtool");
    }
    let lab = lab()?;
    let (a, _daemon) = node(&lab, "a")?;
    let pod = a.pod("web")?;
    let page = page(&a)?;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = promtool.stdin.take().context("no stdin")?;
    stdin.write_all(page.as_bytes())?;
    drop(stdin);
    let output = promtool.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    // It has something to say of good style as well, with status 3.
    ensure!(output.status.success() && said.is_empty(), "{said}\n{page}");
    let memory = page
        .lines()
        .find_map(|line| line.strip_prefix("process_resident_memory_bytes "))
        .context("no memory")?;
    ensure!(memory.parse::<f64>()? > 1e6, "{memory}");
    pod.delete()
}

fn promtool_accepts_the_alerts() -> Result<()> {
    if !installed("promtool") {
        return skip("there is no promtool");
    }
    let lab = Lab::new()?;
    let world = lab.world();
    let directory = world.path("/run/alerts");
    fs::create_dir(&directory)?;
    for (name, text) in MONITORING {
        fs::write(directory.join(name), text)?;
    }
    world.sh(
        "cd /run/alerts && promtool check rules alerts.yml && promtool test rules alerts-test.yml",
    )?;
    // The test notices what it should.
    let blunt = "sed -i 's/loden_store_up == 0/loden_store_up == 2/' /run/alerts/alerts.yml";
    world.sh(blunt)?;
    ensure!(
        world
            .sh("cd /run/alerts && promtool test rules alerts-test.yml")
            .is_err(),
        "an alert that never fires passed its test"
    );
    Ok(())
}

fn a_node_that_may_not_ask_peers_says_so_once() -> Result<()> {
    if !installed("setpriv") {
        return skip("there is no setpriv");
    }
    let lab = lab()?;
    let (b, _b) = node(&lab, "b")?;
    let a = lab.host("a")?;
    let endpoints = format!("--etcd-endpoints={}", lab.etcd_endpoint());
    let program = netns_tests::programs::find("flanneld")?;
    let program = program.display().to_string();
    let mut daemon = a.start(
        "setpriv",
        &[
            "--bounding-set=-net_raw",
            "--inh-caps=-net_raw",
            &program,
            &endpoints,
            &format!("--healthz-port={PORT}"),
        ],
    )?;
    daemon.wait_ready()?;
    a.wait_peers([&b])?;
    daemon.wait_log("peers are not probed")?;
    let shown = page(&a)?;
    ensure!(shown.contains("\nloden_peers_probed 0\n"), "{shown}");
    Ok(())
}

fn logs_are_json_when_asked_for() -> Result<()> {
    let lab = lab()?;
    let a = lab.host("a")?;
    let daemon = a.flanneld(&["--log-format=json"])?;
    a.sh("ip link set dev flannel.1 mtu 1300")?;
    daemon.wait_log("repaired: device flannel.1")?;
    for line in daemon.log().lines() {
        let line: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        for field in ["timestamp", "level", "message", "target"] {
            ensure!(line[field].is_string(), "no {field}: {line}");
        }
    }
    Ok(())
}

/// A minute passes in it.
fn what_is_said_again_and_again_is_summed_up() -> Result<()> {
    let lab = lab()?;
    let a = lab.host("a")?;
    let daemon = a.flanneld(&[])?;
    let repaired = "repaired: device flannel.1";
    for _ in 0..5 {
        a.sh("ip link set dev flannel.1 mtu 1300")?;
        eventually("the device is put right", FOLLOW, || {
            let link = a.exec(["ip", "link", "show", "dev", "flannel.1"])?;
            ensure!(link.contains("mtu 1450 "), "{link}");
            Ok(())
        })?;
    }
    let said = daemon.log().matches(repaired).count();
    ensure!(said == 1, "said {said} times:\n{}", daemon.log_tail());
    eventually("it is summed up", Duration::from_secs(90), || {
        let log = daemon.log();
        let summary = log
            .lines()
            .find(|line| line.contains("more in the last minute"));
        let summary = summary.context("nothing is summed up")?;
        ensure!(
            summary.contains(repaired) && summary.contains("(said 4 times more"),
            "{summary}"
        );
        Ok(())
    })
}

/// Kibibytes of files, its own program above all, that a process has in memory.
fn of_files(daemon: &Daemon) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid()))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssFile:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("no RssFile")?.parse()?)
}

fn a_quiet_daemon_lets_go_of_its_start() -> Result<()> {
    let lab = lab()?;
    let a = lab.host("a")?;
    let daemon = a.flanneld(&["-v=2", &format!("--healthz-port={PORT}")])?;
    let before = of_files(&daemon)?;
    daemon.wait_log("let go of")?;
    let after = of_files(&daemon)?;
    ensure!(after < before, "{before} KiB before, {after} KiB after");
    // All is there that it needs to go on.
    a.sh("ip link set dev flannel.1 mtu 1300")?;
    daemon.wait_log("repaired: device flannel.1")?;
    ensure!(page(&a)?.contains("\nloden_ready 1\n"));
    Ok(())
}
