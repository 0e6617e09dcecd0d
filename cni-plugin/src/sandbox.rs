//! The network namespace a runtime names, opened and checked before anything is changed.

use std::path::Path;

use hostnet::netns::{Netns, NetnsError};
use ipam::pool::NetnsIdentity;

use crate::protocol::{Error, Target};

/// Opens the target's namespace for an ADD or CHECK.
///
/// A path under `/proc` whose process is gone can lead to the host's own namespace; attaching that to itself would cut
/// the node off, so it is refused unless the caller insists (`CNI_NETNS_OVERRIDE`).
///
/// # Errors
///
/// [`Error::Netns`], [`Error::OwnNetns`].
pub fn open(target: &Target, may_be_own: bool) -> Result<Netns, Error> {
    let path = target.netns.as_deref().unwrap_or(Path::new(""));
    let netns = Netns::open(path).map_err(Error::Netns)?;
    if !may_be_own && is_own(&netns).map_err(Error::Netns)? {
        return Err(Error::OwnNetns {
            path: path.to_owned(),
        });
    }
    Ok(netns)
}

fn is_own(netns: &Netns) -> Result<bool, NetnsError> {
    Ok(netns.identity()? == Netns::current()?.identity()?)
}

/// What is recorded of a namespace.
///
/// # Errors
///
/// [`Error::Netns`]
pub fn record(netns: &Netns) -> Result<NetnsIdentity, Error> {
    let identity = netns.identity().map_err(Error::Netns)?;
    Ok(NetnsIdentity {
        path: netns.path().to_string_lossy().into_owned(),
        dev: identity.device,
        ino: identity.inode,
    })
}
