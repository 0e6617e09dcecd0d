//! Why records of host ports cannot be read or changed.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cidr::on_one_line;

/// Why records of host ports cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum HostPortsError {
    /// Others kept the lock all the time.
    #[error("the records of host ports were locked by others for {} ms; try again, and if this lasts look for a process that hangs with {} open", waited.as_millis(), on_one_line(path))]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// How long this waited.
        waited: Duration,
    },
    /// A file or directory.
    #[error(
        "{what} {}: {source}; host ports are recorded there, so it must be writable and have room",
        on_one_line(path)
    )]
    Io {
        /// What could not be done.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

pub(super) fn named(what: &'static str, path: &Path) -> impl Fn(io::Error) -> HostPortsError {
    let path = path.to_owned();
    move |source| HostPortsError::Io {
        what,
        path: path.clone(),
        source,
    }
}
