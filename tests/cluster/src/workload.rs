//! The pods and Services that scenarios use.

use anyhow::Result;
use serde_json::{Value, json};

use crate::args::Args;
use crate::bench::{Bench, NAMESPACE};
use crate::kubectl::{holds, text};

/// Port of the test server in pods, for HTTP; UDP is one more.
pub(crate) const POD_PORT: u16 = 8080;
/// The same in pods on the host's network.
pub(crate) const HOST_PORT: u16 = 18090;

/// The namespace.
pub(crate) fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE,
        "labels": {"pod-security.kubernetes.io/enforce": "privileged"}}})
}

fn server(args: &Args, port: u16) -> Value {
    json!({"name": "server", "image": args.agnhost, "imagePullPolicy": "IfNotPresent",
        "args": ["netexec", format!("--http-port={port}"), format!("--udp-port={}", port + 1)]})
}

fn tools(args: &Args, privileged: bool) -> Value {
    // A shell that is the first process does not end on SIGTERM by itself.
    json!({"name": "tools", "image": args.shell, "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done"],
        "securityContext": {"privileged": privileged}})
}

/// A pod in the pod network with a server and tools, on a node of its own choosing if none is named.
pub(crate) fn pod(args: &Args, name: &str, node: &str, labels: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "terminationGracePeriodSeconds": 2, "automountServiceAccountToken": false, "enableServiceLinks": false,
            "containers": [server(args, POD_PORT), tools(args, false)],
        }
    })
}

/// A pod on a node's own network that sees its files below `/host`. It runs on nodes that are not Ready, too.
pub(crate) fn host(args: &Args, node: &str) -> Value {
    let mut tools = tools(args, true);
    tools["volumeMounts"] = json!([{"name": "root", "mountPath": "/host", "readOnly": true}]);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": host_name(node), "namespace": NAMESPACE, "labels": {"kind": "host"}},
        "spec": {
            "nodeName": node, "hostNetwork": true, "tolerations": [{"operator": "Exists"}],
            "terminationGracePeriodSeconds": 2, "automountServiceAccountToken": false, "enableServiceLinks": false,
            "containers": [server(args, HOST_PORT), tools],
            "volumes": [{"name": "root", "hostPath": {"path": "/"}}],
        }
    })
}

/// Name of the pod on a node's network.
pub(crate) fn host_name(node: &str) -> String {
    format!("host-{node}")
}

/// A Service for the pods with this label.
pub(crate) fn service(name: &str, label: (&str, &str), spec: Value) -> Value {
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "selector": {label.0: label.1}, "ipFamilyPolicy": "PreferDualStack",
            "ports": [
                {"name": "http", "port": 80, "targetPort": POD_PORT, "protocol": "TCP"},
                {"name": "udp", "port": 81, "targetPort": POD_PORT + 1, "protocol": "UDP"},
            ],
        }
    });
    if let (Some(all), Some(more)) = (service["spec"].as_object_mut(), spec.as_object()) {
        all.extend(more.clone());
    }
    service
}

/// Addresses of a pod or a Service, each as it stands in a URL.
pub(crate) fn addresses(object: &Value) -> Vec<String> {
    let list = ["/status/podIPs", "/spec/clusterIPs"]
        .iter()
        .find_map(|pointer| object.pointer(pointer)?.as_array());
    list.into_iter()
        .flatten()
        .filter_map(|address| address["ip"].as_str().or(address.as_str()))
        .map(bracketed)
        .collect()
}

fn bracketed(address: &str) -> String {
    if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    }
}

impl Bench {
    /// Objects of the runner's namespace.
    pub(crate) fn ours(&self, words: &[&str]) -> Result<Vec<Value>> {
        self.kubectl
            .items(&[&["get", "-n", NAMESPACE], words].concat())
    }

    /// One of them.
    pub(crate) fn our(&self, kind: &str, name: &str) -> Result<Value> {
        self.kubectl.json(&["get", "-n", NAMESPACE, kind, name])
    }

    /// Waits until these pods of ours are ready, and returns them in this order.
    pub(crate) fn ready(&mut self, names: &[String], seconds: u64) -> Result<Vec<Value>> {
        let what = format!("{} are ready", names.join(", "));
        self.wait(&what, std::time::Duration::from_secs(seconds), |bench| {
            let pods = bench.ours(&["pods"])?;
            let found: Vec<Value> = names
                .iter()
                .filter_map(|name| {
                    pods.iter()
                        .find(|pod| text(pod, "/metadata/name") == name && holds(pod, "Ready"))
                        .cloned()
                })
                .collect();
            if found.len() == names.len() {
                return Ok(Ok(found));
            }
            Ok(Err(format!("{} of {}", found.len(), names.len())))
        })
    }

    /// Deletes objects of ours, and waits until they are gone.
    pub(crate) fn delete(&self, words: &[&str]) -> Result<()> {
        let words = [
            &[
                "delete",
                "-n",
                NAMESPACE,
                "--ignore-not-found",
                "--timeout=120s",
            ],
            words,
        ]
        .concat();
        self.kubectl.run(&words).map(drop)
    }

    /// Runs a script in the tools of a pod of ours.
    pub(crate) fn in_pod(&self, pod: &str, script: &str) -> Result<String> {
        self.kubectl
            .sh(NAMESPACE, pod, "tools", script)?
            .ok(&format!("in pod {pod}"))
    }

    /// Runs a script on a node's network; its files are below `/host`.
    pub(crate) fn at_host(&self, node: &str, script: &str) -> Result<String> {
        self.in_pod(&host_name(node), script)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_pods_and_services_are_read() {
        let pod = json!({"status": {"podIPs": [{"ip": "10.1.0.2"}, {"ip": "fd00::2"}]}});
        assert_eq!(addresses(&pod), ["10.1.0.2", "[fd00::2]"]);
        let service = json!({"spec": {"clusterIPs": ["10.96.0.7"]}});
        assert_eq!(addresses(&service), ["10.96.0.7"]);
        assert!(addresses(&json!({})).is_empty());
    }
}
