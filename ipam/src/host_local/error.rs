//! Why reservations of host-local cannot be read or changed.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Holder;
use crate::cidr::on_one_line;
use crate::pool::NameError;

/// Why reservations of host-local cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum HostLocalError {
    /// Others kept the lock all the time.
    #[error("the reservations of host-local were locked by others for {} ms; try again, and if this lasts look for a process that hangs with {} open", waited.as_millis(), on_one_line(path))]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// How long this waited.
        waited: Duration,
    },
    /// A file cannot be read, written or removed.
    #[error(
        "{what} {}, where host-local keeps reservations: {source}; check that its file system has room and is writable",
        on_one_line(path)
    )]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A name that is not allowed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The address is reserved already.
    #[error(
        "{address} is reserved by {}; release it first (DEL of that pod), or take another one",
        By(holder)
    )]
    Taken {
        /// The address.
        address: IpAddr,
        /// Who has it, if that can be told.
        holder: Option<Holder>,
    },
}

struct By<'a>(&'a Option<Holder>);

impl fmt::Display for By<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(holder) => holder.describe(f),
            None => f.write_str("a file of host-local that names nobody"),
        }
    }
}

pub(super) fn named(
    what: &'static str,
    path: &Path,
) -> impl Fn(io::Error) -> HostLocalError + use<> {
    let path = path.to_owned();
    move |source| HostLocalError::Io {
        what,
        path: path.clone(),
        source,
    }
}
