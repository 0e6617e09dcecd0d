//! The files in a host's own directories.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};

use crate::host::{Host, OWN_DIRECTORIES};

pub(super) fn lines(host: &Host) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for own in OWN_DIRECTORIES {
        walk(host, Path::new(own), &mut lines)?;
    }
    Ok(lines)
}

/// Where the CNI program counts its calls: each changes it, also one that changes nothing else.
const COUNTERS: &str = "/run/loden/operations";
/// It is there for them alone if for nothing else.
const AROUND_COUNTERS: &str = "/run/loden";

fn walk(host: &Host, directory: &Path, lines: &mut Vec<String>) -> Result<()> {
    let problem = || {
        format!(
            "{} on {} cannot be read",
            directory.display(),
            crate::Endpoint::name(host)
        )
    };
    for entry in fs::read_dir(host.path(directory)).with_context(problem)? {
        let entry = entry.with_context(problem)?;
        let path = directory.join(entry.file_name());
        if path == Path::new(COUNTERS) {
            continue;
        }
        // What goes while it is looked at is not there.
        let Ok(metadata) = fs::symlink_metadata(entry.path()) else {
            continue;
        };
        let kind = metadata.file_type();
        let mode = metadata.permissions().mode() & 0o7777;
        let shown = path.display();
        let line = match () {
            () if kind.is_dir() => format!("file {shown}/ mode {mode:04o}"),
            () if kind.is_symlink() => {
                format!("file {shown} -> {}", fs::read_link(entry.path())?.display())
            }
            () if kind.is_socket() => format!("file {shown} socket"),
            () => format!("file {shown} mode {mode:04o} size {}", metadata.len()),
        };
        if path != Path::new(AROUND_COUNTERS) {
            lines.push(line);
        }
        if kind.is_dir() {
            walk(host, &path, lines)?;
        }
    }
    Ok(())
}
