//! The boot of the host, which ends all pods and with them their reservations.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};

use super::PoolError;
use super::layout::BOOT_ID_LEN;

/// Where the kernel tells the present boot; it is the same in every namespace.
pub(super) const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A boot of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootId(pub(super) String);

impl BootId {
    /// A boot known by this text, of which the first 64 bytes count.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut end = text.len().min(BOOT_ID_LEN);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self(text[..end].to_owned())
    }

    /// The present boot.
    ///
    /// # Errors
    ///
    /// [`PoolError::BootId`].
    pub fn current() -> Result<Self, PoolError> {
        let refused = |source| PoolError::BootId { source };
        // One read is enough: the kernel hands the whole text out at once.
        let mut bytes = [0; BOOT_ID_LEN];
        let read = File::open(BOOT_ID)
            .and_then(|mut file| file.read(&mut bytes))
            .map_err(refused)?;
        match std::str::from_utf8(&bytes[..read]).map(str::trim) {
            Ok(text) if !text.is_empty() => Ok(Self::new(text)),
            _ => Err(refused(io::ErrorKind::InvalidData.into())),
        }
    }

    pub(super) fn bytes(&self) -> [u8; BOOT_ID_LEN] {
        let mut bytes = [0; BOOT_ID_LEN];
        bytes[..self.0.len()].copy_from_slice(self.0.as_bytes());
        bytes
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
