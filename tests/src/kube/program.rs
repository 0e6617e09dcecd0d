//! Where the programs of Kubernetes come from: as binaries that somebody provides, or built by the Go toolchain from the pinned releases.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The variable that names a directory with `kube-apiserver` and `kubectl`, as controller tests everywhere have it.
const ASSETS: &str = "KUBEBUILDER_ASSETS";
/// The Go module that pins the releases. Inside a lab the sources may be out of sight.
const MODULE: &str = include_str!("../../kube-programs/go.mod");
/// The minor version of Go 1 that the releases need.
const GO_MINOR: u32 = 26;

/// What Go says where the sources of modules cannot be reached.
const OFFLINE: [&str; 5] = [
    "dial tcp",
    "no such host",
    "i/o timeout",
    "TLS handshake timeout",
    "module lookup disabled",
];

/// A program that is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `kube-apiserver`.
    ApiServer,
    /// `kubectl`, of the API server's release.
    Kubectl,
    /// `helm`.
    Helm,
}

/// Why there is no such program to test with.
#[derive(Debug)]
pub struct Unavailable(pub String);

/// The API server, built first if need be.
///
/// # Errors
/// As [`Program::find`].
pub fn api_server() -> Result<Result<PathBuf, Unavailable>> {
    Program::ApiServer.find()
}

impl Program {
    /// The program, built first if need be, which takes long; later runs find it.
    ///
    /// # Errors
    /// When it should be there or be built but is not.
    pub fn find(self) -> Result<Result<PathBuf, Unavailable>> {
        if let Some(program) = self.provided()? {
            return Ok(Ok(program));
        }
        let name = self.name();
        let program = directory()?.join(format!("{name}-{}", self.release()?));
        if program.is_file() {
            return Ok(Ok(program));
        }
        if let Err(reason) = go() {
            return Ok(Err(Unavailable(format!(
                "no {name} to test with: {reason}; install Go 1.{GO_MINOR} or later, or {}",
                self.remedy()
            ))));
        }
        self.build(&program)
    }

    fn name(self) -> &'static str {
        match self {
            Self::ApiServer => "kube-apiserver",
            Self::Kubectl => "kubectl",
            Self::Helm => "helm",
        }
    }

    /// The module, and the program's package in it.
    fn package(self) -> (&'static str, &'static str) {
        match self {
            Self::ApiServer => ("k8s.io/kubernetes", "cmd/kube-apiserver"),
            Self::Kubectl => ("k8s.io/kubernetes", "cmd/kubectl"),
            Self::Helm => ("helm.sh/helm/v3", "cmd/helm"),
        }
    }

    fn remedy(self) -> String {
        match self {
            Self::ApiServer | Self::Kubectl => {
                format!("set {ASSETS} to a directory with {}", self.name())
            }
            Self::Helm => "install helm 3 or 4".to_owned(),
        }
    }

    /// What somebody has put there for tests.
    fn provided(self) -> Result<Option<PathBuf>> {
        if self == Self::Helm {
            return Ok(installed_helm());
        }
        let Some(assets) = std::env::var_os(ASSETS) else {
            return Ok(None);
        };
        let program = Path::new(&assets).join(self.name());
        ensure!(
            program.is_file(),
            "{ASSETS} is set, but there is no {}",
            program.display()
        );
        Ok(Some(program))
    }

    fn build(self, program: &Path) -> Result<Result<PathBuf, Unavailable>> {
        let name = self.name();
        let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("kube-programs");
        println!("building {name} with Go; this takes some minutes, once");
        let half = program.with_extension(format!("{}.half", std::process::id()));
        let (path, package) = self.package();
        let built = Command::new("go")
            .current_dir(&module)
            .env("CGO_ENABLED", "0")
            // The version of these sources says nothing about the program's, and git refuses to tell it where another user owns them.
            .args([
                "build",
                "-buildvcs=false",
                "-trimpath",
                "-ldflags=-s -w",
                "-o",
            ])
            .arg(&half)
            .arg(format!("{path}/{package}"))
            .output()
            .context("running go")?;
        let said = String::from_utf8_lossy(&built.stderr);
        if !built.status.success() && OFFLINE.iter().any(|sign| said.contains(sign)) {
            return Ok(Err(Unavailable(format!(
                "no {name} to test with: its sources cannot be fetched: {}; {}",
                said.lines().last().unwrap_or_default(),
                self.remedy()
            ))));
        }
        ensure!(
            built.status.success(),
            "go build in {}: {said}",
            module.display()
        );
        // Whole or not at all, also when two test binaries build at once.
        std::fs::rename(&half, program)?;
        Ok(Ok(program.to_path_buf()))
    }

    /// The release that the module pins.
    fn release(self) -> Result<String> {
        let (path, _) = self.package();
        let pinned = MODULE.lines().find_map(|line| {
            let words = line.trim_start_matches("require").trim();
            words.strip_prefix(path)?.strip_prefix(" v")
        });
        pinned
            .and_then(|version| version.split_whitespace().next())
            .map(|version| format!("v{version}"))
            .with_context(|| format!("go.mod names no release of {path}"))
    }
}

/// The helm of this machine, if it is one that charts are written for today.
fn installed_helm() -> Option<PathBuf> {
    let output = Command::new("helm").args(["version", "--short"]).output();
    let output = output.ok().filter(|output| output.status.success())?;
    let version = String::from_utf8_lossy(&output.stdout);
    let suitable = version.starts_with("v3.") || version.starts_with("v4.");
    suitable.then(|| "helm".into())
}

/// The directory of the programs that cargo builds, which is in sight inside a lab too.
fn directory() -> Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let here = executable.parent().context("this program lies nowhere")?;
    let above = here.ends_with("deps").then(|| here.parent()).flatten();
    Ok(above.unwrap_or(here).to_owned())
}

/// Whether there is a Go that is new enough.
fn go() -> Result<(), String> {
    let output = Command::new("go").arg("version").output();
    let output = output.map_err(|error| format!("go cannot be run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let minor = text.split_whitespace().find_map(|word| {
        word.strip_prefix("go1.")?
            .split('.')
            .next()?
            .parse::<u32>()
            .ok()
    });
    match minor {
        Some(minor) if minor >= GO_MINOR => Ok(()),
        _ => Err(format!("{} is too old", text.trim())),
    }
}
