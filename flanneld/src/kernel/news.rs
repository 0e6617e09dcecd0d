//! Which of the kernel's notifications are a reason to look, and at what: a pure function.
//!
//! What says that something is as it is wanted is none: most of what the kernel tells is the echo of what was done here, or about
//! pods.

use hostnet::{FdbEntry, LinkIndex, Neighbour, NeighbourState, Notice, Route};

use super::lately::Lately;
use super::rules;
use crate::desired::{Alteration, Desired};
use crate::reconcile::{self, Observed, ROUTE_PROTOCOL, Scope};

/// What is to be looked at because of notifications.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) scope: Scope,
    /// Routes to destinations of ours that may stand in the way of ours, wherever they lead.
    pub(super) suspects: Vec<Route>,
    /// Whether the uplink itself changed; what is lost with it nobody has undone.
    pub(super) uplink: bool,
    /// Whether something was told that is most likely a late echo, so that looking at it can wait.
    pub(super) echo: bool,
}

impl News {
    pub(super) fn take(
        &mut self,
        notice: Notice,
        desired: &Desired,
        observed: &Observed,
        lately: &Lately,
    ) {
        let view = View { desired, observed };
        match notice {
            Notice::Firewall { table, chain } => {
                self.scope.firewall |= rules::concerns_us(&table, chain.as_deref(), desired);
            }
            Notice::Setting => self.scope.settings = true,
            Notice::Link { index, name, .. } => {
                let uplink = desired.uplink == Some(index);
                self.uplink |= uplink;
                self.scope.network |=
                    uplink || desired.devices.contains_key(&name) || view.name(index).is_some();
            }
            Notice::Address { link, .. } => {
                let uplink = desired.uplink == Some(link);
                self.uplink |= uplink;
                self.scope.network |= uplink || view.name(link).is_some();
            }
            entry @ (Notice::Neighbour { .. } | Notice::Fdb { .. } | Notice::Route { .. }) => {
                if !view.matters(&entry) {
                    return;
                }
                if lately.any(|former| view.is_echo(&entry, former)) {
                    self.echo = true;
                    return;
                }
                self.scope.network = true;
                if let Notice::Route { route, removed } = entry
                    && !removed
                    && desired.routes.contains_key(&route.destination)
                {
                    self.suspects.push(route);
                }
            }
        }
    }
}

struct View<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
}

impl View<'_> {
    /// The name of the device, if it is ours.
    fn name(&self, index: LinkIndex) -> Option<&str> {
        let mut devices = self.observed.devices.iter();
        devices
            .find(|(_, device)| device.link.index == index)
            .map(|(name, _)| name.as_str())
    }

    /// Whether an entry is not as it is wanted.
    fn matters(&self, notice: &Notice) -> bool {
        match notice {
            Notice::Neighbour { neighbour, removed } => self.neighbour_matters(neighbour, *removed),
            Notice::Fdb {
                link,
                entry,
                removed,
            } => self.fdb_matters(*link, entry.as_ref(), *removed),
            Notice::Route { route, removed } => self.route_matters(route, *removed),
            _ => false,
        }
    }

    /// Whether an entry is as it was wanted before the alteration that `former` takes back. Costs the same however much that is: after
    /// the first peers of a large network it is everything, and so may be what a stranger undoes then.
    fn is_echo(&self, notice: &Notice, former: &Alteration) -> bool {
        let Some(alone) = self.alone(notice, former) else {
            return false;
        };
        let mut then = Desired {
            networks: self.desired.networks.clone(),
            former: self.desired.former.clone(),
            uplink: self.desired.uplink,
            ..Desired::default()
        };
        alone.apply_to(&mut then);
        let view = View {
            desired: &then,
            observed: self.observed,
        };
        !view.matters(notice)
    }

    /// Of an alteration what concerns the entry that is told of, if anything does.
    fn alone(&self, notice: &Notice, former: &Alteration) -> Option<Alteration> {
        let mut alone = Alteration::default();
        match notice {
            Notice::Neighbour { neighbour, .. } => {
                let key = (self.name(neighbour.link)?.to_owned(), neighbour.address);
                let mac = *former.neighbours.get(&key)?;
                alone.neighbours.insert(key, mac);
            }
            Notice::Fdb { link, entry, .. } => {
                let key = (self.name(*link)?.to_owned(), entry.as_ref()?.mac);
                let destination = *former.fdb.get(&key)?;
                alone.fdb.insert(key, destination);
            }
            Notice::Route { route, .. } => {
                let hop = former.routes.get(&route.destination)?.clone();
                alone.routes.insert(route.destination, hop);
            }
            _ => return None,
        }
        Some(alone)
    }

    fn neighbour_matters(&self, neighbour: &Neighbour, removed: bool) -> bool {
        let Some(device) = self.name(neighbour.link) else {
            return false;
        };
        let key = (device.to_owned(), neighbour.address);
        let permanent = neighbour.state == NeighbourState::Permanent;
        match self.desired.neighbours.get(&key) {
            Some(mac) => removed || !permanent || neighbour.mac != Some(*mac),
            None => !removed && permanent && self.desired.claims(neighbour.address),
        }
    }

    fn fdb_matters(&self, link: LinkIndex, entry: Option<&FdbEntry>, removed: bool) -> bool {
        let Some(device) = self.name(link) else {
            return false;
        };
        // One that leads to no host is none of ours, so it may have taken the place of one.
        let Some(entry) = entry else { return true };
        match self.desired.fdb.get(&(device.to_owned(), entry.mac)) {
            Some(destination) => {
                removed || !entry.permanent || entry.detour || entry.destination != *destination
            }
            None => !removed && entry.permanent,
        }
    }

    fn route_matters(&self, route: &Route, removed: bool) -> bool {
        if route.table != Route::MAIN_TABLE {
            return false;
        }
        let index_of = |name: &str| Some(self.observed.devices.get(name)?.link.index);
        match self.desired.routes.get(&route.destination) {
            Some(hop) => {
                let wanted = reconcile::as_route(route.destination, hop, index_of);
                wanted.is_none_or(|wanted| reconcile::is_same_route(route, &wanted) == removed)
            }
            None => {
                let by_ours = |link| Some(link) == self.desired.uplink || self.name(link).is_some();
                !removed
                    && (route.protocol == ROUTE_PROTOCOL || route.link.is_some_and(by_ours))
                    && self.desired.claims(route.destination.network())
            }
        }
    }
}

#[cfg(test)]
mod tests;
