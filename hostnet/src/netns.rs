//! Network namespaces: opened by path, known by identity, entered or visited.

use std::{
    fmt,
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    panic,
    path::{Path, PathBuf},
    thread,
};

use nix::{
    errno::Errno,
    libc,
    sched::{CloneFlags, setns},
    sys::statfs::fstatfs,
};

use crate::{error::Error, netlink::Netlink};

/// An open network namespace. It lives as long as this value, whatever happens to the path it was opened by.
#[derive(Debug)]
pub struct Netns {
    file: File,
    path: PathBuf,
}

/// What tells two namespaces apart while both exist, as [`stat(2)`] has it.
///
/// [`stat(2)`]: https://man7.org/linux/man-pages/man7/namespaces.7.html
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetnsIdentity {
    /// Device of the namespace file system.
    pub device: u64,
    /// The namespace's number on it.
    pub inode: u64,
}

impl fmt::Display for NetnsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.inode)
    }
}

/// Why a network namespace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The thread could not be put into it.
    #[error("cannot enter the network namespace {}: {reason}; this needs CAP_SYS_ADMIN", .path.display())]
    Enter {
        /// By what path it was opened.
        path: PathBuf,
        /// What the kernel said.
        reason: io::Error,
    },
    /// There is nothing at the path.
    #[error("there is no network namespace at {}; the sandbox it belonged to is gone", .path.display())]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// The socket inside could not be opened.
    #[error("in the network namespace {}: {error}", .path.display())]
    Netlink {
        /// By what path it was opened.
        path: PathBuf,
        /// Why.
        error: Error,
    },
    /// There is something at the path, but it is no network namespace.
    #[error("{} is not a network namespace but {found}", .path.display())]
    NotANetns {
        /// The path.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// The path could not be opened or looked at.
    #[error("cannot open the network namespace {}: {reason}", .path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        reason: io::Error,
    },
    /// The thread that was to visit it could not be started.
    #[error("cannot start a thread to visit the network namespace {}: {reason}", .path.display())]
    Thread {
        /// By what path it was opened.
        path: PathBuf,
        /// What the kernel said.
        reason: io::Error,
    },
}

impl NetnsError {
    /// Whether there is no namespace to be had at the path: gone, or left as an empty file by an interrupted clean-up.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::NotANetns { .. })
    }
}

impl Netns {
    /// Opens the namespace at a path, such as `/var/run/netns/name` or `/proc/1/ns/net`.
    ///
    /// # Errors
    /// [`NetnsError::Missing`], [`NetnsError::NotANetns`] (a file that was only meant to be mounted over, another kind of
    /// namespace), [`NetnsError::Open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, NetnsError> {
        let path = path.as_ref().to_path_buf();
        // The path is given by others: neither a FIFO nor a terminal there may hold us up.
        let opened = File::options()
            .read(true)
            .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(reason) if is_missing(&reason) => return Err(NetnsError::Missing { path }),
            Err(reason) if reason.raw_os_error() == Some(libc::ENXIO) => {
                return Err(NetnsError::NotANetns {
                    path,
                    found: "a socket or a device",
                });
            }
            Err(reason) => return Err(NetnsError::Open { path, reason }),
        };
        match other_than_netns(&file) {
            Ok(None) => Ok(Self { file, path }),
            Ok(Some(found)) => Err(NetnsError::NotANetns { path, found }),
            Err(reason) => Err(NetnsError::Open { path, reason }),
        }
    }

    /// The namespace the calling thread is in.
    ///
    /// # Errors
    /// [`NetnsError::Open`] where /proc is not mounted.
    pub fn current() -> Result<Self, NetnsError> {
        Self::open(THREAD_NETNS)
    }

    /// By what path it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What tells it apart from all others that exist now. Numbers come back after a namespace is gone.
    ///
    /// # Errors
    /// [`NetnsError::Open`] when the kernel cannot say.
    pub fn identity(&self) -> Result<NetnsIdentity, NetnsError> {
        let metadata = self.file.metadata();
        let metadata = metadata.map_err(|reason| NetnsError::Open {
            path: self.path.clone(),
            reason,
        })?;
        Ok(NetnsIdentity {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    /// Puts the calling thread into it, for good. For programs with one thread and one purpose; a thread of a pool must
    /// use [`Self::run`].
    ///
    /// # Errors
    /// [`NetnsError::Enter`].
    pub fn enter(&self) -> Result<(), NetnsError> {
        let entered = setns(&self.file, CloneFlags::CLONE_NEWNET);
        entered.map_err(|errno| NetnsError::Enter {
            path: self.path.clone(),
            reason: errno.into(),
        })
    }

    /// Does something inside it on a thread of its own, so that no thread of the caller's is ever in the wrong place.
    ///
    /// # Errors
    /// [`NetnsError::Enter`], [`NetnsError::Thread`].
    ///
    /// # Panics
    /// If the visitor panics, with its panic.
    pub fn run<T: Send>(&self, visit: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        thread::scope(|scope| {
            let visitor = thread::Builder::new().spawn_scoped(scope, || {
                self.enter()?;
                Ok(visit())
            });
            let visitor = visitor.map_err(|reason| NetnsError::Thread {
                path: self.path.clone(),
                reason,
            })?;
            visitor
                .join()
                .unwrap_or_else(|panic| panic::resume_unwind(panic))
        })
    }

    /// A connection into it. It stays there, whoever uses it.
    ///
    /// # Errors
    /// As [`Self::run`], and [`NetnsError::Netlink`].
    pub fn netlink(&self) -> Result<Netlink, NetnsError> {
        self.run(Netlink::open)?
            .map_err(|error| NetnsError::Netlink {
                path: self.path.clone(),
                error,
            })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for Netns {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.file.as_raw_fd()
    }
}

/// What the file is instead of a network namespace, if it is something else.
fn other_than_netns(file: &File) -> io::Result<Option<&'static str>> {
    if fstatfs(file)?.filesystem_type() != NSFS {
        return Ok(Some("an ordinary file or directory"));
    }
    // SAFETY: NS_GET_NSTYPE takes no argument and writes no memory; the descriptor is open for as long as `file` is borrowed.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
    match Errno::result(kind) {
        Ok(libc::CLONE_NEWNET) => Ok(None),
        Ok(_) => Ok(Some("a namespace of another kind")),
        Err(errno) => Err(errno.into()),
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// `/proc/self` is the process's first thread, which may be elsewhere.
const THREAD_NETNS: &str = "/proc/thread-self/ns/net";

// linux/magic.h NSFS_MAGIC, linux/nsfs.h _IO(0xb7, 0x3)
const NSFS: nix::sys::statfs::FsType = nix::sys::statfs::FsType(0x6e73_6673);
const NS_GET_NSTYPE: libc::Ioctl = 0xb703;

#[cfg(test)]
mod tests;
