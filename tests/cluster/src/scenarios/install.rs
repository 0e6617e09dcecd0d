//! Install: one `kubectl apply`, and the time until it is of use.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use crate::bench::Bench;
use crate::kubectl::text;
use crate::manifest::NAMESPACE;
use crate::scenarios::{installed, uninstall};
use crate::{cluster, workload};

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    if installed(bench)? {
        bench.skip(
            "install",
            "kube-flannel-ds is there already; the other scenarios use it as it is",
        );
        return Ok(());
    }
    bench.before = bench.states()?;
    if !bench.args.keep {
        bench.undo("the install", |bench| {
            if installed(bench)? {
                uninstall::remove(bench)
            } else {
                Ok(())
            }
        });
    }
    let begun = Instant::now();
    let text = bench.manifest.text.clone();
    bench.kubectl.apply_text(&text)?;
    let names = pods(bench);
    bench.wait("all nodes are Ready", Duration::from_secs(180), |bench| {
        let waiting = cluster::not_ready(&bench.kubectl, &bench.nodes)?;
        Ok(if waiting.is_empty() {
            Ok(())
        } else {
            Err(format!("not Ready: {}", waiting.join(", ")))
        })
    })?;
    seconds(bench, "apply to all nodes Ready", begun);
    let pods = bench.ready(&names, 180)?;
    seconds(bench, "apply to a pod Ready on each node", begun);
    let target = workload::addresses(pods.last().unwrap_or(&json!(null)));
    for address in target {
        let url = format!(
            "curl -gsS -m 2 http://{address}:{}/hostname",
            workload::POD_PORT
        );
        bench.wait(
            "the first pod answers across nodes",
            Duration::from_secs(60),
            |bench| {
                let said = bench
                    .kubectl
                    .sh(crate::bench::NAMESPACE, &names[0], "tools", &url)?;
                Ok(if said.success {
                    Ok(())
                } else {
                    Err(said.said())
                })
            },
        )?;
    }
    seconds(bench, "apply to the first answer across nodes", begun);
    bench.check("the first pod answers across nodes", true, String::new);
    rollout(bench)?;
    pulled(bench)
}

/// One pod on each node, made at once with the install as somebody's would be.
fn pods(bench: &mut Bench) -> Vec<String> {
    let names: Vec<String> = bench
        .nodes
        .iter()
        .map(|node| format!("first-{}", node.name))
        .collect();
    let pods =
        bench.nodes.iter().zip(&names).map(|(node, name)| {
            workload::pod(&bench.args, name, &node.name, json!({"kind": "first"}))
        });
    if let Err(error) = bench.kubectl.apply(pods.collect()) {
        bench.check("pods can be created", false, || format!("{error:#}"));
    }
    names
}

fn rollout(bench: &mut Bench) -> Result<()> {
    let words = [
        "rollout",
        "status",
        "daemonset",
        "-n",
        NAMESPACE,
        crate::manifest::DAEMON_SET,
        "--timeout=50s",
    ];
    let output = bench.kubectl.output(&words, None)?;
    bench.check("the DaemonSet is rolled out", output.success, || {
        output.said()
    });
    let pods = bench.kubectl.items(&["get", "pods", "-n", NAMESPACE])?;
    let restarts: u64 = pods
        .iter()
        .filter_map(|pod| pod["status"]["containerStatuses"][0]["restartCount"].as_u64())
        .sum();
    bench.check("flanneld has not restarted", restarts == 0, || {
        format!("{restarts} restarts")
    });
    let nodes = bench.kubectl.items(&["get", "nodes"])?;
    let unavailable: Vec<&str> = nodes
        .iter()
        .filter(|node| {
            crate::kubectl::condition(node, "NetworkUnavailable")
                .is_none_or(|c| c["status"] != "False")
        })
        .map(|node| text(node, "/metadata/name"))
        .collect();
    bench.check(
        "NetworkUnavailable is False",
        unavailable.is_empty(),
        || unavailable.join(", "),
    );
    Ok(())
}

/// What the kubelets say of pulling and unpacking the image.
fn pulled(bench: &mut Bench) -> Result<()> {
    let events = bench.kubectl.items(&[
        "get",
        "events",
        "-n",
        NAMESPACE,
        "--field-selector=reason=Pulled",
    ])?;
    let pulls: Vec<String> = events
        .iter()
        .map(|event| text(event, "/message").to_owned())
        .filter(|message| message.starts_with("Successfully pulled"))
        .collect();
    let value = pulls
        .first()
        .cloned()
        .unwrap_or_else(|| "it was on the nodes".to_owned());
    bench.report.figure("pulling the image", value);
    Ok(())
}

fn seconds(bench: &mut Bench, name: &str, since: Instant) {
    let value = format!("{:.1} s", since.elapsed().as_secs_f64());
    bench.report.figure(name, value);
}
