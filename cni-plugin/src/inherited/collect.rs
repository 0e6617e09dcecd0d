//! GC of attachments that flannel's own plugin made: what only host-local's directory and flannel's scratch files know.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use hostnet::{Change, Netlink, RouteFilter};
use ipam::Owner;
use ipam::host_local::{Holder, HostLocal, Reservation};
use ipnetwork::IpNetwork;

use crate::deadline::Deadline;
use crate::foreign::Plugin;
use crate::mirror::Mirror;
use crate::protocol::{Config, Error, Target};
use crate::request;
use crate::scratch::{Scratch, Worker};
use crate::takedown;

/// The interface that runtimes give a container's first network, for scratch files of which nothing tells another one.
const USUAL_INTERFACE: &str = "eth0";

/// What is to stay.
#[derive(Debug)]
pub struct Kept<'a> {
    /// What the runtime named, and what is on record.
    pub owners: Vec<Owner>,
    /// The addresses on record.
    pub addresses: HashSet<IpAddr>,
    /// Whatever was made later than this.
    pub young: SystemTime,
    /// `CNI_PATH`.
    pub search: &'a [PathBuf],
}

impl Kept<'_> {
    /// Removes everything else, continuing after errors.
    ///
    /// # Errors
    ///
    /// The first one.
    pub fn collect_others(&self, config: &Config) -> Result<(), Error> {
        let store = Mirror::of(config)?.store().clone();
        let stale = self.stale(&store)?;
        let called = self.call_plugins(config, &stale);
        if stale.is_empty() {
            return called;
        }
        let unlinked = unlink_routed(&stale);
        let released = release(config, &store, &stale);
        called.and(unlinked).and(released)
    }

    fn stale(&self, store: &HostLocal) -> Result<Vec<Reservation>, Error> {
        let mut reservations = store.reservations()?;
        reservations.retain(|held| {
            let kept = match &held.holder {
                Some(holder) => self.keeps(holder),
                // Left by a plugin that was killed, and found by no DEL.
                None => self.addresses.contains(&held.address),
            };
            !kept && store.is_older(held, self.young)
        });
        Ok(reservations)
    }

    fn keeps(&self, holder: &Holder) -> bool {
        let is = |owner: &Owner| holder.is(owner) || holder.is_container_of(owner);
        self.owners.iter().any(is)
    }

    /// Has delegates and IPAM plugins of others detach what they attached, and removes the scratch files of all.
    fn call_plugins(&self, config: &Config, stale: &[Reservation]) -> Result<(), Error> {
        let mut outcome = Ok(());
        for (container_id, scratch) in Scratch::older(config, self.young) {
            let is = |owner: &Owner| owner.container_id() == container_id;
            if self.owners.iter().any(is) {
                continue;
            }
            let Some(delegate) = scratch.read() else {
                continue;
            };
            let called = match Worker::of(&delegate) {
                None => Ok(()),
                Some(worker) => Plugin::find(worker.name(), self.search)
                    .map_err(Error::Foreign)
                    .and_then(|plugin| {
                        interfaces_of(&container_id, stale).try_for_each(|ifname| {
                            let target = Target {
                                container_id: container_id.clone(),
                                ifname,
                                netns: None,
                            };
                            let limit = Deadline::of_del().left()?;
                            takedown::order_del(&plugin, &delegate, &target, limit)
                        })
                    }),
            };
            outcome = outcome.and(called.and_then(|()| scratch.remove()));
        }
        outcome
    }
}

fn interfaces_of(container_id: &str, stale: &[Reservation]) -> impl Iterator<Item = String> {
    let holders = stale.iter().filter_map(|held| held.holder.as_ref());
    let mut interfaces: Vec<_> = holders
        .filter(|holder| holder.container_id() == container_id)
        .filter_map(|holder| holder.ifname().map(str::to_owned))
        .collect();
    interfaces.dedup();
    if interfaces.is_empty() {
        interfaces.push(USUAL_INTERFACE.to_owned());
    }
    interfaces.into_iter()
}

/// Removes the links to which the host routes these addresses. They bear no mark; that of a bridged pod is gone with the pod.
fn unlink_routed(stale: &[Reservation]) -> Result<(), Error> {
    let mut host = Netlink::open().map_err(Error::Netlink)?;
    let all = RouteFilter::default();
    let routes = host.routes(&all).map_err(Error::Netlink)?;
    for held in stale {
        let address = IpNetwork::from(held.address);
        let to_it = routes.iter().find(|route| route.destination == address);
        let Some(link) = to_it.and_then(|route| route.link) else {
            continue;
        };
        let link = host.link(link).map_err(Error::Netlink)?;
        let foreign = link.filter(|link| {
            let marked = link.alias.as_deref().is_some_and(|alias| !alias.is_empty());
            link.kind.as_deref() == Some("veth") && !marked
        });
        let Some(link) = foreign else { continue };
        match host.apply(&[Change::DeleteLink(link.index)]) {
            Err(refusals) if !refusals.iter().all(hostnet::Refused::is_not_found) => {
                return Err(Error::Refused(refusals));
            }
            _ => {}
        }
    }
    Ok(())
}

fn release(config: &Config, store: &HostLocal, stale: &[Reservation]) -> Result<(), Error> {
    let mut released = Vec::new();
    {
        let locked = store.lock()?;
        for held in stale {
            if locked.remove(held)? {
                released.push(held.address);
            }
        }
    }
    for data_dir in request::data_dirs(config) {
        let pool = request::pool(config, &data_dir)?;
        for &address in &released {
            pool.release_foreign(address)?;
        }
    }
    Ok(())
}
