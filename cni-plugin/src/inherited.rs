//! Attachments that flannel's own plugin made, before this one took its place: host-local knows their addresses, and
//! `/var/lib/cni/flannel/<container>` says how they were made.

use std::path::PathBuf;
use std::{fs, io};

use hostnet::{Change, Netlink};
use ipam::Owner;
use ipam::host_local::{HostLocal, Reservation};

use crate::deadline::Deadline;
use crate::mirror::{self, Mirror};
use crate::protocol::json::{Json, Section};
use crate::protocol::{Config, Error, Target};
use crate::{request, sandbox};

/// Where flannel's plugin notes what it asks of its delegate, unless `dataDir` says otherwise.
const NOTES: &str = "/var/lib/cni/flannel";

/// Longer than any config.
const LONGEST: u64 = 1 << 20;

/// Detaches the target if flannel's plugin attached it; nothing to be found is success. May enter the pod's namespace.
///
/// # Errors
///
/// Only if something certainly is still there. flannel's note is kept then, so that another try finds it.
pub fn detach(target: &Target, config: &Config, deadline: Deadline) -> Result<(), Error> {
    let owner = request::owner(target)?;
    let note = notes(config).join(&target.container_id);
    for store in stores(config, &note)? {
        let held = store.held_by(&owner)?;
        if held.is_empty() {
            continue;
        }
        deadline.check()?;
        unlink(target, &held)?;
        release(config, &store, &owner, deadline)?;
    }
    remove(&note)
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

fn notes(config: &Config) -> PathBuf {
    let given = config.root().string("dataDir").ok().flatten();
    given
        .filter(|path| !path.is_empty())
        .unwrap_or(NOTES)
        .into()
}

/// Where host-local may know the target: by the config of today, and by the one that was noted.
fn stores(config: &Config, note: &PathBuf) -> Result<Vec<HostLocal>, Error> {
    let mut stores = vec![Mirror::of(config)?.store().clone()];
    let Some(Json::Object(noted)) = read(note) else {
        return Ok(stores);
    };
    let root = Section::root(&noted);
    // The note is the container's, which may be in several networks of flannel's.
    if let Ok(Some(network)) = root.string("name")
        && network == config.name
    {
        let store = HostLocal::new(&mirror::data_dir(&root), network)?;
        if store.directory() != stores[0].directory() {
            stores.push(store);
        }
    }
    Ok(stores)
}

/// A note that cannot be read or understood says nothing.
fn read(note: &PathBuf) -> Option<Json> {
    let metadata = fs::metadata(note).ok()?;
    if !metadata.is_file() || metadata.len() > LONGEST {
        return None;
    }
    Json::parse(&fs::read(note).ok()?).ok()
}

fn remove(note: &PathBuf) -> Result<(), Error> {
    match fs::remove_file(note) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::FlannelNote {
            path: note.clone(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Removes the pod's link, which bears no mark. Only one that has an address of the pod is it; with the namespace it is gone
/// anyway.
fn unlink(target: &Target, held: &[Reservation]) -> Result<(), Error> {
    let Ok((netns, _)) = sandbox::open(target, false) else {
        return Ok(());
    };
    netns.enter().map_err(Error::Netns)?;
    let mut pod = Netlink::open().map_err(Error::Netlink)?;
    let found = pod.link_by_name(&target.ifname).map_err(Error::Netlink)?;
    let Some(link) = found.filter(|link| link.kind.as_deref() == Some("veth")) else {
        return Ok(());
    };
    let addresses = pod.addresses(Some(link.index)).map_err(Error::Netlink)?;
    let is_its = addresses
        .iter()
        .any(|known| held.iter().any(|held| held.address == known.address));
    if !is_its {
        return Ok(());
    }
    match pod.apply(&[Change::DeleteLink(link.index)]) {
        Err(refusals) if !refusals.iter().all(hostnet::Refused::is_not_found) => {
            Err(Error::Refused(refusals))
        }
        _ => Ok(()),
    }
}
