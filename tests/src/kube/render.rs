//! The three forms of the installation as the objects that they are: the manifest, the kustomize base, the chart.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// For which Kubernetes the chart is rendered. A helm that was built here takes itself for one of a release long past.
const KUBE_VERSION: &str = "1.36.0";

/// The folder `manifests`.
pub fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests")
}

/// All documents of a stream of YAML.
///
/// # Errors
/// When it is none.
pub fn documents(yaml: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml)?;
    Ok(documents.into_iter().filter(|d| !d.is_null()).collect())
}

/// What `kubectl kustomize` makes of a folder.
///
/// # Errors
/// When it refuses.
pub fn kustomize(kubectl: &Path, folder: &Path) -> Result<String> {
    output(Command::new(kubectl).arg("kustomize").arg(folder))
}

/// What `helm template` makes of the chart with these values (YAML).
///
/// # Errors
/// When it refuses, with what it says.
pub fn chart(helm: &Path, namespace: &str, values: &str) -> Result<String> {
    // helm looks for its configuration there, and a user's must not matter.
    let home = tempfile::tempdir()?;
    let file = home.path().join("values.yaml");
    std::fs::write(&file, values)?;
    output(
        Command::new(helm)
            .args(["template", "loden"])
            .arg(manifests().join("chart"))
            .args(["--namespace", namespace, "--kube-version", KUBE_VERSION])
            .arg("--values")
            .arg(&file)
            .env("HOME", home.path())
            .env_remove("HELM_NAMESPACE"),
    )
}

/// What a program says on its standard output.
///
/// # Errors
/// When it fails, with what it says on its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("running {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}
