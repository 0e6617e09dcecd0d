//! Why a pool cannot do what it was asked.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::attachment::Attachment;
use super::owner::{NameError, Owner};
use super::range::RangeError;
use crate::cidr::on_one_line;

/// Why a pool cannot do what it was asked. Nothing has changed then, but for [`PoolError::Io`], after which the pool puts
/// itself in order at the next use.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The owner holds nothing.
    #[error(
        "{owner} holds no address in network {network}; it was never attached, or is detached already"
    )]
    Absent {
        /// The owner.
        owner: Owner,
        /// The network.
        network: String,
    },
    /// The boot of the host cannot be told.
    #[error(
        "the host's boot ID cannot be read from {}: {source}; mount proc where this program runs",
        super::boot::BOOT_ID
    )]
    BootId {
        /// The reason.
        source: io::Error,
    },
    /// Others kept the pool locked all the time.
    #[error("the address pool {} was locked by others for {} ms; try again, and if this lasts look for a process that hangs with that file open", on_one_line(path), waited.as_millis())]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// How long this waited.
        waited: Duration,
    },
    /// A file of the pool says nothing sensible.
    #[error(
        "{} cannot be understood: {reason}; no address is given as long as it is there. Find out which pod it belongs to, delete that pod, then the file",
        on_one_line(path)
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The owner has an attachment already.
    #[error("{} is attached already and holds {}; detach it first (DEL), or choose another interface name", existing.owner, Addresses(existing))]
    Duplicate {
        /// What it holds: enough to decide whether to take it over.
        existing: Box<Attachment>,
    },
    /// No address is left.
    #[error(
        "all {total} addresses of {ranges} are taken; delete pods on this node, or give nodes larger subnets (SubnetLen)"
    )]
    Exhausted {
        /// The ranges of the set in which there is none.
        ranges: String,
        /// How many addresses they have.
        total: u64,
    },
    /// The gateway was asked for.
    #[error("{address} was asked for but is the gateway of its range; ask for another one")]
    Gateway {
        /// The address.
        address: IpAddr,
    },
    /// A file cannot be read, written or removed.
    #[error(
        "{what} {} of the address pool: {source}; check that its file system has room and is writable",
        on_one_line(path)
    )]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A name that is not allowed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// An address was asked for that no range has, or a second one of a set.
    #[error(
        "{address} was asked for but {ranges} cannot give it; ask for one of these addresses, and for one of each family only"
    )]
    OutOfRange {
        /// The address.
        address: IpAddr,
        /// All ranges.
        ranges: String,
    },
    /// A range that cannot be used.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// Another one holds the address that was asked for.
    #[error(
        "{address} was asked for but is taken; ask for another one, or delete the pod that has it"
    )]
    Taken {
        /// The address.
        address: IpAddr,
    },
}

struct Addresses<'a>(&'a Attachment);

impl fmt::Display for Addresses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, held) in self.0.addresses.iter().enumerate() {
            let joint = if place == 0 { "" } else { " and " };
            write!(f, "{joint}{}", held.address)?;
        }
        Ok(())
    }
}
