//! Where the programs under test and the reference plugins are found.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// Names the directory of the programs when they do not lie beside the running one.
pub const PROGRAMS_VARIABLE: &str = "LODEN_PROGRAMS";

/// Where distributions and Kubernetes put the reference CNI plugins.
const REFERENCE_PLUGINS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

/// The directory of the programs under test.
pub fn directory() -> Result<PathBuf> {
    if let Some(directory) = env::var_os(PROGRAMS_VARIABLE) {
        return Ok(directory.into());
    }
    let executable =
        env::current_exe().context("the path of the running program cannot be read")?;
    let directory = executable
        .parent()
        .context("the running program lies nowhere")?;
    // Test executables lie in `deps`, the programs one above.
    let below = directory
        .ends_with("deps")
        .then(|| directory.parent())
        .flatten();
    Ok(below.unwrap_or(directory).to_path_buf())
}

/// The path of a program under test.
pub fn find(name: &str) -> Result<PathBuf> {
    let path = directory()?.join(name);
    if !path.is_file() {
        bail!(
            "there is no {}: build the programs first (make build), or set {PROGRAMS_VARIABLE}",
            path.display()
        );
    }
    Ok(path)
}

/// The names under which the CNI program is another plugin.
pub const OTHER_NAMES: [&str; 5] = ["bridge", "host-local", "loopback", "portmap", "ptp"];

/// A directory with the CNI program under all its names, and with nothing else.
pub fn by_all_names() -> Result<PathBuf> {
    let program = find("flannel")?;
    let directory = env::temp_dir().join("loden-plugins");
    fs::create_dir_all(&directory)?;
    for name in OTHER_NAMES.iter().chain(&["flannel"]) {
        match symlink(&program, directory.join(name)) {
            // Several tests come here, of one program.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
    }
    Ok(directory)
}

/// What a runtime would set as `CNI_PATH`: our programs first, then the reference plugins.
pub fn cni_path() -> Result<OsString> {
    let mut directories = vec![directory()?];
    directories.extend(REFERENCE_PLUGINS.iter().map(PathBuf::from));
    env::join_paths(directories).context("the directory of the programs has a colon in its name")
}
