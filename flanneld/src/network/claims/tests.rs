//! Changes taken in one by one lead where looking at all leases does.

use std::net::Ipv4Addr;

use hostnet::LinkIndex;
use ipam::{LeaseRecord, NetConf, PerFamily, VxlanLease};
use proptest::prelude::*;

use super::*;
use crate::leases::Leases;
use crate::store::PeerEvent;
use crate::uplink::Uplink;

const NETWORKS: [&str; 3] = [
    r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}"#,
    r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan", "DirectRouting": true}}"#,
    r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "host-gw"}}"#,
];

fn network(conf: &str) -> Network {
    let address = Ipv4Addr::new(192, 0, 2, 1);
    let uplink = Uplink {
        link: LinkIndex(2),
        name: "eth0".to_owned(),
        mtu: 1500,
        networks: vec!["192.0.2.1/25".parse().unwrap()],
        local: PerFamily::v4(address),
        public: PerFamily::v4(address),
    };
    let conf = NetConf::parse(conf.as_bytes()).unwrap();
    Network::new(&conf, &uplink, &PerFamily { v4: None, v6: None }).unwrap()
}

fn own() -> Subnets {
    "10.244.1.0-24".parse::<LeaseKey>().unwrap().subnets()
}

fn lease(subnet: u8, length: u8, public: u8, mac: Option<u8>, created: i64) -> PeerLease {
    let network = Cidr::masked(Ipv4Addr::new(10, 244, subnet, 0).into(), length).unwrap();
    let backend = match mac {
        None => LeaseBackend::HostGw,
        Some(mac) => LeaseBackend::Vxlan(PerFamily::v4(VxlanLease {
            vni: None,
            mac: Mac([2, 0, 0, 0, 0, mac]),
        })),
    };
    let public = PerFamily::v4(Ipv4Addr::new(192, 0, 2, public));
    PeerLease {
        key: format!("{}-{length}", network.network()).parse().unwrap(),
        record: LeaseRecord { public, backend },
        revision: created,
        created,
    }
}

/// Few numbers, so that leases get into each other's way; a snapshot now and then.
fn events() -> impl Strategy<Value = Vec<PeerEvent>> {
    let lease = || {
        let mac = proptest::option::weighted(0.8, 0u8..40);
        let length = prop_oneof![5 => Just(24u8), 1 => 22u8..27];
        (0u8..40, length, 0u8..250, mac, 0i64..9).prop_map(
            |(subnet, length, public, mac, created)| lease(subnet, length, public, mac, created),
        )
    };
    let event = prop_oneof![
        6 => lease().prop_map(PeerEvent::Changed),
        3 => lease().prop_map(|lease| PeerEvent::Removed(lease.key)),
        1 => proptest::collection::vec(lease(), 0..6)
            .prop_map(|peers| PeerEvent::Snapshot { peers, skipped: Vec::new() }),
    ];
    proptest::collection::vec(event, 0..40)
}

proptest! {
    #[test]
    fn one_by_one_leads_where_all_at_once_does(events in events(), which in 0usize..3) {
        let network = network(NETWORKS[which]);
        let mut leases = Leases::default();
        let mut claims = Claims::default();
        let mut desired = network.desired(Some(&own()), std::iter::empty()).0;
        for event in events {
            let mut again = false;
            for change in leases.apply(event) {
                match claims.take(&change, &network, &own()) {
                    Some(taken) => taken.alteration.apply_to(&mut desired),
                    None => again = true,
                }
            }
            let (fresh, _) = network.desired(Some(&own()), leases.peers());
            if again {
                desired = fresh.clone();
            }
            prop_assert_eq!(&desired, &fresh);
        }
    }
}

#[test]
fn of_five_thousand_leases_a_change_costs_its_own_objects() {
    let network = network(r#"{"Network": "10.0.0.0/8", "Backend": {"Type": "vxlan"}}"#);
    let many = |number: u16| {
        let [high, low] = number.to_be_bytes();
        PeerLease {
            key: format!("10.{high}.{low}.0-24").parse().unwrap(),
            record: LeaseRecord {
                public: PerFamily::v4(Ipv4Addr::new(198, 51, high, low)),
                backend: LeaseBackend::Vxlan(PerFamily::v4(VxlanLease {
                    vni: None,
                    mac: Mac([2, 0, 0, 1, high, low]),
                })),
            },
            revision: 1,
            created: 1,
        }
    };
    let own = "10.200.1.0-24".parse::<LeaseKey>().unwrap().subnets();
    let all: Vec<PeerLease> = (0..5000).map(many).collect();
    let mut claims = Claims::of(all.iter());
    let mut take = |change: &Change| {
        let taken = claims.take(change, &network, &own).expect("it is alone");
        let Alteration {
            routes,
            neighbours,
            fdb,
        } = taken.alteration;
        (routes.len(), neighbours.len(), fdb.len())
    };
    let joined = many(5001);
    assert_eq!(take(&Change::Joined(joined.clone())), (1, 1, 1));
    let mut moved = joined.clone();
    moved.record.public = PerFamily::v4(Ipv4Addr::new(203, 0, 113, 1));
    let altered = Change::Altered {
        before: joined,
        now: moved.clone(),
    };
    assert_eq!(take(&altered), (0, 0, 1));
    assert_eq!(take(&Change::Left(moved)), (1, 1, 1));
}
