//! The comparison of what the kernel should hold with what it holds: a pure function to the steps that make the one the other.
//!
//! No I/O and no clock. A step carries its reason, which is what the log, and later `flanneld plan`, say. Order matters and is part of
//! the result: what a packet needs last is added last and removed first, so that a route never leads to a neighbour that is not there yet.

mod firewall;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use hostnet::nft::{CompiledTable, Family};
use hostnet::{
    Address, Change, FdbEntry, Link, LinkChange, LinkIndex, Neighbour, NeighbourState, NewLink,
    NewLinkKind, Route, RouteKind, Scope,
};
use ipnetwork::IpNetwork;

use crate::desired::{Desired, Device, Hop};
use crate::iptables::{Place, Restore, Saved};

/// The routing protocol number that marks routes of ours (`rtm_protocol`; linux/rtnetlink.h leaves the numbers above `RTPROT_STATIC`
/// that it does not name to the programs).
pub const ROUTE_PROTOCOL: u8 = 76;
/// What flannel marks its routes with (`RTPROT_BOOT`); on our devices such a route is taken over as it is.
const ROUTE_PROTOCOL_BOOT: u8 = 3;
/// The metric that the kernel gives an IPv6 route that names none (`IP6_RT_PRIO_USER`).
const IPV6_DEFAULT_METRIC: u32 = 1024;

/// The metric of the route that catches packets for pods that do not exist: far behind that of any route to pods, such as the one
/// to the whole subnet that a bridge has.
const BLACKHOLE_METRIC: u32 = 9999;

/// What the kernel holds of ours, or where ours should be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The devices that carry the names of ours.
    pub devices: BTreeMap<String, ObservedDevice>,
    /// Routes of the main table that leave by such a device or by the uplink, or that carry our protocol number.
    pub routes: Vec<Route>,
    /// What the files of [`Desired::sysctls`] say; a file that is not there is absent.
    pub sysctls: BTreeMap<String, String>,
    /// The tables that carry the names of ours.
    pub firewall: Vec<CompiledTable>,
    /// What iptables' tables hold, where they could be read.
    pub iptables: BTreeMap<Place, Saved>,
}

/// One device and what hangs on it.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedDevice {
    /// The device itself.
    pub link: Link,
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// Its neighbours of both families.
    pub neighbours: Vec<Neighbour>,
    /// Its FDB entries.
    pub fdb: Vec<FdbEntry>,
}

/// One thing to do and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What to do.
    pub action: Action,
    /// Why, in words that follow "because".
    pub reason: String,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A change over netlink.
    Kernel(Change),
    /// A value for a file under /proc/sys.
    Sysctl {
        /// The file, relative to /proc/sys.
        path: String,
        /// What it should say.
        value: String,
    },
    /// All firewall tables in one transaction.
    Firewall,
    /// Firewall tables that are to go.
    DeleteTables(Vec<(Family, String)>),
    /// One run of iptables-restore.
    Iptables(Restore),
}

/// The steps of one comparison.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In the order in which they are to be done.
    pub steps: Vec<Step>,
    /// Whether something has to wait until these steps are done (a device must be there before its routes).
    pub unfinished: bool,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            Action::Kernel(change) => write!(f, "{change}")?,
            Action::Sysctl { path, value } => write!(f, "set sysctl {path} to {value}")?,
            Action::Firewall => write!(f, "write the firewall tables")?,
            Action::DeleteTables(tables) => {
                let names: Vec<_> = tables.iter().map(|(_, name)| name.as_str()).collect();
                write!(f, "delete the firewall tables {}", names.join(" and "))?;
            }
            Action::Iptables(restore) => write!(f, "write the rules of {}", restore.place)?,
        }
        write!(f, ": {}", self.reason)
    }
}

/// Compares and plans.
pub fn plan(desired: &Desired, observed: &Observed) -> Plan {
    let mut planner = Planner {
        desired,
        observed,
        ready: BTreeMap::new(),
        plan: Plan::default(),
    };
    planner.sysctls();
    planner.devices();
    planner.addresses();
    planner.fdb_additions();
    planner.neighbour_additions();
    planner.routes();
    if desired.complete {
        planner.neighbour_removals();
        planner.fdb_removals();
    }
    planner.firewall();
    planner.plan
}

struct Planner<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    /// The devices that are as they should be, so that something can be put on them.
    ready: BTreeMap<&'a str, &'a ObservedDevice>,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn step(&mut self, change: Change, reason: impl Into<String>) {
        self.plan.steps.push(Step {
            action: Action::Kernel(change),
            reason: reason.into(),
        });
    }

    fn sysctls(&mut self) {
        for (path, value) in &self.desired.sysctls {
            let reason = match self.observed.sysctls.get(path) {
                Some(found) if found == value => continue,
                Some(found) => format!("it says {found}"),
                // The files of a device come with the device; the next comparison finds them.
                None => continue,
            };
            self.plan.steps.push(Step {
                action: Action::Sysctl {
                    path: path.clone(),
                    value: value.clone(),
                },
                reason,
            });
        }
    }

    fn devices(&mut self) {
        for (name, device) in &self.desired.devices {
            match self.observed.devices.get(name) {
                None => self.create(name, device, "it is missing".to_owned()),
                Some(found) => match unchangeable_difference(device, &found.link) {
                    Some(difference) => {
                        self.step(Change::DeleteLink(found.link.index), difference.clone());
                        self.create(name, device, difference);
                    }
                    None => self.alter(name, device, found),
                },
            }
        }
    }

    fn create(&mut self, name: &str, device: &Device, reason: String) {
        let link = NewLink {
            mac: Some(device.mac),
            mtu: Some(device.mtu),
            up: true,
            ..NewLink::new(name, NewLinkKind::Vxlan(device.vxlan.clone()))
        };
        self.step(Change::AddLink(link), reason);
        self.plan.unfinished = true;
    }

    fn alter(&mut self, name: &'a str, device: &Device, found: &'a ObservedDevice) {
        let mut change = LinkChange::new(found.link.index);
        let mut reasons = Vec::new();
        if found.link.mac != Some(device.mac) {
            change.mac = Some(device.mac);
            let has = found
                .link
                .mac
                .map_or_else(|| "none".to_owned(), |mac| mac.to_string());
            reasons.push(format!("its MAC is {has} instead of {}", device.mac));
        }
        if found.link.mtu != device.mtu {
            change.mtu = Some(device.mtu);
            reasons.push(format!(
                "its MTU is {} instead of {}",
                found.link.mtu, device.mtu
            ));
        }
        if found.link.master.is_some() {
            change.master = Some(None);
            reasons.push("it was put under another link".to_owned());
        }
        if !found.link.up {
            change.up = Some(true);
            reasons.push("it is down".to_owned());
        }
        if found.link.up {
            self.ready.insert(name, found);
        } else {
            // A link that is down takes no routes, and has lost those it had.
            self.plan.unfinished = true;
        }
        if !reasons.is_empty() {
            self.step(Change::SetLink(change), reasons.join(", "));
        }
    }

    fn addresses(&mut self) {
        let desired = self.desired;
        for (name, found) in self.ready.clone() {
            let link = found.link.index;
            let wanted = &desired.devices[name].addresses;
            let held: BTreeSet<IpNetwork> = found.addresses.iter().filter_map(as_network).collect();
            for network in wanted.difference(&held) {
                let address = Address::new(link, network.ip(), network.prefix());
                self.step(Change::AddAddress(address), "it is missing");
            }
            for address in &found.addresses {
                let Some(network) = as_network(address) else {
                    continue;
                };
                if desired.complete
                    && address.scope == Scope::Universe
                    && desired.owns(address.address)
                    && !wanted.contains(&network)
                {
                    self.step(
                        Change::DeleteAddress(address.clone()),
                        "it is not this node's address",
                    );
                }
            }
        }
    }

    fn fdb_additions(&mut self) {
        let held = self.held(|found| found.fdb.iter().map(|entry| (entry.mac, entry.destination)));
        for ((device, mac), destination) in &self.desired.fdb {
            let Some(found) = self.ready.get(device.as_str()) else {
                continue;
            };
            let reason = match held.get(&(device.as_str(), *mac)) {
                Some(has) if has == destination => continue,
                Some(has) => format!("it leads to {has}"),
                None => "it is missing".to_owned(),
            };
            let entry = FdbEntry::permanent(found.link.index, *mac, *destination);
            self.step(Change::ReplaceFdb(entry), reason);
        }
    }

    fn neighbour_additions(&mut self) {
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
                None => "it is missing".to_owned(),
            };
            let entry = Neighbour::permanent(found.link.index, *address, *mac);
            self.step(Change::ReplaceNeighbour(entry), reason);
        }
    }

    fn routes(&mut self) {
        let desired = self.desired;
        let mut held: BTreeMap<IpNetwork, Vec<&Route>> = BTreeMap::new();
        for route in &self.observed.routes {
            held.entry(route.destination).or_default().push(route);
        }
        let mut removals = Vec::new();
        for (destination, hop) in &desired.routes {
            let found = held.remove(destination).unwrap_or_default();
            let Some(wanted) = self.route(*destination, hop) else {
                continue;
            };
            let (right, wrong): (Vec<&Route>, Vec<&Route>) = found
                .into_iter()
                .partition(|route| same_route(route, &wanted));
            if right.is_empty() {
                let reason = wrong.first().map_or_else(
                    || "it is missing".to_owned(),
                    |route| format!("it was {route}"),
                );
                self.step(Change::ReplaceRoute(wanted.clone()), reason);
            }
            // What has the wanted route's metric is replaced by it; another one beside it must go.
            removals.extend(
                wrong
                    .into_iter()
                    .filter(|route| metric(route) != metric(&wanted) || !right.is_empty()),
            );
        }
        removals.extend(held.into_values().flatten());
        for route in removals {
            if desired.complete && self.is_ours(route) {
                self.step(Change::DeleteRoute(route.clone()), "no lease asks for it");
            }
        }
    }

    fn neighbour_removals(&mut self) {
        let desired = self.desired;
        for (name, found) in self.ready.clone() {
            for entry in &found.neighbours {
                let wanted = desired
                    .neighbours
                    .contains_key(&(name.to_owned(), entry.address));
                if entry.state == NeighbourState::Permanent
                    && desired.owns(entry.address)
                    && !wanted
                {
                    self.step(
                        Change::DeleteNeighbour(entry.clone()),
                        "no lease asks for it",
                    );
                }
            }
        }
    }

    fn fdb_removals(&mut self) {
        let desired = self.desired;
        for (name, found) in self.ready.clone() {
            for entry in &found.fdb {
                let wanted = desired.fdb.contains_key(&(name.to_owned(), entry.mac));
                // What the kernel learned goes by itself, and the entry for all unknown MACs is never one of ours.
                if entry.permanent && !wanted && entry.mac.0 != [0; 6] {
                    self.step(Change::DeleteFdb(entry.clone()), "no lease asks for it");
                }
            }
        }
    }

    /// The route as the kernel is told it, or `None` while its device is not ready.
    fn route(&self, destination: IpNetwork, hop: &Hop) -> Option<Route> {
        let base = Route {
            protocol: ROUTE_PROTOCOL,
            ..Route::new(destination)
        };
        Some(match hop {
            Hop::Tunnel { device, gateway } => {
                let link = self.ready.get(device.as_str())?.link.index;
                Route {
                    gateway: Some(*gateway),
                    link: Some(link),
                    onlink: true,
                    ..base
                }
            }
            Hop::Uplink { link, gateway } => Route {
                gateway: Some(*gateway),
                link: Some(*link),
                ..base
            },
            Hop::Blackhole => Route {
                kind: RouteKind::Blackhole,
                priority: Some(BLACKHOLE_METRIC),
                ..base
            },
        })
    }

    fn is_ours(&self, route: &Route) -> bool {
        let networks = &self.desired.networks;
        if !networks
            .iter()
            .any(|network| contains(network, &route.destination))
        {
            return false;
        }
        let devices = &self.observed.devices;
        let on_our_device = route
            .link
            .is_some_and(|link| devices.values().any(|found| found.link.index == link));
        match route.protocol {
            ROUTE_PROTOCOL => true,
            ROUTE_PROTOCOL_BOOT => on_our_device || self.is_flannels_direct(route),
            _ => false,
        }
    }

    /// Whether flannel's host-gw or DirectRouting left it: a plain route to a subnet of a node's size over the uplink.
    fn is_flannels_direct(&self, route: &Route) -> bool {
        let sizes = &self.desired.subnet_sizes;
        route.link.is_some()
            && route.link == self.desired.uplink
            && route.gateway.is_some()
            && route.nexthops <= 1
            && metric(route) == metric(&Route::new(route.destination))
            && sizes.contains(&(route.destination.is_ipv4(), route.destination.prefix()))
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

/// What of the link is wrong and cannot be put right without making it anew.
fn unchangeable_difference(device: &Device, link: &Link) -> Option<String> {
    let Some(vxlan) = &link.vxlan else {
        return Some(format!(
            "it is a link of kind {}",
            link.kind.as_deref().unwrap_or("unknown")
        ));
    };
    let wanted = &device.vxlan;
    if vxlan.vni != wanted.vni {
        return Some(format!(
            "its VNI is {} instead of {}",
            vxlan.vni, wanted.vni
        ));
    }
    if vxlan.lower != wanted.lower {
        let index = |lower: Option<LinkIndex>| {
            lower.map_or_else(|| "no link".to_owned(), |index| format!("link {}", index.0))
        };
        return Some(format!(
            "it lies on {} instead of {}",
            index(vxlan.lower),
            index(wanted.lower)
        ));
    }
    if vxlan.local != wanted.local {
        let text = |local: Option<IpAddr>| {
            local.map_or_else(|| "no address".to_owned(), |local| local.to_string())
        };
        return Some(format!(
            "it sends from {} instead of {}",
            text(vxlan.local),
            text(wanted.local)
        ));
    }
    let port = if wanted.port == 0 {
        DEFAULT_PORT
    } else {
        wanted.port
    };
    if vxlan.port != port {
        return Some(format!("its port is {} instead of {port}", vxlan.port));
    }
    if vxlan.group.is_some() {
        return Some("it has a multicast group".to_owned());
    }
    if vxlan.learning != wanted.learning || vxlan.gbp != wanted.gbp {
        return Some("its learning or GBP switch is not the configured one".to_owned());
    }
    None
}

/// The UDP port of a device that names none (`vxlan_port` in drivers/net/vxlan: not IANA's 4789).
pub const DEFAULT_PORT: u16 = 8472;

fn same_route(found: &Route, wanted: &Route) -> bool {
    found.kind == wanted.kind
        && found.gateway == wanted.gateway
        && found.onlink == wanted.onlink
        && (found.link == wanted.link || wanted.kind == RouteKind::Blackhole)
        && metric(found) == metric(wanted)
        && (found.protocol == ROUTE_PROTOCOL || found.protocol == ROUTE_PROTOCOL_BOOT)
}

fn metric(route: &Route) -> u32 {
    let default = if route.destination.is_ipv6() {
        IPV6_DEFAULT_METRIC
    } else {
        0
    };
    route
        .priority
        .filter(|metric| *metric != 0)
        .unwrap_or(default)
}

fn contains(network: &IpNetwork, inner: &IpNetwork) -> bool {
    network.prefix() <= inner.prefix() && network.contains(inner.network())
}

fn as_network(address: &Address) -> Option<IpNetwork> {
    IpNetwork::new(address.address, address.prefix).ok()
}

#[cfg(test)]
mod tests;
