//! One installation in three forms.

use std::collections::BTreeSet;
use std::fs::read_to_string;

use anyhow::{Context, Result};
use loden_tests::kube::NAMESPACE;
use loden_tests::kube::render::{chart, documents, kustomize, manifests};
use serde_json::Value;

use crate::Programs;
use crate::object::{Objects, objects};

pub(crate) fn manifest() -> Result<Objects> {
    objects(documents(&read_to_string(
        manifests().join("kube-flannel.yml"),
    )?)?)
}

pub(crate) fn the_kustomize_base_is_the_manifest(programs: &Programs) -> Result<()> {
    let base = objects(documents(&kustomize(&programs[0], &manifests())?)?)?;
    assert_eq!(base, manifest()?);
    Ok(())
}

pub(crate) fn the_chart_is_the_manifest(programs: &Programs) -> Result<()> {
    let chart = objects(documents(&chart(&programs[0], NAMESPACE, "")?)?)?;
    let mut expected = manifest()?;
    // helm makes the namespace, or somebody did; a chart cannot contain the one that it is installed in.
    expected
        .remove(&format!("Namespace {NAMESPACE}"))
        .context("the manifest has no namespace")?;
    assert_eq!(chart, expected);
    Ok(())
}

/// No more rights than are needed, and the last lines of the log where `kubectl describe pod` shows them, since the program
/// cannot write the file that Kubernetes would read them from.
pub(crate) fn each_container_is_confined_and_says_why_it_ended(_: &Programs) -> Result<()> {
    let mut looked_at = 0;
    for file in ["kube-flannel.yml", "uninstall.yml"] {
        let objects = documents(&read_to_string(manifests().join(file))?)?;
        let set = objects.iter().find(|object| object["kind"] == "DaemonSet");
        let pod =
            &set.with_context(|| format!("{file} has no DaemonSet"))?["spec"]["template"]["spec"];
        let works = if file == "uninstall.yml" {
            // Its container only waits.
            vec!["initContainers"]
        } else {
            assert_eq!(
                pod["securityContext"]["seccompProfile"]["type"],
                "RuntimeDefault"
            );
            vec!["initContainers", "containers"]
        };
        for container in works
            .into_iter()
            .filter_map(|kind| pod[kind].as_array())
            .flatten()
        {
            looked_at += 1;
            let name = format!("{} in {file}", container["name"]);
            assert_eq!(
                container["terminationMessagePolicy"], "FallbackToLogsOnError",
                "{name}"
            );
            let rights = &container["securityContext"];
            assert_ne!(rights["privileged"], true, "{name}");
            let mut allowed = vec!["NET_ADMIN", "NET_RAW"];
            if file == "uninstall.yml" {
                // Directories of pods and runtimes that belong to other users.
                allowed.push("DAC_OVERRIDE");
            } else {
                assert_eq!(rights["readOnlyRootFilesystem"], true, "{name}");
                assert_eq!(rights["allowPrivilegeEscalation"], false, "{name}");
            }
            let added = rights["capabilities"]["add"].as_array();
            for right in added.into_iter().flatten() {
                assert!(
                    right.as_str().is_some_and(|right| allowed.contains(&right)),
                    "{name}: {right}"
                );
            }
        }
    }
    assert_eq!(looked_at, 4);
    Ok(())
}

/// Paths of all values: of those that are maps, their members instead.
fn paths(prefix: &str, value: &Value) -> Vec<String> {
    match value {
        Value::Object(members) if !members.is_empty() => members
            .iter()
            .flat_map(|(key, value)| paths(&format!("{prefix}{key}."), value))
            .collect(),
        _ => vec![prefix.trim_end_matches('.').to_owned()],
    }
}

/// A value that the page does not have is one that nobody finds.
pub(crate) fn the_table_of_values_is_complete(_: &Programs) -> Result<()> {
    let values = documents(&read_to_string(manifests().join("chart/values.yaml"))?)?;
    let page = read_to_string(manifests().join("../docs/kubernetes.md"))?;
    let (mut told, mut parent) = (BTreeSet::new(), String::new());
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let first = line.split('|').nth(1).unwrap_or_default();
        for name in first.split('`').skip(1).step_by(2) {
            match name.strip_prefix('.') {
                Some(rest) => told.insert(format!("{parent}{rest}")),
                None => {
                    parent = name
                        .rsplit_once('.')
                        .map_or(String::new(), |(parent, _)| format!("{parent}."));
                    told.insert(name.to_owned())
                }
            };
        }
    }
    let missing: Vec<String> = values
        .iter()
        .flat_map(|value| paths("", value))
        .filter(|path| {
            // A line about `flannel.resources` tells its members too.
            let mut path = path.as_str();
            loop {
                if told.contains(path) {
                    return false;
                }
                match path.rsplit_once('.') {
                    Some((parent, _)) => path = parent,
                    None => return true,
                }
            }
        })
        .collect();
    assert_eq!(missing, Vec::<String>::new(), "not in docs/kubernetes.md");
    Ok(())
}
