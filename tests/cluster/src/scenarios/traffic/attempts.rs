//! What is tried from where.

use anyhow::Result;

use super::{BESIDE, Scene, name_of};
use crate::bench::{Bench, NAMESPACE};
use crate::kubectl::text;
use crate::probe::Probe;
use crate::workload::{HOST_PORT, POD_PORT, addresses};

/// Probes that are the same from every pod and every node.
pub(super) fn every(bench: &Bench, scene: &Scene) -> Result<Vec<Probe>> {
    let mut probes = Vec::new();
    for (i, pod) in scene.pods.iter().enumerate() {
        for address in addresses(pod) {
            probes.push(Probe::http(
                "to every pod",
                &address,
                POD_PORT,
                "hostname",
                name_of(bench, i),
            ));
            probes.push(Probe::udp(
                "to every pod by UDP",
                &address,
                POD_PORT + 1,
                name_of(bench, i),
            ));
        }
    }
    for address in addresses(&scene.beside) {
        probes.push(Probe::http(
            "to every pod",
            &address,
            POD_PORT,
            "hostname",
            BESIDE,
        ));
    }
    for node in &bench.nodes {
        for address in node.addresses() {
            probes.push(Probe::http(
                "to every node",
                &address,
                HOST_PORT,
                "clientip",
                "*:*",
            ));
            let port = scene.node_port("cluster")?;
            probes.push(Probe::http(
                "NodePort, policy Cluster",
                &address,
                port,
                "hostname",
                "pod-*",
            ));
        }
    }
    for address in addresses(scene.service("all")?) {
        probes.push(Probe::http("ClusterIP", &address, 80, "hostname", "pod-*"));
        probes.push(Probe::udp("ClusterIP by UDP", &address, 81, "pod-*"));
    }
    for address in addresses(scene.service("sticky")?) {
        let ten = format!(
            "for i in 1 2 3 4 5 6 7 8 9 10; do curl -gsS -m 5 http://{address}/hostname; echo; done | sort -u | wc -l"
        );
        probes.push(Probe::new("session affinity, ten requests", ten, "1"));
    }
    if scene.host_ports {
        probes.extend(host_ports(bench));
    }
    if scene.dns {
        let server = bench
            .kubectl
            .json(&["get", "service", "-n", "kube-system", "kube-dns"])?;
        let server = text(&server, "/spec/clusterIP").to_owned();
        let name = format!("all.{NAMESPACE}.svc.cluster.local");
        let address = text(scene.service("all")?, "/spec/clusterIP").to_owned();
        probes.push(Probe::new(
            "DNS",
            format!("dig +short +time=3 +tries=1 @{server} {name}"),
            &address,
        ));
        probes.push(Probe::new(
            "DNS by TCP",
            format!("dig +tcp +short +time=3 +tries=1 @{server} {name}"),
            address,
        ));
        let many = format!(
            "dig +short +time=3 +tries=1 @{server} headless.{NAMESPACE}.svc.cluster.local | wc -l"
        );
        probes.push(Probe::new(
            "headless",
            many,
            format!("{}", scene.pods.len()),
        ));
    }
    Ok(probes)
}

fn host_ports(bench: &Bench) -> Vec<Probe> {
    let node = &bench.nodes[0];
    let mut probes: Vec<Probe> = node
        .addresses()
        .iter()
        .flat_map(|address| {
            [
                Probe::http("hostPort", address, 18080, "hostname", "port"),
                Probe::udp("hostPort by UDP", address, 18081, "port"),
            ]
        })
        .collect();
    probes.push(Probe::http(
        "one hostPort on two addresses",
        &node.v4,
        18082,
        "hostname",
        "port-node",
    ));
    probes
}

/// What a pod sees of itself, and what others see of it.
pub(super) fn of_pod(bench: &Bench, scene: &Scene, i: usize) -> Result<Vec<Probe>> {
    let mut probes = Vec::new();
    let own = addresses(&scene.pods[i]);
    let node = &bench.nodes[i];
    for address in addresses(scene.service(&format!("self-{}", node.name))?) {
        probes.push(Probe::http(
            "a pod to itself by its Service",
            &address,
            80,
            "hostname",
            name_of(bench, i),
        ));
    }
    for (j, pod) in scene.pods.iter().enumerate().filter(|(j, _)| *j != i) {
        for (to, from) in addresses(pod).iter().zip(&own) {
            let seen = source(from);
            probes.push(Probe::http(
                "source kept from pod to pod",
                to,
                POD_PORT,
                "clientip",
                seen,
            ));
            let size = full_size(to);
            probes.push(Probe::new("packets of full size", size, "*1 received*"));
        }
        for (to, from) in bench.nodes[j].addresses().iter().zip(node.addresses()) {
            let seen = source(&from);
            probes.push(Probe::http(
                "source masqueraded to the outside",
                to,
                HOST_PORT,
                "clientip",
                seen,
            ));
        }
    }
    // It is on a machine that knows no pods.
    let api = format!(
        "curl -gksS -m 5 -o /dev/null -w '%{{http_code}}' https://{}/version",
        scene.api
    );
    probes.push(Probe::new(
        "to the API server by its Service",
        api,
        "[1-5][0-9][0-9]",
    ));
    if scene.dns {
        let url = "curl -gsS -m 5 http://all/hostname";
        probes.push(Probe::new("DNS by the pod's resolv.conf", url, "pod-*"));
    }
    Ok(probes)
}

/// What the second pod of the first node sees: its neighbour sees its address.
pub(super) fn of_beside(bench: &Bench, scene: &Scene) -> Vec<Probe> {
    let own = addresses(&scene.beside);
    let mut probes = Vec::new();
    for (i, pod) in scene.pods.iter().enumerate() {
        let kind = if i == 0 {
            "source kept from pod to pod on one node"
        } else {
            "source kept from pod to pod"
        };
        for (to, from) in addresses(pod).iter().zip(&own) {
            probes.push(Probe::http(kind, to, POD_PORT, "clientip", source(from)));
        }
    }
    for (to, from) in bench.nodes[0].addresses().iter().zip(&own) {
        // A host is not the outside to its own pods.
        let kind = "source kept from pod to its own node";
        probes.push(Probe::http(kind, to, HOST_PORT, "clientip", source(from)));
    }
    probes
}

/// How the test server shows a client's address, whatever its port. Brackets are special in a pattern.
fn source(address: &str) -> String {
    format!("{}:*", address.replace('[', "\\[").replace(']', "\\]"))
}

fn full_size(address: &str) -> String {
    let headers = if address.contains(':') { 48 } else { 28 };
    let address = address.trim_matches(['[', ']']);
    format!("ping -M do -c 1 -W 3 -s $(($(cat /sys/class/net/eth0/mtu) - {headers})) {address}")
}

/// What only a node can try. Nodes are clients from outside for Services on other nodes.
pub(super) fn of_host(bench: &Bench, scene: &Scene, i: usize) -> Result<Vec<Probe>> {
    let node = &bench.nodes[i];
    let mut probes = Vec::new();
    if i == 0 {
        if scene.host_ports {
            let kind = "one hostPort on two addresses";
            probes.push(Probe::http(
                kind,
                "127.0.0.1",
                18082,
                "hostname",
                "port-loopback",
            ));
        }
        return Ok(probes);
    }
    let port = scene.node_port("local")?;
    for (to, from) in bench.nodes[0].addresses().iter().zip(node.addresses()) {
        let kind = "NodePort, policy Local: client's address kept";
        probes.push(Probe::http(kind, to, port, "clientip", source(&from)));
    }
    Ok(probes)
}

/// What a machine outside can try; datagrams only if it has a program for them.
pub(super) fn of_outside(bench: &Bench, scene: &Scene, datagrams: bool) -> Result<Vec<Probe>> {
    let mut probes = Vec::new();
    for node in &bench.nodes {
        for address in node.addresses() {
            let port = scene.node_port("cluster")?;
            probes.push(Probe::http(
                "NodePort, policy Cluster",
                &address,
                port,
                "hostname",
                "pod-*",
            ));
        }
    }
    for address in bench.nodes[0].addresses() {
        let port = scene.node_port("local")?;
        // The address that a server on the node's own network sees.
        let ask =
            |port| format!("curl -gsS -m 5 http://{address}:{port}/clientip | sed 's/:[0-9]*$//'");
        let same = format!(
            "[ \"$({})\" = \"$({})\" ] && {}",
            ask(HOST_PORT),
            ask(port),
            ask(port)
        );
        probes.push(Probe::new(
            "NodePort, policy Local: client's address kept",
            same,
            "?*",
        ));
    }
    if scene.host_ports {
        probes.extend(
            host_ports(bench)
                .into_iter()
                .filter(|probe| datagrams || !probe.is_datagram()),
        );
    }
    Ok(probes)
}
