//! The cluster's API, through the program `kubectl`.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::args::Args;
use crate::command::{self, Output};

/// `kubectl` with its kubeconfig.
#[derive(Clone, Debug)]
pub(crate) struct Kubectl {
    words: Vec<String>,
    limit: Duration,
}

impl Kubectl {
    pub(crate) fn new(args: &Args) -> Self {
        let mut words = command::fill(&args.kubectl, &[]);
        if let Some(file) = &args.kubeconfig {
            words.push(format!("--kubeconfig={}", file.display()));
        }
        Self {
            words,
            limit: Duration::from_secs(100) * args.patience,
        }
    }

    /// Runs it with these words, whatever comes of it.
    pub(crate) fn output(&self, words: &[&str], stdin: Option<&str>) -> Result<Output> {
        let all: Vec<String> = self
            .words
            .iter()
            .cloned()
            .chain(words.iter().map(|word| (*word).to_owned()))
            .collect();
        command::run(&all, stdin, self.limit.max(asked_for(words)))
    }

    /// Stdout, if it succeeds.
    pub(crate) fn run(&self, words: &[&str]) -> Result<String> {
        self.output(words, None)?
            .ok(&format!("kubectl {}", words.join(" ")))
    }

    /// An object or a list of objects.
    pub(crate) fn json(&self, words: &[&str]) -> Result<Value> {
        let text = self.run(&[words, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("kubectl {}", words.join(" ")))
    }

    /// The members of a list of objects.
    pub(crate) fn items(&self, words: &[&str]) -> Result<Vec<Value>> {
        match self.json(words)?["items"].take() {
            Value::Array(items) => Ok(items),
            other => anyhow::bail!("kubectl {}: no list but {other}", words.join(" ")),
        }
    }

    /// Makes these objects, or brings them up to date.
    pub(crate) fn apply(&self, objects: Vec<Value>) -> Result<()> {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        self.apply_text(&list)
    }

    /// The same from a manifest's text.
    pub(crate) fn apply_text(&self, manifest: &str) -> Result<()> {
        self.output(&["apply", "-f", "-"], Some(manifest))?
            .ok("kubectl apply")
            .map(drop)
    }

    /// Puts an object back as it was when it was read.
    pub(crate) fn put_back(&self, object: &Value) -> Result<()> {
        let mut object = object.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            for key in [
                "uid",
                "resourceVersion",
                "creationTimestamp",
                "generation",
                "managedFields",
            ] {
                metadata.remove(key);
            }
        }
        if let Some(object) = object.as_object_mut() {
            object.remove("status");
        }
        self.output(&["replace", "-f", "-"], Some(&object.to_string()))?
            .ok("kubectl replace")
            .map(drop)
    }

    /// Runs a script with `sh` in a container.
    pub(crate) fn sh(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        script: &str,
    ) -> Result<Output> {
        self.output(
            &[
                "exec", "-n", namespace, pod, "-c", container, "--", "sh", "-c", script,
            ],
            None,
        )
    }
}

/// What `--timeout=…s` gives it, and a little for the way.
fn asked_for(words: &[&str]) -> Duration {
    let seconds = words.iter().find_map(|word| {
        let time = word.strip_prefix("--timeout=")?.strip_suffix('s')?;
        time.parse().ok()
    });
    seconds.map_or(Duration::ZERO, |seconds: u64| {
        Duration::from_secs(seconds + 20)
    })
}

/// A text in an object, by its JSON pointer; empty if it is not there.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or("")
}

/// The status of one of an object's conditions, if it has it.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|condition| condition["type"] == kind)
}

/// Whether a condition is true.
pub(crate) fn holds(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition["status"] == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubectl_gets_the_time_that_it_was_told_to_take() {
        assert_eq!(
            asked_for(&["delete", "pods", "--timeout=120s"]),
            Duration::from_secs(140)
        );
        assert_eq!(asked_for(&["get", "pods"]), Duration::ZERO);
    }
}
