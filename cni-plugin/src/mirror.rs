//! The reservations of this program as the reference plugin `host-local` would have them, beside the pool.
//!
//! flannel's plugin has host-local keep the addresses. A node may be switched from the one program to the other while its
//! pods run, in both directions: so what stands in host-local's directory is not given to our pods, and what our pods have
//! stands there. The pool decides and outlives a kill; an entry here is made after the pool's and removed before it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use ipam::host_local::{self, HostLocal, HostLocalError};
use ipam::{Attachment, Owner};

use crate::protocol::json::Section;
use crate::protocol::{Config, Error};

/// The directory of host-local for one network.
#[derive(Clone, Debug)]
pub struct Mirror {
    store: HostLocal,
}

impl Mirror {
    /// Where host-local would keep the config's network.
    ///
    /// # Errors
    ///
    /// [`Error::HostLocal`]; the name was checked before, so it does not happen.
    pub fn of(config: &Config) -> Result<Self, Error> {
        let directory = data_dir(&Section::root(&config.object));
        Ok(Self {
            store: HostLocal::new(&directory, &config.name)?,
        })
    }

    /// The same as another program's reservations.
    pub fn store(&self) -> &HostLocal {
        &self.store
    }

    /// Notes what the pool gave. Tells whether it could: not if host-local has given one of the addresses since the pool
    /// last looked.
    ///
    /// # Errors
    ///
    /// [`Error::HostLocal`]; nothing is noted then.
    pub fn note(&self, attachment: &Attachment) -> Result<bool, Error> {
        for held in &attachment.addresses {
            let mut claimed = self.store.claim(held.address, &attachment.owner);
            if matches!(claimed, Err(HostLocalError::Taken { .. })) {
                let found = self.store.reservation(held.address)?;
                if found.is_some_and(|found| self.store.is_older(&found, boot())) {
                    fs::remove_file(self.store.directory().join(held.address.to_string()))
                        .or_else(|error| match error.kind() {
                            io::ErrorKind::NotFound => Ok(()),
                            _ => Err(error),
                        })
                        .map_err(|source| HostLocalError::Io {
                            what: "cannot remove",
                            path: self.store.directory().to_owned(),
                            source,
                        })?;
                    claimed = self.store.claim(held.address, &attachment.owner);
                }
            }
            match claimed {
                Ok(()) => {}
                Err(HostLocalError::Io { source, .. })
                    if source.kind() == io::ErrorKind::ReadOnlyFilesystem =>
                {
                    // Then host-local was never at work here.
                    return Ok(true);
                }
                Err(error) => {
                    let undone = self.forget(attachment);
                    return match error {
                        HostLocalError::Taken { .. } => undone.map(|()| false),
                        error => Err(Error::from(error).after_undoing(undone)),
                    };
                }
            }
        }
        for (set, held) in attachment.addresses.iter().enumerate() {
            // A wish only: the plugin begins at the first address without it.
            let _ = self.store.note_last(set, held.address);
        }
        Ok(true)
    }

    /// Removes what was noted.
    ///
    /// # Errors
    ///
    /// [`Error::HostLocal`]
    pub fn forget(&self, attachment: &Attachment) -> Result<(), Error> {
        for held in &attachment.addresses {
            self.store.unclaim(held.address, &attachment.owner)?;
        }
        Ok(())
    }

    /// All that host-local holds of an owner.
    ///
    /// # Errors
    ///
    /// [`Error::HostLocal`]
    pub fn held_by(&self, owner: &Owner) -> Result<Vec<host_local::Reservation>, Error> {
        Ok(self.store.held_by(owner)?)
    }

    /// The addresses that the pool must not give.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub fn addresses(&self) -> io::Result<Vec<std::net::IpAddr>> {
        let reservations = self.store.reservations_since(boot());
        let reservations = reservations.map_err(io::Error::other)?;
        Ok(reservations.iter().map(|held| held.address).collect())
    }
}

/// `ipam.dataDir`, as far as it can be told: a DEL has to work with a broken config too.
pub fn data_dir(config: &Section<'_>) -> PathBuf {
    let given = config
        .section("ipam")
        .ok()
        .flatten()
        .and_then(|ipam| ipam.string("dataDir").ok().flatten())
        .filter(|path| !path.is_empty());
    given.unwrap_or(host_local::DEFAULT_DIRECTORY).into()
}

/// A time of which everything is sure to be from before the present boot.
///
/// The clock of a machine may be set forward a while after its start, so that files of this boot seem older than it; the
/// kernel's first device files then tell the time of the start by the same wrong clock. The earlier one counts.
pub(crate) fn boot() -> SystemTime {
    let uptime = uptime();
    let computed = uptime.and_then(|up| SystemTime::now().checked_sub(Duration::from_secs(up)));
    let device = fs::metadata("/dev/null").and_then(|device| device.modified());
    match (computed, device) {
        (Some(computed), Ok(device)) => computed.min(device),
        _ => SystemTime::UNIX_EPOCH,
    }
}

/// Seconds since the start.
fn uptime() -> Option<u64> {
    let mut text = [0; 64];
    // The kernel hands the whole line out at once.
    let length = File::open("/proc/uptime").ok()?.read(&mut text).ok()?;
    let seconds = text[..length].split(|byte| *byte == b'.').next()?;
    std::str::from_utf8(seconds).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_now_is_of_this_boot() {
        assert!(boot() < SystemTime::now());
        assert!(uptime().is_some());
    }
}
