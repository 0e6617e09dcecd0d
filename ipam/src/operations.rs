//! Counters of what the CNI program was called for: left by each call, read by the daemon when it is asked for metrics.
//!
//! A call ends with a record of 16 bytes that it appends to a log: two system calls, no lock, no daemon. Calls that are not in a
//! hurry (all but an ADD that went well, and each of these is followed by a DEL one day) look at the length of the log, and
//! fold it into sums when it has grown. All of it lies in one directory:
//!
//! | name | what it is |
//! | --- | --- |
//! | `log` | the records that are appended to |
//! | `sealed-<n>` | a former log. It is folded only when the next one is sealed, since calls may still have it open |
//! | `sums` | what was folded, and `n`, how many logs that were. A sealed log with a smaller number is in it already |
//!
//! Folding and reading exclude each other by an flock on the directory. A kill loses at most what the killed call would have
//! added; nothing is counted twice.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

mod record;
mod sums;
#[cfg(test)]
mod tests;

use record::Record;
pub use record::Verb;
use sums::Sums;
pub use sums::{BUCKETS, Counted, Tally};

/// Where the CNI program leaves its counters. A reboot empties it.
pub const DEFAULT_DIRECTORY: &str = "/run/loden/operations";

/// A log of this length, in bytes, is folded: 4096 records.
const LONG: u64 = 4096 * Record::LENGTH as u64;
/// More than this, in bytes, is not read: whoever wrote it was no program of ours.
const LONGEST: u64 = 16 << 20;

/// Codes of CNI for a call that is wrong itself: its environment, its stdin, its config. It leaves nothing on a host where nothing is.
const WRONG_CALLS: [u32; 3] = [4, 6, 7];

const LOG: &str = "log";
const SUMS: &str = "sums";

/// The counters of a host.
#[derive(Clone, Debug)]
pub struct Operations {
    directory: PathBuf,
}

impl Default for Operations {
    fn default() -> Self {
        Self::at(Path::new(DEFAULT_DIRECTORY))
    }
}

impl Operations {
    /// The counters in this directory, which need not be there.
    #[must_use]
    pub fn at(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    /// Adds a call; `code` is that of its error document, 0 if it went well. A call that was wrong itself is only counted where others
    /// were before it.
    ///
    /// # Errors
    /// The system's. The call is not counted then, which is no reason for it to fail.
    pub fn add(&self, verb: Verb, code: u32, duration: Duration) -> io::Result<()> {
        let Some(mut log) = self.open_log(!WRONG_CALLS.contains(&code))? else {
            return Ok(());
        };
        log.write_all(&Record::new(verb, code, duration).encode())?;
        let in_a_hurry = verb == Verb::Add && code == 0;
        if in_a_hurry {
            // The process ends now, and the kernel closes everything at once.
            std::mem::forget(log);
        } else if is_full(log.metadata()?.len()) {
            self.fold()?;
        }
        Ok(())
    }

    /// All calls that were counted since the host was started; none where nothing was ever counted.
    ///
    /// # Errors
    /// The system's.
    pub fn read(&self) -> io::Result<Vec<Counted>> {
        let directory = match File::open(&self.directory) {
            Ok(directory) => directory,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        directory.lock_shared()?;
        let mut sums = self.sums()?;
        sums.add(&self.records(&sealed(sums.folded))?);
        sums.add(&self.records(LOG)?);
        Ok(sums.counted)
    }

    /// Nothing if there is none and none is to be made.
    fn open_log(&self, make: bool) -> io::Result<Option<File>> {
        let path = self.directory.join(LOG);
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        match options.open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound && !make => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let mut directory = DirBuilder::new();
                directory.recursive(true).mode(0o700);
                directory.create(&self.directory)?;
                options.open(&path).map(Some)
            }
            opened => opened.map(Some),
        }
    }

    /// Folds what was sealed before, and seals the log. Whoever finds another one at it leaves it to that one.
    fn fold(&self) -> io::Result<()> {
        let directory = File::open(&self.directory)?;
        if directory.try_lock().is_err() {
            return Ok(());
        }
        let path = |name: &str| self.directory.join(name);
        // The one before this one may have been at it while the log was measured, and nobody has begun another since.
        match fs::metadata(path(LOG)) {
            Ok(log) if is_full(log.len()) => {}
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => return Ok(()),
        }
        let mut sums = self.sums()?;
        let former = sealed(sums.folded);
        if path(&former).exists() {
            sums.add(&self.records(&former)?);
            sums.folded += 1;
            let draft = path("sums.new");
            fs::write(&draft, serde_json::to_vec(&sums)?)?;
            fs::rename(&draft, path(SUMS))?;
        }
        // The one before is there if the folding before this one was killed.
        for behind in [1, 2] {
            if let Some(folded) = sums.folded.checked_sub(behind) {
                remove(&path(&sealed(folded)))?;
            }
        }
        fs::rename(path(LOG), path(&sealed(sums.folded)))
    }

    /// Nothing can be done about sums that cannot be understood: they begin anew.
    fn sums(&self) -> io::Result<Sums> {
        let text = read(&self.directory.join(SUMS))?;
        Ok(serde_json::from_slice(&text).unwrap_or_default())
    }

    fn records(&self, name: &str) -> io::Result<Vec<Record>> {
        let bytes = read(&self.directory.join(name))?;
        Ok(bytes
            .chunks_exact(Record::LENGTH)
            .filter_map(Record::decode)
            .collect())
    }
}

/// Whether a log of this length is to be folded: also where something tore it, so that the next ones are whole again.
fn is_full(length: u64) -> bool {
    length >= LONG || !length.is_multiple_of(Record::LENGTH as u64)
}

fn sealed(number: u64) -> String {
    format!("sealed-{number}")
}

/// A whole file; nothing if it is not there.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(LONGEST).read_to_end(&mut bytes).map(drop)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(bytes)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
