//! Mistakes of users. Each has to end in a sentence that says what to do, at the place where one looks first; and all is well again
//! when it is mended.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::bench::{Bench, NAMESPACE};
use crate::kubectl::text;
use crate::manifest::{self, CONFIG_MAP, DAEMON_SET};
use crate::workload;

mod places;

use places::Place;

/// A port for VXLAN that something else has.
const TAKEN: u16 = 18472;

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    bench.daemons_ready(120)?;
    one(
        bench,
        "Network is not the cluster's",
        &["outside", "Network"],
        Place::Status,
        |bench| net_conf(bench, |config| config["Network"] = json!("198.18.0.0/16")),
    )?;
    one(
        bench,
        "a right is missing: patch of nodes/status",
        &["orbidden", "ClusterRole"],
        Place::Status,
        |bench| {
            role(bench, "nodes/status")?;
            // What is right already is not written again.
            let node = bench.nodes[0].name.clone();
            let gone = "flannel.alpha.coreos.com/public-ip-";
            bench
                .kubectl
                .run(&["annotate", "node", &node, gone])
                .map(drop)
        },
    )?;
    one(
        bench,
        "a right is missing: list of nodes",
        &["orbidden", "ClusterRole"],
        Place::Status,
        |bench| role(bench, "nodes"),
    )?;
    one(
        bench,
        "UDP port taken",
        &["in use", "choose another Port"],
        Place::Status,
        port_taken,
    )?;
    one(
        bench,
        "--iface that does not exist",
        &["nosuch0"],
        Place::Pod,
        |bench| {
            let mut set = keep(bench, "daemonset", DAEMON_SET)?;
            let args = set["spec"]["template"]["spec"]["containers"][0]["args"].as_array_mut();
            args.context("the DaemonSet has no args")?
                .push(json!("--iface=nosuch0"));
            bench.kubectl.put_back(&set)
        },
    )?;
    let checks = [
        "another conflist sorts before ours",
        "the CNI program removed",
        "the CNI program of another version",
        "subnet.env missing",
        "subnet.env missing, and no daemon",
        "disk full under the state directory",
    ];
    if bench.has_node_exec(&checks)? {
        on_a_node(bench)?;
    }
    Ok(())
}

/// Makes a mistake that a daemon notices when it starts, and looks for a line with these words in a daemon's log and in one more place.
fn one(
    bench: &mut Bench,
    name: &str,
    words: &[&str],
    place: Place,
    make: impl FnOnce(&mut Bench) -> Result<()>,
) -> Result<()> {
    let mark = bench.mark();
    bench.undo("the daemons", |bench| bench.renew_daemons());
    let node = bench.nodes[0].name.clone();
    let said = make(bench).and_then(|()| {
        let all = [
            "delete",
            "pods",
            "-n",
            manifest::NAMESPACE,
            "-l",
            "app=flannel",
            "--timeout=100s",
        ];
        bench.kubectl.run(&all)?;
        bench.wait(
            &format!("{name}: the log says so"),
            Duration::from_secs(60),
            |bench| {
                let log = bench.log_of(&node)?;
                let found = log
                    .lines()
                    .find(|line| words.iter().all(|word| line.contains(word)));
                Ok(found
                    .map(str::to_owned)
                    .ok_or_else(|| log.lines().last().unwrap_or("no log").to_owned()))
            },
        )
    });
    bench.check_said(name, said)?;
    place.check(bench, &node, name, words)?;
    bench.put_back(mark);
    Ok(())
}

fn keep(bench: &mut Bench, kind: &str, name: &str) -> Result<Value> {
    let object = bench
        .kubectl
        .json(&["get", kind, "-n", manifest::NAMESPACE, name])?;
    let former = object.clone();
    bench.undo(&format!("{kind} {name}"), move |bench| {
        bench.kubectl.put_back(&former)
    });
    Ok(object)
}

fn net_conf(bench: &mut Bench, change: impl FnOnce(&mut Value)) -> Result<()> {
    let mut map = keep(bench, "configmap", CONFIG_MAP)?;
    let mut config: Value =
        serde_json::from_str(text(&map, "/data/net-conf.json")).context("net-conf.json")?;
    change(&mut config);
    map["data"]["net-conf.json"] = json!(config.to_string());
    bench.kubectl.put_back(&map)
}

/// Without the rule for this resource.
fn role(bench: &mut Bench, resource: &str) -> Result<()> {
    let mut role = keep(bench, "clusterrole", "flannel")?;
    let rules = role["rules"]
        .as_array_mut()
        .context("the role has no rules")?;
    rules.retain(|rule| rule["resources"][0] != resource);
    bench.kubectl.put_back(&role)
}

fn port_taken(bench: &mut Bench) -> Result<()> {
    let node = bench.nodes[0].name.clone();
    // Ends by itself with the pod's shell, or after a while.
    bench.at_host(
        &node,
        &format!("timeout 120 nc -u -l -p {TAKEN} </dev/null >/dev/null 2>&1 & sleep 0.5"),
    )?;
    bench.undo("the port", move |bench| {
        bench.at_host(&node, "pkill -x nc; true").map(drop)
    });
    net_conf(bench, |config| config["Backend"]["Port"] = json!(TAKEN))
}

fn on_a_node(bench: &mut Bench) -> Result<()> {
    let node = bench.nodes[0].name.clone();
    let conflist =
        r#"{"name": "other", "cniVersion": "1.0.0", "plugins": [{"type": "loden-test-other"}]}"#;
    let other = "/etc/cni/net.d/00-loden-cluster-test.conflist";
    one(
        bench,
        "another conflist sorts before ours",
        &["00-loden-cluster-test.conflist"],
        Place::Log,
        |bench| {
            change(
                bench,
                &node,
                &format!("printf %s '{conflist}' > {other}"),
                &format!("rm -f {other}"),
            )
        },
    )?;
    let program = "/opt/cni/bin/flannel";
    let back = format!("mv {program}.kept {program}");
    pod_says(
        bench,
        &node,
        "the CNI program removed",
        &["flannel"],
        &format!("mv {program} {program}.kept"),
        &back,
    )?;
    let stranger = r#"#!/bin/sh
cat >/dev/null; echo "{\"cniVersion\": \"0.3.1\", \"supportedVersions\": [\"0.3.1\"], \"code\": 1, \"msg\": \"incompatible CNI versions\"}"; exit 1"#;
    let make = format!(
        "mv {program} {program}.kept; printf %s '{stranger}' > {program}; chmod 755 {program}"
    );
    pod_says(
        bench,
        &node,
        "the CNI program of another version",
        &["incompatible"],
        &make,
        &back,
    )?;
    subnet_file(bench, &node)?;
    places::no_subnet_file(bench, &node)?;
    // What the CNI program keeps is on a file system of its own, without a free byte.
    let make = "mount -t tmpfs -o size=64k full /run/loden && cat /dev/zero > /run/loden/full 2>/dev/null; true";
    let name = "disk full under the state directory";
    pod_says(bench, &node, name, &["space"], make, "umount /run/loden")
}

fn change(bench: &mut Bench, node: &str, make: &str, back: &str) -> Result<()> {
    let (at, script) = (node.to_owned(), back.to_owned());
    bench.undo("files of a node", move |bench| {
        bench.on_node(&at, &script)?.ok("NODE_EXEC").map(drop)
    });
    bench.on_node(node, make)?.ok("NODE_EXEC").map(drop)
}

/// Makes a mistake that concerns new pods, and looks for a line with these words where `kubectl describe pod` shows them; and that the
/// pod runs when it is mended.
fn pod_says(
    bench: &mut Bench,
    node: &str,
    name: &str,
    words: &[&str],
    make: &str,
    back: &str,
) -> Result<()> {
    let mark = bench.mark();
    bench.undo("the pod", |bench| bench.delete(&["pod", "mistaken"]));
    change(bench, node, make, back)?;
    let mut pod = workload::pod(&bench.args, "mistaken", node, json!({"app": "mistaken"}));
    pod["spec"]["nodeName"] = json!(node);
    bench.kubectl.apply(vec![pod])?;
    let said = bench.wait(
        &format!("{name}: the pod's events say so"),
        Duration::from_secs(60),
        |bench| {
            let field = "--field-selector=involvedObject.name=mistaken";
            let events = bench
                .kubectl
                .items(&["get", "events", "-n", NAMESPACE, field])?;
            let messages: Vec<&str> = events.iter().map(|event| text(event, "/message")).collect();
            let found = messages
                .iter()
                .find(|message| words.iter().all(|word| message.contains(word)));
            // The kubelet asks first whether the network is ready, and may have the answer already.
            let told = ["sandbox", "network is not ready"];
            let found = found.filter(|message| told.iter().any(|word| message.contains(word)));
            Ok(found
                .map(|message| (*message).to_owned())
                .ok_or_else(|| messages.join(" / ")))
        },
    );
    bench.check_said(name, said)?;
    bench.put_back(mark + 1);
    let ready = bench.ready(&["mistaken".to_owned()], 180);
    bench.check_result(&format!("{name}: mended, the pod runs"), ready)?;
    bench.put_back(mark);
    bench.kubectl.run(&[
        "delete",
        "events",
        "-n",
        NAMESPACE,
        "--field-selector=involvedObject.name=mistaken",
    ])?;
    Ok(())
}

/// A removed subnet file is written again by a daemon that runs; nobody needs to do anything.
fn subnet_file(bench: &mut Bench, node: &str) -> Result<()> {
    let file = "/run/flannel/subnet.env";
    let mark = bench.mark();
    let at = node.to_owned();
    bench.undo("the subnet file", move |bench| {
        let there = bench.on_node(&at, &format!("test -e {file}"))?.success;
        if there { Ok(()) } else { bench.renew_daemons() }
    });
    bench
        .on_node(node, &format!("rm {file}"))?
        .ok("NODE_EXEC")?;
    let name = "subnet.env missing: it comes back";
    let back = bench.wait(name, Duration::from_secs(30), |bench| {
        let there = bench.on_node(node, &format!("test -e {file}"))?.success;
        Ok(if there {
            Ok(())
        } else {
            Err("it is not there".to_owned())
        })
    });
    bench.check_result(name, back)?;
    bench.put_back(mark);
    Ok(())
}
