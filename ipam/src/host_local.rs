//! The directory in which the reference plugin `host-local` keeps its reservations: to take pods over that it attached,
//! and to hand ours back to it.
//!
//! Of each network there is a directory `<data dir>/<network>` with
//!
//! | name | what it is |
//! | --- | --- |
//! | the address, such as `10.244.1.7` | one file for each reservation: container ID, CR LF, interface name |
//! | `last_reserved_ip.<number of the range set>` | the address behind which the plugin goes on |
//! | `lock` | an flock on it is held during every change |
//!
//! Very old versions wrote the container ID only, and some imitations end lines with LF. A plugin that was killed leaves
//! empty files, which no DEL of its own ever finds. All of these are read here; what is written is what the plugin writes.
//!
//! Nothing here asks whether a pod still lives.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

use crate::flock;
use crate::pool::{DEFAULT_LOCK_WAIT, Owner, check_network};

mod allocate;
mod claim;
mod error;
mod holder;
#[cfg(test)]
mod tests;

pub use allocate::{Given, PluginRanges};
pub use error::HostLocalError;
pub use holder::Holder;

use holder::LONGEST;

/// Where the plugin keeps its directories unless `ipam.dataDir` says otherwise.
pub const DEFAULT_DIRECTORY: &str = "/var/lib/cni/networks";

const LOCK: &str = "lock";
const LAST_RESERVED: &str = "last_reserved_ip.";

/// The one name under which a file is written before it is put in place. The plugin reads it like any other file, and
/// removes it with the reservation that it was meant to become.
const DRAFT: &str = "loden.new";

/// The reservations of one network.
#[derive(Clone, Debug)]
pub struct HostLocal {
    directory: PathBuf,
    lock_wait: Duration,
}

/// A reserved address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The address.
    pub address: IpAddr,
    /// Who has it; `None` if the file does not say: it is empty, or not one of the plugin's.
    pub holder: Option<Holder>,
    /// The name of the file, which need not spell the address as we do.
    name: String,
}

impl HostLocal {
    /// The reservations of a network below `data_dir`. Nothing is looked at yet.
    ///
    /// # Errors
    ///
    /// [`HostLocalError::Name`] if the network's name is not one that CNI allows.
    pub fn new(data_dir: &Path, network: &str) -> Result<Self, HostLocalError> {
        check_network(network)?;
        Ok(Self {
            directory: data_dir.join(network),
            lock_wait: DEFAULT_LOCK_WAIT,
        })
    }

    /// The same with another time to wait for the lock than [`DEFAULT_LOCK_WAIT`].
    #[must_use]
    pub fn waiting(self, lock_wait: Duration) -> Self {
        Self { lock_wait, ..self }
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// All reservations, in the order of the addresses; none if there is no directory. They are read one by one without
    /// the lock, so some may be gone when this ends.
    ///
    /// # Errors
    ///
    /// [`HostLocalError::Io`].
    pub fn reservations(&self) -> Result<Vec<Reservation>, HostLocalError> {
        let refused = error::named("cannot list", &self.directory);
        let Some(entries) = absent(fs::read_dir(&self.directory)).map_err(&refused)? else {
            return Ok(Vec::new());
        };
        let mut reservations = Vec::new();
        for entry in entries {
            let Ok(name) = entry.map_err(&refused)?.file_name().into_string() else {
                continue;
            };
            let Ok(address) = name.parse::<IpAddr>() else {
                continue;
            };
            reservations.extend(self.read(address.to_canonical(), name)?);
        }
        reservations.sort_by(|a, b| (a.address, &a.name).cmp(&(b.address, &b.name)));
        Ok(reservations)
    }

    /// The reservation of an address, found without a look at any other.
    ///
    /// # Errors
    ///
    /// [`HostLocalError::Io`].
    pub fn reservation(&self, address: IpAddr) -> Result<Option<Reservation>, HostLocalError> {
        self.read(address, file_name(address))
    }

    /// The reservations of an owner, found as the plugin finds them: those of container and interface, and if there are
    /// none those that name the container alone. Reads every file.
    ///
    /// # Errors
    ///
    /// [`HostLocalError::Io`].
    pub fn held_by(&self, owner: &Owner) -> Result<Vec<Reservation>, HostLocalError> {
        let all = self.reservations()?;
        let of = |matches: fn(&Holder, &Owner) -> bool| -> Vec<Reservation> {
            let held = all.iter().filter(|reservation| {
                let holder = reservation.holder.as_ref();
                holder.is_some_and(|holder| matches(holder, owner))
            });
            held.cloned().collect()
        };
        let exact = of(Holder::is);
        Ok(if exact.is_empty() {
            of(Holder::is_container_of)
        } else {
            exact
        })
    }

    /// The address that was last reserved from a range set, counted from 0; `None` if there was none yet.
    ///
    /// # Errors
    ///
    /// [`HostLocalError::Io`].
    pub fn last_reserved(&self, set: usize) -> Result<Option<IpAddr>, HostLocalError> {
        let text = self.read_file(&format!("{LAST_RESERVED}{set}"))?;
        Ok(text.and_then(|text| std::str::from_utf8(&text).ok()?.trim().parse().ok()))
    }

    /// Waits until nobody else changes anything, and makes the directory if it is not there.
    ///
    /// # Errors
    ///
    /// [`HostLocalError::Busy`], [`HostLocalError::Io`].
    pub fn lock(&self) -> Result<Locked<'_>, HostLocalError> {
        let path = self.directory.join(LOCK);
        let open = || {
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(OFlag::O_NOFOLLOW.bits())
                .open(&path)
        };
        let file = match absent(open()).map_err(error::named("cannot open", &path))? {
            Some(file) => file,
            None => {
                let make = || {
                    DirBuilder::new()
                        .recursive(true)
                        .mode(0o755)
                        .create(&self.directory)
                };
                make().map_err(error::named("cannot make", &self.directory))?;
                open().map_err(error::named("cannot open", &path))?
            }
        };
        let attempt = |file| match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Ok(lock)),
            Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) => Ok(Err(file)),
            Err((_, errno)) => Err(error::named("cannot lock", &path)(errno.into())),
        };
        match flock::acquire(file, self.lock_wait, attempt)? {
            Ok(flock) => Ok(Locked {
                store: self,
                _flock: flock,
            }),
            Err(waited) => Err(HostLocalError::Busy { path, waited }),
        }
    }

    fn exists(&self) -> bool {
        self.directory.exists()
    }

    fn read(&self, address: IpAddr, name: String) -> Result<Option<Reservation>, HostLocalError> {
        Ok(self.read_file(&name)?.map(|content| Reservation {
            address,
            holder: Holder::parse(&content),
            name,
        }))
    }

    /// A whole file, but never more of it than tells that it is too long; `None` if it is not there. What is no file has
    /// no content, yet occupies its name.
    fn read_file(&self, name: &str) -> Result<Option<Vec<u8>>, HostLocalError> {
        let path = self.directory.join(name);
        // Neither a link to elsewhere nor a pipe is to be read, or waited for.
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(flags.bits());
        let read = |file: Option<File>| -> io::Result<Option<Vec<u8>>> {
            let Some(file) = file else { return Ok(None) };
            let mut content = Vec::new();
            if file.metadata()?.is_file() {
                file.take(LONGEST as u64 + 1).read_to_end(&mut content)?;
            }
            Ok(Some(content))
        };
        match absent(options.open(&path)).and_then(read) {
            Err(error) if error.raw_os_error() == Some(Errno::ELOOP as i32) => Ok(Some(Vec::new())),
            Err(error) if error.raw_os_error() == Some(Errno::ENXIO as i32) => Ok(Some(Vec::new())),
            result => result.map_err(error::named("cannot read", &path)),
        }
    }
}

/// The reservations while nobody else changes them, the plugin included. Until dropped.
#[derive(Debug)]
pub struct Locked<'a> {
    store: &'a HostLocal,
    _flock: Flock<File>,
}

impl Locked<'_> {
    /// Reserves an address, which counts as the last one of its range set; sets are counted from 0.
    ///
    /// A process that is killed here leaves the whole reservation or none.
    ///
    /// # Errors
    ///
    /// [`HostLocalError::Taken`] if the address is reserved, for the same owner too; [`HostLocalError::Io`].
    pub fn reserve(
        &self,
        address: IpAddr,
        owner: &Owner,
        set: usize,
    ) -> Result<(), HostLocalError> {
        let name = file_name(address);
        let content = Holder::from(owner).to_string();
        if !self.create(&name, content.as_bytes())? {
            let holder = self
                .store
                .reservation(address)?
                .and_then(|reservation| reservation.holder);
            return Err(HostLocalError::Taken { address, holder });
        }
        // Where the plugin goes on is a wish only: without it, it begins at the first address. So an error here takes
        // nothing back.
        let _ = self
            .write_draft(name.as_bytes())
            .and_then(|draft| fs::rename(draft, self.path(&format!("{LAST_RESERVED}{set}"))));
        Ok(())
    }

    /// Gives an address back if it is this owner's, without a look at any other; whether it was.
    ///
    /// # Errors
    ///
    /// [`HostLocalError::Io`].
    pub fn release(&self, address: IpAddr, owner: &Owner) -> Result<bool, HostLocalError> {
        let held = self.store.reservation(address)?.filter(|reservation| {
            let holder = reservation.holder.as_ref();
            holder.is_some_and(|holder| holder.is(owner) || holder.is_container_of(owner))
        });
        held.map_or(Ok(false), |held| self.unlink(&held.name))
    }

    /// Gives back all that an owner has, and tells what it was: for an owner of whom no address is known. Reads every
    /// file.
    ///
    /// # Errors
    ///
    /// [`HostLocalError::Io`].
    pub fn release_all(&self, owner: &Owner) -> Result<Vec<Reservation>, HostLocalError> {
        let held = self.store.held_by(owner)?;
        for reservation in &held {
            self.unlink(&reservation.name)?;
        }
        Ok(held)
    }

    /// Takes a reservation away whoever has it, unless it has become another one since it was read; whether it was there.
    /// This is the way to be rid of one that says nobody's name.
    ///
    /// # Errors
    ///
    /// [`HostLocalError::Io`].
    pub fn remove(&self, reservation: &Reservation) -> Result<bool, HostLocalError> {
        let now = self
            .store
            .read(reservation.address, reservation.name.clone())?;
        if now.as_ref() != Some(reservation) {
            return Ok(false);
        }
        self.unlink(&reservation.name)
    }

    /// Puts a new file in place with its content; whether there was none of that name.
    ///
    /// A link cannot replace a file either, and unlike a file made under its name it never has half its content.
    fn create(&self, name: &str, content: &[u8]) -> Result<bool, HostLocalError> {
        let path = self.path(name);
        let linked = self
            .write_draft(content)
            .and_then(|draft| fs::hard_link(draft, &path));
        let created = match linked {
            Err(error) if has_no_links(&error) => create_plainly(&path, content),
            linked => linked,
        };
        self.unlink(DRAFT)?;
        match created {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error::named("cannot write", &path)(error)),
        }
    }

    fn write_draft(&self, content: &[u8]) -> io::Result<PathBuf> {
        let path = self.path(DRAFT);
        // A draft that a killed process left may be a second name of the file it became, so it is not written over.
        absent(fs::remove_file(&path))?;
        create_plainly(&path, content)?;
        Ok(path)
    }

    fn unlink(&self, name: &str) -> Result<bool, HostLocalError> {
        let path = self.path(name);
        let removed = absent(fs::remove_file(&path));
        Ok(removed
            .map_err(error::named("cannot remove", &path))?
            .is_some())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.store.directory.join(name)
    }
}

/// Go writes an IPv4 address in the guise of IPv6 as what it is; all else both languages spell alike (RFC 5952).
fn file_name(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

fn create_plainly(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path)?.write_all(content)
}

/// link(2): EPERM is the answer of a file system that has no hard links.
fn has_no_links(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::EPERM | Errno::EOPNOTSUPP | Errno::EMLINK)
    )
}

fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
