//! What comes and goes, in order and out of it.

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use netns_tests::cni::CniError;
use netns_tests::{Endpoint, Host, Lab, programs, skip};
use serde_json::{Value, json};

use crate::scene::{RECORDS, attach, call, config, mappings, nothing_left, ours, records};

/// A host without pods, and a lab to keep it.
fn host() -> Result<(Lab, Host)> {
    let lab = Lab::new()?;
    let host = lab.host("node")?;
    Ok((lab, host))
}

fn one_port(number: usize) -> Value {
    json!([{"hostPort": number, "containerPort": 80, "protocol": "tcp"}])
}

pub(crate) fn del_leaves_nothing() -> Result<()> {
    let (_lab, host) = host()?;
    let plugins = ours()?;
    let none = json!([]);
    // The bridge stays when the first pod goes.
    attach(&host, &plugins, ("first", "bridge"), &none, &none)?.delete()?;
    let localnet = || host.sh("cat /proc/sys/net/ipv4/conf/*/route_localnet | sort -u");
    let before = (host.snapshot()?.kernel(), localnet()?);
    let names = ["a", "b"];
    let pods = names.map(|name| {
        let spec = (name, "bridge");
        attach(&host, &plugins, spec, &mappings(None), &none)
    });
    ensure!(records(&host)?.len() == 2);
    ensure!(localnet()?.contains('1'), "no link lets loopback through");
    for pod in pods {
        let mut pod = pod?;
        pod.check()?;
        // As after a runtime's death: no namespace, and twice.
        pod.detach()?;
        pod.detach()?;
        pod.lose_netns()?;
        pod.delete()?;
    }
    nothing_left(&host)?;
    host.snapshot()?.kernel().same_as(&before.0)?;
    ensure!(localnet()? == before.1, "loopback is let through still");
    Ok(())
}

pub(crate) fn flushed_rules_are_noticed_and_heal() -> Result<()> {
    let (_lab, host) = host()?;
    let (one, other) = (
        config("10.1.2.3/24", &one_port(8001)),
        config("fd00::3/64", &one_port(8002)),
    );
    call(&host, "ADD", "one", &one)?;
    for meddling in [
        "flush ruleset",
        "flush chain ip loden-hostports prerouting",
        "delete element ip loden-hostports by-port { tcp . 8001 }",
    ] {
        call(&host, "CHECK", "one", &one)?;
        host.exec(["nft", meddling])?;
        let refused = CniError::expected_in(call(&host, "CHECK", "one", &one))?;
        ensure!(refused.code == 104, "{meddling}: {refused}");
        // Any call that has to do with ports puts it right.
        call(&host, "ADD", "other", &other)?;
        call(&host, "CHECK", "one", &one)?;
        host.exec(["nft", meddling])?;
        call(&host, "DEL", "other", &other)?;
        call(&host, "CHECK", "one", &one)?;
        host.exec(["nft", meddling])?;
        let all = json!([{"containerID": "one", "ifname": "eth0"}]);
        let mut order = one.clone();
        order["cni.dev/valid-attachments"] = all;
        call(&host, "GC", "one", &order)?;
    }
    let mut moved = one.clone();
    moved["runtimeConfig"]["portMappings"] = one_port(8003);
    let refused = CniError::expected_in(call(&host, "CHECK", "one", &moved))?;
    ensure!(refused.message.contains("on record"), "{refused}");
    call(&host, "DEL", "one", &one)?;
    let refused = CniError::expected_in(call(&host, "CHECK", "one", &one))?;
    ensure!(refused.message.contains("not on record"), "{refused}");
    nothing_left(&host)
}

/// System calls before which a kill leaves something half done.
const CALLS: [&str; 8] = [
    "openat", "flock", "mkdir", "rename", "unlink", "sendto", "recvfrom", "write",
];

/// Runs our portmap under strace, which kills it before the `nth` of these calls.
fn struck(host: &Host, verb: &str, config: &Value, call: &str, nth: usize) -> Result<Output> {
    let mut command = Command::new("strace");
    command
        .args(["-f", "-qq", "-o", "/dev/null", "-e"])
        .args([format!("trace={call}"), "-e".to_owned()])
        .arg(format!("inject={call}:signal=KILL:when={nth}"))
        .arg(programs::by_all_names()?.join("portmap"))
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", "struck")
        .env("CNI_NETNS", "/run/netns/none")
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", ours()?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = host.run(|| command.spawn())?.context("no strace")?;
    if let Some(mut stdin) = child.stdin.take() {
        // Whoever is killed early does not read.
        let _ = stdin.write_all(config.to_string().as_bytes());
    }
    Ok(child.wait_with_output()?)
}

pub(crate) fn a_call_killed_anywhere_heals() -> Result<()> {
    if Command::new("strace").arg("-V").output().is_err() {
        return skip("there is no strace");
    }
    let (_lab, host) = host()?;
    let (struck_one, other) = (
        config("10.1.2.3/24", &one_port(8001)),
        config("10.1.2.4/24", &one_port(8002)),
    );
    call(&host, "ADD", "other", &other)?;
    let mut kills = 0;
    for verb in ["ADD", "DEL"] {
        for name in CALLS {
            for nth in 1.. {
                if verb == "DEL" {
                    call(&host, "ADD", "struck", &struck_one)?;
                }
                let output = struck(&host, verb, &struck_one, name, nth)?;
                let problem = || format!("{verb} was killed at {name} number {nth}");
                if output.status.signal() == Some(9) {
                    kills += 1;
                } else {
                    ensure!(output.status.success(), "{}: {output:?}", problem());
                }
                // The runtime tries again, or takes away what it gave up.
                if verb == "ADD" && nth % 2 == 0 {
                    call(&host, "ADD", "struck", &struck_one).with_context(problem)?;
                    call(&host, "CHECK", "struck", &struck_one).with_context(problem)?;
                }
                call(&host, "CHECK", "other", &other).with_context(problem)?;
                call(&host, "DEL", "struck", &struck_one).with_context(problem)?;
                call(&host, "CHECK", "other", &other).with_context(problem)?;
                let left = records(&host)?;
                ensure!(left == ["other@eth0"], "{}: {left:?}", problem());
                let rules = host.exec(["nft", "list", "ruleset"])?;
                ensure!(!rules.contains("8001"), "{}:\n{rules}", problem());
                if output.status.signal() != Some(9) {
                    break;
                }
            }
        }
    }
    println!("{kills} kills");
    ensure!(kills > 20, "only {kills} kills");
    call(&host, "DEL", "other", &other)?;
    nothing_left(&host)
}

pub(crate) fn a_crowd_gets_all_its_ports() -> Result<()> {
    const CROWD: usize = 50;
    let (_lab, host) = host()?;
    let all = |verb: &str| -> Result<()> {
        thread::scope(|scope| {
            let one = |number: usize| {
                let (host, verb) = (&host, verb.to_owned());
                scope.spawn(move || {
                    let mapping = one_port(8000 + number);
                    let config = config(&format!("10.1.2.{number}/24"), &mapping);
                    call(host, &verb, &format!("c{number}"), &config)
                })
            };
            let all: Vec<_> = (1..=CROWD).map(one).collect();
            for one in all {
                one.join().map_err(|_| anyhow!("a thread died"))??;
            }
            Ok(())
        })
    };
    all("ADD")?;
    let map = host.exec(["nft", "list", "map", "ip", "loden-hostports", "by-port"])?;
    for number in 1..=CROWD {
        let element = format!("tcp . {} : 10.1.2.{number} . 80", 8000 + number);
        ensure!(map.contains(&element), "no {element} in {map}");
    }
    all("CHECK")?;
    all("DEL")?;
    nothing_left(&host)
}

/// A pod whose DEL never came keeps no port, at the latest when another one has its address.
pub(crate) fn an_address_that_is_given_again_leads_to_one_pod() -> Result<()> {
    let (_lab, host) = host()?;
    for (id, number) in [("lost", 8001), ("heir", 8002)] {
        call(&host, "ADD", id, &config("10.1.2.3/24", &one_port(number)))?;
    }
    ensure!(records(&host)? == ["heir@eth0"], "{:?}", records(&host)?);
    let rules = host.exec(["nft", "list", "ruleset"])?;
    ensure!(rules.contains("8002") && !rules.contains("8001"), "{rules}");
    for id in ["lost", "heir"] {
        call(&host, "DEL", id, &config("10.1.2.3/24", &one_port(8001)))?;
    }
    nothing_left(&host)
}

pub(crate) fn gc_takes_what_nobody_knows() -> Result<()> {
    let (_lab, host) = host()?;
    for (number, id) in ["known", "gone"].into_iter().enumerate() {
        let address = format!("10.1.2.{}/24", number + 3);
        call(
            &host,
            "ADD",
            id,
            &config(&address, &one_port(8001 + number)),
        )?;
    }
    let mut order = json!({"cniVersion": "1.1.0", "name": "net", "type": "portmap",
        "cni.dev/valid-attachments": [{"containerID": "known", "ifname": "eth0"}]});
    call(&host, "STATUS", "any", &order)?;
    // Another network's pods are none of its business.
    order["name"] = json!("another");
    call(&host, "GC", "any", &order)?;
    ensure!(records(&host)?.len() == 2);
    order["name"] = json!("net");
    call(&host, "GC", "any", &order)?;
    ensure!(records(&host)? == ["known@eth0"], "{:?}", records(&host)?);
    let rules = host.exec(["nft", "list", "ruleset"])?;
    ensure!(rules.contains("8001") && !rules.contains("8002"), "{rules}");
    order["cni.dev/valid-attachments"] = json!([]);
    call(&host, "GC", "any", &order)?;
    nothing_left(&host)
}

pub(crate) fn without_ports_nothing_is_touched() -> Result<()> {
    let (_lab, host) = host()?;
    let before = host.snapshot()?;
    for mapping in [json!([]), json!([{"hostPort": 0, "containerPort": 80}])] {
        let config = config("10.1.2.3/24", &mapping);
        let said: Value = serde_json::from_str(&call(&host, "ADD", "c", &config)?)?;
        ensure!(said == config["prevResult"], "{said}");
        call(&host, "CHECK", "c", &config)?;
        call(&host, "DEL", "c", &config)?;
    }
    let mut alone = config("10.1.2.3/24", &one_port(80));
    if let Some(config) = alone.as_object_mut() {
        config.remove("prevResult");
    }
    let refused = CniError::expected_in(call(&host, "ADD", "c", &alone))?;
    ensure!(refused.code == 7, "{refused}");
    call(&host, "DEL", "c", &alone)?;
    host.snapshot()?.same_as(&before)
}

pub(crate) fn a_cleanup_takes_ports_too() -> Result<()> {
    let (_lab, host) = host()?;
    call(&host, "ADD", "c", &config("10.1.2.3/24", &one_port(8001)))?;
    call(&host, "ADD", "d", &config("fd00::3/64", &one_port(8001)))?;
    let cleanup = programs::find("flanneld")?.display().to_string();
    host.exec([cleanup.as_str(), "cleanup", "--yes"])?;
    ensure!(records(&host)?.len() == 2, "pods need them");
    host.exec([cleanup.as_str(), "cleanup", "--yes", "--cni-state"])?;
    ensure!(
        fs::metadata(host.path(RECORDS)).is_err(),
        "records are left"
    );
    nothing_left(&host)
}
