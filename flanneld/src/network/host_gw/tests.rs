//! host-gw: plain routes to neighbours, and nothing to anybody else.

use std::net::Ipv4Addr;

use ipam::{LeaseRecord, PerFamily};

use super::*;
use crate::network::Network;

fn uplink() -> Uplink {
    Uplink {
        link: LinkIndex(2),
        name: "eth0".to_owned(),
        mtu: 1500,
        networks: vec![
            "192.0.2.1/24".parse().unwrap(),
            "2001:db8::1/64".parse().unwrap(),
        ],
        local: PerFamily::both(Ipv4Addr::new(192, 0, 2, 1), "2001:db8::1".parse().unwrap()),
        public: PerFamily::both(Ipv4Addr::new(192, 0, 2, 1), "2001:db8::1".parse().unwrap()),
    }
}

fn lease(key: &str, v4: &str, v6: &str) -> PeerLease {
    let public = PerFamily::both(v4.parse().unwrap(), v6.parse().unwrap());
    let backend = LeaseBackend::HostGw;
    let record = LeaseRecord { public, backend };
    PeerLease {
        key: key.parse().unwrap(),
        record,
        revision: 1,
        created: 1,
    }
}

fn host_gw() -> Network {
    let text = r#"{"Network": "10.244.0.0/16", "IPv6Network": "fd00:10:244::/48", "EnableIPv6": true,
                   "Backend": {"Type": "host-gw"}}"#;
    let conf = NetConf::parse(text.as_bytes()).unwrap();
    Network::new(&conf, &uplink(), &PerFamily { v4: None, v6: None }).unwrap()
}

#[test]
fn each_neighbour_becomes_a_route_in_each_family() {
    let peer = lease(
        "10.244.7.0-24&fd00:10:244:7::-64",
        "192.0.2.7",
        "2001:db8::7",
    );
    let own = "10.244.1.0-24&fd00:10:244:1::-64"
        .parse::<ipam::LeaseKey>()
        .unwrap()
        .subnets();
    let (desired, skipped) = host_gw().desired(Some(&own), [peer].iter());
    assert_eq!(skipped, []);
    let hop = |gateway: &str| Hop::Uplink {
        link: LinkIndex(2),
        gateway: gateway.parse().unwrap(),
    };
    assert_eq!(
        desired.routes[&"10.244.7.0/24".parse().unwrap()],
        hop("192.0.2.7")
    );
    assert_eq!(
        desired.routes[&"fd00:10:244:7::/64".parse().unwrap()],
        hop("2001:db8::7")
    );
    assert!(desired.devices.is_empty() && desired.complete);
}

#[test]
fn the_mtu_is_the_uplinks_and_the_record_has_no_data() {
    assert_eq!(host_gw().pod_mtu(), 1500);
    assert_eq!(
        host_gw().record(&uplink()).to_json(),
        r#"{"PublicIP":"192.0.2.1","PublicIPv6":"2001:db8::1","BackendType":"host-gw"}"#
    );
}

#[test]
fn a_host_behind_a_router_is_left_out_with_the_remedy() {
    let far = lease("10.244.7.0-24", "198.51.100.7", "2001:db8::7");
    let own = "10.244.1.0-24".parse::<ipam::LeaseKey>().unwrap().subnets();
    let (desired, skipped) = host_gw().desired(Some(&own), [far].iter());
    assert!(desired.routes.is_empty());
    let reason = skipped[0].reason.to_string();
    assert!(
        reason.contains("198.51.100.7") && reason.contains("use the Backend vxlan"),
        "{reason}"
    );
}

#[test]
fn a_lease_of_one_family_is_used_in_that() {
    let one = lease("10.244.7.0-24", "192.0.2.7", "2001:db8::7");
    let own = "10.244.1.0-24&fd00:10:244:1::-64"
        .parse::<ipam::LeaseKey>()
        .unwrap()
        .subnets();
    let (desired, skipped) = host_gw().desired(Some(&own), [one].iter());
    assert_eq!(skipped, []);
    assert_eq!(desired.routes.len(), 1);
}
