//! Every network, in every family: whatever happened before, and in whatever order, the outcome is that of a fresh start.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use hostnet::LinkIndex;
use ipam::{Ipv4Cidr, Ipv6Cidr, VxlanLease};
use proptest::prelude::*;

use super::*;
use crate::desired::Hop;
use crate::leases::Leases;
use crate::store::{PeerEvent, Unreadable, Used};

const BACKENDS: [&str; 4] = [
    r#"{"Type": "vxlan"}"#,
    r#"{"Type": "vxlan", "DirectRouting": true}"#,
    r#"{"Type": "host-gw"}"#,
    r#"{"Type": "alloc"}"#,
];

const FAMILIES: [&str; 3] = [
    r#""Network": "10.244.0.0/16""#,
    r#""Network": "10.244.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:10:244::/48""#,
    r#""EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fd00:10:244::/48""#,
];

fn network_of(backend: usize, families: usize) -> Network {
    let text = format!(
        r#"{{{}, "Backend": {}}}"#,
        FAMILIES[families], BACKENDS[backend]
    );
    let conf = NetConf::parse(text.as_bytes()).unwrap();
    Network::new(&conf, &uplink(), &PerFamily { v4: None, v6: None }).unwrap()
}

/// A host with two networks at hand; peers are in them, and behind routers.
fn uplink() -> Uplink {
    let addresses = PerFamily::both(Ipv4Addr::new(192, 0, 2, 1), "2001:db8::1".parse().unwrap());
    Uplink {
        link: LinkIndex(2),
        name: "eth0".to_owned(),
        mtu: 1500,
        networks: vec![
            "192.0.2.1/28".parse().unwrap(),
            "2001:db8::1/124".parse().unwrap(),
        ],
        local: addresses,
        public: addresses,
    }
}

fn subnets(number: u8, wide: bool, v4: bool, v6: bool) -> Subnets {
    let address = Ipv6Addr::new(0xfd00, 0x10, 0x244, u16::from(number), 0, 0, 0, 0);
    let shorter = u8::from(wide);
    Subnets {
        v4: v4.then(|| Ipv4Cidr::masked([10, 244, number, 0].into(), 24 - shorter).unwrap()),
        v6: v6.then(|| Ipv6Cidr::masked(address, 64 - shorter).unwrap()),
    }
}

fn own(families: usize) -> Subnets {
    subnets(1, false, families < 2, families > 0)
}

fn any_backend() -> impl Strategy<Value = LeaseBackend> {
    let vtep = (2u8..8).prop_map(|number| VxlanLease {
        vni: None,
        mac: ipam::Mac([2, 0, 0, 0, 0, number]),
    });
    let vteps = (
        proptest::option::weighted(0.8, vtep.clone()),
        proptest::option::of(vtep),
    );
    prop_oneof![
        5 => vteps.prop_map(|(v4, v6)| LeaseBackend::Vxlan(PerFamily { v4, v6 })),
        3 => Just(LeaseBackend::HostGw),
        1 => Just(LeaseBackend::Unnamed),
    ]
}

/// A lease of one of few hosts, so that they meet and get into each other's way.
fn any_lease() -> impl Strategy<Value = PeerLease> {
    let place = (
        0u8..8,
        any::<bool>(),
        prop_oneof![Just((true, false)), Just((true, true)), Just((false, true))],
    );
    (place, 1u8..24, any_backend()).prop_map(|((number, wide, (v4, v6)), host, backend)| {
        let public = PerFamily {
            v4: (host % 5 != 0).then(|| [192, 0, 2, host].into()),
            v6: (host % 3 != 0).then(|| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host.into())),
        };
        PeerLease {
            key: LeaseKey::new(subnets(number, wide, v4, v6)).unwrap(),
            record: LeaseRecord { public, backend },
            revision: 0,
            created: 0,
        }
    })
}

/// What happens to leases in a store.
#[derive(Clone, Debug)]
enum Happening {
    Written(PeerLease),
    Gone(LeaseKey),
    Spoiled(LeaseKey),
    /// Everything is told once more.
    Relisted,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => any_lease().prop_map(Happening::Written),
        2 => any_lease().prop_map(|lease| Happening::Gone(lease.key)),
        1 => any_lease().prop_map(|lease| Happening::Spoiled(lease.key)),
        1 => Just(Happening::Relisted),
    ]
}

/// The events of a store to which this happens, and the leases it has in the end; a lease that was spoiled counts as it was.
fn told(happenings: Vec<Happening>) -> (Vec<PeerEvent>, BTreeMap<LeaseKey, PeerLease>) {
    let mut there: BTreeMap<LeaseKey, PeerLease> = BTreeMap::new();
    let mut events = Vec::new();
    for (happening, revision) in happenings.into_iter().zip(1..) {
        events.push(match happening {
            Happening::Written(mut lease) => {
                lease.revision = revision;
                lease.created = there
                    .get(&lease.key)
                    .map_or(revision, |before| before.created);
                there.insert(lease.key, lease.clone());
                PeerEvent::Changed(lease)
            }
            Happening::Gone(key) => {
                there.remove(&key);
                PeerEvent::Removed(key)
            }
            Happening::Spoiled(key) => PeerEvent::Unreadable(Unreadable {
                key: key.to_string(),
                lease: Some(key),
                reason: "not JSON".to_owned(),
                used: Used::Nothing,
            }),
            Happening::Relisted => snapshot(&there),
        });
    }
    (events, there)
}

fn snapshot(leases: &BTreeMap<LeaseKey, PeerLease>) -> PeerEvent {
    PeerEvent::Snapshot {
        peers: leases.values().cloned().collect(),
        skipped: Vec::new(),
    }
}

fn after(events: impl IntoIterator<Item = PeerEvent>, own: &Subnets) -> Leases {
    let mut leases = Leases::default();
    leases.set_own(LeaseKey::new(*own).unwrap());
    for event in events {
        leases.apply(event);
    }
    leases
}

/// The lease that an event is about.
fn key_of(event: &PeerEvent) -> Option<LeaseKey> {
    match event {
        PeerEvent::Changed(lease) => Some(lease.key),
        PeerEvent::Removed(key) => Some(*key),
        PeerEvent::Unreadable(entry) => entry.lease,
        PeerEvent::Snapshot { .. } | PeerEvent::Mended(_) => None,
    }
}

proptest! {
    #[test]
    fn any_history_leads_to_the_state_of_a_fresh_start(
        backend in 0..BACKENDS.len(),
        families in 0..FAMILIES.len(),
        happenings in proptest::collection::vec(happening(), 0..24),
    ) {
        let (network, own) = (network_of(backend, families), own(families));
        let (mut events, there) = told(happenings);
        let fresh = after([snapshot(&there)], &own);
        let fresh = network.desired(Some(&own), fresh.peers());

        let lived = after(events.clone(), &own);
        prop_assert_eq!(&network.desired(Some(&own), lived.peers()), &fresh);

        // Told of one lease after the other instead, the last first.
        events.retain(|event| key_of(event).is_some());
        events.sort_by_key(|event| std::cmp::Reverse(key_of(event)));
        let sorted = after(events, &own);
        prop_assert_eq!(&network.desired(Some(&own), sorted.peers()), &fresh);
    }

    #[test]
    fn no_state_sends_a_packet_nowhere_or_to_two_places(
        backend in 0..BACKENDS.len(),
        families in 0..FAMILIES.len(),
        happenings in proptest::collection::vec(happening(), 0..24),
    ) {
        let (network, own) = (network_of(backend, families), own(families));
        let leases = after(told(happenings).0, &own);
        let (desired, _) = network.desired(Some(&own), leases.peers());
        let ours: Vec<IpNetwork> = own.each().map(as_network).collect();
        let routes: Vec<&IpNetwork> = desired.routes.keys().collect();
        for (index, route) in routes.iter().enumerate() {
            let inside = desired.networks.iter().any(|network| covers(network, route));
            prop_assert!(inside, "{route} is outside of the pod network");
            let mut others = routes[index + 1..].iter().copied().chain(&ours);
            prop_assert!(!others.any(|other| overlap(route, other)), "{route} is there twice");
        }
        for hop in desired.routes.values() {
            if let Hop::Tunnel { device, gateway } = hop {
                let mac = desired.neighbours[&(device.clone(), *gateway)];
                prop_assert!(desired.fdb.contains_key(&(device.clone(), mac)));
                prop_assert!(desired.devices.contains_key(device));
            }
        }
        let tunnels = matches!(network, Network::Vxlan(_));
        prop_assert_eq!(desired.devices.is_empty(), !tunnels);
        let programs = !matches!(network, Network::Alloc { .. });
        prop_assert!(programs || desired.routes.is_empty());
    }
}

fn covers(network: &IpNetwork, part: &IpNetwork) -> bool {
    network.contains(part.network()) && network.prefix() <= part.prefix()
}

fn overlap(one: &IpNetwork, other: &IpNetwork) -> bool {
    covers(one, other) || covers(other, one)
}
