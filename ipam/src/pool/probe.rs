//! Test instrument of [`super::disk`]: counts what the pool does to the file system, and can stop it dead at any point.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// Counts accesses. When armed, one change is the last: it and everything after it fails as if the process had been killed.
#[derive(Debug)]
pub(super) struct Probe {
    accesses: AtomicU64,
    /// Changes left until the stop; negative: no stop is set.
    left: AtomicI64,
    /// Whether half of the write after the last change still reaches the file.
    tear: AtomicBool,
    /// Changes left until one is refused; negative: none is.
    refuse: AtomicI64,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            accesses: AtomicU64::new(0),
            left: AtomicI64::new(-1),
            tear: AtomicBool::new(false),
            refuse: AtomicI64::new(-1),
        }
    }
}

impl Probe {
    /// Lets this many more changes happen.
    pub(super) fn stop_after(&self, changes: i64) {
        self.left.store(changes, Ordering::Relaxed);
    }

    /// Refuses one change after this many, as a full disk would, and none after that.
    pub(super) fn refuse_after(&self, changes: i64) {
        self.refuse.store(changes, Ordering::Relaxed);
    }

    /// Whether the change to be refused was met.
    pub(super) fn refused(&self) -> bool {
        self.refuse.load(Ordering::Relaxed) < 0
    }

    /// Lets half of the write at the stop happen, which the kernel does not do, but a bad disk might.
    pub(super) fn tear_the_last_write(&self) {
        self.tear.store(true, Ordering::Relaxed);
    }

    pub(super) fn torn<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let tear = self.stopped() && self.tear.swap(false, Ordering::Relaxed);
        tear.then(|| &bytes[..bytes.len() / 2])
    }

    /// Whether the stop was met.
    pub(super) fn stopped(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    /// Accesses since the last call.
    pub(super) fn take_accesses(&self) -> u64 {
        self.accesses.swap(0, Ordering::Relaxed)
    }

    pub(super) fn look(&self) -> io::Result<()> {
        self.accesses.fetch_add(1, Ordering::Relaxed);
        if self.stopped() { Err(stop()) } else { Ok(()) }
    }

    pub(super) fn change(&self) -> io::Result<()> {
        self.look()?;
        if !self.refused() && self.refuse.fetch_sub(1, Ordering::Relaxed) == 0 {
            return Err(nix::errno::Errno::ENOSPC.into());
        }
        if self.left.load(Ordering::Relaxed) > 0 {
            self.left.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn stop() -> io::Error {
    io::Error::other("stopped by the test")
}
