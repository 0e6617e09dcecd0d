//! Kernel settings under /proc/sys. Those of the network are the calling thread's network namespace's.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Component, Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Why a setting cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// There is no such setting: the link it belongs to is gone, or the kernel lacks the feature.
    #[error(
        "there is no kernel setting {setting}; the kernel lacks the feature or the link is gone"
    )]
    Missing {
        /// Its path below /proc/sys.
        setting: String,
    },
    /// The path leads out of /proc/sys or nowhere.
    #[error(
        "\"{setting}\" is no path of a kernel setting; it should look like net/ipv4/ip_forward"
    )]
    NotASetting {
        /// What was given.
        setting: String,
    },
    /// It could not be read.
    #[error("cannot read the kernel setting {setting}: {reason}")]
    Read {
        /// Its path below /proc/sys.
        setting: String,
        /// What the kernel said.
        reason: io::Error,
    },
    /// It could not be written.
    #[error("cannot set the kernel setting {setting} to \"{value}\": {reason}{}", hint(.reason))]
    Write {
        /// Its path below /proc/sys.
        setting: String,
        /// What it was to be.
        value: String,
        /// What the kernel said.
        reason: io::Error,
    },
}

impl SysctlError {
    /// Whether there is no such setting.
    #[must_use]
    pub const fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }

    /// Whether nothing can be changed from here, however often it is tried: `/proc/sys` is read-only, as in containers, or
    /// this process is not allowed to.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        let kind = |reason: &io::Error| {
            matches!(
                reason.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
            )
        };
        matches!(self, Self::Write { reason, .. } if kind(reason))
    }
}

/// What a setting says, without the end of line; several values are parted by single blanks.
///
/// The setting is named by its path below /proc/sys, as in `net/ipv4/conf/eth0.100/rp_filter`: with slashes, because the
/// names of links may contain dots.
///
/// # Errors
/// [`SysctlError::Missing`], [`SysctlError::NotASetting`], [`SysctlError::Read`].
pub fn read(setting: &str) -> Result<String, SysctlError> {
    let text = read_once(&path(setting)?).map_err(|reason| match reason.kind() {
        io::ErrorKind::NotFound => SysctlError::Missing {
            setting: setting.to_owned(),
        },
        _ => SysctlError::Read {
            setting: setting.to_owned(),
            reason,
        },
    })?;
    Ok(normalised(&text))
}

/// The kernel hands a whole setting out at once (long lists excepted), so that a second read, and a question how long it is, are spared.
fn read_once(path: &Path) -> io::Result<String> {
    let mut bytes = [0; LONGEST];
    let mut file = File::open(path)?;
    let length = file.read(&mut bytes)?;
    if length == LONGEST {
        return fs::read_to_string(path);
    }
    String::from_utf8(bytes[..length].to_vec()).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Makes a setting say something; one that says it already is not touched. Tells whether it was changed.
///
/// # Errors
/// As [`read`], and [`SysctlError::Write`].
pub fn write(setting: &str, value: &str) -> Result<bool, SysctlError> {
    // Some settings can only be written; what they say is not known, so they are.
    let says_it = || Ok(read_if_readable(setting)?.is_some_and(|found| found == normalised(value)));
    if says_it()? {
        return Ok(false);
    }
    let path = path(setting)?;
    let _turn = take_turns(&path);
    if says_it()? {
        return Ok(false);
    }
    fs::write(path, value).map_err(|reason| match reason.kind() {
        io::ErrorKind::NotFound => SysctlError::Missing {
            setting: setting.to_owned(),
        },
        _ => SysctlError::Write {
            setting: setting.to_owned(),
            value: value.to_owned(),
            reason,
        },
    })?;
    Ok(true)
}

/// Lets one program write a setting at a time, by a lock on its file that programs of ours look for.
///
/// Where two write `ip_forward` at the same moment, the kernel (`devinet_sysctl_forward`) can take back the value of one while the
/// other takes it for done: the setting then says 1, no link forwards, and writing 1 again changes nothing. Whoever may read
/// the file may hold the lock, so it is waited for only so long.
fn take_turns(path: &Path) -> Option<Flock<File>> {
    let deadline = Instant::now() + PATIENCE;
    let mut file = File::open(path).ok()?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(turn) => return Some(turn),
            Err((_, errno)) if errno != Errno::EWOULDBLOCK || Instant::now() > deadline => {
                return None;
            }
            Err((same, _)) => file = same,
        }
        thread::sleep(PAUSE);
    }
}

fn read_if_readable(setting: &str) -> Result<Option<String>, SysctlError> {
    match read(setting) {
        Ok(value) => Ok(Some(value)),
        Err(SysctlError::Read { reason, .. })
            if reason.kind() == io::ErrorKind::PermissionDenied =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn path(setting: &str) -> Result<PathBuf, SysctlError> {
    let relative = Path::new(setting);
    let plain = |component| matches!(component, Component::Normal(_));
    if setting.is_empty() || setting.contains('\0') || !relative.components().all(plain) {
        return Err(SysctlError::NotASetting {
            setting: setting.to_owned(),
        });
    }
    Ok(Path::new(ROOT).join(relative))
}

fn normalised(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn hint(reason: &io::Error) -> &'static str {
    match reason.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; set it on the host, or run with /proc/sys writable"
        }
        _ => "",
    }
}

/// Writing a setting takes the kernel some milliseconds, unless many are busy with the network configuration: it tries for that lock over
/// and over, and may find it taken each time for seconds.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(1);

const ROOT: &str = "/proc/sys";

/// More than nearly every setting says.
const LONGEST: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_read_without_its_end_of_line() {
        assert_eq!(read("kernel/ostype").unwrap(), "Linux");
        let range = read("net/ipv4/ip_local_port_range").unwrap();
        assert_eq!(range.split(' ').count(), 2, "{range}");
    }

    #[test]
    fn a_setting_that_says_it_already_is_not_written() {
        // Writing this one is refused even to root, so success means that it was left alone.
        let found = read("kernel/ostype").unwrap();
        assert!(!write("kernel/ostype", &found).unwrap());
        let error = write("kernel/ostype", "Plan 9").unwrap_err();
        assert!(matches!(error, SysctlError::Write { .. }), "{error}");
        assert!(
            error.to_string().contains("kernel/ostype to \"Plan 9\""),
            "{error}"
        );
    }

    #[test]
    fn a_missing_setting_is_told_as_such() {
        let error = read("net/ipv4/conf/no.such.link/rp_filter").unwrap_err();
        assert!(error.is_missing(), "{error}");
        assert!(
            write("net/ipv4/conf/no.such.link/rp_filter", "0")
                .unwrap_err()
                .is_missing()
        );
    }

    #[test]
    fn nothing_outside_is_reached() {
        for setting in [
            "",
            "../version",
            "net/../../version",
            "/proc/sys/kernel/ostype",
            "./kernel",
            "a\0b",
        ] {
            let error = read(setting).unwrap_err();
            assert!(
                matches!(error, SysctlError::NotASetting { .. }),
                "{setting}: {error}"
            );
        }
    }
}
