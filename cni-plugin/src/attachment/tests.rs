use proptest::prelude::*;

use super::conf::{BridgeConf, OtherAddresses};
use super::name::{BRIDGE_ALIAS, mac_of};
use super::*;
use hostnet::{Link, LinkName, Neighbour};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn plan(prefix: u8) -> Plan {
    Plan {
        identity: Identity {
            network: "cbr0".to_owned(),
            container_id: "c1".to_owned(),
            ifname: "eth0".to_owned(),
        },
        pod: Some("default/web-0".to_owned()),
        host_name: "vethx".to_owned(),
        pod_mac: mac_of(address("10.244.1.7")),
        mtu: Some(1450),
        addresses: vec![PodAddress {
            address: address("10.244.1.7"),
            prefix,
            gateway: Some(address("10.244.1.1")),
        }],
        routes: vec![
            result::Route::to("0.0.0.0/0".parse().unwrap()),
            result::Route {
                mtu: Some(1400),
                priority: Some(5),
                ..result::Route::to("10.244.0.0/16".parse().unwrap())
            },
        ],
    }
}

fn bridge() -> Link {
    Link {
        kind: Some("bridge".to_owned()),
        mac: Some(Mac([2, 0, 0, 0, 0, 3])),
        mtu: 1450,
        up: true,
        running: true,
        alias: Some(BRIDGE_ALIAS.to_owned()),
        ..Link::bare(LinkIndex(3), "cni0")
    }
}

fn bridge_conf() -> BridgeConf {
    BridgeConf {
        name: "cni0".to_owned(),
        is_gateway: true,
        hairpin: true,
        promiscuous: false,
        isolated: false,
        mac_only: false,
        pod_up: true,
        others: OtherAddresses::Kept,
    }
}

fn words(changes: &[Change]) -> Vec<String> {
    changes.iter().map(Change::to_string).collect()
}

#[test]
fn the_pair_is_made_at_once_with_everything_explicit() {
    let link = plan(32).veth(5, Some(LinkIndex(3)));
    assert_eq!(link.name, "vethx");
    assert!(link.up);
    assert_eq!((link.mtu, link.master), (Some(1450), Some(LinkIndex(3))));
    assert_eq!(link.mac, Some(plan(32).identity.host_mac()));
    let NewLinkKind::Veth { peer } = link.kind else {
        panic!("no veth");
    };
    assert_eq!(peer.name, "eth0");
    assert_eq!(peer.mac, Some(Mac([0x0a, 0x58, 10, 244, 1, 7])));
    assert_eq!((peer.mtu, peer.netns), (Some(1450), Some(5)));
    // Given on one end only, the other keeps the kernel's default.
    assert_eq!((link.queues, peer.queues), (Some(1), Some(1)));
}

#[test]
fn a_routed_pod_sees_only_its_gateway() {
    assert_eq!(
        words(&routed::pod(&plan(32), LinkIndex(2))),
        [
            "set link lo up",
            "add address 10.244.1.7/32 dev 2",
            "set link 2 arp_notify on up",
            "add route 10.244.1.1/32 dev 2",
            "add route default via 10.244.1.1 dev 2 onlink",
            "add route 10.244.0.0/16 via 10.244.1.1 dev 2 onlink metric 5 mtu 1400",
            &format!(
                "replace neighbour 10.244.1.1 dev 2 lladdr {} permanent",
                plan(32).identity.host_mac()
            ),
        ]
    );
}

#[test]
fn a_routed_pod_with_a_subnet_reaches_that_through_the_gateway_too() {
    let changes = routed::pod(&plan(24), LinkIndex(2));
    let Some(Change::AddAddress(address)) = changes.get(1) else {
        panic!("{changes:?}");
    };
    assert!(
        address.noprefixroute,
        "else the pod would ask its neighbours by ARP"
    );
    assert_eq!(
        words(&changes)[4],
        "add route 10.244.1.0/24 via 10.244.1.1 dev 2 onlink"
    );
}

#[test]
fn the_host_routes_to_a_routed_pod() {
    assert_eq!(
        words(&routed::host(&plan(32), LinkIndex(9))),
        [
            "set link 9 alias \"loden:cbr0/c1/eth0 default/web-0\"",
            "add address 10.244.1.1/32 dev 9",
            "add route 10.244.1.7/32 dev 9",
            "replace neighbour 10.244.1.7 dev 9 lladdr 0a:58:0a:f4:01:07 reachable",
        ]
    );
    assert_eq!(
        words(&routed::host_undo(&[address("10.244.1.7")], LinkIndex(9))),
        ["delete route 10.244.1.7/32 dev 9"]
    );
}

#[test]
fn gateways_exist_even_in_the_smallest_subnets() {
    for (subnet, gateway) in [
        ("10.244.1.0/24", "10.244.1.1"),
        ("10.244.1.0/30", "10.244.1.1"),
        ("10.244.1.0/31", "169.254.1.1"),
        ("10.244.1.7/32", "169.254.1.1"),
        ("fd00::/64", "fd00::1"),
        ("fd00::7/128", "fe80::1"),
    ] {
        assert_eq!(
            routed::gateway_of(subnet.parse().unwrap()),
            address(gateway),
            "{subnet}"
        );
    }
}

#[test]
fn a_bridged_pod_shares_its_subnet() {
    assert_eq!(
        words(&bridge::pod(&plan(24), LinkIndex(2))),
        [
            "set link lo up",
            "add address 10.244.1.7/24 dev 2",
            "set link 2 arp_notify on up",
            "add route default via 10.244.1.1 dev 2 onlink",
            "add route 10.244.0.0/16 via 10.244.1.1 dev 2 onlink metric 5 mtu 1400",
        ]
    );
}

#[test]
fn a_bridge_of_ours_only_needs_its_address() {
    assert_eq!(
        words(&bridge::settle(&bridge_conf(), &plan(24), &bridge())),
        ["replace address 10.244.1.1/24 dev 3"]
    );
    assert_eq!(
        words(&bridge::port(&bridge_conf(), &plan(24), LinkIndex(9))),
        ["set link 9 alias \"loden:cbr0/c1/eth0 default/web-0\" hairpin on"]
    );
}

#[test]
fn a_bridge_of_ours_follows_the_mtu() {
    let old = Link {
        mtu: 1400,
        ..bridge()
    };
    assert_eq!(
        words(&bridge::settle(&bridge_conf(), &plan(24), &old))[0],
        "set link 3 mtu 1450"
    );
}

#[test]
fn the_mac_of_a_foreign_bridge_is_pinned() {
    let foreign = Link {
        alias: None,
        up: false,
        ..bridge()
    };
    assert_eq!(
        words(&bridge::settle(&bridge_conf(), &plan(24), &foreign)),
        [
            "set link 3 address 02:00:00:00:00:03 up",
            "replace address 10.244.1.1/24 dev 3",
        ]
    );
    let layer_2 = BridgeConf {
        is_gateway: false,
        hairpin: false,
        ..bridge_conf()
    };
    assert_eq!(bridge::settle(&layer_2, &plan(24), &bridge()), []);
    assert_eq!(
        words(&bridge::port(&layer_2, &plan(24), LinkIndex(9))),
        ["set link 9 alias \"loden:cbr0/c1/eth0 default/web-0\""]
    );
}

#[test]
fn a_new_bridge_has_a_lasting_mac() {
    let link = bridge::create(&bridge_conf(), &plan(24).addresses);
    assert_eq!(
        link.to_string(),
        "link cni0 type bridge address 0a:58:0a:f4:01:01"
    );
    assert!(!link.up);
    assert_eq!(
        bridge::finish(LinkIndex(3), Some(1450)).to_string(),
        "link 3 mtu 1450 alias \"loden:bridge\" up"
    );
}

#[test]
fn a_bridge_whose_maker_was_killed_is_finished() {
    let made = Link {
        alias: None,
        up: false,
        ..bridge()
    };
    assert!(bridge::is_unfinished(&made));
    let foreign = Link { up: true, ..made };
    assert!(!bridge::is_unfinished(&foreign));
    let stopped = Link {
        up: false,
        ..bridge()
    };
    assert!(!bridge::is_unfinished(&stopped));
}

#[test]
fn a_default_route_is_added_where_there_is_none() {
    let addresses = plan(24).addresses;
    let added = default_routes(&addresses, &[]);
    assert_eq!(added.len(), 1);
    assert_eq!(added[0].dst.to_string(), "0.0.0.0/0");
    assert_eq!(added[0].gw, Some(address("10.244.1.1")));
    // The reference plugin would add a second one and fail.
    assert_eq!(default_routes(&addresses, &plan(24).routes), []);
    let elsewhere = result::Route {
        table: Some(100),
        ..plan(24).routes[0].clone()
    };
    assert_eq!(default_routes(&addresses, &[elsewhere]).len(), 1);
    let twice = [addresses[0], addresses[0]];
    assert_eq!(default_routes(&twice, &[]).len(), 1);
}

#[test]
fn ipv6_does_not_wait() {
    let v6 = Plan {
        addresses: vec![PodAddress {
            address: address("fd00::7"),
            prefix: 128,
            gateway: Some(address("fd00::1")),
        }],
        routes: vec![result::Route::to("::/0".parse().unwrap())],
        ..plan(32)
    };
    for changes in [
        routed::pod(&v6, LinkIndex(2)),
        routed::host(&v6, LinkIndex(9)),
    ] {
        for change in changes {
            if let Change::AddAddress(address) = change {
                assert!(address.nodad, "{address}");
            }
        }
    }
    assert!(
        words(&routed::pod(&v6, LinkIndex(2)))
            .contains(&"add route default via fd00::1 dev 2 onlink".to_owned())
    );
}

proptest! {
    /// Whatever the config asks for, the pod's link is up before its routes come and its addresses are there before.
    #[test]
    fn the_order_in_the_pod_holds(
        addresses in proptest::collection::vec((any::<u32>(), 0_u8..=32, proptest::option::of(any::<u32>())), 0..4),
        routes in proptest::collection::vec((any::<u32>(), 0_u8..=32, proptest::option::of(any::<u32>()), proptest::option::of(any::<u32>())), 0..5),
    ) {
        let v4 = |bits: u32| IpAddr::V4(bits.into());
        let plan = Plan {
            addresses: addresses.into_iter().map(|(bits, prefix, gateway)| PodAddress { address: v4(bits), prefix, gateway: gateway.map(v4) }).collect(),
            routes: routes.into_iter().map(|(bits, prefix, gw, table)| result::Route { gw: gw.map(v4), table, scope: table, ..result::Route::to(network(v4(bits), prefix)) }).collect(),
            ..plan(32)
        };
        for changes in [routed::pod(&plan, LinkIndex(2)), bridge::pod(&plan, LinkIndex(2))] {
            let up = changes.iter().position(|change| matches!(change, Change::SetLink(link) if link.link == LinkName::Index(LinkIndex(2)))).unwrap();
            for (position, change) in changes.iter().enumerate() {
                match change {
                    Change::AddAddress(_) => prop_assert!(position < up),
                    Change::AddRoute(_) | Change::ReplaceNeighbour(_) => prop_assert!(position > up),
                    _ => {}
                }
            }
        }
        let keys: Vec<_> = plan.pod_routes(LinkIndex(2)).into_iter().map(|change| match change {
            Change::AddRoute(route) => (route.destination, route.table, route.priority),
            other => panic!("{other}"),
        }).collect();
        prop_assert!(keys.iter().enumerate().all(|(place, key)| !keys[..place].contains(key)));
        let host = routed::host(&plan, LinkIndex(9));
        prop_assert!(host.len() >= 2 * plan.addresses.len());
    }
}

#[test]
fn addresses_in_the_way_are_those_that_overlap() {
    let known = |text: &str| {
        let network: IpNetwork = text.parse().unwrap();
        Address::new(LinkIndex(3), network.ip(), network.prefix())
    };
    // The gateway is 10.244.1.1/24.
    let present = [
        "10.244.1.1/24",
        "10.9.9.1/24",
        "10.244.1.1/16",
        "fe80::1/64",
        "fd00::1/64",
    ]
    .map(known);
    let blocking = bridge::in_the_way(&plan(24), &present);
    let blocking: Vec<_> = blocking
        .iter()
        .map(|known| (known.address.to_string(), known.prefix))
        .collect();
    assert_eq!(
        blocking,
        [("10.9.9.1".to_owned(), 24), ("10.244.1.1".to_owned(), 16)]
    );

    let mut dual = plan(24);
    dual.addresses = vec![PodAddress {
        address: "fd00:1::5".parse().unwrap(),
        prefix: 48,
        gateway: Some("fd00:1::1".parse().unwrap()),
    }];
    let present = [
        "10.9.9.1/24",
        "fe80::1/64",
        "fd00:1::1/48",
        "fd00:1:0:2::1/64",
        "fd00:2::1/48",
    ]
    .map(known);
    let blocking = bridge::in_the_way(&dual, &present);
    let blocking: Vec<_> = blocking
        .iter()
        .map(|known| known.address.to_string())
        .collect();
    assert_eq!(blocking, ["fd00:1:0:2::1"]);
}

#[test]
fn an_isolated_port_is_told_so() {
    let conf = BridgeConf {
        isolated: true,
        hairpin: false,
        ..bridge_conf()
    };
    assert_eq!(
        words(&bridge::port(&conf, &plan(24), LinkIndex(9))),
        ["set link 9 alias \"loden:cbr0/c1/eth0 default/web-0\" isolated on"]
    );
}

#[test]
fn a_new_bridge_is_told_of_the_routed_pods_before_it() {
    let plan = Plan {
        addresses: vec![PodAddress {
            address: address("fd00:0:0:1::9"),
            prefix: 64,
            gateway: Some(address("fd00:0:0:1::1")),
        }],
        ..plan(24)
    };
    let link = LinkIndex(9);
    let to = |text: &str| Route::direct(text.parse().unwrap(), link);
    let routes = [
        to("fd00:0:0:1::2/128"),
        to("fd00:0:0:1::1/128"),
        to("fd00:0:0:1::/64"),
        to("fd00:0:0:2::2/128"),
        to("10.244.1.7/32"),
        Route::via(
            "fd00:0:0:1::3/128".parse().unwrap(),
            address("fe80::1"),
            link,
        ),
        Route {
            table: 100,
            ..to("fd00:0:0:1::4/128")
        },
    ];
    let pods: Vec<_> = routed::pods_in_subnet(&plan, &routes).collect();
    assert_eq!(pods, [address("fd00:0:0:1::2")]);
    let proxies = routed::proxies([pods[0], address("10.244.1.7")], LinkIndex(3));
    assert_eq!(proxies, [Neighbour::proxy(LinkIndex(3), pods[0])]);
}
