//! Why reservations of host-local cannot be read or changed.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Holder;
use crate::cidr::on_one_line;
use crate::pool::NameError;

/// Why reservations of host-local cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum HostLocalError {
    /// Others kept the lock all the time.
    #[error("the reservations of host-local were locked by others for {} ms; try again, and if this lasts look for a process that hangs with {} open", waited.as_millis(), on_one_line(path))]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// How long this waited.
        waited: Duration,
    },
    /// The interface has an address of the set already.
    #[error(
        "{address} has been allocated to {container_id}, duplicate allocation is not allowed; detach the interface first (DEL)"
    )]
    Duplicate {
        /// The address it has.
        address: IpAddr,
        /// Its container.
        container_id: String,
    },
    /// Every address of a range set is reserved.
    #[error(
        "no IP addresses available in range set: {set}; remove pods, or give the network a larger range"
    )]
    Exhausted {
        /// The ranges.
        set: String,
    },
    /// A file cannot be read, written or removed.
    #[error(
        "{what} {}, where host-local keeps reservations: {source}; check that its file system has room and is writable",
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
    /// The gateway's own address is asked for.
    #[error("requested ip {address} is subnet's gateway; request another one")]
    IsGateway {
        /// The address.
        address: IpAddr,
    },
    /// A name that is not allowed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The address is reserved already.
    #[error(
        "{address} is reserved by {}; release it first (DEL of that pod), or take another one",
        By(holder)
    )]
    Taken {
        /// The address.
        address: IpAddr,
        /// Who has it, if that can be told.
        holder: Option<Holder>,
    },
    /// An address that is asked for is reserved.
    #[error(
        "requested IP address {address} is not available in range set {set}; request another one, or release it first"
    )]
    Unavailable {
        /// The address.
        address: IpAddr,
        /// The ranges it is of.
        set: String,
    },
    /// Addresses that are asked for are of no range, or of one that gave an address already.
    #[error(
        "failed to allocate all requested IPs: {}; each must be of a range set of its own",
        listed(addresses)
    )]
    Unused {
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
}

fn listed(addresses: &[IpAddr]) -> String {
    let texts: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
    texts.join(" ")
}

struct By<'a>(&'a Option<Holder>);

impl fmt::Display for By<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(holder) => holder.describe(f),
            None => f.write_str("a file of host-local that names nobody"),
        }
    }
}

pub(super) fn named(
    what: &'static str,
    path: &Path,
) -> impl Fn(io::Error) -> HostLocalError + use<> {
    let path = path.to_owned();
    move |source| HostLocalError::Io {
        what,
        path: path.clone(),
        source,
    }
}
