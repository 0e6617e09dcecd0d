//! The attachments on disk: one JSON file for each, put in place in one step. They alone decide who holds an address.

use std::fs::File;
use std::io::ErrorKind;

use nix::fcntl::Flock;

use super::attachment::Attachment;
use super::disk::Disk;
use super::error::PoolError;
use super::owner::Owner;

pub(super) const DIRECTORY: &str = "attachments";

/// The one name under which an attachment is written before it is put in place.
const DRAFT: &str = "attachment.new";

/// The attachment of an owner, of whatever boot.
pub(super) fn read(disk: &Disk, owner: &Owner) -> Result<Option<Attachment>, PoolError> {
    let attachment = read_file(disk, &owner.file_name())?;
    match attachment {
        Some(attachment) if attachment.owner != *owner => Err(corrupt(
            disk,
            &owner.file_name(),
            format!("it is that of {}", attachment.owner),
        )),
        attachment => Ok(attachment),
    }
}

/// The attachment in a file of this name.
pub(super) fn read_file(disk: &Disk, name: &str) -> Result<Option<Attachment>, PoolError> {
    let Some(bytes) = disk.read(path(name))? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| corrupt(disk, name, error.to_string()))
}

/// The record's file of an owner, for more than its content.
pub(super) fn open(disk: &Disk, owner: &Owner) -> Result<Option<File>, PoolError> {
    disk.open_to_read(path(&owner.file_name()))
}

/// Puts an attachment on record. Others see that this process is at work on it as long as the file is open.
pub(super) fn write(disk: &Disk, attachment: &Attachment) -> Result<Flock<File>, PoolError> {
    let name = attachment.owner.file_name();
    let bytes =
        serde_json::to_vec(attachment).map_err(|error| corrupt(disk, &name, error.to_string()))?;
    let put = || {
        let record = disk.hold(disk.draft(DRAFT, &bytes)?)?;
        disk.put(DRAFT, path(&name))?;
        Ok(record)
    };
    match put() {
        // Whoever was killed while making the directories may have come as far as that of the lock.
        Err(PoolError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            disk.make_directory(DIRECTORY)?;
            put()
        }
        done => done,
    }
}

/// Removes a file; whether it was there.
pub(super) fn remove(disk: &Disk, name: &str) -> Result<bool, PoolError> {
    disk.remove(path(name))
}

/// The names of all files.
pub(super) fn names(disk: &Disk) -> Result<Vec<String>, PoolError> {
    disk.list(DIRECTORY)
}

fn path(name: &str) -> String {
    format!("{DIRECTORY}/{name}")
}

fn corrupt(disk: &Disk, name: &str, reason: String) -> PoolError {
    PoolError::Corrupt {
        path: disk.path(path(name)),
        reason,
    }
}
