//! Every access of the pool to the file system, so that tests can count them and can stop a pool after any of them.
//!
//! Nothing is synced: what a killed process wrote is in the page cache, and no reservation outlives the boot that a power
//! loss ends. A write here never crosses a page, so a kill leaves it done or not done.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

use super::error::PoolError;

/// The directory of one network's pool.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    #[cfg(test)]
    pub(super) probe: super::probe::Probe,
}

/// More than this is no file of ours.
const LONGEST: usize = 1 << 20;

impl Disk {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            #[cfg(test)]
            probe: super::probe::Probe::default(),
        }
    }

    pub(super) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    /// Makes a directory and all above it, for root alone.
    pub(super) fn make_directory(&self, name: &str) -> Result<(), PoolError> {
        let path = self.path(name);
        let make = || DirBuilder::new().recursive(true).mode(0o700).create(&path);
        self.change()
            .and_then(|()| make())
            .map_err(named("cannot make", &path))
    }

    /// Opens a file to read and write it in place; `None` if it is not there.
    pub(super) fn open(&self, name: impl AsRef<Path>) -> Result<Option<File>, PoolError> {
        let path = self.path(name);
        let options = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(OFlag::O_NOFOLLOW.bits())
                .open(&path)
        };
        absent(self.look().and_then(|()| options())).map_err(named("cannot open", &path))
    }

    /// Opens the lock file, which is made if it is not there; `None` if its directory is not.
    pub(super) fn open_lock(&self, name: &str) -> Result<Option<File>, PoolError> {
        let path = self.path(name);
        let mut options = OpenOptions::new();
        options
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits());
        absent(self.change().and_then(|()| options.open(&path)))
            .map_err(named("cannot open", &path))
    }

    /// Takes the lock; `Err` gives the file back while another one has it.
    pub(super) fn try_lock(&self, name: &str, file: File) -> Result<Result<File, File>, PoolError> {
        let refused = |source| named("cannot lock", &self.path(name))(source);
        self.look().map_err(refused)?;
        match file.try_lock() {
            Ok(()) => Ok(Ok(file)),
            Err(TryLockError::WouldBlock) => Ok(Err(file)),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {
                Ok(Err(file))
            }
            Err(TryLockError::Error(error)) => Err(refused(error)),
        }
    }

    /// A whole small file; `None` if it is not there.
    pub(super) fn read(&self, name: impl AsRef<Path>) -> Result<Option<Vec<u8>>, PoolError> {
        let refused = named("cannot read", &self.path(&name));
        let Some(file) = self.open_to_read(name)? else {
            return Ok(None);
        };
        let mut bytes = vec![0; 4096];
        let mut filled = 0;
        loop {
            filled += self
                .read_at(&file, &mut bytes[filled..], filled as u64)
                .map_err(&refused)?;
            if filled < bytes.len() || filled >= LONGEST {
                bytes.truncate(filled);
                return Ok(Some(bytes));
            }
            bytes.resize(bytes.len() * 4, 0);
        }
    }

    /// Opens a file to look at it; `None` if it is not there.
    pub(super) fn open_to_read(&self, name: impl AsRef<Path>) -> Result<Option<File>, PoolError> {
        let path = self.path(name);
        let open = || {
            OpenOptions::new()
                .read(true)
                .custom_flags(OFlag::O_NOFOLLOW.bits())
                .open(&path)
        };
        absent(self.look().and_then(|()| open())).map_err(named("cannot read", &path))
    }

    /// Reads up to the length of the buffer or to the end of the file.
    pub(super) fn read_at(
        &self,
        file: &File,
        mut buffer: &mut [u8],
        mut offset: u64,
    ) -> io::Result<usize> {
        let mut filled = 0;
        while !buffer.is_empty() {
            self.look()?;
            match file.read_at(buffer, offset) {
                // A read that is short of what was asked for has met the end: these are regular files.
                Ok(read) if read < buffer.len() => return Ok(filled + read),
                Ok(read) => {
                    filled += read;
                    offset += read as u64;
                    buffer = &mut buffer[read..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    pub(super) fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(test)]
        if let Some(torn) = self.probe.torn(bytes) {
            file.write_all_at(torn, offset)?;
        }
        self.change()?;
        file.write_all_at(bytes, offset)
    }

    /// Puts a file in place in one step. There is one name for the draft, under the lock, so that a killed process
    /// leaves at most that one file behind, which the next one writes over.
    pub(super) fn replace(
        &self,
        draft: &str,
        name: impl AsRef<Path>,
        bytes: &[u8],
    ) -> Result<(), PoolError> {
        self.draft(draft, bytes)?;
        self.put(draft, name)
    }

    /// Writes a file that is not in place yet.
    pub(super) fn draft(&self, draft: &str, bytes: &[u8]) -> Result<File, PoolError> {
        let draft = self.path(draft);
        let mut options = OpenOptions::new();
        options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits());
        let write = || {
            self.change()?;
            let file = options.open(&draft)?;
            self.write_at(&file, bytes, 0)?;
            Ok(file)
        };
        write().map_err(named("cannot write", &draft))
    }

    /// Puts it in place.
    pub(super) fn put(&self, draft: &str, name: impl AsRef<Path>) -> Result<(), PoolError> {
        let path = self.path(name);
        self.change()
            .and_then(|()| fs::rename(self.path(draft), &path))
            .map_err(named("cannot write", &path))
    }

    /// Lets others see that this process is at work on a file that nobody else has.
    pub(super) fn hold(&self, file: File) -> Result<Flock<File>, PoolError> {
        Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| named("cannot lock a file in", &self.root)(errno.into()))
    }

    /// Whether a process is at work on a file.
    pub(super) fn is_held(&self, file: File) -> Result<bool, PoolError> {
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Ok(_) => Ok(false),
            Err((_, Errno::EWOULDBLOCK)) => Ok(true),
            Err((_, errno)) => Err(named("cannot lock a file in", &self.root)(errno.into())),
        }
    }

    /// Removes a file; whether it was there.
    pub(super) fn remove(&self, name: impl AsRef<Path>) -> Result<bool, PoolError> {
        let path = self.path(name);
        let removed = self.change().and_then(|()| fs::remove_file(&path));
        Ok(absent(removed)
            .map_err(named("cannot remove", &path))?
            .is_some())
    }

    /// The names in a directory; none if it is not there.
    pub(super) fn list(&self, name: &str) -> Result<Vec<String>, PoolError> {
        let path = self.path(name);
        let refused = named("cannot list", &path);
        let Some(entries) =
            absent(self.look().and_then(|()| fs::read_dir(&path))).map_err(&refused)?
        else {
            return Ok(Vec::new());
        };
        let mut names = Vec::new();
        for entry in entries {
            // All names of ours are UTF-8, so others are of no concern.
            if let Ok(name) = entry.map_err(&refused)?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Called before everything that reads.
    fn look(&self) -> io::Result<()> {
        #[cfg(test)]
        self.probe.look()?;
        Ok(())
    }

    /// Called before everything that changes something.
    fn change(&self) -> io::Result<()> {
        #[cfg(test)]
        self.probe.change()?;
        Ok(())
    }
}

pub(super) fn named(what: &'static str, path: &Path) -> impl Fn(io::Error) -> PoolError + use<> {
    let path = path.to_owned();
    move |source| PoolError::Io {
        what,
        path: path.clone(),
        source,
    }
}

fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
