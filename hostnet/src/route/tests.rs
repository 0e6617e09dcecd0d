use proptest::prelude::*;

use super::*;
use crate::{
    attr::Writer,
    change::{Change, tests::only_message},
    route::request::RouteFilter,
};

fn networks() -> impl Strategy<Value = IpNetwork> {
    let v4 = (any::<Ipv4Addr>(), 0u8..=32).prop_map(|(address, prefix)| {
        let network = Ipv4Network::new(address, prefix).unwrap();
        IpNetwork::V4(Ipv4Network::new(network.network(), prefix).unwrap())
    });
    let v6 = (any::<Ipv6Addr>(), 0u8..=128).prop_map(|(address, prefix)| {
        let network = Ipv6Network::new(address, prefix).unwrap();
        IpNetwork::V6(Ipv6Network::new(network.network(), prefix).unwrap())
    });
    prop_oneof![v4, v6]
}

prop_compose! {
    fn routes()(
        destination in networks(),
        gateway: Option<IpAddr>,
        link in proptest::option::of(1u32..),
        onlink: bool,
        table in prop_oneof![1u32..256, 256u32..],
        protocol: u8,
        scope: u8,
        kind in 1u8..12,
        priority: Option<u32>,
        mtu: Option<u32>,
        advmss: Option<u32>,
    ) -> Route {
        let kind = RouteKind::from_wire(kind);
        // An IPv6 destination has no IPv4 gateway.
        let gateway = gateway.filter(|gateway| gateway.is_ipv6() || destination.is_ipv4());
        Route {
            gateway,
            link: link.map(LinkIndex).filter(|_| !kind.drops()),
            onlink,
            table,
            protocol,
            scope: Scope::from_wire(scope),
            kind,
            priority,
            mtu,
            advmss,
            ..Route::new(destination)
        }
    }
}

proptest! {
    #[test]
    fn a_route_reads_as_it_was_written(route in routes()) {
        let (_, _, payload) = only_message(&Change::AddRoute(route.clone()));
        prop_assert_eq!(Route::decode(&payload), Some(route));
    }

    #[test]
    fn a_deletion_names_all_but_the_ipv4_scope(route in routes()) {
        let (_, _, payload) = only_message(&Change::DeleteRoute(route.clone()));
        let scope = if route.destination.is_ipv4() { Scope::Other(255) } else { route.scope };
        prop_assert_eq!(Route::decode(&payload), Some(Route { scope, ..route }));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Some(route) = Route::decode(&bytes) {
            prop_assert!(!route.to_string().is_empty());
        }
    }

    #[test]
    fn a_filter_accepts_what_fits(route in routes(), other in routes()) {
        let filter = RouteFilter {
            family: None,
            table: Some(route.table),
            link: route.link,
            protocol: Some(route.protocol),
        };
        prop_assert!(filter.accepts(&route));
        let fits = other.table == route.table
            && other.protocol == route.protocol
            && (route.link.is_none() || other.link == route.link);
        prop_assert_eq!(filter.accepts(&other), fits);
        prop_assert!(RouteFilter::default().accepts(&other));
    }
}

const AF_INET: u8 = 2;

/// A route to 10.1.0.0/16 of the main table, with these attributes.
fn message(attributes: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.raw(&[AF_INET, 16, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0]);
    writer.put(RTA_DST, &[10, 1, 0, 0]);
    attributes(&mut writer);
    writer.bytes().to_vec()
}

/// A `struct rtnexthop` with a gateway.
fn nexthop(link: u8, flags: u8, gateway: [u8; 4]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.raw(&[16, 0, flags, 0, link, 0, 0, 0]);
    writer.put(RTA_GATEWAY, &gateway);
    writer.bytes().to_vec()
}

#[test]
fn the_ways_of_a_multipath_route_are_counted() {
    let ways = [nexthop(7, 0, [192, 0, 2, 1]), nexthop(8, 0, [192, 0, 2, 2])].concat();
    let route = Route::decode(&message(|writer| writer.put(RTA_MULTIPATH, &ways))).unwrap();
    assert_eq!((route.nexthops, route.link, route.gateway), (2, None, None));
    assert_eq!(route.to_string(), "10.1.0.0/16 over 2 nexthops");
}

#[test]
fn a_multipath_route_with_one_way_is_an_ordinary_one() {
    const ONLINK: u8 = 4;
    let way = nexthop(7, ONLINK, [192, 0, 2, 1]);
    let route = Route::decode(&message(|writer| writer.put(RTA_MULTIPATH, &way))).unwrap();
    let expected = Route {
        onlink: true,
        ..Route::via(
            "10.1.0.0/16".parse().unwrap(),
            "192.0.2.1".parse().unwrap(),
            LinkIndex(7),
        )
    };
    assert_eq!(route, expected);
}

#[test]
fn a_cut_off_way_is_not_counted() {
    let mut ways = nexthop(7, 0, [192, 0, 2, 1]);
    ways.extend([200, 0, 0, 0, 8, 0, 0, 0]);
    let route = Route::decode(&message(|writer| writer.put(RTA_MULTIPATH, &ways))).unwrap();
    assert_eq!(route.nexthops, 1);
}

#[test]
fn routes_are_written_as_ip_writes_them() {
    let link = LinkIndex(7);
    let parse = |text: &str| text.parse::<IpNetwork>().unwrap();
    let gateway = |text: &str| text.parse::<IpAddr>().unwrap();
    let via = Route::via(parse("10.244.2.0/24"), gateway("10.244.2.0"), link);
    for (route, text) in [
        (
            Route {
                onlink: true,
                ..via.clone()
            },
            "10.244.2.0/24 via 10.244.2.0 dev 7 onlink",
        ),
        (
            Route {
                table: 100,
                priority: Some(50),
                mtu: Some(1400),
                ..via
            },
            "10.244.2.0/24 via 10.244.2.0 dev 7 table 100 metric 50 mtu 1400",
        ),
        (
            Route {
                kind: RouteKind::Blackhole,
                ..Route::new(parse("10.244.0.0/16"))
            },
            "blackhole 10.244.0.0/16",
        ),
        (
            Route::via(parse("0.0.0.0/0"), gateway("192.0.2.1"), link),
            "default via 192.0.2.1 dev 7",
        ),
        (
            Route {
                source: Some(gateway("fd00::1")),
                ..Route::direct(parse("fd00::/64"), link)
            },
            "fd00::/64 dev 7 src fd00::1",
        ),
    ] {
        assert_eq!(route.to_string(), text);
    }
}
