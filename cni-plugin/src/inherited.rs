//! Attachments that flannel's own plugin made, before this one took its place: host-local knows their addresses, and
//! flannel's [scratch file](crate::scratch) says how they were made.

mod collect;

pub use collect::Kept;

use hostnet::netns::Netns;
use hostnet::{Address, Change, Netlink};
use ipam::Owner;
use ipam::host_local::{HostLocal, Reservation};

use crate::deadline::Deadline;
use crate::foreign::Plugin;
use crate::mirror::{self, Mirror};
use crate::protocol::json::{Object, Section};
use crate::protocol::{Config, Error, Target};
use crate::scratch::{Scratch, Worker};
use crate::takedown::{self, Takedown};
use crate::{request, sandbox};

/// Detaches the target if flannel's plugin attached it; nothing to be found is success.
///
/// # Errors
///
/// Only if something certainly is still there. flannel's scratch file is kept then, so that another try finds it.
pub fn detach(target: &Target, config: &Config, takedown: &Takedown<'_>) -> Result<(), Error> {
    let deadline = takedown.deadline;
    let owner = request::owner(target)?;
    let scratch = Scratch::of(config, target);
    let noted = scratch.read();
    if let Some(delegate) = &noted
        && let Some(worker) = Worker::of(delegate)
    {
        let told = sandbox::for_others(target, None);
        if let Worker::Ipam(_) = worker {
            unlink(target, |_| true)?;
        }
        let plugin = Plugin::find(worker.name(), takedown.search)?;
        takedown::order_del(&plugin, delegate, &told, deadline.left()?)?;
    }
    for store in stores(config, noted.as_ref())? {
        let held = store.held_by(&owner)?;
        if held.is_empty() {
            continue;
        }
        deadline.check()?;
        unlink(target, |known| is_held(&held, known))?;
        release(config, &store, &owner, deadline)?;
    }
    scratch.remove()
}

fn release(
    config: &Config,
    store: &HostLocal,
    owner: &Owner,
    deadline: Deadline,
) -> Result<(), Error> {
    let store = store.clone().waiting(deadline.lock_wait());
    let released = store.lock()?.release_all(owner)?;
    for data_dir in request::data_dirs(config) {
        deadline.check()?;
        let pool = request::pool_waiting(config, &data_dir, deadline.lock_wait())?;
        for reservation in &released {
            pool.release_foreign(reservation.address)?;
        }
    }
    Ok(())
}

/// Where host-local may know the target: by the config of today, and by the one that was noted.
fn stores(config: &Config, noted: Option<&Object>) -> Result<Vec<HostLocal>, Error> {
    let mut stores = vec![Mirror::of(config)?.store().clone()];
    if let Some(noted) = noted {
        let store = HostLocal::new(&mirror::data_dir(&Section::root(noted)), &config.name)?;
        if store.directory() != stores[0].directory() {
            stores.push(store);
        }
    }
    Ok(stores)
}

fn is_held(held: &[Reservation], known: &Address) -> bool {
    held.iter().any(|held| held.address == known.address)
}

/// Removes the pod's link, which bears no mark, if it has an address that is the pod's; with the namespace it is gone anyway.
fn unlink(target: &Target, is_its: impl Fn(&Address) -> bool) -> Result<(), Error> {
    let Ok((netns, _)) = sandbox::open(target, false) else {
        return Ok(());
    };
    let home = Netns::current().map_err(Error::Netns)?;
    netns.enter().map_err(Error::Netns)?;
    let unlinked = unlink_here(target, is_its);
    // Plugins of others are not to run in the pod's namespace.
    home.enter().map_err(Error::Netns)?;
    unlinked
}

fn unlink_here(target: &Target, is_its: impl Fn(&Address) -> bool) -> Result<(), Error> {
    let mut pod = Netlink::open().map_err(Error::Netlink)?;
    let found = pod.link_by_name(&target.ifname).map_err(Error::Netlink)?;
    let Some(link) = found.filter(|link| link.kind.as_deref() == Some("veth")) else {
        return Ok(());
    };
    let addresses = pod.addresses(Some(link.index)).map_err(Error::Netlink)?;
    if !addresses.iter().any(is_its) {
        return Ok(());
    }
    match pod.apply(&[Change::DeleteLink(link.index)]) {
        Err(refusals) if !refusals.iter().all(hostnet::Refused::is_not_found) => {
            Err(Error::Refused(refusals))
        }
        _ => Ok(()),
    }
}
