//! Nodes that leave, come back, come new, or have a subnet that does not fit.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::bench::{Bench, NAMESPACE};
use crate::kubectl::{holds, text};
use crate::manifest;
use crate::workload::{self, POD_PORT, addresses};

/// A subnet outside every usual pod network.
const OUTSIDE: &str = "198.18.77.0/24";

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    bench.daemons_ready(120)?;
    if bench.args.hooks.node_service.is_some() {
        again(bench)?;
        if bench.args.hooks.control_service.is_some() {
            by_hand(bench)?;
        } else {
            bench.skip("nodes without a podCIDR", "no CONTROL_SERVICE");
        }
    } else {
        bench.skip(
            "a node deleted and joined again",
            "no NODE_SERVICE: a kubelet registers its Node when it starts",
        );
    }
    added(bench)
}

/// Deleted, and joined again under the same name: it gets another subnet.
fn again(bench: &mut Bench) -> Result<()> {
    let name = "a node deleted and joined again with another podCIDR";
    let node = last(bench);
    let former = subnets(bench, &node)?;
    let begun = Instant::now();
    rejoin(bench, &node)?;
    let result = back(bench, &node);
    let took = begun.elapsed().as_secs_f64();
    if bench.check_result(name, result)?.is_some() {
        bench.report.figure(
            &format!("{name}: its pods answer after"),
            format!("{took:.0} s"),
        );
    }
    let now = subnets(bench, &node)?;
    if former == now {
        bench.skip(
            "another podCIDR",
            "the controller manager gave it the same again",
        );
    }
    Ok(())
}

/// Without somebody who gives podCIDRs: none, one outside Network, and one by hand.
fn by_hand(bench: &mut Bench) -> Result<()> {
    let node = last(bench);
    let mut fitting = subnets(bench, &node)?;
    let mark = bench.mark();
    let at = node.clone();
    bench.undo("the node's podCIDR", move |bench| {
        bench.control("start", "controller-manager")?;
        rejoin(bench, &at)?;
        back(bench, &at)
    });
    bench.control("stop", "controller-manager")?;
    rejoin(bench, &node)?;
    let said = says(bench, &node, "has no podCIDR");
    bench.check_said("a node without podCIDR", said)?;
    let status = bench.wait(
        "flanneld status says so",
        Duration::from_secs(60),
        |bench| {
            let said = bench.status_of(&node)?;
            Ok(if said.contains("has no podCIDR") {
                Ok(said)
            } else {
                Err(said)
            })
        },
    );
    bench.check_said("a node without podCIDR, flanneld status", status)?;
    give(bench, &node, &[OUTSIDE.to_owned()])?;
    let said = says(bench, &node, "outside");
    bench.check_said("a podCIDR outside Network", said)?;
    rejoin(bench, &node)?;
    fitting.truncate(if bench.nodes.iter().all(|node| node.v6.is_some()) {
        2
    } else {
        1
    });
    give(bench, &node, &fitting)?;
    // The controller manager would also take the taint of nodes that are not Ready away, and schedule the daemon's pods.
    let pod = unscheduled(bench, "by-hand", &node);
    bench.kubectl.apply(vec![pod])?;
    let ready = bench.ready(&["by-hand".to_owned()], 120);
    let result = ready.and_then(|pods| reached(bench, &pods[0]));
    bench.check_result("a podCIDR given by hand", result)?;
    bench.delete(&["pod", "by-hand", "--wait=false"])?;
    bench.put_back(mark);
    Ok(())
}

/// One that was not there.
fn added(bench: &mut Bench) -> Result<()> {
    let Some(template) = bench.args.hooks.node_join.clone() else {
        bench.skip("a node added", "no NODE_JOIN");
        return Ok(());
    };
    let node = bench.args.new_node.clone();
    let before = bench.states()?;
    let begun = Instant::now();
    let mark = bench.mark();
    let (at, how) = (node.clone(), template.clone());
    bench.undo("the added node", move |bench| {
        bench.hook(Some(&how), &[("node", &at), ("verb", "remove")])?;
        bench
            .kubectl
            .run(&["delete", "node", &at, "--ignore-not-found"])
            .map(drop)
    });
    bench.hook(Some(&template), &[("node", &node), ("verb", "join")])?;
    let result = back(bench, &node);
    if bench.check_result("a node added", result)?.is_some() {
        let took = begun.elapsed().as_secs_f64();
        bench.report.figure(
            "a node added: its pods answer after",
            format!("{took:.0} s"),
        );
    }
    bench.put_back(mark);
    let gone = bench.wait("nodes forget it", Duration::from_secs(60), |bench| {
        let mut left = Vec::new();
        for (other, before) in bench.nodes.iter().zip(&before) {
            let state = bench.state(&other.name)?;
            left.extend(state.difference(before));
        }
        Ok(if left.is_empty() {
            Ok(())
        } else {
            Err(left.join("; "))
        })
    });
    bench
        .check_result("a node that has left is forgotten by the others", gone)
        .map(drop)
}

fn last(bench: &Bench) -> String {
    bench
        .nodes
        .last()
        .map(|node| node.name.clone())
        .unwrap_or_default()
}

fn subnets(bench: &Bench, node: &str) -> Result<Vec<String>> {
    let object = bench.kubectl.json(&["get", "node", node])?;
    let list = object["spec"]["podCIDRs"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    Ok(list
        .iter()
        .filter_map(|subnet| subnet.as_str().map(str::to_owned))
        .collect())
}

fn give(bench: &Bench, node: &str, subnets: &[String]) -> Result<()> {
    let patch = json!({"spec": {"podCIDR": subnets.first(), "podCIDRs": subnets}}).to_string();
    bench
        .kubectl
        .run(&["patch", "node", node, "-p", &patch])
        .map(drop)
}

/// Deletes the Node, and has its kubelet register it anew.
fn rejoin(bench: &mut Bench, node: &str) -> Result<()> {
    let mark = bench.mark();
    let at = node.to_owned();
    bench.undo(&format!("the kubelet of {node}"), move |bench| {
        bench.service(&at, "start", "kubelet")
    });
    bench.service(node, "stop", "kubelet")?;
    bench.kubectl.run(&["delete", "node", node])?;
    bench.service(node, "start", "kubelet")?;
    bench.done(mark);
    bench.wait(
        &format!("{node} has registered"),
        Duration::from_secs(90),
        |bench| {
            let there =
                bench
                    .kubectl
                    .run(&["get", "node", node, "--ignore-not-found", "-o", "name"])?;
            Ok(if there.is_empty() {
                Err("no Node".to_owned())
            } else {
                Ok(())
            })
        },
    )
}

/// Waits until a pod on the node answers one on another, from an address of the node's subnet of now.
fn back(bench: &mut Bench, node: &str) -> Result<()> {
    let pods = ["back".to_owned(), "asks".to_owned()];
    // The pods of a Node that was deleted are, too, sooner or later.
    bench.delete(&["pods", &pods[0], &pods[1]])?;
    let first = bench.nodes[0].name.clone();
    let mut asks = workload::pod(&bench.args, "asks", &first, json!({"app": "back"}));
    asks["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": first});
    let back = workload::pod(&bench.args, "back", node, json!({"app": "back"}));
    bench.kubectl.apply(vec![asks, back])?;
    let found = bench.ready(&pods, 240)?;
    let result = reached(bench, &found[0]);
    bench.delete(&["pods", &pods[0], &pods[1]])?;
    result?;
    let object = workload::host(&bench.args, node);
    if bench.nodes.iter().any(|of| of.name == node) {
        bench.wait(
            "the pod on the node's network is back",
            Duration::from_secs(120),
            |bench| {
                bench.kubectl.apply(vec![object.clone()])?;
                let pod = bench.our("pod", &workload::host_name(node))?;
                let stays = text(&pod, "/metadata/deletionTimestamp").is_empty();
                Ok(if stays && holds(&pod, "Ready") {
                    Ok(())
                } else {
                    Err("not yet".to_owned())
                })
            },
        )?;
    }
    bench.daemons_ready(180)
}

/// The pod answers from every other node's network, and its address lies in its node's subnet.
fn reached(bench: &mut Bench, pod: &serde_json::Value) -> Result<()> {
    let node = text(pod, "/spec/nodeName");
    let subnet = subnets(bench, node)?
        .into_iter()
        .next()
        .context("no podCIDR")?;
    let address = addresses(pod).into_iter().next().context("no address")?;
    let start: Vec<&str> = subnet.split('.').take(3).collect();
    ensure!(
        !subnet.ends_with("/24") || address.starts_with(&format!("{}.", start.join("."))),
        "{address} is not of the node's podCIDR {subnet}"
    );
    let url = format!("curl -gsS -m 3 http://{address}:{POD_PORT}/hostname");
    let from = bench.nodes[0].name.clone();
    bench.wait(
        "its pod answers another node",
        Duration::from_secs(60),
        |bench| {
            let said = bench
                .kubectl
                .sh(NAMESPACE, &workload::host_name(&from), "tools", &url)?;
            Ok(if said.success {
                Ok(())
            } else {
                Err(said.said())
            })
        },
    )
}

fn unscheduled(bench: &Bench, name: &str, node: &str) -> serde_json::Value {
    let mut pod = workload::pod(&bench.args, name, node, json!({"app": "back"}));
    pod["spec"]["nodeName"] = json!(node);
    pod["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
    pod
}

/// The line with this word in the log of the node's daemon.
fn says(bench: &mut Bench, node: &str, word: &str) -> Result<String> {
    bench.wait(
        &format!("flanneld on {node} says something of {word}"),
        Duration::from_secs(60),
        |bench| {
            let log = bench.log_of(node)?;
            let line = log.lines().rev().find(|line| {
                line.contains(word) && (line.contains("WARN") || line.contains("ERROR"))
            });
            Ok(line
                .map(str::to_owned)
                .ok_or_else(|| log.lines().last().unwrap_or("no log").to_owned()))
        },
    )
}

impl Bench {
    /// The end of the log of a node's flanneld.
    pub(crate) fn log_of(&self, node: &str) -> Result<String> {
        let pod = self.daemon_of(node)?;
        let name = text(&pod, "/metadata/name");
        self.kubectl.run(&[
            "logs",
            "-n",
            manifest::NAMESPACE,
            name,
            "--all-containers",
            "--tail=30",
            "--since=60s",
        ])
    }

    /// A check that something is said; the report shows what.
    pub(crate) fn check_said(&mut self, name: &str, said: Result<String>) -> Result<()> {
        if let Some(line) = self.check_result(name, said)? {
            self.report.figure(&format!("{name}, said"), line);
        }
        Ok(())
    }
}
