//! Traffic: from every pod, every node and outside, by every way that Kubernetes offers.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::kubectl::text;
use crate::probe::{Place, Results};
use crate::workload::{self, POD_PORT, host_name, pod, service};

mod attempts;
mod datagrams;

/// What the probes need to know.
struct Scene {
    /// The pod of each node, in the nodes' order.
    pods: Vec<Value>,
    /// Another one on the first node.
    beside: Value,
    /// Where pods find the API server, which is outside the pod network.
    api: String,
    /// Services by name.
    services: Vec<Value>,
    /// Whether names can be asked for.
    dns: bool,
    /// Whether a hostPort works at all.
    host_ports: bool,
}

impl Scene {
    fn service(&self, name: &str) -> Result<&Value> {
        let found = |service: &&Value| text(service, "/metadata/name") == name;
        self.services
            .iter()
            .find(found)
            .with_context(|| format!("no Service {name}"))
    }

    fn node_port(&self, name: &str) -> Result<u16> {
        let port = self.service(name)?["spec"]["ports"][0]["nodePort"].as_u64();
        Ok(u16::try_from(port.context("no nodePort")?)?)
    }
}

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let scene = build(bench)?;
    let mut results = Results::default();
    for (i, node) in bench.nodes.clone().iter().enumerate() {
        let from_pod = [
            attempts::every(bench, &scene)?,
            attempts::of_pod(bench, &scene, i)?,
        ]
        .concat();
        let place = text(&scene.pods[i], "/metadata/name").to_owned();
        bench
            .report
            .progress(&format!("{} probes from {place}", from_pod.len()));
        bench.probe(&Place::Pod(place), &from_pod, &mut results)?;
        let from_host = [
            attempts::every(bench, &scene)?,
            attempts::of_host(bench, &scene, i)?,
        ]
        .concat();
        bench.probe(&Place::Pod(host_name(&node.name)), &from_host, &mut results)?;
    }
    let from_beside = [
        attempts::every(bench, &scene)?,
        attempts::of_beside(bench, &scene),
    ]
    .concat();
    bench.probe(&Place::Pod(BESIDE.to_owned()), &from_beside, &mut results)?;
    if bench.args.hooks.outside_exec.is_some() {
        let datagrams = bench.outside("command -v nc")?.success;
        if !datagrams {
            bench.skip("hostPort by UDP from outside", "there is no nc outside");
        }
        let probes = attempts::of_outside(bench, &scene, datagrams)?;
        bench.probe(&Place::Outside, &probes, &mut results)?;
    } else {
        bench.skip(
            "from outside",
            "no OUTSIDE_EXEC; nodes were the outside of other nodes",
        );
    }
    bench.tell(results);
    if !scene.dns {
        bench.skip("DNS", "there is no Service kube-dns in kube-system");
    }
    if !scene.host_ports {
        bench.skip("hostPort", "the conflist of the manifest has no portmap");
    }
    datagrams::run(bench)
}

/// The other pod on the first node.
const BESIDE: &str = "beside";

fn name_of(bench: &Bench, i: usize) -> String {
    format!("pod-{}", bench.nodes[i].name)
}

fn build(bench: &mut Bench) -> Result<Scene> {
    let nodes = bench.nodes.clone();
    let mut objects = Vec::new();
    for (i, node) in nodes.iter().enumerate() {
        let name = name_of(bench, i);
        let labels =
            json!({"app": "all", "self": name, "first": if i == 0 { "yes" } else { "no" }});
        objects.push(pod(&bench.args, &name, &node.name, labels));
        objects.push(service(
            &format!("self-{}", node.name),
            ("self", &name),
            json!({}),
        ));
    }
    let all = ("app", "all");
    objects.extend([
        service("all", all, json!({})),
        service("sticky", all, json!({"sessionAffinity": "ClientIP"})),
        service("headless", all, json!({"clusterIP": "None"})),
        service("cluster", all, json!({"type": "NodePort"})),
        service(
            "local",
            ("first", "yes"),
            json!({"type": "NodePort", "externalTrafficPolicy": "Local"}),
        ),
    ]);
    let host_ports = bench.manifest.text.contains("portmap");
    let labels = json!({"app": "beside"});
    objects.push(pod(&bench.args, BESIDE, &nodes[0].name, labels));
    let mut names: Vec<String> = (0..nodes.len()).map(|i| name_of(bench, i)).collect();
    names.push(BESIDE.to_owned());
    if host_ports {
        objects.extend(with_host_ports(bench));
        names.extend(["port", "port-node", "port-loopback"].map(str::to_owned));
    }
    bench.kubectl.apply(objects)?;
    bench.undo("pods and Services of traffic", |bench| {
        bench.delete(&["services", "--all"])?;
        bench.delete(&["pods", "-l", "app"])
    });
    let mut pods = bench.ready(&names, 180)?;
    pods.truncate(nodes.len() + 1);
    let beside = pods.pop().context("no pods")?;
    let api = bench
        .kubectl
        .json(&["get", "service", "-n", "default", "kubernetes"])?;
    Ok(Scene {
        pods,
        beside,
        api: workload::addresses(&api).concat(),
        services: bench.ours(&["services"])?,
        dns: dns(bench)?,
        host_ports,
    })
}

/// A pod with hostPorts of both protocols, and two that have one port on two addresses of their node.
fn with_host_ports(bench: &Bench) -> Vec<Value> {
    let node = &bench.nodes[0];
    let pod = |name: &str, ports: Value| {
        let mut pod = pod(&bench.args, name, &node.name, json!({"app": "port"}));
        pod["spec"]["containers"][0]["ports"] = ports;
        pod
    };
    let port = |host: u16, to: u16, protocol: &str| json!({"hostPort": host, "containerPort": to, "protocol": protocol});
    let at = |address: &str| json!([{"hostPort": 18082, "containerPort": POD_PORT, "protocol": "TCP", "hostIP": address}]);
    vec![
        pod(
            "port",
            json!([
                port(18080, POD_PORT, "TCP"),
                port(18081, POD_PORT + 1, "UDP")
            ]),
        ),
        pod("port-node", at(&node.v4)),
        pod("port-loopback", at("127.0.0.1")),
    ]
}

/// Whether there is the usual Service for names, with something behind it.
fn dns(bench: &mut Bench) -> Result<bool> {
    let there = [
        "get",
        "service",
        "-n",
        "kube-system",
        "kube-dns",
        "--ignore-not-found",
        "-o",
        "name",
    ];
    if bench.kubectl.run(&there)?.is_empty() {
        return Ok(false);
    }
    let words = [
        "get",
        "endpointslices",
        "-n",
        "kube-system",
        "-l",
        "kubernetes.io/service-name=kube-dns",
    ];
    let ready = bench.wait("DNS is ready", Duration::from_secs(90), |bench| {
        let slices = bench.kubectl.items(&words)?;
        let ready = slices
            .iter()
            .any(|slice| slice["endpoints"][0]["conditions"]["ready"] == true);
        Ok(if ready {
            Ok(())
        } else {
            Err("no endpoint".to_owned())
        })
    });
    Ok(bench
        .check_result("the pods of DNS are ready", ready)?
        .is_some())
}
