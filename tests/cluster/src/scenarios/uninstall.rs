//! Uninstall: pods that run go on talking when the daemons are gone, and after the commands of docs/kubernetes.md the nodes are as
//! they were before the install.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::json;

use crate::bench::Bench;
use crate::kubectl::text;
use crate::manifest::NAMESPACE;
use crate::workload::{self, POD_PORT};

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    if bench.before.is_empty() {
        bench.skip(
            "uninstall",
            "the pod network was there before this run, and stays",
        );
        return Ok(());
    }
    let names: Vec<String> = bench
        .nodes
        .iter()
        .map(|node| format!("last-{}", node.name))
        .collect();
    let pods =
        bench.nodes.iter().zip(&names).map(|(node, name)| {
            workload::pod(&bench.args, name, &node.name, json!({"kind": "last"}))
        });
    bench.kubectl.apply(pods.collect())?;
    let pods = bench.ready(&names, 180)?;
    stop(bench)?;
    let address = workload::addresses(&pods[1]).remove(0);
    let said = bench.in_pod(
        &names[0],
        &format!("curl -gsS -m 5 http://{address}:{POD_PORT}/hostname"),
    );
    let said = said.unwrap_or_else(|error| format!("{error:#}"));
    bench.check(
        "pods go on talking without the daemons",
        said == names[1],
        || said.clone(),
    );
    let deleted = bench.delete(&["pods", "-l", "kind in (first, last)"]);
    bench.check_result("pods can be deleted without the daemons", deleted)?;
    clean(bench)?;
    for (node, before) in bench.nodes.clone().iter().zip(bench.before.clone()) {
        let after = bench.state(&node.name)?;
        let left = after.difference(&before);
        bench.check(
            &format!("{} is as before the install", node.name),
            left.is_empty(),
            || left.join("; "),
        );
    }
    Ok(())
}

/// What `kubectl delete -f` does, and the end of the daemons.
fn stop(bench: &mut Bench) -> Result<()> {
    let text = bench.manifest.text.clone();
    let words = ["delete", "-f", "-", "--ignore-not-found", "--wait=false"];
    bench
        .kubectl
        .output(&words, Some(&text))?
        .ok("kubectl delete")?;
    bench.wait("the daemons are gone", Duration::from_secs(120), |bench| {
        let words = [
            "get",
            "namespace",
            NAMESPACE,
            "--ignore-not-found",
            "-o",
            "name",
        ];
        let left = bench.kubectl.run(&words)?;
        Ok(if left.is_empty() {
            Ok(())
        } else {
            Err("the namespace is there".to_owned())
        })
    })
}

/// The commands that take away what is on the nodes, as pods of the same image.
fn clean(bench: &mut Bench) -> Result<()> {
    for (name, words) in [
        ("uninstall-cni", &["/opt/bin/flanneld", "uninstall-cni"][..]),
        (
            "cleanup",
            &["/opt/bin/flanneld", "cleanup", "--yes", "--cni-state"][..],
        ),
    ] {
        let pods = bench.nodes.iter().map(|node| {
            bench
                .manifest
                .command(&format!("{name}-{}", node.name), &node.name, words)
        });
        bench.kubectl.apply(pods.collect())?;
        for node in bench.nodes.clone() {
            finished(bench, &format!("{name}-{}", node.name))?;
        }
    }
    Ok(())
}

fn finished(bench: &mut Bench, name: &str) -> Result<()> {
    let pod = bench.wait(
        &format!("{name} has ended"),
        Duration::from_secs(90),
        |bench| {
            let pod = bench.our("pod", name)?;
            let phase = text(&pod, "/status/phase").to_owned();
            Ok(if matches!(phase.as_str(), "Succeeded" | "Failed") {
                Ok(pod)
            } else {
                Err(phase)
            })
        },
    )?;
    if text(&pod, "/status/phase") == "Succeeded" {
        return Ok(());
    }
    let log = bench
        .kubectl
        .run(&["logs", "-n", crate::bench::NAMESPACE, name])?;
    bail!("{name}: {}", log.trim().replace('\n', " / "))
}

/// All of it, for the end of a run that did not come to this scenario.
pub(crate) fn remove(bench: &mut Bench) -> Result<()> {
    bench.delete(&["pods", "-l", "kind!=host"])?;
    stop(bench)?;
    clean(bench)
}
