//! Uninstall: pods that run go on talking when the daemons are gone, and after the commands of docs/kubernetes.md the nodes are as
//! they were before the install.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::kubectl::{holds, text};
use crate::manifest::NAMESPACE;
use crate::workload::{self, POD_PORT};

/// The namespace of `manifests/uninstall.yml`.
const NAMESPACE_OF_UNINSTALL: &str = "loden-uninstall";

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    if bench.before.is_empty() {
        bench.skip(
            "uninstall",
            "the pod network was there before this run, and stays",
        );
        return Ok(());
    }
    if bench.args.keep {
        bench.skip("uninstall", "KEEP: the pod network stays");
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
    let mark = bench.mark();
    clear(bench)?;
    clean(bench)?;
    bench.put_back(mark);
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
    bench.wait_gone(NAMESPACE, Duration::from_secs(120))
}

/// Deletes what others have in the pod network, DNS for example; on nodes that take no pods, so that it does not come back at once.
fn clear(bench: &mut Bench) -> Result<()> {
    let nodes: Vec<String> = bench.nodes.iter().map(|node| node.name.clone()).collect();
    for node in nodes.clone() {
        bench.kubectl.run(&["cordon", &node])?;
        bench.undo(&format!("pods for {node}"), move |bench| {
            bench.kubectl.run(&["uncordon", &node]).map(drop)
        });
    }
    for pod in bench.kubectl.items(&["get", "pods", "--all-namespaces"])? {
        let namespace = text(&pod, "/metadata/namespace");
        let here = nodes
            .iter()
            .any(|node| text(&pod, "/spec/nodeName") == node);
        if here && pod["spec"]["hostNetwork"] != true && namespace != crate::bench::NAMESPACE {
            let name = text(&pod, "/metadata/name");
            let words = ["delete", "pod", "-n", namespace, name, "--timeout=50s"];
            bench.kubectl.run(&words)?;
        }
    }
    Ok(())
}

/// What docs/kubernetes.md says of what is left on the nodes.
fn clean(bench: &mut Bench) -> Result<()> {
    let text = bench.manifest.uninstall.clone();
    bench.undo("what uninstalls", |bench| {
        let text = bench.manifest.uninstall.clone();
        let words = ["delete", "-f", "-", "--ignore-not-found", "--timeout=100s"];
        bench
            .kubectl
            .output(&words, Some(&text))?
            .ok("kubectl delete")
            .map(drop)
    });
    bench.kubectl.apply_text(&text)?;
    bench.wait("every node is clean", Duration::from_secs(120), |bench| {
        let pods = bench
            .kubectl
            .items(&["get", "pods", "-n", NAMESPACE_OF_UNINSTALL])?;
        let wanted = bench
            .kubectl
            .items(&["get", "nodes", "-l", "kubernetes.io/os=linux"])?
            .len();
        let done = pods.iter().filter(|pod| holds(pod, "Initialized")).count();
        Ok(if done == wanted && done > 0 {
            Ok(())
        } else {
            Err(format!("{done} of {wanted}: {}", said(&pods)))
        })
    })
}

/// Why init containers do not come to their end.
fn said(pods: &[Value]) -> String {
    let statuses = pods
        .iter()
        .filter_map(|pod| pod["status"]["initContainerStatuses"].as_array());
    let messages = statuses.flatten().map(|status| {
        let reason = |state: &str| text(status, &format!("/state/{state}/reason")).to_owned();
        format!(
            "{} {}{}",
            text(status, "/name"),
            reason("waiting"),
            reason("terminated")
        )
    });
    messages.collect::<Vec<_>>().join(", ")
}

/// All of it, for the end of a run that did not come to this scenario.
pub(crate) fn remove(bench: &mut Bench) -> Result<()> {
    bench.delete(&["pods", "-l", "kind!=host"])?;
    stop(bench)?;
    clear(bench)?;
    clean(bench)
}
