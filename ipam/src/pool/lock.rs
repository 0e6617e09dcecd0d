//! The lock of a pool, waited for no longer than the caller can afford.
//!
//! The kernel has no flock with a time limit, so this asks again and again, after a pause that grows a little. A process
//! that dies gives its lock up.

use std::fs::File;
use std::time::{Duration, Instant};

use nix::fcntl::Flock;

use super::disk::Disk;
use super::error::PoolError;

/// The file is never removed nor renamed: two processes would hold locks on two files of one name.
const NAME: &str = "lock";

/// A reservation takes about this long, so it is the first pause.
const SHORTEST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(4);

/// Held until dropped.
pub(super) struct Lock {
    _flock: Flock<File>,
}

/// Waits for the lock, at most as long as given. `prepare` makes the directories where there are none yet.
pub(super) fn acquire(
    disk: &Disk,
    wait: Duration,
    prepare: impl FnOnce() -> Result<(), PoolError>,
) -> Result<Lock, PoolError> {
    let mut file = match disk.open_lock(NAME)? {
        Some(file) => file,
        None => {
            prepare()?;
            disk.open_lock(NAME)?.ok_or_else(|| vanished(disk))?
        }
    };
    let begin = Instant::now();
    let mut pause = SHORTEST_PAUSE;
    loop {
        file = match disk.try_lock(NAME, file)? {
            Ok(flock) => return Ok(Lock { _flock: flock }),
            Err(file) => file,
        };
        let waited = begin.elapsed();
        if waited >= wait {
            return Err(PoolError::Busy {
                path: disk.path(NAME),
                waited,
            });
        }
        std::thread::sleep(pause.min(wait - waited));
        pause = (pause * 2).min(LONGEST_PAUSE);
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
