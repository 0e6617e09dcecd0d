//! The daemons on the nodes: killed, restarted, waited for.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::bench::Bench;
use crate::kubectl::{holds, text};
use crate::manifest::{DAEMON_SET, NAMESPACE};

/// The ID of a container of a pod, as the runtime knows it, if it runs.
pub(crate) fn container(pod: &Value) -> Option<&str> {
    let status = &pod["status"]["containerStatuses"][0];
    status["state"]["running"].as_object()?;
    text(status, "/containerID")
        .split_once("://")
        .map(|(_, id)| id)
}

/// Whether the kubelet waits before it starts a pod's container again, as it does after a few ends.
pub(crate) fn waits(pod: &Value) -> bool {
    let pointer = "/status/containerStatuses/0/state/waiting/reason";
    text(pod, pointer) == "CrashLoopBackOff"
}

/// Kills what runs in a container, found by the name of its control group: that is how runtimes name it.
pub(crate) fn kill_script(container: &str) -> String {
    format!(
        "k=no; for p in $(grep -ls {container} /proc/[0-9]*/cgroup | cut -d/ -f3); do kill -9 $p && k=yes; done; echo $k"
    )
}

impl Bench {
    /// The pods of the DaemonSet.
    pub(crate) fn daemons(&self) -> Result<Vec<Value>> {
        self.kubectl
            .items(&["get", "pods", "-n", NAMESPACE, "-l", "app=flannel"])
    }

    /// Kills flanneld wherever it runs, and returns how many there were.
    pub(crate) fn kill_daemons(&self) -> Result<usize> {
        let mut killed = 0;
        for pod in self.daemons()? {
            let node = text(&pod, "/spec/nodeName");
            if let Some(id) =
                container(&pod).filter(|_| self.nodes.iter().any(|of| of.name == node))
            {
                let said = self.on_node(node, &kill_script(id))?.ok("NODE_EXEC")?;
                killed += usize::from(said.trim() == "yes");
            }
        }
        Ok(killed)
    }

    /// Waits until the DaemonSet is as it should be, on every node.
    pub(crate) fn daemons_ready(&mut self, seconds: u64) -> Result<()> {
        self.wait(
            "flanneld is ready everywhere",
            Duration::from_secs(seconds),
            |bench| {
                let set = bench
                    .kubectl
                    .json(&["get", "daemonset", "-n", NAMESPACE, DAEMON_SET])?;
                let number =
                    |pointer: &str| set.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
                let updated = number("/status/updatedNumberScheduled")
                    == number("/status/desiredNumberScheduled");
                let seen = number("/status/observedGeneration") == number("/metadata/generation");
                let pods = bench.daemons()?;
                let all_ready = pods.iter().all(|pod| holds(pod, "Ready"));
                // Its own count forgets a Node that came back with its pods.
                let one = |node: &&crate::cluster::Node| {
                    let here = pods
                        .iter()
                        .filter(|pod| text(pod, "/spec/nodeName") == node.name);
                    let ready: Vec<bool> = here.map(|pod| holds(pod, "Ready")).collect();
                    ready == [true]
                };
                let ready = bench.nodes.iter().filter(one).count();
                Ok(
                    if seen && updated && all_ready && ready == bench.nodes.len() {
                        Ok(())
                    } else {
                        Err(format!("{ready} of {}", bench.nodes.len()))
                    },
                )
            },
        )
    }

    /// Makes the pods of the DaemonSet anew: one whose container was killed often is started again ever later by its kubelet.
    pub(crate) fn renew_daemons(&mut self) -> Result<()> {
        let words = [
            "delete",
            "pods",
            "-n",
            NAMESPACE,
            "-l",
            "app=flannel",
            "--timeout=100s",
        ];
        self.kubectl.run(&words)?;
        self.daemons_ready(120)
    }

    /// The same, but only for those that their kubelet still makes to wait since the last look, and without waiting for the
    /// new ones. `waiting` is the memory of such looks: how often the containers of those pods had ended.
    pub(crate) fn renew_waiting_daemons(&self, waiting: &mut BTreeMap<String, u64>) -> Result<()> {
        let before = std::mem::take(waiting);
        for pod in self.daemons()?.iter().filter(|pod| waits(pod)) {
            let name = text(pod, "/metadata/name");
            let ends = pod
                .pointer("/status/containerStatuses/0/restartCount")
                .and_then(Value::as_u64)
                .unwrap_or(0);
            if before.get(name) != Some(&ends) {
                waiting.insert(name.to_owned(), ends);
                continue;
            }
            self.kubectl.run(&[
                "delete",
                "pod",
                "-n",
                NAMESPACE,
                name,
                "--ignore-not-found",
                "--wait=false",
            ])?;
        }
        Ok(())
    }

    /// Whether commands can be run on nodes as root; if not, these checks are skipped.
    pub(crate) fn has_node_exec(&mut self, checks: &[&str]) -> Result<bool> {
        if self.args.hooks.node_exec.is_none() {
            for check in checks {
                self.skip(check, "no NODE_EXEC");
            }
            return Ok(false);
        }
        for node in self.nodes.clone() {
            let said = self
                .on_node(&node.name, "echo here; id -u")?
                .ok("NODE_EXEC")?;
            ensure!(
                said == "here\n0\n",
                "NODE_EXEC on {} said {said:?} for `echo here; id -u`; it must pass each word on, and be root",
                node.name
            );
        }
        Ok(true)
    }
}
