//! The daemon's local socket: one daemon's at a time, and root's alone.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use thiserror::Error;
use tokio::net::{UnixListener, UnixStream};

/// Where the daemon listens unless told otherwise.
pub const DEFAULT_PATH: &str = "/run/flannel/flanneld.sock";

/// Why there is no socket. The daemon does its work without it.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Another daemon has it.
    #[error(
        "another flanneld answers on {}; give each its own --status-socket", .0.display()
    )]
    Taken(PathBuf),
    /// The system refuses.
    #[error("cannot {action} {}: {reason}", path.display())]
    Io {
        /// What was to be done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        reason: io::Error,
    },
}

/// A socket that is listened on. The file stays when the process ends, and whoever comes next replaces it.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    /// Our user, which may ask besides root.
    user: u32,
    /// Held as long as the process lives: it tells a living daemon's socket from what a dead one left.
    _lock: File,
}

impl Socket {
    /// Listens at `path`. What a dead daemon left there is replaced, a living one's socket is not.
    ///
    /// # Errors
    /// [`SocketError`]
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let at = |action, path: &Path| {
            let path = path.to_owned();
            move |reason| SocketError::Io {
                action,
                path,
                reason,
            }
        };
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(at("create", directory))?;
        }
        let beside = lock_path(path);
        let lock = File::options()
            .create(true)
            .append(true)
            .open(&beside)
            .map_err(at("open", &beside))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SocketError::Taken(path.to_owned())),
            Err(TryLockError::Error(reason)) => return Err(at("lock", &beside)(reason)),
        }
        // What is noted there is about a daemon that stopped.
        lock.set_len(0).map_err(at("write", &beside))?;
        match fs::remove_file(path) {
            Err(reason) if reason.kind() != io::ErrorKind::NotFound => {
                return Err(at("replace", path)(reason));
            }
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(at("listen on", path))?;
        // Whoever connects before this is asked for his name below.
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(at("protect", path))?;
        let user = fs::metadata(path).map_err(at("look at", path))?.uid();
        Ok(Self {
            listener,
            user,
            _lock: lock,
        })
    }

    /// The next connection of root, or of the user that the daemon runs as.
    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        loop {
            let (client, _) = self.listener.accept().await?;
            let user = client.peer_cred()?.uid();
            if user == 0 || user == self.user {
                return Ok(client);
            }
        }
    }
}

/// Notes beside the socket that the daemon stops now, for [`stopped_at`].
pub fn note_stop(path: &Path) {
    let now = Timestamp::from_second(Timestamp::now().as_second());
    // A convenience: when it is not there, nobody knows when the daemon stopped.
    let _ = fs::write(lock_path(path), format!("{}\n", now.unwrap_or_default()));
}

/// When the daemon whose socket this was stopped, if it was stopped in order.
pub fn stopped_at(path: &Path) -> Option<Timestamp> {
    let note = fs::read_to_string(lock_path(path)).ok()?;
    note.trim().parse().ok()
}

/// The files that a daemon leaves when it ends.
pub fn files(path: &Path) -> [PathBuf; 2] {
    [path.to_owned(), lock_path(path)]
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new").join("flanneld.sock");
        (directory, path)
    }

    #[tokio::test]
    async fn a_living_daemons_socket_is_not_taken_and_a_dead_ones_is_replaced() {
        let (_directory, path) = scratch();
        let first = Socket::bind(&path).unwrap();
        let refused = Socket::bind(&path).unwrap_err();
        assert!(matches!(refused, SocketError::Taken(_)), "{refused}");
        assert!(UnixStream::connect(&path).await.is_ok());
        drop(first);
        // The file is still there, as after a kill.
        assert!(path.exists());
        let _second = Socket::bind(&path).unwrap();
        assert!(UnixStream::connect(&path).await.is_ok());
    }

    #[tokio::test]
    async fn the_time_of_an_orderly_stop_is_known_until_the_next_start() {
        let (_directory, path) = scratch();
        assert_eq!(stopped_at(&path), None);
        let socket = Socket::bind(&path).unwrap();
        assert_eq!(stopped_at(&path), None);
        note_stop(&path);
        drop(socket);
        let passed = Timestamp::now().as_second() - stopped_at(&path).unwrap().as_second();
        assert!((0..60).contains(&passed), "{passed}");
        let _socket = Socket::bind(&path).unwrap();
        assert_eq!(stopped_at(&path), None);
    }

    #[tokio::test]
    async fn nobody_else_can_open_it() {
        let (_directory, path) = scratch();
        let _socket = Socket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_place_where_nothing_can_be_made_is_named() {
        let (_directory, path) = scratch();
        fs::write(path.parent().unwrap(), "a file").unwrap();
        let refused = Socket::bind(&path).unwrap_err().to_string();
        assert!(refused.contains("new"), "{refused}");
    }
}
