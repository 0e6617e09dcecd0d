//! What an operator does in a year, under a stream of packets: nothing may be lost, and pods go on being created.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::bench::{Bench, NAMESPACE};
use crate::kubectl::{holds, text};
use crate::manifest::{self, CONFIG_MAP, DAEMON_SET};
use crate::stream::Stream;
use crate::{daemons, interrupt, workload};

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    bench.daemons_ready(120)?;
    let stream = Stream::begin(bench)?;
    under(bench, &stream, "rolling restart", restart)?;
    match bench.args.image2.clone() {
        Some(image) => under(bench, &stream, "image upgrade", |bench| {
            upgrade(bench, &image)
        })?,
        None => bench.skip("image upgrade", "no IMAGE2"),
    }
    under(bench, &stream, "the ConfigMap changed", reconfigure)?;
    if bench.args.hooks.control_service.is_some() {
        under(
            bench,
            &stream,
            "the API server away for two minutes",
            without_api,
        )?;
    } else {
        bench.skip("the API server away for two minutes", "no CONTROL_SERVICE");
    }
    for service in ["containerd", "kubelet"] {
        let name = format!("{service} restarted on every node");
        if bench.args.hooks.node_service.is_some() {
            under(bench, &stream, &name, |bench| services(bench, service))?;
        } else {
            bench.skip(&name, "no NODE_SERVICE");
        }
    }
    let name = "flanneld killed 20 times";
    if bench.has_node_exec(&[name])? {
        under(bench, &stream, name, kills)?;
    }
    Ok(())
}

/// Does something while packets flow, and creates a pod afterwards.
fn under(
    bench: &mut Bench,
    stream: &Stream,
    name: &str,
    act: impl FnOnce(&mut Bench) -> Result<()>,
) -> Result<()> {
    bench.report.progress(name);
    stream.start(bench)?;
    let begun = Instant::now();
    let mark = bench.mark();
    let result = act(bench).and_then(|()| a_new_pod(bench));
    let seconds = begun.elapsed().as_secs_f64();
    let done = bench.check_result(name, result)?.is_some();
    if !done {
        bench.put_back(mark);
    }
    let counted = stream.stop(bench);
    if let Some((lost, sent)) = bench.check_result(&format!("{name}: packets flow"), counted)? {
        bench.check(&format!("{name}: no packet lost"), lost == 0, || {
            format!("{lost} of {sent}")
        });
        bench.report.figure(
            name,
            format!("{lost} of {sent} packets lost in {seconds:.0} s"),
        );
    }
    let tcp = stream.tcp(bench);
    bench.check_result(&format!("{name}: the TCP connection lives"), tcp)?;
    bench.put_back(mark);
    Ok(())
}

fn a_new_pod(bench: &mut Bench) -> Result<()> {
    let names: Vec<String> = bench
        .nodes
        .iter()
        .map(|node| format!("new-{}", node.name))
        .collect();
    let pods =
        bench.nodes.iter().zip(&names).map(|(node, name)| {
            workload::pod(&bench.args, name, &node.name, json!({"app": "new"}))
        });
    bench.kubectl.apply(pods.collect())?;
    let ready = bench.ready(&names, 90);
    bench.delete(&["pods", "-l", "app=new"])?;
    ready.map(drop)
}

fn set() -> [&'static str; 3] {
    ["-n", manifest::NAMESPACE, "daemonset/kube-flannel-ds"]
}

fn restart(bench: &mut Bench) -> Result<()> {
    bench
        .kubectl
        .run(&[&["rollout", "restart"][..], &set()].concat())?;
    bench.daemons_ready(180)
}

/// Keeps the DaemonSet as it is, to be put back.
fn keep(bench: &mut Bench, kind: &str, name: &str) -> Result<Value> {
    let object = bench
        .kubectl
        .json(&["get", kind, "-n", manifest::NAMESPACE, name])?;
    let former = object.clone();
    bench.undo(&format!("{kind} {name}"), move |bench| {
        bench.kubectl.put_back(&former)?;
        bench
            .kubectl
            .run(&[&["rollout", "restart"][..], &set()].concat())?;
        bench.daemons_ready(180)
    });
    Ok(object)
}

fn upgrade(bench: &mut Bench, image: &str) -> Result<()> {
    keep(bench, "daemonset", DAEMON_SET)?;
    let images = [
        format!("kube-flannel={image}"),
        format!("install-cni={image}"),
    ];
    let words = [&["set", "image"][..], &set(), &[&images[0], &images[1]]].concat();
    bench.kubectl.run(&words)?;
    bench.daemons_ready(240)
}

/// Another MTU: something that every node has to act on, and that no running pod minds. IPv6 needs 1280 inside the tunnel.
fn reconfigure(bench: &mut Bench) -> Result<()> {
    let mut map = keep(bench, "configmap", CONFIG_MAP)?;
    let config = text(&map, "/data/net-conf.json");
    let mut config: Value = serde_json::from_str(config).context("net-conf.json")?;
    config["Backend"]["MTU"] = json!(1400);
    map["data"]["net-conf.json"] = json!(config.to_string());
    bench.kubectl.put_back(&map)?;
    restart(bench)?;
    for node in bench.nodes.clone() {
        let said = bench.at_host(&node.name, "grep MTU /host/run/flannel/subnet.env")?;
        let mtu: u32 = said.trim().trim_start_matches("FLANNEL_MTU=").parse()?;
        // What the tunnel adds is taken off.
        ensure!(
            (1280..1400).contains(&mtu),
            "on {} subnet.env says {said}",
            node.name
        );
    }
    Ok(())
}

fn services(bench: &mut Bench, service: &str) -> Result<()> {
    for node in bench.nodes.clone() {
        let mark = bench.mark();
        let (at, name) = (node.name.clone(), service.to_owned());
        bench.undo(&format!("{service} of {at}"), move |bench| {
            bench.service(&at, "start", &name)
        });
        bench.service(&node.name, "stop", service)?;
        bench.service(&node.name, "start", service)?;
        bench.done(mark);
    }
    Ok(())
}

/// Twenty kills. After a few a kubelet waits for minutes before it starts a container again; its pod is made anew then.
fn kills(bench: &mut Bench) -> Result<()> {
    let mut killed = 0;
    let end = Instant::now() + Duration::from_secs(600) * bench.args.patience;
    while killed < 20 {
        interrupt::check()?;
        ensure!(Instant::now() < end, "only {killed} kills");
        killed += bench.kill_daemons()?;
        bench
            .report
            .progress(&format!("flanneld was killed {killed} times"));
        if bench.daemons()?.iter().any(daemons::waits) {
            bench.renew_daemons()?;
        }
        bench.wait("flanneld runs", Duration::from_secs(60), |bench| {
            let pods = bench.daemons()?;
            let runs = pods.iter().any(|pod| daemons::container(pod).is_some());
            Ok(if runs || pods.iter().any(daemons::waits) {
                Ok(())
            } else {
                Err("nowhere".to_owned())
            })
        })?;
    }
    bench.renew_daemons()
}

/// Two minutes without the API server. Meanwhile flanneld is killed, and a pod loses its sandbox, which is a new one for the CNI
/// program; a kubelet that cannot ask for pods makes no others.
fn without_api(bench: &mut Bench) -> Result<()> {
    let node = bench.nodes[0].name.clone();
    let faults = bench.args.hooks.node_exec.is_some();
    let mut victims = Vec::new();
    if faults {
        let pod = workload::pod(&bench.args, "victim", &node, json!({"app": "victim"}));
        bench.kubectl.apply(vec![pod])?;
        bench.undo("the pod victim", |bench| bench.delete(&["pod", "victim"]));
        bench.ready(&["victim".to_owned()], 90)?;
        victims.push(text(&bench.our("pod", "victim")?, "/metadata/uid").to_owned());
        let daemons = bench.daemons()?;
        victims.extend(
            daemons
                .iter()
                .filter(|pod| text(pod, "/spec/nodeName") == node)
                .map(|pod| text(pod, "/metadata/uid").to_owned()),
        );
    }
    let mark = bench.mark();
    bench.undo("the API server", |bench| {
        bench
            .control("start", "apiserver")
            .and_then(|()| api_answers(bench))
    });
    bench.control("stop", "apiserver")?;
    let begun = Instant::now();
    for uid in &victims {
        renewed(bench, &node, uid)?;
    }
    while begun.elapsed() < Duration::from_secs(120) {
        interrupt::pause(Duration::from_secs(1))?;
        let left = 120u64.saturating_sub(begun.elapsed().as_secs());
        bench.report.progress(&format!(
            "the API server stays away for another {} s",
            left.next_multiple_of(30)
        ));
    }
    bench.put_back(mark);
    if faults {
        bench.ready(&["victim".to_owned()], 120)?;
    }
    bench.daemons_ready(180)
}

/// Kills every process of a pod, and waits until its kubelet has made them anew.
fn renewed(bench: &mut Bench, node: &str, uid: &str) -> Result<()> {
    // With the control groups of systemd the ID is written with another letter.
    let list = format!(
        "grep -lsE 'pod({uid}|{})' /proc/[0-9]*/cgroup | cut -d/ -f3",
        uid.replace('-', "_")
    );
    let pids = |bench: &Bench| -> Result<BTreeSet<String>> {
        Ok(bench
            .on_node(node, &list)?
            .stdout
            .lines()
            .map(str::to_owned)
            .collect())
    };
    let before = pids(bench)?;
    ensure!(
        !before.is_empty(),
        "no process of pod {uid} was found on {node}"
    );
    let all: Vec<&str> = before.iter().map(String::as_str).collect();
    bench.on_node(node, &format!("kill -9 {}", all.join(" ")))?;
    bench.wait(
        "the pod is made anew without the API server",
        Duration::from_secs(100),
        |bench| {
            let now = pids(bench)?;
            let fresh = now.difference(&before).count();
            Ok(if fresh >= before.len() {
                Ok(())
            } else {
                Err(format!("{fresh} of {} processes", before.len()))
            })
        },
    )
}

pub(crate) fn api_answers(bench: &mut Bench) -> Result<()> {
    bench.wait("the API server answers", Duration::from_secs(90), |bench| {
        let said = bench.kubectl.output(&["get", "--raw=/readyz"], None)?;
        Ok(if said.success {
            Ok(())
        } else {
            Err(said.said())
        })
    })?;
    bench.wait("nodes are Ready", Duration::from_secs(120), |bench| {
        let words = ["get", "pods", "-n", NAMESPACE, "-l", "kind=host"];
        let pods = bench.kubectl.items(&words)?;
        let waiting = crate::cluster::not_ready(&bench.kubectl, &bench.nodes)?;
        let ready = pods.iter().all(|pod| holds(pod, "Ready"));
        Ok(if waiting.is_empty() && ready {
            Ok(())
        } else {
            Err(waiting.join(", "))
        })
    })
}
