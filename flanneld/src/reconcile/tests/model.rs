//! As much of the kernel as the planner touches, and what other programs may do to it.

use std::net::Ipv4Addr;

use hostnet::{Mac, NewLink, NewLinkKind, RouteKind, Vxlan};
use proptest::prelude::*;

use super::super::routes::metric;
use super::super::*;
use crate::desired::{Device, Hop};

pub(super) const DEVICE: &str = "flannel.1";
pub(super) const UPLINK: LinkIndex = LinkIndex(2);

pub(super) fn network() -> IpNetwork {
    "10.244.0.0/16".parse().unwrap()
}

pub(super) fn subnet(number: u8) -> IpNetwork {
    format!("10.244.{number}.0/24").parse().unwrap()
}

pub(super) fn mac(number: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, number])
}

pub(super) fn public(number: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, number).into()
}

pub(super) fn device() -> Device {
    Device {
        vxlan: Vxlan {
            lower: Some(UPLINK),
            local: Some(public(1)),
            ..Vxlan::new(1)
        },
        mtu: 1450,
        mac: mac(1),
        addresses: BTreeSet::from(["10.244.1.0/32".parse().unwrap()]),
    }
}

/// What a host numbered 1 wants with these peers.
pub(super) fn desired(peers: &BTreeSet<u8>) -> Desired {
    let mut desired = Desired {
        devices: BTreeMap::from([(DEVICE.to_owned(), device())]),
        complete: true,
        networks: vec![network()],
        ..Desired::default()
    };
    for &peer in peers {
        let gateway = subnet(peer).network();
        desired.routes.insert(
            subnet(peer),
            Hop::Tunnel {
                device: DEVICE.to_owned(),
                gateway,
            },
        );
        desired
            .neighbours
            .insert((DEVICE.to_owned(), gateway), mac(peer));
        desired
            .fdb
            .insert((DEVICE.to_owned(), mac(peer)), public(peer));
    }
    desired
}

/// As much of the kernel as the planner touches.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Model {
    pub(super) observed: Observed,
    next_index: u32,
}

impl Model {
    pub(super) fn reach(&mut self, desired: &Desired) -> usize {
        for pass in 0..6 {
            let plan = plan(desired, &self.observed);
            if plan.steps.is_empty() {
                assert!(!plan.unfinished, "waits for nothing");
                return pass;
            }
            for step in plan.steps {
                self.apply(step);
            }
        }
        panic!("never in line: {:?}", plan(desired, &self.observed));
    }

    fn device(&mut self, link: LinkIndex) -> &mut ObservedDevice {
        self.observed
            .devices
            .values_mut()
            .find(|device| device.link.index == link)
            .expect("a change names a device that is there")
    }

    pub(super) fn apply(&mut self, step: Step) {
        match step.action {
            Action::Kernel(change) => self.change(change),
            Action::Sysctl { path, value } => drop(self.observed.sysctls.insert(path, value)),
            Action::Firewall | Action::DeleteTables(_) | Action::Iptables(_) => {
                unreachable!("no firewall in these tests")
            }
        }
    }

    pub(super) fn change(&mut self, change: Change) {
        match change {
            Change::AddLink(new) => self.add_link(new),
            Change::DeleteLink(index) => {
                self.observed
                    .leftovers
                    .retain(|leftover| leftover.link.index != index);
                self.observed
                    .devices
                    .retain(|_, device| device.link.index != index);
                self.observed
                    .routes
                    .retain(|route| route.link != Some(index));
            }
            Change::SetLink(change) => {
                let hostnet::LinkName::Index(index) = change.link else {
                    panic!("the planner names links by index")
                };
                let link = &mut self.device(index).link;
                link.mac = change.mac.or(link.mac);
                link.mtu = change.mtu.unwrap_or(link.mtu);
                link.up = change.up.unwrap_or(link.up);
                link.master = change.master.unwrap_or(link.master);
                if let (Some(change), Some(vxlan)) = (change.vxlan, link.vxlan.as_mut()) {
                    vxlan.lower = change.lower.or(vxlan.lower);
                    vxlan.local = change.local.or(vxlan.local);
                    vxlan.learning = change.learning;
                }
            }
            Change::AddAddress(address) => self.device(address.link).addresses.push(address),
            Change::DeleteAddress(address) => self
                .device(address.link)
                .addresses
                .retain(|held| *held != address),
            Change::ReplaceNeighbour(entry) => {
                let neighbours = &mut self.device(entry.link).neighbours;
                neighbours.retain(|held| held.address != entry.address);
                neighbours.push(entry);
            }
            Change::DeleteNeighbour(entry) => self
                .device(entry.link)
                .neighbours
                .retain(|held| *held != entry),
            Change::ReplaceFdb(entry) => {
                let fdb = &mut self.device(entry.link).fdb;
                fdb.retain(|held| held.mac != entry.mac);
                fdb.push(entry);
            }
            Change::DeleteFdb(entry) => self.device(entry.link).fdb.retain(|held| *held != entry),
            Change::ReplaceRoute(route) if route.kind == RouteKind::Blackhole => {
                self.observed.routes.push(route);
            }
            Change::ReplaceRoute(route) => {
                let gateway = route.gateway.expect("every route here has one");
                let reachable = self
                    .device(route.link.unwrap())
                    .neighbours
                    .iter()
                    .any(|held| held.address == gateway);
                assert!(
                    reachable,
                    "a route is written before its gateway's neighbour: {route:?}"
                );
                self.observed.routes.retain(|held| {
                    held.destination != route.destination || metric(held) != metric(&route)
                });
                self.observed.routes.push(route);
            }
            Change::DeleteRoute(route) => self.observed.routes.retain(|held| {
                let other = (held.destination, held.gateway, held.link, metric(held))
                    != (route.destination, route.gateway, route.link, metric(&route));
                other || (route.protocol != 0 && held.protocol != route.protocol)
            }),
            other => panic!("the planner makes no such change: {other:?}"),
        }
    }

    fn add_link(&mut self, new: NewLink) {
        let NewLinkKind::Vxlan(mut vxlan) = new.kind else {
            panic!("only VXLAN devices are made")
        };
        if vxlan.port == 0 {
            vxlan.port = DEFAULT_PORT;
        }
        self.next_index += 1;
        let link = Link {
            kind: Some("vxlan".to_owned()),
            mac: new.mac,
            mtu: new.mtu.unwrap_or(1450),
            up: new.up,
            running: new.up,
            vxlan: Some(vxlan),
            ..Link::bare(LinkIndex(100 + self.next_index), &new.name)
        };
        let device = ObservedDevice {
            link,
            addresses: Vec::new(),
            neighbours: Vec::new(),
            fdb: Vec::new(),
        };
        assert!(
            self.observed.devices.insert(new.name, device).is_none(),
            "a device is made twice"
        );
    }

    /// What is there, without what may differ from run to run (the device's index, the order of dumps).
    pub(super) fn essence(&self) -> BTreeSet<String> {
        let mut essence = BTreeSet::new();
        for (name, device) in &self.observed.devices {
            let link = &device.link;
            essence.insert(format!(
                "{name} {:?} {} {} {:?} {:?}",
                link.mac, link.mtu, link.up, link.master, link.vxlan
            ));
            essence.extend(
                device
                    .addresses
                    .iter()
                    .map(|held| format!("{}/{}", held.address, held.prefix)),
            );
            essence.extend(
                device
                    .neighbours
                    .iter()
                    .map(|held| format!("{} {:?} {:?}", held.address, held.mac, held.state)),
            );
            essence.extend(
                device
                    .fdb
                    .iter()
                    .filter(|held| held.permanent)
                    .map(|held| format!("{} {} {}", held.mac, held.destination, held.detour)),
            );
        }
        essence.extend(self.observed.routes.iter().map(|held| {
            format!(
                "{} {:?} {:?}",
                held.destination, held.gateway, held.priority
            )
        }));
        essence
    }
}

/// One thing that another program may have done.
#[derive(Clone, Debug)]
pub(super) enum Damage {
    DeviceGone,
    DeviceDown,
    Mtu(u32),
    Mac(u8),
    Port(u16),
    Lower(u32),
    Local(u8),
    Learning,
    AddressGone,
    WrongAddress(u8),
    RouteGone(u8),
    RouteAltered(u8, u8),
    RouteBeside(u8, u32),
    NeighbourGone(u8),
    NeighbourAltered(u8, u8),
    FdbGone(u8),
    FdbAltered(u8, u8),
    FdbDetour(u8),
    FdbAgeing(u8),
}

pub(super) fn damage() -> impl Strategy<Value = Damage> {
    let number = 0u8..250;
    prop_oneof![
        Just(Damage::DeviceGone),
        Just(Damage::DeviceDown),
        (600u32..9000).prop_map(Damage::Mtu),
        number.clone().prop_map(Damage::Mac),
        (1u16..).prop_map(Damage::Port),
        (1u32..9).prop_map(Damage::Lower),
        number.clone().prop_map(Damage::Local),
        Just(Damage::Learning),
        Just(Damage::AddressGone),
        number.clone().prop_map(Damage::WrongAddress),
        number.clone().prop_map(Damage::RouteGone),
        (number.clone(), number.clone()).prop_map(|(a, b)| Damage::RouteAltered(a, b)),
        (number.clone(), 1u32..9).prop_map(|(a, b)| Damage::RouteBeside(a, b)),
        number.clone().prop_map(Damage::NeighbourGone),
        (number.clone(), number.clone()).prop_map(|(a, b)| Damage::NeighbourAltered(a, b)),
        number.clone().prop_map(Damage::FdbGone),
        (number.clone(), number.clone()).prop_map(|(a, b)| Damage::FdbAltered(a, b)),
        number.clone().prop_map(Damage::FdbDetour),
        number.prop_map(Damage::FdbAgeing),
    ]
}

impl Model {
    pub(super) fn suffer(&mut self, damage: &Damage) {
        let Some(device) = self.observed.devices.get_mut(DEVICE) else {
            return;
        };
        let link = device.link.index;
        let routes = &mut self.observed.routes;
        match *damage {
            Damage::DeviceGone => {
                self.observed.devices.clear();
                routes.clear();
            }
            Damage::DeviceDown => {
                device.link.up = false;
                device.neighbours.clear();
                routes.clear();
            }
            Damage::Mtu(mtu) => device.link.mtu = mtu,
            Damage::Mac(number) => device.link.mac = Some(mac(number)),
            Damage::Port(port) => device.link.vxlan.as_mut().unwrap().port = port,
            Damage::Lower(index) => {
                device.link.vxlan.as_mut().unwrap().lower = Some(LinkIndex(index));
            }
            Damage::Local(number) => {
                device.link.vxlan.as_mut().unwrap().local = Some(public(number));
            }
            Damage::Learning => device.link.vxlan.as_mut().unwrap().learning ^= true,
            Damage::AddressGone => device.addresses.clear(),
            Damage::WrongAddress(number) => {
                let address = Ipv4Addr::new(10, 244, number, 9).into();
                device.addresses.push(Address::new(link, address, 32));
            }
            Damage::RouteGone(number) => remove(routes, number),
            Damage::RouteAltered(number, other) => damaged(routes, number, |route| {
                route.gateway = Some(Ipv4Addr::new(10, 244, other, 1).into());
            }),
            Damage::RouteBeside(number, metric) => {
                let mut beside = routes.clone();
                damaged(&mut beside, number, |route| route.priority = Some(metric));
                beside.retain(|route| !routes.contains(route));
                routes.extend(beside);
            }
            Damage::NeighbourGone(number) => remove(&mut device.neighbours, number),
            Damage::NeighbourAltered(number, other) => {
                damaged(&mut device.neighbours, number, |entry| {
                    entry.mac = Some(mac(other))
                });
            }
            Damage::FdbGone(number) => remove(&mut device.fdb, number),
            Damage::FdbDetour(number) => {
                damaged(&mut device.fdb, number, |entry| entry.detour = true);
            }
            Damage::FdbAgeing(number) => {
                damaged(&mut device.fdb, number, |entry| entry.permanent = false);
            }
            Damage::FdbAltered(number, other) => {
                damaged(&mut device.fdb, number, |entry| {
                    entry.destination = public(other)
                });
            }
        }
    }
}

fn remove<T>(entries: &mut Vec<T>, number: u8) {
    if !entries.is_empty() {
        entries.remove(number as usize % entries.len());
    }
}

fn damaged<T>(entries: &mut [T], number: u8, change: impl FnOnce(&mut T)) {
    if !entries.is_empty() {
        change(&mut entries[number as usize % entries.len()]);
    }
}
