//! Churn: many pods made and deleted at once, without and with the daemon being killed; nothing of them may stay.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use crate::bench::{Bench, NAMESPACE};
use crate::killer::Killer;
use crate::kubectl::text;
use crate::sandboxes::Times;
use crate::{interrupt, sandboxes};

mod reference;

const ROUNDS: usize = 3;
/// Between two looks for daemons that their kubelet does not start again.
const LOOKS: Duration = Duration::from_secs(2);

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    bench.daemons_ready(120)?;
    let before = bench.states()?;
    let names: Vec<String> = bench.nodes.iter().map(|node| node.name.clone()).collect();
    bench.kubectl.apply(vec![deployment(bench, &names)])?;
    bench.undo("pods of churn", |bench| {
        bench.delete(&["deployment", "churn"])?;
        gone(bench, &mut || Ok(()))
    });
    rounds(bench, "churn", false)?;
    settled(bench, "after churn", &before)?;
    if bench.has_node_exec(&["churn while flanneld is killed every two seconds"])? {
        rounds(bench, "churn under kills", true)?;
        bench.renew_daemons()?;
        settled(bench, "after churn under kills", &before)?;
    }
    reference::run(bench)
}

fn deployment(bench: &Bench, nodes: &[String]) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "churn", "namespace": NAMESPACE},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": {"app": "churn"}},
            "template": {"metadata": {"labels": {"app": "churn"}}, "spec": {
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": nodes}]}]}}},
                "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": false, "enableServiceLinks": false,
                "containers": [{"name": "pause", "image": bench.args.agnhost, "imagePullPolicy": "IfNotPresent",
                    "args": ["pause"]}],
            }},
        }
    })
}

fn rounds(bench: &mut Bench, name: &str, kills: bool) -> Result<()> {
    let since = bench.log_ends().ok();
    let counted = bench.network_times();
    let (mut up, mut down) = (Vec::new(), Vec::new());
    let killer = kills.then(|| Killer::start(bench)).transpose()?;
    let mut last = Instant::now();
    let mut waiting = BTreeMap::new();
    for round in 1..=ROUNDS {
        let mut meanwhile = |bench: &Bench| -> Result<()> {
            if kills && last.elapsed() > LOOKS {
                last = Instant::now();
                bench.renew_waiting_daemons(&mut waiting)?;
            }
            Ok(())
        };
        let begun = Instant::now();
        scale(bench, bench.args.pods)?;
        let result = running(bench, &mut meanwhile);
        up.push(begun.elapsed().as_secs_f64());
        bench.check_result(
            &format!("{name}, round {round}: none stuck, no address twice"),
            result,
        )?;
        let begun = Instant::now();
        scale(bench, 0)?;
        let result = gone_meanwhile(bench, &mut meanwhile);
        down.push(begun.elapsed().as_secs_f64());
        bench.check_result(&format!("{name}, round {round}: all gone"), result)?;
    }
    let killed = match killer.map(Killer::stop).transpose() {
        Ok(killed) => killed,
        Err(error) => {
            bench.check(&format!("{name}: flanneld is killed"), false, || {
                format!("{error:#}")
            });
            None
        }
    };
    let seconds = |all: &[f64]| {
        all.iter()
            .map(|s| format!("{s:.0} s"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let pods = bench.args.pods;
    bench
        .report
        .figure(&format!("{name}: {pods} pods running after"), seconds(&up));
    bench
        .report
        .figure(&format!("{name}: {pods} pods gone after"), seconds(&down));
    if let Some(killed) = killed {
        bench.report.figure("flanneld was killed", killed.told());
    }
    match since {
        Some(since) => {
            let times = bench.sandboxes(&since, "churn-")?;
            bench
                .report
                .figure(&format!("{name}: sandboxes"), sandboxes::told(&times));
        }
        None => bench.skip(&format!("{name}: sandbox times"), "no CONTAINERD_LOG"),
    }
    match counted {
        Ok(since) => {
            let mut times = Times::default();
            bench.add_network_times(&mut times, &since)?;
            bench.report.figure(
                &format!("{name}: the network of sandboxes, by containerd's metrics"),
                times.told(),
            );
        }
        Err(error) => bench.skip(
            &format!("{name}: the network of sandboxes, by containerd's metrics"),
            &format!("{error:#}"),
        ),
    }
    Ok(())
}

fn scale(bench: &Bench, pods: usize) -> Result<()> {
    let replicas = format!("--replicas={pods}");
    bench
        .kubectl
        .run(&["scale", "-n", NAMESPACE, "deployment", "churn", &replicas])
        .map(drop)
}

type Meanwhile<'a> = &'a mut dyn FnMut(&Bench) -> Result<()>;

fn running(bench: &mut Bench, meanwhile: Meanwhile) -> Result<()> {
    let wanted = bench.args.pods;
    let mut twice = BTreeSet::new();
    bench.wait("pods run", Duration::from_secs(300), |bench| {
        meanwhile(bench)?;
        let pods = bench.ours(&["pods", "-l", "app=churn"])?;
        let running = pods
            .iter()
            .filter(|pod| text(pod, "/status/phase") == "Running")
            .count();
        twice.extend(doubles(&pods));
        Ok(if running == wanted {
            Ok(())
        } else {
            Err(format!("{running} of {wanted}"))
        })
    })?;
    let twice: Vec<String> = twice.into_iter().collect();
    anyhow::ensure!(
        twice.is_empty(),
        "addresses given twice: {}",
        twice.join(", ")
    );
    Ok(())
}

/// Addresses that more than one living pod has.
fn doubles(pods: &[Value]) -> Vec<String> {
    let mut owners: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for pod in pods
        .iter()
        .filter(|pod| text(pod, "/metadata/deletionTimestamp").is_empty())
    {
        for address in pod["status"]["podIPs"].as_array().into_iter().flatten() {
            owners
                .entry(text(address, "/ip"))
                .or_default()
                .push(text(pod, "/metadata/name"));
        }
    }
    owners
        .into_iter()
        .filter(|(_, owners)| owners.len() > 1)
        .map(|(address, owners)| format!("{address} of {}", owners.join(" and ")))
        .collect()
}

fn gone_meanwhile(bench: &mut Bench, meanwhile: Meanwhile) -> Result<()> {
    bench.wait("pods are gone", Duration::from_secs(300), |bench| {
        meanwhile(bench)?;
        let left = bench.ours(&["pods", "-l", "app=churn"])?.len();
        Ok(if left == 0 {
            Ok(())
        } else {
            Err(format!("{left} left"))
        })
    })
}

fn gone(bench: &mut Bench, meanwhile: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    gone_meanwhile(bench, &mut |_| meanwhile())
}

/// Nothing more on any node than before. What is freed late (a pool's files, a kubelet's last DEL) gets some time.
fn settled(bench: &mut Bench, when: &str, before: &[crate::state::State]) -> Result<()> {
    let mut left = Vec::new();
    let result = bench.wait(
        &format!("nothing is left {when}"),
        Duration::from_secs(90),
        |bench| {
            left.clear();
            for (node, before) in bench.nodes.iter().zip(before) {
                let state = bench.state(&node.name)?;
                left.extend(
                    state
                        .difference(before)
                        .into_iter()
                        .map(|line| format!("{}: {line}", node.name)),
                );
            }
            Ok(if left.is_empty() {
                Ok(())
            } else {
                Err(left.join("; "))
            })
        },
    );
    interrupt::check()?;
    bench
        .check_result(&format!("nothing is left {when}"), result)
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_two_living_pods_are_found() {
        let pod = |name: &str, address: &str| json!({"metadata": {"name": name}, "status": {"podIPs": [{"ip": address}]}});
        let mut dying = pod("c", "10.1.0.2");
        dying["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let pods = [pod("a", "10.1.0.2"), pod("b", "10.1.0.3"), dying];
        assert!(doubles(&pods).is_empty());
        let pods = [
            pods,
            [
                pod("d", "10.1.0.3"),
                pod("e", "fd00::1"),
                pod("f", "fd00::2"),
            ],
        ]
        .concat();
        assert_eq!(doubles(&pods), ["10.1.0.3 of b and d"]);
    }
}
