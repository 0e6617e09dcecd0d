//! What a changed lease comes to where the kernel is known to hold what was desired before: the steps for the difference alone.

use hostnet::{Change, FdbEntry, LinkIndex, Neighbour};

use super::routes::as_route;
use super::{Action, Object, Observed, Plan, Step};
use crate::desired::{Alteration, Desired};

/// Plans how to get from `desired`, which the kernel holds, to the same with `alteration`.
pub fn alter(desired: &Desired, observed: &Observed, alteration: &Alteration) -> Plan {
    let mut altering = Altering {
        observed,
        plan: Plan::default(),
    };
    altering.fdb_additions(alteration);
    altering.neighbour_additions(alteration);
    altering.routes(desired, alteration);
    altering.neighbour_removals(desired, alteration);
    altering.fdb_removals(desired, alteration);
    altering.plan
}

struct Altering<'a> {
    observed: &'a Observed,
    plan: Plan,
}

impl Altering<'_> {
    fn fdb_additions(&mut self, alteration: &Alteration) {
        for ((device, mac), destination) in &alteration.fdb {
            if let (Some(link), Some(destination)) = (self.index(device), destination) {
                let entry = FdbEntry::permanent(link, *mac, *destination);
                let object = Object::Fdb(device.clone(), *mac);
                self.step(object, Change::ReplaceFdb(entry), ADDED);
            }
        }
    }

    fn neighbour_additions(&mut self, alteration: &Alteration) {
        for ((device, address), mac) in &alteration.neighbours {
            if let (Some(link), Some(mac)) = (self.index(device), mac) {
                let entry = Neighbour::permanent(link, *address, *mac);
                let object = Object::Neighbour(device.clone(), *address);
                self.step(object, Change::ReplaceNeighbour(entry), ADDED);
            }
        }
    }

    fn routes(&mut self, desired: &Desired, alteration: &Alteration) {
        let observed = self.observed;
        let index_of = |device: &str| index(observed, device);
        for (destination, hop) in &alteration.routes {
            let object = Object::Route(*destination);
            let before = desired.routes.get(destination);
            match (hop, before) {
                (Some(hop), _) => match as_route(*destination, hop, index_of) {
                    Some(route) => self.step(object, Change::ReplaceRoute(route), ADDED),
                    None => self.plan.unfinished = true,
                },
                (None, Some(before)) => {
                    // Without its device it is gone already.
                    if let Some(route) = as_route(*destination, before, index_of) {
                        // Whoever made it: one of flannel's may have been taken over.
                        let route = hostnet::Route {
                            protocol: 0,
                            ..route
                        };
                        self.step(object, Change::DeleteRoute(route), REMOVED);
                    }
                }
                (None, None) => {}
            }
        }
    }

    fn neighbour_removals(&mut self, desired: &Desired, alteration: &Alteration) {
        for (key, mac) in &alteration.neighbours {
            if let (None, Some(before)) = (mac, desired.neighbours.get(key))
                && let Some(link) = self.index(&key.0)
            {
                let entry = Neighbour::permanent(link, key.1, *before);
                let object = Object::Neighbour(key.0.clone(), key.1);
                self.step(object, Change::DeleteNeighbour(entry), REMOVED);
            }
        }
    }

    fn fdb_removals(&mut self, desired: &Desired, alteration: &Alteration) {
        for (key, destination) in &alteration.fdb {
            if let (None, Some(before)) = (destination, desired.fdb.get(key))
                && let Some(link) = self.index(&key.0)
            {
                let entry = FdbEntry::permanent(link, key.1, *before);
                let object = Object::Fdb(key.0.clone(), key.1);
                self.step(object, Change::DeleteFdb(entry), REMOVED);
            }
        }
    }

    /// The device's index if it can take entries; if not, the comparison that brings it there brings them too.
    fn index(&mut self, device: &str) -> Option<LinkIndex> {
        let index = index(self.observed, device);
        self.plan.unfinished |= index.is_none();
        index
    }

    fn step(&mut self, object: Object, change: Change, reason: &str) {
        self.plan.steps.push(Step {
            object,
            action: Action::Kernel(change),
            reason: reason.to_owned(),
        });
    }
}

const ADDED: &str = "a lease asks for it";
const REMOVED: &str = "no lease asks for it any more";

fn index(observed: &Observed, device: &str) -> Option<LinkIndex> {
    let link = &observed.devices.get(device)?.link;
    link.up.then_some(link.index)
}
