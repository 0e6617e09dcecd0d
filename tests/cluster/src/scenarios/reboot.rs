//! Reboot of a node, twice, the second time with the API server away: it comes back by itself, and no address is given twice.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use super::operations::api_answers;
use crate::bench::Bench;
use crate::kubectl::{holds, text};
use crate::probe::{Place, Probe, Results};
use crate::workload::{self, POD_PORT, addresses};

/// Pods on the node that is rebooted.
const PODS: usize = 5;

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    if bench.args.hooks.node_reboot.is_none() {
        bench.skip("reboot", "no NODE_REBOOT");
        return Ok(());
    }
    bench.daemons_ready(120)?;
    let node = bench.nodes[1].name.clone();
    let names: Vec<String> = (0..PODS)
        .map(|i| format!("boot-{i}"))
        .chain(["peer".to_owned()])
        .collect();
    let peer = bench.nodes[0].name.clone();
    let pods = names.iter().map(|name| {
        let at = if name == "peer" { &peer } else { &node };
        workload::pod(&bench.args, name, at, json!({"app": "boot"}))
    });
    bench.kubectl.apply(pods.collect())?;
    bench.undo("pods of reboot", |bench| {
        bench.delete(&["pods", "-l", "app=boot"])
    });
    bench.ready(&names, 180)?;
    let files = reservations(bench, &node)?;
    reboot(bench, &node, "reboot")?;
    came_back(bench, &node, &names, "reboot", files)?;
    if bench.args.hooks.control_service.is_none() {
        bench.skip("reboot without the API server", "no CONTROL_SERVICE");
        return Ok(());
    }
    let name = "reboot without the API server";
    let mark = bench.mark();
    bench.undo("the API server", |bench| {
        bench
            .control("start", "apiserver")
            .and_then(|()| api_answers(bench))
    });
    bench.control("stop", "apiserver")?;
    let result = reboot(bench, &node, name);
    bench.put_back(mark);
    result?;
    came_back(bench, &node, &names, name, files)
}

fn reboot(bench: &mut Bench, node: &str, name: &str) -> Result<()> {
    let begun = Instant::now();
    let template = bench.args.hooks.node_reboot.clone();
    let mark = bench.mark();
    let (at, again) = (node.to_owned(), template.clone());
    // One that is interrupted has to be done whole.
    bench.undo(&format!("the reboot of {node}"), move |bench| {
        bench.hook(again.as_deref(), &[("node", &at)])
    });
    bench.hook(template.as_deref(), &[("node", node)])?;
    bench.done(mark);
    bench.report.figure(
        &format!("{name}: the command took"),
        format!("{:.0} s", begun.elapsed().as_secs_f64()),
    );
    Ok(())
}

fn came_back(
    bench: &mut Bench,
    node: &str,
    names: &[String],
    name: &str,
    files: usize,
) -> Result<()> {
    let begun = Instant::now();
    // Pods may still be told as ready from before: only what answers counts.
    bench.wait(
        "pods of the node answer",
        Duration::from_secs(240),
        |bench| {
            let pods = bench.ours(&["pods", "-l", "app=boot"])?;
            let ready = pods.iter().filter(|pod| holds(pod, "Ready")).count();
            if ready != names.len() {
                return Ok(Err(format!("{ready} of {} ready", names.len())));
            }
            let good = bench.answers(&Place::Pod("peer".to_owned()), &probes(&pods))?;
            Ok(if good {
                Ok(())
            } else {
                Err("not all answer".to_owned())
            })
        },
    )?;
    let took = begun.elapsed().as_secs_f64();
    bench.check(
        &format!("{name}: peers reach its pods again"),
        true,
        String::new,
    );
    bench.report.figure(
        &format!("{name}: all its pods answer a peer after"),
        format!("{took:.0} s"),
    );
    let pods = bench.ours(&["pods", "-l", "app=boot"])?;
    let all: Vec<String> = pods.iter().flat_map(addresses).collect();
    let different: BTreeSet<&String> = all.iter().collect();
    bench.check(
        &format!("{name}: no address twice"),
        different.len() == all.len(),
        || all.join(", "),
    );
    let mut results = Results::default();
    for pod in &pods {
        let place = Place::Pod(text(pod, "/metadata/name").to_owned());
        bench.probe(&place, &probes(&pods), &mut results)?;
    }
    bench.tell_as(results, name);
    bench.daemons_ready(180)?;
    let now = reservations(bench, node)?;
    bench.check(
        &format!("{name}: addresses of lost pods are free"),
        now <= files,
        || format!("{now} attachments are recorded on {node}, {files} before"),
    );
    Ok(())
}

fn probes(pods: &[Value]) -> Vec<Probe> {
    pods.iter()
        .flat_map(|pod| {
            let name = text(pod, "/metadata/name").to_owned();
            addresses(pod).into_iter().map(move |address| {
                Probe::http(
                    "every pod to every pod",
                    &address,
                    POD_PORT,
                    "hostname",
                    name.clone(),
                )
            })
        })
        .collect()
}

/// How many attachments the CNI program has on record.
fn reservations(bench: &Bench, node: &str) -> Result<usize> {
    let said = bench.at_host(
        node,
        "ls /host/run/loden/ipam/*/attachments 2>/dev/null | wc -l",
    )?;
    Ok(said.trim().parse()?)
}
