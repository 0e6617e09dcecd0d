//! How far an attachment on record has come, told by the file of its record: whoever makes the attachment holds an flock on
//! it, which ends with the process, and takes the right to write away from it when all is done.
//!
//! So a kill at any instant leaves the record of an attachment that nobody works on and that is not complete.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;

use nix::fcntl::Flock;

use super::PoolError;
use super::attachment::Attachment;
use super::disk::Disk;
use super::owner::Owner;
use super::records;

/// The mode of the record of a complete attachment.
const COMPLETE: u32 = 0o400;

/// An attachment on record that is being made by this process. Others see that as long as this lives.
#[derive(Debug)]
pub struct Making {
    /// What is on record.
    pub attachment: Attachment,
    record: Flock<File>,
}

/// How far an attachment has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its maker is gone and never said that it was complete.
    Abandoned,
    /// It is complete.
    Complete,
    /// A process is making it.
    Making,
}

impl Making {
    pub(super) fn new(attachment: Attachment, record: Flock<File>) -> Self {
        Self { attachment, record }
    }

    /// Notes that the attachment is complete, and known to whoever wanted it.
    ///
    /// # Errors
    ///
    /// [`PoolError::Io`]; it counts as abandoned then.
    pub fn complete(&self) -> Result<(), PoolError> {
        let mode = std::fs::Permissions::from_mode(COMPLETE);
        self.record
            .set_permissions(mode)
            .map_err(|source| PoolError::Io {
                what: "cannot complete the record of",
                path: self.attachment.owner.to_string().into(),
                source,
            })
    }
}

/// How far the attachment of an owner has come; nothing if there is none.
pub(super) fn stage(disk: &Disk, owner: &Owner) -> Result<Option<Stage>, PoolError> {
    let Some(record) = records::open(disk, owner)? else {
        return Ok(None);
    };
    let metadata = record.metadata().map_err(|source| PoolError::Io {
        what: "cannot look at the record of",
        path: owner.to_string().into(),
        source,
    })?;
    if metadata.permissions().mode() & 0o222 == 0 {
        return Ok(Some(Stage::Complete));
    }
    Ok(Some(if disk.is_held(record)? {
        Stage::Making
    } else {
        Stage::Abandoned
    }))
}
