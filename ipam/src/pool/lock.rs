//! The lock of a pool, waited for no longer than the caller can afford.

use std::fs::File;
use std::time::Duration;

use super::disk::Disk;
use super::error::PoolError;
use crate::flock;

/// The file is never removed nor renamed: two processes would hold locks on two files of one name.
const NAME: &str = "lock";

/// Held until dropped: closing the file gives the lock up, nobody else has it open.
pub(super) struct Lock {
    _locked: File,
}

/// Waits for the lock, at most as long as given. `prepare` makes the directories where there are none yet.
pub(super) fn acquire(
    disk: &Disk,
    wait: Duration,
    prepare: impl FnOnce() -> Result<(), PoolError>,
) -> Result<Lock, PoolError> {
    let file = match disk.open_lock(NAME)? {
        Some(file) => file,
        None => {
            prepare()?;
            disk.open_lock(NAME)?.ok_or_else(|| vanished(disk))?
        }
    };
    match flock::acquire(file, wait, |file| disk.try_lock(NAME, file))? {
        Ok(locked) => Ok(Lock { _locked: locked }),
        Err(waited) => Err(PoolError::Busy {
            path: disk.path(NAME),
            waited,
        }),
    }
}

fn vanished(disk: &Disk) -> PoolError {
    let source = std::io::ErrorKind::NotFound.into();
    PoolError::Io {
        what: "cannot open",
        path: disk.path(NAME),
        source,
    }
}
