//! What a daemon clears away, what it leaves to others, and how little it does when little happens.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_tests::{Endpoint, Host, Snapshot, Traffic, eventually, programs};

use crate::scene::{FOLLOW, Node, lab, talk, two_hosts};

/// How often the daemon is restarted in [`a_stream_outlives_restart_after_restart`], if `LODEN_RESTARTS` says nothing else.
const RESTARTS: usize = 20;

fn net_conf(backend: &str) -> String {
    format!(r#"{{"Network": "10.244.0.0/16", "Backend": {backend}}}"#)
}

/// flanneld's exit status and all that it says.
fn cleanup(host: &Host, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let program = programs::find("flanneld")?;
    let line = format!(
        "{} cleanup {} </dev/null 2>&1",
        program.display(),
        arguments.join(" ")
    );
    let finished = host.attempt(["sh", "-c", &line])?;
    let code = finished.status.code();
    Ok((code, finished.stdout))
}

/// The kernel's state but for settings, which stay as they are.
fn kernel(host: &Host) -> Result<BTreeSet<String>> {
    let snapshot: Snapshot = host.snapshot()?.kernel();
    let lines = snapshot.lines().filter(|line| !line.contains("forward"));
    Ok(lines.map(str::to_owned).collect())
}

pub(crate) fn a_cleanup_leaves_what_is_of_others() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("a")?;
    host.ip_batch(
        "link add name flannel.9 type bridge\n\
         route add 10.244.77.0/24 via 192.0.2.1 dev eth0 proto static\n\
         route add 198.51.100.0/24 via 192.0.2.1 dev eth0\n",
    )?;
    host.sh("nft add table ip foreign && nft add chain ip foreign any")?;
    let before = kernel(&host)?;
    let mut a = Node {
        daemon: host.flanneld(&["--ip-masq", "--ip-blackhole-route"])?,
        host,
    };
    let b = Node::start(&lab, "b")?;
    a.host.wait_peers([&b.host])?;

    let (code, said) = cleanup(&a.host, &["--yes"])?;
    ensure!(
        code == Some(2) && said.contains("is running"),
        "{code:?}: {said}"
    );
    a.daemon.terminate()?;
    let (code, said) = cleanup(&a.host, &[])?;
    ensure!(
        code == Some(2) && said.contains("--yes") && said.contains("device flannel.1"),
        "{code:?}: {said}"
    );
    ensure!(kernel(&a.host)? != before, "it did not ask");

    let (code, said) = cleanup(&a.host, &["--yes"])?;
    ensure!(code == Some(0), "{code:?}: {said}");
    let after = kernel(&a.host)?;
    let difference: Vec<&String> = after.symmetric_difference(&before).collect();
    ensure!(difference.is_empty(), "{difference:#?} after\n{said}");
    ensure!(
        !a.host.path("/run/flannel/subnet.env").exists(),
        "subnet.env is left"
    );
    let (code, said) = cleanup(&a.host, &["--yes"])?;
    ensure!(
        code == Some(0) && said.starts_with("nothing of Loden"),
        "{code:?}: {said}"
    );

    // Nothing that was removed is missed by the next daemon.
    a.daemon.restart()?;
    a.daemon.wait_ready()?;
    a.host.wait_peers([&b.host])?;
    talk(&a.host.pod("a1")?, &b.host.pod("b1")?)
}

pub(crate) fn a_changed_configuration_leaves_nothing_of_the_former() -> Result<()> {
    let lab = lab()?;
    let (mut a, mut b) = two_hosts(&lab)?;
    let (a1, b1) = (a.host.pod("a1")?, b.host.pod("b1")?);
    for (backend, device) in [
        (r#"{"Type": "vxlan", "VNI": 2}"#, Some("flannel.2")),
        (r#"{"Type": "host-gw"}"#, None),
        (r#"{"Type": "vxlan", "VNI": 3}"#, Some("flannel.3")),
    ] {
        lab.put_net_conf(&net_conf(backend))?;
        for node in [&mut a, &mut b] {
            node.daemon.terminate()?;
            node.daemon.restart()?;
            node.daemon.wait_ready()?;
        }
        eventually("only what is configured is left", FOLLOW, || {
            let links = a
                .host
                .sh("ip -o link show | grep -o 'flannel[^:@ ]*' || true")?;
            let found: Vec<&str> = links.split_whitespace().collect();
            ensure!(found == device.into_iter().collect::<Vec<_>>(), "{links}");
            let direct = a.host.sh("ip -4 route show dev eth0 proto 76")?;
            ensure!(direct.is_empty() == device.is_some(), "{direct}");
            a1.ping(&b1).map(drop)
        })
        .with_context(|| format!("with {backend}"))?;
    }
    Ok(())
}

pub(crate) fn who_keeps_undoing_is_waited_for() -> Result<()> {
    let lab = lab()?;
    let a = Node::start(&lab, "a")?;
    let repairs = || a.daemon.log().matches("repaired: device flannel.1").count();
    let contested = "somebody keeps undoing this: device flannel.1";
    let undone = |times: usize| -> Result<()> {
        for _ in 0..times {
            a.host.sh("ip link set dev flannel.1 mtu 1300")?;
            eventually("the device is put right", FOLLOW, || {
                let link = a.host.exec(["ip", "link", "show", "dev", "flannel.1"])?;
                let given_up = a.daemon.log().contains(contested);
                ensure!(given_up || link.contains("mtu 1450 "), "{link}");
                Ok(())
            })?;
        }
        Ok(())
    };
    undone(60)?;
    a.daemon.wait_log(contested)?;
    let told = a.daemon.log().matches(contested).count();
    ensure!(told == 1, "said {told} times");
    ensure!(repairs() < 45, "{} repairs of 60", repairs());
    // It is not given up.
    eventually("it is put right in the end", 3 * FOLLOW, || {
        let link = a.host.exec(["ip", "link", "show", "dev", "flannel.1"])?;
        ensure!(link.contains("mtu 1450 "), "{link}");
        Ok(())
    })
}

/// The numbers in the last line of the log that begins with this.
fn numbers(log: &str, what: &str) -> Option<Vec<u64>> {
    let line = log.lines().rfind(|line| line.contains(what))?;
    let (_, rest) = line.split_once(what)?;
    let words = rest.split(|letter: char| !letter.is_ascii_digit());
    Some(words.filter_map(|word| word.parse().ok()).collect())
}

pub(crate) fn five_thousand_leases_cost_little() -> Result<()> {
    const LEASES: u32 = 5000;
    const TOGETHER: u32 = 100;
    let lab = lab()?;
    lab.put_net_conf(r#"{"Network": "10.0.0.0/8", "Backend": {"Type": "vxlan"}}"#)?;
    let etcd = lab.etcd()?;
    let entry = |number: u32, public: u32| {
        let [.., high, low] = number.to_be_bytes();
        let key = format!("/coreos.com/network/subnets/10.{}.{low}.0-24", 100 + high);
        let value = format!(
            r#"{{"PublicIP":"203.{}.{high}.{low}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"02:00:00:01:{high:02x}:{low:02x}"}}}}"#,
            public % 250
        );
        (key, value)
    };
    for first in (0..LEASES).step_by(TOGETHER as usize) {
        let puts: Vec<String> = (first..first + TOGETHER)
            .map(|number| entry(number, 1))
            .map(|(key, value)| format!("put {key} \"{}\"", value.replace('"', "\\\"")))
            .collect();
        etcd.host().sh(&format!(
            "ETCDCTL_API=3 etcdctl txn >/dev/null <<'END'\n\n{}\n\n\nEND",
            puts.join("\n")
        ))?;
    }
    let stored = etcd.leases()?.len();
    ensure!(stored == LEASES as usize, "{stored} leases in etcd");
    let a = lab.host("a")?;
    let daemon = a.flanneld(&["--ip-masq", "--v=1"])?;
    let entries = || {
        let fdb = a.sh("bridge fdb show dev flannel.1 | grep -c ' dst 203\\.' || true")?;
        Ok::<u32, anyhow::Error>(fdb.trim().parse()?)
    };
    eventually("all are there", 3 * FOLLOW, || {
        let found = entries()?;
        ensure!(found == LEASES, "{found} in\n{}", daemon.log_tail());
        Ok(())
    })?;
    let log = daemon.log();
    let first = log
        .lines()
        .filter_map(|line| numbers(line, "compared: "))
        .max()
        .context("nothing was compared")?;
    let [changes, batches, lists, ..] = first[..] else {
        anyhow::bail!("{first:?}")
    };
    let least = u64::from(3 * LEASES);
    ensure!(
        (least..least + 10).contains(&changes) && batches <= changes / 100 && lists <= 40,
        "{changes} changes in {batches} batches, {lists} lists"
    );

    // Renewals, which say nothing new, and then one lease that does.
    let altered = || daemon.log().matches("altered: ").count();
    let before = altered();
    for number in 0..10 {
        let (key, value) = entry(number, 1);
        etcd.put(&key, &value)?;
    }
    let (key, value) = entry(LEASES, 1);
    etcd.put(&key, &value)?;
    eventually("the new one is there", FOLLOW, || {
        let found = entries()?;
        ensure!(found == LEASES + 1, "{found}");
        Ok(())
    })?;
    daemon.wait_log("altered: 3 changes in 1 batches, 0 tables listed, 0 objects looked up")?;
    ensure!(altered() == before + 1, "renewals cost {}", altered());
    etcd.delete(&key)?;
    eventually("it is gone", FOLLOW, || {
        let found = entries()?;
        ensure!(found == LEASES, "{found}");
        Ok(())
    })?;
    ensure!(altered() == before + 2, "{} alterations", altered());
    Ok(())
}

pub(crate) fn a_stream_outlives_restart_after_restart() -> Result<()> {
    let restarts = match std::env::var("LODEN_RESTARTS") {
        Ok(number) => number.parse()?,
        Err(_) => RESTARTS,
    };
    let lab = lab()?;
    let (mut a, b) = two_hosts(&lab)?;
    let (a1, b1) = (a.host.pod("a1")?, b.host.pod("b1")?);
    let before = a.host.snapshot()?.kernel();
    let stream = a1.stream(&b1)?;
    for number in 0..restarts {
        if number % 2 == 0 {
            a.daemon.kill()?;
        } else {
            let status = a.daemon.terminate()?;
            ensure!(status.success(), "SIGTERM ended it with {status}");
        }
        a.daemon.restart()?;
        a.daemon.wait_ready()?;
        stream.wait_progress()?;
    }
    let report = stream.finish()?;
    for pod in [&a1, &b1] {
        let sent_again = retransmitted(&pod.exec(["cat", "/proc/net/snmp"])?)?;
        ensure!(sent_again == 0, "{sent_again} segments lost: {report:?}");
    }
    a.host.wait_peers([&b.host])?;
    a.host.snapshot()?.kernel().same_as(&before)
}

/// `RetransSegs` of the kernel's TCP counters: two lines, names and numbers.
fn retransmitted(snmp: &str) -> Result<u64> {
    let mut tcp = snmp.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = tcp.next().zip(tcp.next()).context("no TCP counters")?;
    let place = names
        .split_whitespace()
        .position(|name| name == "RetransSegs")
        .context("no such counter")?;
    let value = values.split_whitespace().nth(place).context("no value")?;
    Ok(value.parse()?)
}

pub(crate) fn probes_are_answered_as_by_flannel() -> Result<()> {
    let mut lab = lab()?;
    lab.etcd_mut()?.stop()?;
    let a = lab.host("a")?;
    let mut daemon = a.start_flanneld(&["--healthz-ip=127.0.0.1", "--healthz-port=8081"])?;
    let probe = |path: &str, expected: &str| {
        eventually(&format!("{path} is answered"), FOLLOW, || {
            let answer = a.run(|| get(path))??;
            ensure!(answer.contains(expected), "{answer}");
            Ok(())
        })
    };
    probe("/healthz", " 200 OK")?;
    probe("/readyz", " 503 ")?;
    lab.etcd_mut()?.restart()?;
    daemon.wait_ready()?;
    probe("/readyz", "flanneld is ready")
}

fn get(path: &str) -> Result<String> {
    let mut connection = TcpStream::connect("127.0.0.1:8081")?;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(connection, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}

pub(crate) fn a_subnet_file_that_somebody_removes_comes_back() -> Result<()> {
    let lab = lab()?;
    let mut a = Node::start(&lab, "a")?;
    a.daemon.wait_ready()?;
    let path = a.host.path("/run/flannel/subnet.env");
    let right = std::fs::read_to_string(&path)?;
    let damages: [fn(&std::path::Path) -> std::io::Result<()>; 3] = [
        |path| std::fs::remove_file(path),
        |path| std::fs::remove_dir_all(path.parent().unwrap_or(path)),
        |path| std::fs::write(path, "FLANNEL_MTU=many\n"),
    ];
    for damage in damages {
        damage(&path)?;
        eventually("the subnet file is as it was", FOLLOW, || {
            let now = std::fs::read_to_string(&path)?;
            ensure!(now == right, "it is:\n{now}");
            Ok(())
        })?;
    }
    a.daemon
        .wait_log("repaired: /run/flannel/subnet.env: somebody has changed it")
}
