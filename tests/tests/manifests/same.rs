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
