//! Routes.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hostnet::{AddressFamily, Change, LinkIndex, Netlink, Route, RouteFilter, RouteKind};
use netns_tests::eventually;
use serde_json::{Value, json};

use crate::opinion::{has, ip, ip_json, ip_one, plain_link, same};

/// Marks the routes of these tests.
const PROTOCOL: u8 = 76;

fn ours(family: AddressFamily) -> RouteFilter {
    RouteFilter {
        family: Some(family),
        protocol: Some(PROTOCOL),
        ..RouteFilter::default()
    }
}

fn host(netlink: &mut Netlink) -> Result<LinkIndex> {
    let link = plain_link(netlink, "eth0")?;
    ip("address add 192.0.2.11/24 dev eth0")?;
    ip("address add 2001:db8::11/64 dev eth0 nodad")?;
    Ok(link)
}

/// A route, what `ip` calls its destination, and what `ip` must tell of it.
type Form = (Route, &'static str, Vec<(&'static str, Value)>);

/// Every form of route that we write, for both families where there is a difference.
fn forms(link: LinkIndex) -> Result<Vec<Form>> {
    let direct =
        |destination: &str| -> Result<Route> { Ok(Route::direct(destination.parse()?, link)) };
    let via = |destination: &str, gateway: &str| -> Result<Route> {
        Ok(Route::via(destination.parse()?, gateway.parse()?, link))
    };
    let blackhole = |destination: &str| -> Result<Route> {
        Ok(Route {
            kind: RouteKind::Blackhole,
            ..Route::new(destination.parse()?)
        })
    };
    let onlink = json!(["onlink"]);
    let forms = vec![
        (
            direct("10.244.1.7/32")?,
            "10.244.1.7",
            vec![("/scope", json!("link")), ("/dev", json!("eth0"))],
        ),
        (
            direct("fd00::7/128")?,
            "fd00::7",
            vec![("/dev", json!("eth0")), ("/metric", json!(1024))],
        ),
        (
            Route {
                onlink: true,
                ..via("10.244.2.0/24", "10.244.2.0")?
            },
            "10.244.2.0/24",
            vec![
                ("/gateway", json!("10.244.2.0")),
                ("/flags", onlink.clone()),
                ("/dev", json!("eth0")),
                ("/scope", json!("global")),
            ],
        ),
        (
            Route {
                onlink: true,
                priority: Some(7),
                ..via("fd00:2::/64", "fd00:2::")?
            },
            "fd00:2::/64",
            vec![
                ("/gateway", json!("fd00:2::")),
                ("/flags", onlink),
                ("/metric", json!(7)),
            ],
        ),
        (
            blackhole("10.244.0.0/16")?,
            "10.244.0.0/16",
            vec![("/type", json!("blackhole")), ("/dev", Value::Null)],
        ),
        (
            blackhole("fd00::/48")?,
            "fd00::/48",
            vec![("/type", json!("blackhole"))],
        ),
        (
            Route {
                kind: RouteKind::Unreachable,
                ..Route::new("10.9.0.0/16".parse()?)
            },
            "10.9.0.0/16",
            vec![("/type", json!("unreachable"))],
        ),
        (
            via("0.0.0.0/0", "192.0.2.1")?,
            "default",
            vec![("/gateway", json!("192.0.2.1"))],
        ),
        (
            via("10.3.0.0/24", "2001:db8::1")?,
            "10.3.0.0/24",
            vec![
                ("/via/family", json!("inet6")),
                ("/via/host", json!("2001:db8::1")),
            ],
        ),
        (
            Route {
                priority: Some(50),
                source: Some("192.0.2.11".parse()?),
                mtu: Some(1400),
                advmss: Some(1360),
                ..via("10.4.0.0/16", "192.0.2.2")?
            },
            "10.4.0.0/16",
            vec![
                ("/prefsrc", json!("192.0.2.11")),
                ("/metric", json!(50)),
                ("/metrics/0/mtu", json!(1400)),
                ("/metrics/0/advmss", json!(1360)),
            ],
        ),
        (
            Route {
                table: 100,
                ..via("10.5.0.0/16", "192.0.2.2")?
            },
            "10.5.0.0/16",
            vec![("/table", json!("100"))],
        ),
        (
            Route {
                table: 70_000,
                ..via("10.6.0.0/16", "192.0.2.2")?
            },
            "10.6.0.0/16",
            vec![("/table", json!("70000"))],
        ),
        (
            Route {
                table: 70_000,
                ..via("fd00:6::/64", "2001:db8::2")?
            },
            "fd00:6::/64",
            vec![("/table", json!("70000"))],
        ),
    ];
    Ok(forms
        .into_iter()
        .map(|(route, name, members)| {
            (
                Route {
                    protocol: PROTOCOL,
                    ..route
                },
                name,
                members,
            )
        })
        .collect())
}

/// As the kernel reports it: IPv6 fills in the metric.
fn reported(route: &Route) -> Route {
    let priority = route
        .priority
        .or((route.family() == AddressFamily::Ipv6).then_some(1024));
    Route {
        priority,
        ..route.clone()
    }
}

pub(crate) fn routes_are_written_and_read() -> Result<()> {
    let mut netlink = Netlink::open()?;
    let link = host(&mut netlink)?;
    let forms = forms(link)?;
    let changes: Vec<_> = forms
        .iter()
        .map(|(route, ..)| Change::AddRoute(route.clone()))
        .collect();
    netlink.apply(&changes)?;

    let filter = RouteFilter {
        protocol: Some(PROTOCOL),
        ..RouteFilter::default()
    };
    let found = netlink.routes(&filter)?;
    same(found.len(), forms.len())?;
    for (route, destination, members) in &forms {
        ensure!(
            found.contains(&reported(route)),
            "no {route:?} among {found:#?}"
        );
        let family = if route.family() == AddressFamily::Ipv6 {
            "-6"
        } else {
            "-4"
        };
        let seen = ip_one(&format!(
            "{family} route show table all proto {PROTOCOL} exact {destination}"
        ))?;
        has(&seen, members)?;
    }

    // What was read takes away what it was read from.
    let changes: Vec<_> = found.into_iter().map(Change::DeleteRoute).collect();
    netlink.apply(&changes)?;
    same(netlink.routes(&filter)?, Vec::new())
}

pub(crate) fn a_route_is_replaced() -> Result<()> {
    let mut netlink = Netlink::open()?;
    let link = host(&mut netlink)?;
    for (destination, first, second) in [
        ("10.244.2.0/24", "10.244.2.0", "192.0.2.12"),
        ("fd00:2::/64", "fd00:2::", "2001:db8::12"),
    ] {
        let destination = destination.parse()?;
        let family = if matches!(destination, ipnetwork::IpNetwork::V4(_)) {
            AddressFamily::Ipv4
        } else {
            AddressFamily::Ipv6
        };
        let base = Route {
            protocol: PROTOCOL,
            ..Route::new(destination)
        };
        let tunnel = Route {
            gateway: Some(first.parse()?),
            link: Some(link),
            onlink: true,
            ..base.clone()
        };
        let direct = Route {
            gateway: Some(second.parse()?),
            link: Some(link),
            ..base.clone()
        };
        let blackhole = Route {
            kind: RouteKind::Blackhole,
            ..base.clone()
        };
        for route in [&tunnel, &direct, &blackhole, &tunnel] {
            netlink.apply(&[Change::ReplaceRoute(route.clone())])?;
            same(netlink.routes(&ours(family))?, vec![reported(route)])?;
        }
        // Another metric is another route.
        let beside = Route {
            priority: Some(10),
            ..direct
        };
        netlink.apply(&[Change::ReplaceRoute(beside.clone())])?;
        same(netlink.routes(&ours(family))?.len(), 2)?;
        netlink.apply(&[Change::DeleteRoute(beside)])?;
        same(netlink.routes(&ours(family))?, vec![reported(&tunnel)])?;
    }
    Ok(())
}

pub(crate) fn routes_that_are_there_or_not_are_told_as_such() -> Result<()> {
    let mut netlink = Netlink::open()?;
    let link = host(&mut netlink)?;
    for (destination, gateway) in [
        ("10.244.2.0/24", "192.0.2.12"),
        ("fd00:2::/64", "2001:db8::12"),
    ] {
        let route = Route::via(destination.parse()?, gateway.parse()?, link);
        let absent = netlink
            .apply(&[Change::DeleteRoute(route.clone())])
            .err()
            .context("deleted nothing")?;
        ensure!(absent[0].is_not_found(), "{absent}");
        let twice = netlink.apply(&[
            Change::AddRoute(route.clone()),
            Change::AddRoute(route.clone()),
        ]);
        let twice = twice.err().context("added twice")?;
        same(
            (twice.len(), twice[0].index, twice[0].is_exists()),
            (1, 1, true),
        )?;
        // One that differs in what it says is not taken for it.
        let other = Route {
            gateway: Some(
                if destination.contains(':') {
                    "2001:db8::13"
                } else {
                    "192.0.2.13"
                }
                .parse()?,
            ),
            ..route.clone()
        };
        let other = netlink
            .apply(&[Change::DeleteRoute(other)])
            .err()
            .context("deleted another")?;
        ensure!(other[0].is_not_found(), "{other}");
        netlink.apply(&[Change::DeleteRoute(route)])?;
    }
    let unreachable = Route::via("10.1.0.0/16".parse()?, "198.51.100.1".parse()?, link);
    let refusals = netlink
        .apply(&[Change::AddRoute(unreachable)])
        .err()
        .context("made")?;
    let text = format!(
        "cannot add route 10.1.0.0/16 via 198.51.100.1 dev {link}: Nexthop has invalid gateway"
    );
    ensure!(refusals.to_string().starts_with(&text), "{refusals}");
    Ok(())
}

pub(crate) fn routes_are_filtered() -> Result<()> {
    let mut netlink = Netlink::open()?;
    let link = host(&mut netlink)?;
    let changes: Vec<_> = forms(link)?
        .into_iter()
        .map(|(route, ..)| Change::AddRoute(route))
        .collect();
    netlink.apply(&changes)?;
    let other = plain_link(&mut netlink, "other")?;
    ip("route add 10.77.0.0/16 dev other table 100")?;
    ip("-6 route add fd77::/64 dev other proto 99")?;

    // The kernel gives a link its route for multicast a moment after it came up.
    let multicast = |link| {
        let words = format!("-6 route show table local type multicast dev {link}");
        eventually("the route for multicast", Duration::from_secs(10), || {
            ensure!(!ip_json(&words)?.is_empty(), "{link} has none");
            Ok(())
        })
    };
    ["eth0", "eth0-far", "other", "other-far"]
        .into_iter()
        .try_for_each(multicast)?;
    let all = netlink.routes(&RouteFilter::default())?;
    let seen =
        ip_json("-4 route show table all")?.len() + ip_json("-6 route show table all")?.len();
    same(all.len(), seen)?;
    let link_filter = |link| RouteFilter {
        link: Some(link),
        ..RouteFilter::default()
    };
    let table_filter = |table| RouteFilter {
        table: Some(table),
        ..RouteFilter::default()
    };
    for filter in [
        RouteFilter {
            family: Some(AddressFamily::Ipv4),
            ..RouteFilter::default()
        },
        RouteFilter {
            family: Some(AddressFamily::Ipv6),
            ..RouteFilter::default()
        },
        RouteFilter {
            protocol: Some(PROTOCOL),
            ..RouteFilter::default()
        },
        RouteFilter {
            protocol: Some(99),
            family: Some(AddressFamily::Ipv6),
            ..RouteFilter::default()
        },
        link_filter(link),
        link_filter(other),
        table_filter(Route::MAIN_TABLE),
        table_filter(100),
        table_filter(70_000),
        RouteFilter {
            table: Some(100),
            link: Some(other),
            protocol: Some(3),
            family: Some(AddressFamily::Ipv4),
        },
    ] {
        let found = netlink.routes(&filter)?;
        let expected: Vec<_> = all
            .iter()
            .filter(|route| {
                filter.family.is_none_or(|family| route.family() == family)
                    && filter.table.is_none_or(|table| route.table == table)
                    && filter
                        .protocol
                        .is_none_or(|protocol| route.protocol == protocol)
                    && filter.link.is_none_or(|link| route.link == Some(link))
            })
            .cloned()
            .collect();
        ensure!(!expected.is_empty(), "the filter {filter:?} proves nothing");
        same(found, expected)?;
    }
    same(netlink.routes(&table_filter(4242))?, Vec::new())?;
    same(netlink.routes(&link_filter(LinkIndex(4711)))?, Vec::new())
}

/// What others make must not be lost or misread.
pub(crate) fn foreign_routes_are_read() -> Result<()> {
    let mut netlink = Netlink::open()?;
    let link = host(&mut netlink)?;
    for words in [
        "route add 10.1.0.0/16 nexthop via 192.0.2.1 dev eth0 nexthop via 192.0.2.2 dev eth0",
        "-6 route add fd01::/64 nexthop via 2001:db8::1 dev eth0 nexthop via 2001:db8::2 dev eth0",
        "nexthop add id 5 via 192.0.2.3 dev eth0",
        "route add 10.2.0.0/16 nhid 5",
        "route add prohibit 10.3.0.0/16 metric 9",
        "route add 10.4.0.0/16 via 192.0.2.4 tos 0x10",
    ] {
        ip(words)?;
    }
    let found = netlink.routes(&RouteFilter::default())?;
    let by_destination = |destination: &str| -> Result<&Route> {
        let destination = destination.parse()?;
        found
            .iter()
            .find(|route| route.destination == destination)
            .with_context(|| format!("no {destination}"))
    };
    for destination in ["10.1.0.0/16", "fd01::/64"] {
        let multipath = by_destination(destination)?;
        same(
            (multipath.nexthops, multipath.link, multipath.gateway),
            (2, None, None),
        )?;
    }
    let by_object = by_destination("10.2.0.0/16")?;
    same(
        (by_object.gateway, by_object.link),
        (Some("192.0.2.3".parse()?), Some(link)),
    )?;
    let prohibit = by_destination("10.3.0.0/16")?;
    same(
        (prohibit.kind, prohibit.priority),
        (RouteKind::Prohibit, Some(9)),
    )?;
    same(
        by_destination("10.4.0.0/16")?.gateway,
        Some("192.0.2.4".parse()?),
    )?;

    // Destinations of everything, the local table included, are those that `ip` sees.
    let seen: BTreeSet<String> = ip_json("-4 route show table all")?
        .iter()
        .filter_map(|route| route["dst"].as_str())
        .map(|text| {
            if text == "default" {
                "0.0.0.0/0".to_owned()
            } else if text.contains('/') {
                text.to_owned()
            } else {
                format!("{text}/32")
            }
        })
        .collect();
    let found: BTreeSet<String> = found
        .iter()
        .filter(|route| route.family() == AddressFamily::Ipv4)
        .map(|route| route.destination.to_string())
        .collect();
    same(found, seen)
}

pub(crate) fn a_route_is_looked_up() -> Result<()> {
    let mut netlink = Netlink::open()?;
    same(netlink.route_to("198.51.100.1".parse()?)?, None)?;
    same(netlink.route_to("2001:db8:1::1".parse()?)?, None)?;
    let link = host(&mut netlink)?;
    let near = netlink
        .route_to("192.0.2.12".parse()?)?
        .context("no route to a neighbour")?;
    same(
        (near.link, near.gateway, near.source),
        (Some(link), None, Some("192.0.2.11".parse()?)),
    )?;
    ip("route add default via 192.0.2.1")?;
    ip("-6 route add default via 2001:db8::1")?;
    let far = netlink
        .route_to("198.51.100.1".parse()?)?
        .context("no default route")?;
    same(
        (far.link, far.gateway, far.source),
        (
            Some(link),
            Some("192.0.2.1".parse()?),
            Some("192.0.2.11".parse()?),
        ),
    )?;
    let far = netlink
        .route_to("2001:db8:1::1".parse()?)?
        .context("no IPv6 default route")?;
    same(
        (far.link, far.gateway),
        (Some(link), Some("2001:db8::1".parse()?)),
    )?;
    ip("route add blackhole 198.51.100.0/24")?;
    let error = netlink
        .route_to("198.51.100.1".parse()?)
        .err()
        .context("a way through a black hole")?;
    ensure!(error.to_string().contains("198.51.100.1"), "{error}");
    Ok(())
}
