//! Leases in, desired state out: what a peer becomes, which leases are left out, and that the order of events does not matter.

use std::net::Ipv4Addr;

use hostnet::LinkIndex;
use ipam::{LeaseKey, LeaseRecord};
use proptest::prelude::*;

use super::*;
use crate::leases::Leases;
use crate::network::Network;
use crate::store::PeerEvent;

fn conf(text: &str) -> NetConf {
    NetConf::parse(text.as_bytes()).unwrap()
}

fn uplink() -> Uplink {
    Uplink {
        link: LinkIndex(2),
        name: "eth0".to_owned(),
        mtu: 1500,
        networks: vec!["192.0.2.1/24".parse().unwrap()],
        local: PerFamily::both(Ipv4Addr::new(192, 0, 2, 1), "2001:db8::1".parse().unwrap()),
        public: PerFamily::both(Ipv4Addr::new(192, 0, 2, 1), "2001:db8::1".parse().unwrap()),
    }
}

fn network_of(text: &str) -> Network {
    Network::new(&conf(text), &uplink(), &PerFamily { v4: None, v6: None }).unwrap()
}

fn vxlan() -> Network {
    network_of(r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}"#)
}

fn own() -> Subnets {
    "10.244.1.0-24".parse::<LeaseKey>().unwrap().subnets()
}

fn lease(subnet: &str, public: [u8; 4], mac: u8, revision: i64) -> PeerLease {
    let data = VxlanLease {
        vni: Some(ipam::Vni::DEFAULT),
        mac: ipam::Mac([2, 0, 0, 0, 0, mac]),
    };
    let record = LeaseRecord {
        public: PerFamily::v4(public.into()),
        backend: LeaseBackend::Vxlan(PerFamily {
            v4: Some(data),
            v6: None,
        }),
    };
    PeerLease {
        key: subnet.parse().unwrap(),
        record,
        revision,
        created: revision,
    }
}

fn reasons(leases: &[PeerLease]) -> Vec<String> {
    let (_, skipped) = vxlan().desired(Some(&own()), leases.iter());
    skipped.iter().map(|skip| skip.reason.to_string()).collect()
}

#[test]
fn a_peer_becomes_a_neighbour_an_fdb_entry_and_a_route() {
    let (desired, skipped) = vxlan().desired(
        Some(&own()),
        [lease("10.244.7.0-24", [192, 0, 2, 7], 7, 1)].iter(),
    );
    assert_eq!(skipped, []);
    let device = "flannel.1".to_owned();
    let mac = Mac([2, 0, 0, 0, 0, 7]);
    let gateway: IpAddr = "10.244.7.0".parse().unwrap();
    assert_eq!(
        desired.neighbours.get(&(device.clone(), gateway)),
        Some(&mac)
    );
    assert_eq!(
        desired.fdb.get(&(device.clone(), mac)),
        Some(&"192.0.2.7".parse().unwrap())
    );
    assert_eq!(
        desired.routes.get(&"10.244.7.0/24".parse().unwrap()),
        Some(&Hop::Tunnel {
            device: device.clone(),
            gateway
        })
    );
    assert_eq!(
        desired.devices[&device].addresses,
        ["10.244.1.0/32".parse().unwrap()].into()
    );
    assert!(desired.complete);
}

#[test]
fn the_device_is_flannels() {
    let network = network_of(
        r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan", "VNI": 7, "Port": 4789, "MTU": 1400, "GBP": true, "Learning": true}}"#,
    );
    let (desired, _) = network.desired(None, [].iter());
    assert!(!desired.complete);
    let device = &desired.devices["flannel.7"];
    assert_eq!(device.mtu, 1350);
    let vxlan = &device.vxlan;
    assert_eq!(
        (vxlan.vni, vxlan.port, vxlan.gbp, vxlan.learning),
        (7, 4789, true, true)
    );
    assert_eq!(
        (vxlan.lower, vxlan.local),
        (Some(LinkIndex(2)), Some("192.0.2.1".parse().unwrap()))
    );
}

#[test]
fn ipv6_has_its_own_device_and_its_own_overhead() {
    let network = network_of(
        r#"{"Network": "10.244.0.0/16", "IPv6Network": "fd00:10:244::/48", "EnableIPv6": true, "Backend": {"Type": "vxlan"}}"#,
    );
    let (desired, _) = network.desired(
        Some(
            &"10.244.1.0-24&fd00:10:244:1::-64"
                .parse::<LeaseKey>()
                .unwrap()
                .subnets(),
        ),
        [].iter(),
    );
    assert_eq!(desired.devices["flannel.1"].mtu, 1450);
    assert_eq!(desired.devices["flannel-v6.1"].mtu, 1430);
    assert_eq!(
        desired.devices["flannel-v6.1"].addresses,
        ["fd00:10:244:1::/128".parse().unwrap()].into()
    );
    assert_eq!(network.pod_mtu(), 1430);
}

#[test]
fn a_tunnel_without_room_is_refused() {
    let narrow = Uplink {
        mtu: 100,
        ..uplink()
    };
    let conf = conf(r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}"#);
    let error = Network::new(&conf, &narrow, &PerFamily { v4: None, v6: None }).unwrap_err();
    assert!(error.to_string().contains("leaves 50 bytes"), "{error}");
}

#[test]
fn neighbours_are_reached_directly_when_asked_for() {
    let network = network_of(
        r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan", "DirectRouting": true}}"#,
    );
    let near = lease("10.244.7.0-24", [192, 0, 2, 7], 7, 1);
    let far = lease("10.244.8.0-24", [198, 51, 100, 8], 8, 2);
    let (desired, skipped) = network.desired(Some(&own()), [near, far].iter());
    assert_eq!(skipped, []);
    let link = LinkIndex(2);
    let gateway = "192.0.2.7".parse().unwrap();
    assert_eq!(
        desired.routes[&"10.244.7.0/24".parse().unwrap()],
        Hop::Uplink { link, gateway }
    );
    assert!(matches!(
        desired.routes[&"10.244.8.0/24".parse().unwrap()],
        Hop::Tunnel { .. }
    ));
    assert_eq!((desired.neighbours.len(), desired.fdb.len()), (1, 1));
    assert_eq!(desired.uplink, Some(link));
}

#[test]
fn over_another_uplink_the_macs_stay() {
    let network = vxlan();
    let other = Uplink {
        mtu: 9000,
        public: PerFamily::v4(Ipv4Addr::new(203, 0, 113, 9)),
        ..uplink()
    };
    let conf = conf(r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}"#);
    let moved = network.over(&conf, &other).unwrap();
    assert_eq!(moved.pod_mtu(), 8950);
    assert_eq!(
        moved.record(&other).backend,
        network.record(&uplink()).backend
    );
}

#[test]
fn the_record_is_flannels_byte_for_byte() {
    let mut uplink = uplink();
    uplink.public.v6 = None;
    let conf = conf(r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}"#);
    let macs = PerFamily {
        v4: Some(Mac([0xc6, 0xd8, 0x1b, 0x2a, 0xd6, 0x81])),
        v6: None,
    };
    let network = Network::new(&conf, &uplink, &macs).unwrap();
    assert_eq!(
        network.record(&uplink).to_json(),
        r#"{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d8:1b:2a:d6:81"}}"#
    );
}

#[test]
fn a_derived_mac_is_local_unicast_and_always_the_same() {
    let mac = |last| derived_mac(Ipv4Addr::new(192, 0, 2, last).into(), ipam::Vni::DEFAULT);
    assert_eq!(mac(1), mac(1));
    assert_eq!(mac(1).0[0] & 3, 2);
    let all: std::collections::BTreeSet<Mac> = (0..=255).map(mac).collect();
    assert_eq!(all.len(), 256);
}

#[test]
fn a_lease_of_another_backend_is_left_out() {
    let mut foreign = lease("10.244.7.0-24", [192, 0, 2, 7], 7, 1);
    foreign.record.backend = LeaseBackend::HostGw;
    assert_eq!(
        reasons(&[foreign]),
        [
            "it is a lease of backend host-gw, this node runs vxlan; all nodes of a network need the same Backend"
        ]
    );
}

#[test]
fn a_lease_over_our_subnet_is_left_out() {
    let inside = lease("10.244.1.0-25", [192, 0, 2, 7], 7, 1);
    let around = lease("10.244.0.0-20", [192, 0, 2, 8], 8, 1);
    for reason in reasons(&[inside, around]) {
        assert!(
            reason.contains("overlaps this node's own 10.244.1.0/24"),
            "{reason}"
        );
    }
}

#[test]
fn of_two_leases_in_each_others_way_the_earlier_counts() {
    let early = lease("10.244.7.0-24", [192, 0, 2, 7], 7, 1);
    let late = lease("10.244.0.0-20", [192, 0, 2, 8], 8, 2);
    // 10.244.0.0/20 would hold ours too.
    assert_eq!(reasons(&[early.clone(), late]).len(), 1);
    let late = lease("10.244.6.0-23", [192, 0, 2, 8], 8, 2);
    let leases = [early, late];
    assert_eq!(
        reasons(&leases),
        [
            "its subnet 10.244.6.0/23 overlaps 10.244.7.0/24, which was leased before; one of the two leases has to go"
        ]
    );
}

#[test]
fn nobody_takes_our_identity_or_anothers() {
    let ours = derived_mac(Ipv4Addr::new(192, 0, 2, 1).into(), ipam::Vni::DEFAULT).0;
    let mut thief = lease("10.244.7.0-24", [192, 0, 2, 7], 7, 1);
    thief.record.backend = LeaseBackend::Vxlan(PerFamily {
        v4: Some(VxlanLease {
            vni: None,
            mac: ipam::Mac(ours),
        }),
        v6: None,
    });
    assert!(reasons(&[thief])[0].contains("which is this node's"));
    assert!(
        reasons(&[lease("10.244.7.0-24", [192, 0, 2, 1], 7, 1)])[0]
            .contains("the public address 192.0.2.1")
    );
    let twins = [
        lease("10.244.7.0-24", [192, 0, 2, 7], 7, 1),
        lease("10.244.8.0-24", [192, 0, 2, 8], 7, 2),
    ];
    assert!(reasons(&twins)[0].contains("which 10.244.8.0/24, leased later, has too"));
}

#[test]
fn both_leases_of_a_host_are_used() {
    let leases = [
        lease("10.244.7.0-24", [192, 0, 2, 7], 7, 1),
        lease("10.244.8.0-24", [192, 0, 2, 7], 7, 2),
    ];
    let (desired, skipped) = vxlan().desired(Some(&own()), leases.iter());
    assert_eq!(skipped, []);
    assert_eq!((desired.routes.len(), desired.fdb.len()), (2, 1));
}

#[test]
fn an_address_nobody_can_have_or_a_foreign_network_is_left_out() {
    for public in [
        [0, 0, 0, 0],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [255, 255, 255, 255],
    ] {
        assert!(
            reasons(&[lease("10.244.7.0-24", public, 7, 1)])[0]
                .contains("none that a host can have")
        );
    }
    assert!(
        reasons(&[lease("10.7.0.0-24", [192, 0, 2, 7], 7, 1)])[0]
            .contains("outside the pod network 10.244.0.0/16")
    );
}

/// An event about one of few leases, so that they meet.
fn event() -> impl Strategy<Value = PeerEvent> {
    let any_lease = (2u8..9, 2u8..9, 2u8..9).prop_map(|(subnet, public, mac)| {
        lease(
            &format!("10.244.{subnet}.0-24"),
            [192, 0, 2, public],
            mac,
            0,
        )
    });
    prop_oneof![
        4 => any_lease.clone().prop_map(PeerEvent::Changed),
        2 => (2u8..9).prop_map(|subnet| PeerEvent::Removed(format!("10.244.{subnet}.0-24").parse().unwrap())),
        1 => proptest::collection::vec(any_lease, 0..6).prop_map(|peers| PeerEvent::Snapshot { peers, skipped: Vec::new() }),
    ]
}

/// Gives each lease of the events the revision that a store would.
fn revised(events: Vec<PeerEvent>) -> Vec<PeerEvent> {
    let mut revision = 0;
    let mut next = |mut lease: PeerLease| {
        revision += 1;
        (lease.revision, lease.created) = (revision, revision);
        lease
    };
    let revise = |event| match event {
        PeerEvent::Changed(lease) => PeerEvent::Changed(next(lease)),
        PeerEvent::Snapshot { peers, skipped } => {
            let peers: std::collections::BTreeMap<_, _> = peers
                .into_iter()
                .map(|lease| (lease.key, next(lease)))
                .collect();
            PeerEvent::Snapshot {
                peers: peers.into_values().collect(),
                skipped,
            }
        }
        other => other,
    };
    events.into_iter().map(revise).collect()
}

proptest! {
    #[test]
    fn whatever_came_before_the_outcome_is_that_of_a_fresh_start(events in proptest::collection::vec(event(), 0..20)) {
        let mut leases = Leases::default();
        for event in revised(events) {
            leases.apply(event);
        }
        let network = vxlan();
        let lived = network.desired(Some(&own()), leases.peers());

        let mut fresh = Leases::default();
        fresh.apply(PeerEvent::Snapshot { peers: leases.peers().cloned().collect(), skipped: Vec::new() });
        prop_assert_eq!(&lived, &network.desired(Some(&own()), fresh.peers()));

        // Each gateway is a neighbour whose MAC leads somewhere, and no MAC leads to two places.
        let (desired, _) = lived;
        for hop in desired.routes.values() {
            let Hop::Tunnel { device, gateway } = hop else { panic!("every route goes through the tunnel") };
            let mac = desired.neighbours[&(device.clone(), *gateway)];
            prop_assert!(desired.fdb.contains_key(&(device.clone(), mac)));
        }
        prop_assert!(desired.routes.len() >= desired.fdb.len());
        prop_assert!(!desired.routes.contains_key(&"10.244.1.0/24".parse().unwrap()));
    }
}
