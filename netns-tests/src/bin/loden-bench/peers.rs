//! The programs that Loden is measured beside: where they are, and that they are not Loden itself.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use netns_tests::isolation;

/// Directories with the CNI plugins of others, `flannel` among them.
pub(crate) const CNI_VARIABLE: &str = "PEER_CNI_PATH";
/// flannel's daemon.
pub(crate) const DAEMON_VARIABLE: &str = "PEER_FLANNELD";

/// Where distributions and Kubernetes put the reference plugins.
const USUAL: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

/// What the reference plugins need as `CNI_PATH`.
pub(crate) fn cni_path() -> Result<OsString> {
    env::join_paths(directories()).with_context(|| format!("{CNI_VARIABLE} cannot be searched"))
}

/// A reference plugin, if there is one of this name.
pub(crate) fn plugin(name: &str) -> Result<Option<PathBuf>> {
    let mut candidates = directories().into_iter().map(|place| place.join(name));
    let found = candidates.find(|candidate| candidate.is_file());
    if let Some(path) = &found {
        let banner = banner(path)?;
        ensure!(
            !banner.contains("Loden"),
            "{} is Loden's: there is nothing to compare it with. Let {CNI_VARIABLE} name a directory of the reference plugins",
            path.display()
        );
    }
    Ok(found)
}

/// flannel's daemon, if it was named.
pub(crate) fn flanneld() -> Result<Option<PathBuf>> {
    let Some(path) = env::var_os(DAEMON_VARIABLE).filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    let path = isolation::visible(Path::new(&path));
    ensure!(
        path.is_file(),
        "{DAEMON_VARIABLE} names {}, which is no file",
        path.display()
    );
    Ok(Some(path))
}

/// What a plugin says of itself when it is started without a command.
pub(crate) fn banner(plugin: &Path) -> Result<String> {
    let output = Command::new(plugin)
        .env_remove("CNI_COMMAND")
        .output()
        .with_context(|| format!("{} cannot be started", plugin.display()))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    Ok(said.lines().next().unwrap_or_default().trim().to_owned())
}

fn directories() -> Vec<PathBuf> {
    let named = env::var_os(CNI_VARIABLE).unwrap_or_default();
    let named: Vec<PathBuf> = env::split_paths(&named)
        .filter(|place| place.is_absolute())
        .collect();
    let all = named.into_iter().chain(USUAL.iter().map(PathBuf::from));
    all.map(|place| isolation::visible(&place)).collect()
}
