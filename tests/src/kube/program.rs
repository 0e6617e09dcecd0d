//! Where the API server comes from: as a binary that somebody provides, or built by the Go toolchain from the pinned release.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The variable that names a directory with `kube-apiserver`, as controller tests everywhere have it.
const ASSETS: &str = "KUBEBUILDER_ASSETS";
/// The Go module that pins the release. Inside a lab the sources may be out of sight.
const MODULE: &str = include_str!("../../kube-apiserver/go.mod");
/// The minor version of Go 1 that the release needs.
const GO_MINOR: u32 = 26;

/// What Go says where the sources of modules cannot be reached.
const OFFLINE: [&str; 5] = [
    "dial tcp",
    "no such host",
    "i/o timeout",
    "TLS handshake timeout",
    "module lookup disabled",
];

/// Why there is no API server to test with.
#[derive(Debug)]
pub struct Unavailable(pub String);

/// The program, built first if need be, which takes long; later runs find it.
///
/// # Errors
/// When it should be there or be built but is not.
pub fn api_server() -> Result<Result<PathBuf, Unavailable>> {
    if let Some(assets) = std::env::var_os(ASSETS) {
        let program = Path::new(&assets).join("kube-apiserver");
        ensure!(
            program.is_file(),
            "{ASSETS} is set, but there is no {}",
            program.display()
        );
        return Ok(Ok(program));
    }
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("kube-apiserver");
    let program = directory()?.join(format!("kube-apiserver-{}", release()?));
    if program.is_file() {
        return Ok(Ok(program));
    }
    if let Err(reason) = go() {
        return Ok(Err(Unavailable(format!(
            "no Kubernetes API server to test with: {reason}; install Go 1.{GO_MINOR} or later, or set {ASSETS} to a directory with kube-apiserver"
        ))));
    }
    println!("building kube-apiserver with Go; this takes some minutes, once");
    let half = program.with_extension(format!("{}.half", std::process::id()));
    let built = Command::new("go")
        .current_dir(&module)
        .env("CGO_ENABLED", "0")
        // The version of these sources says nothing about the server's, and git refuses to tell it where another user owns them.
        .args([
            "build",
            "-buildvcs=false",
            "-trimpath",
            "-ldflags=-s -w",
            "-o",
        ])
        .arg(&half)
        .arg("k8s.io/kubernetes/cmd/kube-apiserver")
        .output()
        .context("running go")?;
    let said = String::from_utf8_lossy(&built.stderr);
    if !built.status.success() && OFFLINE.iter().any(|sign| said.contains(sign)) {
        return Ok(Err(Unavailable(format!(
            "no Kubernetes API server to test with: its sources cannot be fetched: {}; set {ASSETS} to a directory with kube-apiserver",
            said.lines().last().unwrap_or_default()
        ))));
    }
    ensure!(
        built.status.success(),
        "go build in {}: {said}",
        module.display()
    );
    // Whole or not at all, also when two test binaries build at once.
    std::fs::rename(&half, &program)?;
    Ok(Ok(program))
}

/// The directory of the programs that cargo builds, which is in sight inside a lab too.
fn directory() -> Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let here = executable.parent().context("this program lies nowhere")?;
    let above = here.ends_with("deps").then(|| here.parent()).flatten();
    Ok(above.unwrap_or(here).to_owned())
}

/// The release that the module pins.
fn release() -> Result<String> {
    let pinned = MODULE.lines().find_map(|line| {
        line.trim_start_matches("require")
            .trim()
            .strip_prefix("k8s.io/kubernetes ")
    });
    pinned
        .and_then(|version| version.split_whitespace().next())
        .map(str::to_owned)
        .context("go.mod names no release of k8s.io/kubernetes")
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
