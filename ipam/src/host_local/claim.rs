//! Reservations beside those of another pool, which has decided on the address already.
//!
//! A file that is made exclusively is all that keeps two programs from giving the same address, so nothing here waits for
//! the plugin's lock: attaching a pod has to be quick, and whoever holds that lock may hang.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::time::SystemTime;

use super::{
    Holder, HostLocal, HostLocalError, LAST_RESERVED, Owner, Reservation, absent, error, file_name,
};

impl HostLocal {
    /// Notes an address that another pool has given to the owner; fine if it is noted already. A process that is killed
    /// here may leave an empty file, which [`Self::unclaim`] removes as well.
    ///
    /// # Errors
    ///
    /// [`HostLocalError::Taken`] if another owner has the address, or a file that names nobody; [`HostLocalError::Io`].
    pub fn claim(&self, address: IpAddr, owner: &Owner) -> Result<(), HostLocalError> {
        let path = self.directory.join(file_name(address));
        let create = || {
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o600);
            options.open(&path)
        };
        let refused = error::named("cannot write", &path);
        let created = match absent(create()) {
            Ok(None) => {
                let mut directory = DirBuilder::new();
                directory.recursive(true).mode(0o755);
                directory
                    .create(&self.directory)
                    .map_err(error::named("cannot make", &self.directory))?;
                create().map(Some)
            }
            other => other,
        };
        match created {
            Ok(Some(mut file)) => {
                let content = Holder::from(owner).to_string();
                file.write_all(content.as_bytes()).map_err(|reason| {
                    // Half a name is nobody's, and no DEL would ever find it.
                    let _ = fs::remove_file(&path);
                    refused(reason)
                })
            }
            Ok(None) => Err(refused(io::ErrorKind::NotFound.into())),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let found = self.reservation(address)?;
                match found.and_then(|reservation| reservation.holder) {
                    Some(holder) if holder.is(owner) => Ok(()),
                    holder => Err(HostLocalError::Taken { address, holder }),
                }
            }
            Err(error) => Err(refused(error)),
        }
    }

    /// Notes the address that was given last from a range set, counted from 0: behind it the plugin goes on, so that it does
    /// not soon give again what was just released.
    ///
    /// # Errors
    ///
    /// [`HostLocalError::Io`]. Without the note the plugin begins at the first address.
    pub fn note_last(&self, set: usize, address: IpAddr) -> Result<(), HostLocalError> {
        let path = self.directory.join(format!("{LAST_RESERVED}{set}"));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options
            .open(&path)
            .and_then(|mut file| file.write_all(file_name(address).as_bytes()))
            .map_err(error::named("cannot write", &path))
    }

    /// Takes a claim back; whether it was there. A file that names nobody is taken for a claim that was cut short, so this
    /// is for addresses that the other pool knows to be the owner's.
    ///
    /// # Errors
    ///
    /// [`HostLocalError::Io`].
    pub fn unclaim(&self, address: IpAddr, owner: &Owner) -> Result<bool, HostLocalError> {
        let found = self.reservation(address)?;
        let ours = |held: &Reservation| held.holder.as_ref().is_none_or(|holder| holder.is(owner));
        let Some(held) = found.filter(ours) else {
            return Ok(false);
        };
        let path = self.directory.join(&held.name);
        let removed = absent(fs::remove_file(&path));
        Ok(removed
            .map_err(error::named("cannot remove", &path))?
            .is_some())
    }

    /// The reservations that were made at this time or later, in the order of the addresses. With the time of the boot
    /// these are the ones that can be in use: the plugin's files outlive the pods that a reboot ends.
    ///
    /// # Errors
    ///
    /// [`HostLocalError::Io`].
    pub fn reservations_since(&self, time: SystemTime) -> Result<Vec<Reservation>, HostLocalError> {
        let mut reservations = self.reservations()?;
        reservations.retain(|reservation| !self.is_older(reservation, time));
        Ok(reservations)
    }

    /// Whether a reservation was made before this time; not if that cannot be told.
    #[must_use]
    pub fn is_older(&self, reservation: &Reservation, time: SystemTime) -> bool {
        let path = self.directory.join(&reservation.name);
        let written = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
        written.is_ok_and(|written| written < time)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 244, 1, 7));

    fn store() -> (TempDir, HostLocal, Owner) {
        let root = TempDir::new().unwrap();
        let store = HostLocal::new(&root.path().join("networks"), "cbr0").unwrap();
        (root, store, Owner::new("a", "eth0").unwrap())
    }

    #[test]
    fn a_claim_is_a_reservation_as_the_plugin_writes_it() {
        let (_root, store, owner) = store();
        store.claim(ONE, &owner).unwrap();
        store.claim(ONE, &owner).unwrap();
        let content = fs::read(store.directory().join("10.244.1.7")).unwrap();
        assert_eq!(content, b"a\r\neth0");
        assert!(store.unclaim(ONE, &owner).unwrap());
        assert!(!store.unclaim(ONE, &owner).unwrap());
        assert_eq!(store.reservations().unwrap(), []);
    }

    #[test]
    fn the_plugin_goes_on_behind_the_last_one() {
        let (_root, store, owner) = store();
        assert!(store.note_last(0, ONE).is_err(), "there is no directory");
        store.claim(ONE, &owner).unwrap();
        for (set, text) in [(0, "10.244.1.200"), (0, "10.244.1.7"), (1, "fd00::7")] {
            let address = text.parse().unwrap();
            store.note_last(set, address).unwrap();
            assert_eq!(store.last_reserved(set).unwrap(), Some(address));
        }
        assert_eq!(store.reservations().unwrap().len(), 1);
    }

    #[test]
    fn what_others_have_is_neither_claimed_nor_given_back() {
        let (_root, store, owner) = store();
        let other = Owner::new("b", "eth0").unwrap();
        store.claim(ONE, &other).unwrap();
        let error = store.claim(ONE, &owner).unwrap_err();
        assert!(error.to_string().contains("container b"), "{error}");
        assert!(!store.unclaim(ONE, &owner).unwrap());
        assert!(store.reservation(ONE).unwrap().is_some());
    }

    #[test]
    fn a_claim_cut_short_is_given_back() {
        let (_root, store, owner) = store();
        store.claim(ONE, &owner).unwrap();
        fs::write(store.directory().join("10.244.1.7"), "").unwrap();
        assert!(store.claim(ONE, &owner).is_err());
        assert!(store.unclaim(ONE, &owner).unwrap());
    }

    #[test]
    fn reservations_from_before_a_time_are_told_apart() {
        let (_root, store, owner) = store();
        store.claim(ONE, &owner).unwrap();
        let now = SystemTime::now();
        let hour = Duration::from_secs(3600);
        assert_eq!(store.reservations_since(now - hour).unwrap().len(), 1);
        assert_eq!(store.reservations_since(now + hour).unwrap(), []);
    }
}
