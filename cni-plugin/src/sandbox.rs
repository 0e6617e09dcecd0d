//! The network namespace a runtime names, opened and checked before anything is changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hostnet::netns::{Netns, NetnsError};
use ipam::pool::NetnsIdentity;

use crate::protocol::{Error, Target};

/// The namespace this program runs in.
const OWN: &str = "/proc/thread-self/ns/net";

/// Opens the target's namespace for an ADD or CHECK, and tells what to record of it.
///
/// A path under `/proc` whose process is gone can lead to the host's own namespace; attaching that to itself would cut
/// the node off, so it is refused unless the caller insists (`CNI_NETNS_OVERRIDE`).
///
/// # Errors
///
/// [`Error::Netns`], [`Error::OwnNetns`].
pub fn open(target: &Target, may_be_own: bool) -> Result<(Netns, NetnsIdentity), Error> {
    let path = target.netns.as_deref().unwrap_or(Path::new(""));
    let netns = Netns::open(path).map_err(Error::Netns)?;
    let identity = netns.identity().map_err(Error::Netns)?;
    let record = NetnsIdentity {
        path: path.to_string_lossy().into_owned(),
        dev: identity.device,
        ino: identity.inode,
    };
    if !may_be_own && is_own(&record).map_err(Error::Netns)? {
        return Err(Error::OwnNetns {
            path: path.to_owned(),
        });
    }
    Ok((netns, record))
}

/// Opens the target's namespace for a DEL. `None` where there is nothing to do: no namespace named, none at the path (any more),
/// or the host's own.
///
/// # Errors
///
/// [`Error::Netns`] if it is there and cannot be opened.
pub fn open_if_there(target: &Target) -> Result<Option<Netns>, Error> {
    if target.netns.is_none() {
        return Ok(None);
    }
    match open(target, false) {
        Ok((netns, _)) => Ok(Some(netns)),
        Err(Error::OwnNetns { .. }) => Ok(None),
        Err(Error::Netns(error)) if error.is_gone() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The target of a DEL as a plugin of others may be told of it, who goes into whatever namespace it is told: without one if
/// the path does not lead to the namespace that was attached (of which `recorded` tells), or leads to our own.
#[must_use]
pub fn for_others(target: &Target, recorded: Option<&NetnsIdentity>) -> Target {
    let found = target.netns.as_ref().and_then(|_| open(target, false).ok());
    let is_it = |found: &NetnsIdentity| {
        recorded.is_none_or(|recorded| (recorded.dev, recorded.ino) == (found.dev, found.ino))
    };
    let netns = found.filter(|(_, found)| is_it(found));
    Target {
        netns: netns.and(target.netns.clone()),
        ..target.clone()
    }
}

fn is_own(target: &NetnsIdentity) -> Result<bool, NetnsError> {
    let own = fs::metadata(OWN).map_err(|reason| NetnsError::Open {
        path: OWN.into(),
        reason,
    })?;
    Ok((own.dev(), own.ino()) == (target.dev, target.ino))
}
