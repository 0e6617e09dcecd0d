//! Where one looks beside the log: `flanneld status`, what `kubectl describe pod` says of a container that ended, the Node's condition.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::{change, keep};
use crate::bench::{Bench, NAMESPACE};
use crate::kubectl::{condition, text};
use crate::manifest::{self, DAEMON_SET};
use crate::workload;

/// Of a mistake, the place beside the log where it has to be told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// Nowhere else.
    Log,
    /// `kubectl describe pod` of a daemon that ended.
    Pod,
    /// `flanneld status` in the daemon's pod.
    Status,
}

impl Place {
    /// Looks for these words there.
    pub(super) fn check(
        self,
        bench: &mut Bench,
        node: &str,
        name: &str,
        words: &[&str],
    ) -> Result<()> {
        let (place, said) = match self {
            Self::Log => return Ok(()),
            Self::Pod => (
                "kubectl describe pod",
                looked(bench, name, words, |bench| describe(bench, node)),
            ),
            Self::Status => (
                "flanneld status",
                looked(bench, name, words, |bench| bench.status_of(node)),
            ),
        };
        bench.check_said(&format!("{name}, {place}"), said)
    }
}

fn looked(
    bench: &mut Bench,
    name: &str,
    words: &[&str],
    mut look: impl FnMut(&mut Bench) -> Result<String>,
) -> Result<String> {
    bench.wait(
        &format!("{name}: it is told"),
        Duration::from_secs(60),
        |bench| {
            let text = look(bench)?;
            Ok(if words.iter().all(|word| text.contains(word)) {
                Ok(text)
            } else {
                Err(text)
            })
        },
    )
}

/// What is told of the daemon's container that ended last.
fn describe(bench: &Bench, node: &str) -> Result<String> {
    let pod = bench.daemon_of(node)?;
    let status = &pod["status"]["containerStatuses"][0];
    let found = ["/state/terminated/message", "/lastState/terminated/message"]
        .iter()
        .map(|pointer| text(status, pointer))
        .find(|message| !message.is_empty());
    Ok(found.unwrap_or_default().trim().to_owned())
}

/// Without the file and without a daemon to write it again: the Node says so, and so do pods that wait.
pub(super) fn no_subnet_file(bench: &mut Bench, node: &str) -> Result<()> {
    let name = "subnet.env missing, and no daemon";
    let mark = bench.mark();
    bench.undo("the daemons", |bench| bench.renew_daemons());
    let mut set = keep(bench, "daemonset", DAEMON_SET)?;
    set["spec"]["template"]["spec"]["nodeSelector"] = json!({"loden-cluster-test": "nowhere"});
    bench.kubectl.put_back(&set)?;
    bench.wait("no daemon runs", Duration::from_secs(60), |bench| {
        let left = bench.daemons()?.len();
        Ok(if left == 0 {
            Ok(())
        } else {
            Err(format!("{left} left"))
        })
    })?;
    change(bench, node, "rm /run/flannel/subnet.env", "true")?;
    bench.undo("the pod", |bench| bench.delete(&["pod", "waiting"]));
    let mut pod = workload::pod(&bench.args, "waiting", node, json!({"app": "waiting"}));
    pod["spec"]["nodeName"] = json!(node);
    bench.kubectl.apply(vec![pod])?;
    let words = ["subnet.env", "start flanneld"];
    let said = looked(bench, name, &words, |bench| {
        let object = bench.kubectl.json(&["get", "node", node])?;
        let ready = condition(&object, "Ready").context("no condition Ready")?;
        Ok(text(ready, "/message").to_owned())
    });
    bench.check_said(&format!("{name}, the Node's condition"), said)?;
    let said = looked(bench, name, &words, |bench| {
        let field = "--field-selector=involvedObject.name=waiting";
        let events = bench
            .kubectl
            .items(&["get", "events", "-n", NAMESPACE, field])?;
        let found = events.iter().map(|event| text(event, "/message")).rev();
        let mut found = found.filter(|message| words.iter().all(|word| message.contains(word)));
        Ok(found.next().unwrap_or("no such event").to_owned())
    });
    bench.check_said(&format!("{name}, kubectl describe pod"), said)?;
    bench.put_back(mark);
    Ok(())
}

impl Bench {
    /// The living pod of the DaemonSet on a node.
    pub(crate) fn daemon_of(&self, node: &str) -> Result<serde_json::Value> {
        let here = |pod: &serde_json::Value| {
            text(pod, "/spec/nodeName") == node
                && text(pod, "/metadata/deletionTimestamp").is_empty()
        };
        let found = self.daemons()?.into_iter().find(here);
        found.with_context(|| format!("no pod of the DaemonSet on {node}"))
    }

    /// What `flanneld status` says is wrong on a node: the sentences at its top, in one line.
    pub(crate) fn status_of(&self, node: &str) -> Result<String> {
        let pod = self.daemon_of(node)?;
        let name = text(&pod, "/metadata/name");
        let words = [
            "exec",
            "-n",
            manifest::NAMESPACE,
            name,
            "-c",
            "kube-flannel",
            "--",
            "/opt/bin/flanneld",
            "status",
        ];
        let output = self.kubectl.output(&words, None)?;
        Ok(problems(&output.stdout).unwrap_or_else(|| output.said()))
    }
}

/// The sentences of the screen that begin with an exclamation mark, with the lines put together into which it has folded them.
fn problems(screen: &str) -> Option<String> {
    let mut all: Vec<String> = Vec::new();
    let mut inside = false;
    for line in screen.lines() {
        let begins = line.strip_prefix("  ! ");
        match (begins, line.strip_prefix("    ")) {
            (Some(text), _) => all.push(text.to_owned()),
            (None, Some(more)) if inside => {
                let begun = all.pop().unwrap_or_default();
                all.push(format!("{begun} {}", more.trim()));
            }
            _ => {
                inside = false;
                continue;
            }
        }
        inside = true;
    }
    (!all.is_empty()).then(|| all.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_status_complains_of_is_found() {
        let screen = "node n1: flanneld 0.1.0 has been running for 1s\n  ! flanneld is not ready yet: this node has\n    no subnet\n  \
                      ! the store is away\n  uplink   eth0\n    of something else\n";
        assert_eq!(
            problems(screen).as_deref(),
            Some("flanneld is not ready yet: this node has no subnet; the store is away")
        );
        assert_eq!(problems("node n1\n  \u{2713} all is well\n"), None);
    }
}
