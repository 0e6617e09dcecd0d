//! What hangs on our devices: addresses, FDB entries, neighbours.

use std::collections::{BTreeMap, BTreeSet};

use hostnet::{Address, Change, FdbEntry, Neighbour, NeighbourState, Scope};
use ipnetwork::IpNetwork;

use super::{Object, ObservedDevice, Planner};

const MISSING: &str = "it is missing";
const UNWANTED: &str = "no lease asks for it";

impl<'a> Planner<'a> {
    pub(super) fn addresses(&mut self) {
        let desired = self.desired;
        for (name, found) in self.ready.clone() {
            let link = found.link.index;
            let wanted = &desired.devices[name].addresses;
            let held: BTreeSet<IpNetwork> = found.addresses.iter().filter_map(as_network).collect();
            for network in wanted.difference(&held) {
                let address = Address::new(link, network.ip(), network.prefix());
                let object = Object::Address(name.to_owned(), *network);
                self.step(object, Change::AddAddress(address), MISSING);
            }
            for address in &found.addresses {
                let Some(network) = as_network(address) else {
                    continue;
                };
                if desired.complete
                    && address.scope == Scope::Universe
                    && desired.claims(address.address)
                    && !wanted.contains(&network)
                {
                    self.step(
                        Object::Address(name.to_owned(), network),
                        Change::DeleteAddress(address.clone()),
                        "it is not this node's address",
                    );
                }
            }
        }
    }

    pub(super) fn fdb_additions(&mut self) {
        let held = self.held(|found| found.fdb.iter().map(|entry| (entry.mac, entry)));
        for ((device, mac), destination) in &self.desired.fdb {
            let Some(found) = self.ready.get(device.as_str()) else {
                continue;
            };
            let reason = match held.get(&(device.as_str(), *mac)) {
                None => MISSING.to_owned(),
                Some(has) if has.destination != *destination => {
                    format!("it leads to {}", has.destination)
                }
                Some(has) if has.detour => {
                    "it leads to another port, VNI or link of that host".to_owned()
                }
                Some(has) if !has.permanent => "it is not permanent".to_owned(),
                Some(_) => continue,
            };
            let entry = FdbEntry::permanent(found.link.index, *mac, *destination);
            let object = Object::Fdb(device.clone(), *mac);
            self.step(object, Change::ReplaceFdb(entry), reason);
        }
    }

    pub(super) fn neighbour_additions(&mut self) {
        let held = self.held(|found| {
            found
                .neighbours
                .iter()
                .map(|entry| (entry.address, (entry.mac, entry.state)))
        });
        for ((device, address), mac) in &self.desired.neighbours {
            let Some(found) = self.ready.get(device.as_str()) else {
                continue;
            };
            let reason = match held.get(&(device.as_str(), *address)) {
                Some((has, NeighbourState::Permanent)) if *has == Some(*mac) => continue,
                Some((Some(has), _)) if has != mac => format!("it says {has}"),
                Some(_) => "it is not permanent".to_owned(),
                None => MISSING.to_owned(),
            };
            let entry = Neighbour::permanent(found.link.index, *address, *mac);
            let object = Object::Neighbour(device.clone(), *address);
            self.step(object, Change::ReplaceNeighbour(entry), reason);
        }
    }

    pub(super) fn neighbour_removals(&mut self) {
        let desired = self.desired;
        for (name, found) in self.ready.clone() {
            for entry in &found.neighbours {
                let key = (name.to_owned(), entry.address);
                if entry.state == NeighbourState::Permanent
                    && desired.claims(entry.address)
                    && !desired.neighbours.contains_key(&key)
                {
                    let object = Object::Neighbour(key.0, key.1);
                    self.step(object, Change::DeleteNeighbour(entry.clone()), UNWANTED);
                }
            }
        }
    }

    pub(super) fn fdb_removals(&mut self) {
        let desired = self.desired;
        for (name, found) in self.ready.clone() {
            for entry in &found.fdb {
                let key = (name.to_owned(), entry.mac);
                // What the kernel learned goes by itself, and the entry for all unknown MACs is never one of ours.
                if entry.permanent && entry.mac.0 != [0; 6] && !desired.fdb.contains_key(&key) {
                    let object = Object::Fdb(key.0, key.1);
                    self.step(object, Change::DeleteFdb(entry.clone()), UNWANTED);
                }
            }
        }
    }

    /// What the ready devices hold, by device and key.
    fn held<K: Ord, V, I: Iterator<Item = (K, V)>>(
        &self,
        entries: impl Fn(&'a ObservedDevice) -> I,
    ) -> BTreeMap<(&'a str, K), V> {
        self.ready
            .iter()
            .flat_map(|(name, found)| entries(found).map(move |(key, value)| ((*name, key), value)))
            .collect()
    }
}

fn as_network(address: &Address) -> Option<IpNetwork> {
    IpNetwork::new(address.address, address.prefix).ok()
}
