//! What a real API server says to the objects: it accepts them without a warning, and has exactly them afterwards.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::{Context, Result, ensure};
use loden_tests::kube::render::{chart, documents, manifests, output};
use loden_tests::kube::{ApiServer, NAMESPACE};
use serde_json::Value;

use crate::Programs;
use crate::object::{Objects, lacks, objects};
use crate::same::manifest;
use crate::values::CASES;

/// `kubectl` as someone who may do everything at the server of these tests, which is this test's alone while it lasts: what one makes
/// and removes is what another tries out, and kubectl, which looks first and writes then, does not go on where they meet.
struct Kubectl {
    _turn: MutexGuard<'static, ()>,
    program: PathBuf,
    kubeconfig: PathBuf,
    /// Files for it to read, and its cache.
    directory: tempfile::TempDir,
}

impl Kubectl {
    fn new(programs: &Programs) -> Result<Self> {
        static SERVER: OnceLock<Result<ApiServer, String>> = OnceLock::new();
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let server = SERVER.get_or_init(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let started = runtime
                .map_err(anyhow::Error::from)
                .and_then(|runtime| runtime.block_on(ApiServer::start(&programs[0])));
            started.map_err(|error| format!("{error:#}"))
        });
        let server = server
            .as_ref()
            .map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(Self {
            _turn: turn,
            program: programs[1].clone(),
            kubeconfig: server.write_admin_kubeconfig()?,
            directory: tempfile::tempdir()?,
        })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(arguments)
            .env("HOME", self.directory.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        output(&mut self.command(arguments))
    }

    /// Writes documents to a file for `-f`.
    fn file(&self, name: &str, yaml: &str) -> Result<String> {
        let path = self.directory.path().join(name);
        std::fs::write(&path, yaml)?;
        Ok(path.display().to_string())
    }

    /// Sees to a namespace with these labels. Until it is there the server takes nothing that belongs in it.
    fn namespace(&self, name: &str, labels: &str) -> Result<()> {
        let yaml = format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {{{labels}}}}}}}"
        );
        let file = self.file("namespace.yaml", &yaml)?;
        self.run(&["apply", "-f", &file]).map(drop)
    }

    /// Applies for a trial. What the server warns of; an error if it refuses or knows a field not.
    fn try_out(&self, file: &str) -> Result<Vec<String>> {
        let mut command = self.command(&[
            "apply",
            "--dry-run=server",
            "--validate=strict",
            "--filename",
            file,
        ]);
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{said}");
        Ok(said.lines().map(str::to_owned).collect())
    }

    /// The objects that a file names, as the server has them.
    fn there(&self, file: &str) -> Result<Objects> {
        let list: Value = serde_json::from_str(&self.run(&["get", "-f", file, "-o", "json"])?)?;
        let items = list["items"].as_array().context("no list")?;
        objects(items.clone())
    }
}

fn the_manifest() -> String {
    manifests().join("kube-flannel.yml").display().to_string()
}

/// Pods of the DaemonSet's template as its controller makes them: pod security looks at those.
fn pod_of(yaml: &str, namespace: &str) -> Result<String> {
    let daemon_set = documents(yaml)?
        .into_iter()
        .find(|object| object["kind"] == "DaemonSet")
        .context("no DaemonSet")?;
    let mut pod = daemon_set["spec"]["template"].clone();
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["name"] = "trial".into();
    pod["metadata"]["namespace"] = namespace.into();
    Ok(pod.to_string())
}

pub(crate) fn everything_is_accepted_without_a_warning(programs: &Programs) -> Result<()> {
    let kubectl = Kubectl::new(programs)?;
    let file = the_manifest();
    // The server takes nothing into a namespace that is not there, and a trial makes none.
    let own = documents(&std::fs::read_to_string(&file)?)?
        .into_iter()
        .find(|object| object["kind"] == "Namespace")
        .context("no Namespace")?;
    kubectl.run(&["apply", "-f", &kubectl.file("own.yaml", &own.to_string())?])?;
    kubectl.namespace(
        "elsewhere",
        "pod-security.kubernetes.io/enforce: privileged",
    )?;
    let account =
        "{apiVersion: v1, kind: ServiceAccount, metadata: {name: flannel, namespace: elsewhere}}";
    kubectl.run(&["apply", "-f", &kubectl.file("account.yaml", account)?])?;
    let try_out = |name: &str, yaml: &str, file: &str| -> Result<()> {
        let pod = kubectl.file("pod.yaml", &pod_of(yaml, "elsewhere")?)?;
        for file in [file, &pod] {
            let warnings = kubectl
                .try_out(file)
                .with_context(|| format!("{name}: {file}"))?;
            ensure!(warnings.is_empty(), "{name}: {file}: {warnings:#?}");
        }
        Ok(())
    };
    try_out("the manifest", &std::fs::read_to_string(&file)?, &file)?;
    for case in CASES {
        let yaml = chart(&programs[2], NAMESPACE, case.values)?;
        try_out(case.name, &yaml, &kubectl.file("chart.yaml", &yaml)?)?;
    }
    Ok(())
}

pub(crate) fn applied_gives_exactly_the_objects(programs: &Programs) -> Result<()> {
    let kubectl = Kubectl::new(programs)?;
    let expected = manifest()?;
    let compare = |form: &str, file: &str| -> Result<()> {
        let there = kubectl.there(file)?;
        for (key, object) in &expected {
            let Some(found) = there.get(key) else {
                ensure!(key.starts_with("Namespace "), "{form}: no {key}");
                continue;
            };
            let lacks = lacks("", object, found);
            ensure!(lacks.is_empty(), "{form}: {key}: {lacks:#?}");
        }
        ensure!(
            there.keys().all(|key| expected.contains_key(key)),
            "{form}: more than expected: {:?}",
            there.keys()
        );
        Ok(())
    };
    let file = the_manifest();
    kubectl.run(&["apply", "-f", &file])?;
    compare("manifest", &file)?;
    // Once more, and as kustomize has it: nothing changes.
    for arguments in [
        ["-f", file.as_str()],
        ["-k", &manifests().display().to_string()],
    ] {
        let said = kubectl.run(&["apply", arguments[0], arguments[1]])?;
        ensure!(
            said.lines().all(|line| line.ends_with(" unchanged")),
            "applied again: {said}"
        );
    }
    // The chart over it, as somebody may do who goes over to it.
    let yaml = chart(&programs[2], NAMESPACE, "")?;
    let rendered = kubectl.file("chart.yaml", &yaml)?;
    kubectl.run(&["apply", "-f", &rendered])?;
    compare("chart", &rendered)?;
    // The namespace stays: its end takes controllers, which are not there.
    kubectl.run(&["delete", "-f", &rendered])?;
    let left = kubectl.run(&["get", "-f", &rendered, "--ignore-not-found", "-o", "name"])?;
    ensure!(left.is_empty(), "left: {left}");
    Ok(())
}

/// What pod security of the two narrower levels says, which is what docs/kubernetes.md says.
pub(crate) fn pod_security_objects_to_what_is_documented(programs: &Programs) -> Result<()> {
    let kubectl = Kubectl::new(programs)?;
    let yaml = std::fs::read_to_string(the_manifest())?;
    let page = std::fs::read_to_string(manifests().join("../docs/kubernetes.md"))?;
    let mut found = BTreeSet::new();
    for level in ["baseline", "restricted"] {
        let namespace = format!("level-{level}");
        kubectl.namespace(
            &namespace,
            &format!("pod-security.kubernetes.io/enforce: privileged, pod-security.kubernetes.io/warn: {level}"),
        )?;
        let elsewhere = yaml.replace(
            "namespace: kube-flannel",
            &format!("namespace: {namespace}"),
        );
        let documents: Vec<&str> = elsewhere.split("\n---\n").collect();
        let daemon_set = documents
            .iter()
            .find(|document| document.contains("\nkind: DaemonSet\n"))
            .context("no DaemonSet")?;
        let warnings = kubectl.try_out(&kubectl.file("set.yaml", daemon_set)?)?;
        let [warning] = warnings.as_slice() else {
            anyhow::bail!("{level}: {warnings:#?}");
        };
        // "Warning: would violate PodSecurity "baseline:latest": host namespaces (hostNetwork=true), hostPath volumes (...), ..."
        let (_, objections) = warning
            .split_once(":latest\": ")
            .with_context(|| format!("{level}: {warning}"))?;
        found.extend(split(objections));
    }
    let told: BTreeSet<String> = page
        .lines()
        .filter(|line| line.contains(" | baseline | ") || line.contains(" | restricted | "))
        .filter_map(|line| Some(line.split('|').nth(1)?.trim().to_owned()))
        .collect();
    assert_eq!(found, told, "found, and told in docs/kubernetes.md");
    Ok(())
}

/// The objections' names: what stands before the parentheses.
fn split(objections: &str) -> Vec<String> {
    objections
        .split("), ")
        .map(|objection| objection.split(" (").next().unwrap_or(objection).to_owned())
        .collect()
}
