//! Which ports of the host lead to which pods, on disk: one small file for each attachment that has any.
//!
//! The files are the authority from which the rules of the kernel follow, all of them at every change. Each is written aside and
//! renamed, under a lock, so that a kill at any instant leaves a whole file or none. They live below `/run`: a reboot ends
//! the pods, the rules and these files together.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use serde::{Deserialize, Serialize};

use crate::flock;
use crate::pool::Owner;

mod error;
#[cfg(test)]
mod tests;

pub use error::HostPortsError;

/// Where the records are.
pub const DEFAULT_DIRECTORY: &str = "/run/loden/hostports";

/// The name of the nf_tables tables (`ip` and `ip6`) that are made of them.
pub const TABLE: &str = "loden-hostports";

/// The file whose lock every change is made under. Never removed nor renamed.
const LOCK: &str = "lock";

/// Where a record is written before it counts.
const DRAFT: &str = "record.new";

/// A transport protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Stream control transmission protocol.
    Sctp,
    /// Transmission control protocol.
    Tcp,
    /// User datagram protocol.
    Udp,
}

/// A port of the host that leads to one of the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mapping {
    /// The protocol of both ports.
    pub protocol: Transport,
    /// The port of the host.
    pub host_port: u16,
    /// The port of the pod.
    pub container_port: u16,
    /// The only address of the host where the port leads to the pod; all of them without it. An unspecified one stands for all of
    /// its family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
}

/// An address of a pod, and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodAddress {
    /// The address.
    pub address: IpAddr,
    /// The length of the prefix of the addresses that are its neighbours.
    pub prefix: u8,
}

/// Who is masqueraded on the way to the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Masqueraded {
    /// Everybody.
    All,
    /// The pod itself, its neighbours and the host's own loopback addresses, who would not get an answer otherwise.
    Near,
    /// Nobody.
    Nobody,
}

/// A link on which the host's loopback addresses may be used (`route_localnet`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Localnet {
    /// The link.
    pub link: String,
    /// Whether they could not before somebody on record came, so that it is to be switched off behind the last one.
    pub ours: bool,
}

/// The ports of one attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortRecord {
    /// Container and interface.
    pub owner: Owner,
    /// The CNI network.
    pub network: String,
    /// Greater than that of every record before it: of two that claim a port the later one has it.
    pub order: u64,
    /// The network namespace of the host that the rules are in (inode number).
    pub host: u64,
    /// The path of the pod's network namespace.
    pub netns: String,
    /// The pod's addresses, at most one of each family.
    pub addresses: Vec<PodAddress>,
    /// Its ports.
    pub mappings: Vec<Mapping>,
    /// Whose source address it does not see.
    pub masqueraded: Masqueraded,
    /// The bit of the packet mark that says so on the way through the kernel.
    pub mark_bit: u8,
    /// Where loopback addresses are let through to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub localnet: Option<Localnet>,
}

/// The records of a host.
#[derive(Clone, Debug)]
pub struct HostPorts {
    directory: PathBuf,
}

/// The records while nobody else changes them.
#[derive(Debug)]
pub struct Locked<'a> {
    store: &'a HostPorts,
    _flock: Flock<File>,
}

impl HostPorts {
    /// Those in a directory, which need not be there.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// Whether there was never any record since the host started.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        !self.directory.exists()
    }

    /// Whether an attachment has a record. Costs one system call and no lock.
    #[must_use]
    pub fn has(&self, owner: &Owner) -> bool {
        self.path(owner).exists()
    }

    /// When the record of an attachment was written, if it has one.
    #[must_use]
    pub fn written(&self, owner: &Owner) -> Option<SystemTime> {
        let metadata = fs::metadata(self.path(owner)).ok()?;
        metadata.modified().ok()
    }

    /// Waits for the lock, at most so long. Makes the directory.
    ///
    /// # Errors
    ///
    /// [`HostPortsError::Busy`], [`HostPortsError::Io`].
    pub fn lock(&self, wait: Duration) -> Result<Locked<'_>, HostPortsError> {
        let path = self.directory.join(LOCK);
        let mut directory = DirBuilder::new();
        directory
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .map_err(error::named("cannot make", &self.directory))?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&path)
            .map_err(error::named("cannot open", &path))?;
        let attempt = |file| match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Ok(lock)),
            Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) => Ok(Err(file)),
            Err((_, errno)) => Err(error::named("cannot lock", &path)(errno.into())),
        };
        match flock::acquire(file, wait, attempt)? {
            Ok(flock) => Ok(Locked {
                store: self,
                _flock: flock,
            }),
            Err(waited) => Err(HostPortsError::Busy { path, waited }),
        }
    }

    fn path(&self, owner: &Owner) -> PathBuf {
        self.directory.join(owner.file_name())
    }
}

impl Locked<'_> {
    /// All records, the oldest first. A file that nobody can understand is passed over: it says nothing of any pod.
    ///
    /// # Errors
    ///
    /// [`HostPortsError::Io`]
    pub fn records(&self) -> Result<Vec<PortRecord>, HostPortsError> {
        let directory = &self.store.directory;
        let refused = error::named("cannot list", directory);
        let mut records = Vec::new();
        for entry in fs::read_dir(directory).map_err(&refused)? {
            let path = entry.map_err(&refused)?.path();
            if path.file_name().is_some_and(is_of_record) {
                let text = fs::read(&path).map_err(error::named("cannot read", &path))?;
                records.extend(serde_json::from_slice::<PortRecord>(&text).ok());
            }
        }
        records.sort_by_key(|record| record.order);
        Ok(records)
    }

    /// Writes a record in the place of the one that its owner may have.
    ///
    /// # Errors
    ///
    /// [`HostPortsError::Io`]; the old one is there then.
    pub fn write(&self, record: &PortRecord) -> Result<(), HostPortsError> {
        let (draft, path) = (
            self.store.directory.join(DRAFT),
            self.store.path(&record.owner),
        );
        let text = serde_json::to_vec(record).map_err(io::Error::from);
        text.and_then(|text| fs::write(&draft, text))
            .and_then(|()| fs::rename(&draft, &path))
            .map_err(error::named("cannot write", &path))
    }

    /// Removes the record of an attachment, if it has one.
    ///
    /// # Errors
    ///
    /// [`HostPortsError::Io`]
    pub fn remove(&self, owner: &Owner) -> Result<(), HostPortsError> {
        let path = self.store.path(owner);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error::named("cannot remove", &path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// The names of owners' files have what no other name has: the one between container and interface, or the mark of a shortened one.
fn is_of_record(name: &std::ffi::OsStr) -> bool {
    let name = Path::new(name).to_string_lossy();
    name.contains('@') || name.starts_with('~')
}
