//! The comparison of what the kernel should hold with what it holds: a pure function to the steps that make the one the other.
//!
//! No I/O and no clock. A step carries its reason, which is what the log and `flanneld plan` say. Order matters and is part of
//! the result: what a packet needs last is added last and removed first, so that a route never leads to a neighbour that is not there yet.

mod alter;
mod devices;
mod entries;
mod firewall;
mod routes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use hostnet::nft::{CompiledTable, Family};
use hostnet::{Address, Change, FdbEntry, Link, LinkIndex, Mac, Neighbour, Route};
use ipnetwork::IpNetwork;

pub use self::alter::alter;
pub use self::devices::is_named_as_ours;
pub use self::routes::{as_route, is_same as is_same_route};
use crate::desired::Desired;
use crate::iptables::{Place, Restore, Saved};

/// The routing protocol number that marks routes of ours (`rtm_protocol`; linux/rtnetlink.h leaves the numbers above `RTPROT_STATIC`
/// that it does not name to the programs).
pub const ROUTE_PROTOCOL: u8 = 76;
/// What flannel marks its routes with (`RTPROT_BOOT`); on our devices such a route is taken over as it is.
pub const ROUTE_PROTOCOL_BOOT: u8 = 3;
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
    /// Devices that are named like ours and not wanted; looked for by a full comparison only.
    pub leftovers: Vec<Leftover>,
    /// The devices of which the kernel has refused to alter the tunnel while it stands.
    pub unalterable: BTreeSet<LinkIndex>,
    /// Routes of the main table that leave by such a device or by the uplink, or that carry our protocol number, or that were
    /// told of for a destination of ours.
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

/// A device named like ours.
#[derive(Clone, Debug, PartialEq)]
pub struct Leftover {
    /// The device.
    pub link: Link,
    /// Its addresses.
    pub addresses: Vec<IpNetwork>,
}

/// What a step is about, by what stays when the kernel's numbers change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// A device.
    Device(String),
    /// An address of a device.
    Address(String, IpNetwork),
    /// An FDB entry of a device.
    Fdb(String, Mac),
    /// A neighbour on a device.
    Neighbour(String, IpAddr),
    /// The routes for a destination.
    Route(IpNetwork),
    /// A file under /proc/sys.
    Sysctl(String),
    /// The firewall tables.
    Firewall,
    /// The rules in iptables' tables at one place.
    Iptables(Place),
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(name) => write!(f, "device {name}"),
            Self::Address(device, address) => write!(f, "address {address} of {device}"),
            Self::Fdb(device, mac) => write!(f, "FDB entry {mac} of {device}"),
            Self::Neighbour(device, address) => write!(f, "neighbour {address} on {device}"),
            Self::Route(destination) => write!(f, "route {destination}"),
            Self::Sysctl(path) => write!(f, "sysctl {path}"),
            Self::Firewall => f.write_str("firewall"),
            Self::Iptables(place) => write!(f, "rules of {place}"),
        }
    }
}

/// One thing to do and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What it is about.
    pub object: Object,
    /// What to do.
    pub action: Action,
    /// Why, in words that follow the object's name.
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

impl Step {
    /// The change over netlink, if it is one.
    pub fn change(&self) -> Option<Change> {
        match &self.action {
            Action::Kernel(change) => Some(change.clone()),
            Action::Sysctl { .. }
            | Action::Firewall
            | Action::DeleteTables(_)
            | Action::Iptables(_) => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.object, self.reason, self.action)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(change) => change.fmt(f),
            Self::Sysctl { value, .. } => write!(f, "set to {value}"),
            Self::Firewall => f.write_str("written anew"),
            Self::DeleteTables(tables) => {
                let names: Vec<_> = tables.iter().map(|(_, name)| name.as_str()).collect();
                write!(f, "delete {}", names.join(" and "))
            }
            Self::Iptables(_) => f.write_str("written"),
        }
    }
}

/// Parts of what the kernel holds that can be compared by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Devices, and what hangs on them; routes.
    pub network: bool,
    /// Devices that a former configuration left.
    pub leftovers: bool,
    /// Files under /proc/sys.
    pub settings: bool,
    /// Firewall tables.
    pub firewall: bool,
}

impl Scope {
    /// Everything.
    pub const ALL: Self = Self {
        network: true,
        leftovers: true,
        settings: true,
        firewall: true,
    };
    /// Nothing.
    pub const NOTHING: Self = Self {
        network: false,
        leftovers: false,
        settings: false,
        firewall: false,
    };

    /// What is in one of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            network: self.network || other.network,
            leftovers: self.leftovers || other.leftovers,
            settings: self.settings || other.settings,
            firewall: self.firewall || other.firewall,
        }
    }

    /// What is in this one only.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self {
            network: self.network && !other.network,
            leftovers: self.leftovers && !other.leftovers,
            settings: self.settings && !other.settings,
            firewall: self.firewall && !other.firewall,
        }
    }
}

impl Observed {
    /// Lets go of what is only good for one comparison: with 5,000 peers it is some megabytes, and soon out of date.
    pub fn forget_entries(&mut self) {
        self.routes = Vec::new();
        self.leftovers = Vec::new();
        for device in self.devices.values_mut() {
            (device.neighbours, device.fdb) = (Vec::new(), Vec::new());
        }
        let devices = &self.devices;
        self.unalterable
            .retain(|index| devices.values().any(|device| device.link.index == *index));
    }
}

/// Compares everything and plans.
pub fn plan(desired: &Desired, observed: &Observed) -> Plan {
    plan_within(desired, observed, Scope::ALL)
}

/// Compares these parts and plans.
pub fn plan_within(desired: &Desired, observed: &Observed, scope: Scope) -> Plan {
    let mut planner = Planner {
        desired,
        observed,
        ready: BTreeMap::new(),
        plan: Plan::default(),
    };
    if scope.settings {
        planner.sysctls();
    }
    if scope.network {
        planner.devices();
        planner.addresses();
        planner.fdb_additions();
        planner.neighbour_additions();
        planner.routes();
        if desired.complete {
            planner.neighbour_removals();
            planner.fdb_removals();
        }
    }
    if scope.leftovers && desired.complete {
        planner.leftovers();
    }
    if scope.firewall {
        planner.firewall();
    }
    planner.plan
}

struct Planner<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    /// The devices that are as they should be, so that something can be put on them.
    ready: BTreeMap<&'a str, &'a ObservedDevice>,
    plan: Plan,
}

impl Planner<'_> {
    fn step(&mut self, object: Object, change: Change, reason: impl Into<String>) {
        self.plan.steps.push(Step {
            object,
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
                object: Object::Sysctl(path.clone()),
                action: Action::Sysctl {
                    path: path.clone(),
                    value: value.clone(),
                },
                reason,
            });
        }
    }
}

/// The UDP port of a device that names none (`vxlan_port` in drivers/net/vxlan: not IANA's 4789).
pub const DEFAULT_PORT: u16 = 8472;

#[cfg(test)]
mod tests;
