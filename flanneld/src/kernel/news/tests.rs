use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use hostnet::{Link, Mac, RouteKind};
use ipnetwork::IpNetwork;

use super::*;
use crate::desired::{Device, Hop};
use crate::kernel::lately::ECHO;
use crate::reconcile::ObservedDevice;

const DEVICE: LinkIndex = LinkIndex(7);
const UPLINK: LinkIndex = LinkIndex(2);

fn network(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn gateway() -> IpAddr {
    Ipv4Addr::new(10, 244, 2, 0).into()
}

fn host(number: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, number).into()
}

fn stage() -> (Desired, Observed) {
    let name = "flannel.1".to_owned();
    let device = Device {
        vxlan: hostnet::Vxlan::new(1),
        mtu: 1450,
        mac: Mac([2; 6]),
        addresses: BTreeSet::new(),
    };
    let hop = Hop::Tunnel {
        device: name.clone(),
        gateway: gateway(),
    };
    let desired = Desired {
        devices: BTreeMap::from([(name.clone(), device)]),
        routes: BTreeMap::from([(network("10.244.2.0/24"), hop)]),
        neighbours: BTreeMap::from([((name.clone(), gateway()), Mac([9; 6]))]),
        fdb: BTreeMap::from([((name.clone(), Mac([9; 6])), host(2))]),
        networks: vec![network("10.244.0.0/16")],
        uplink: Some(UPLINK),
        ..Desired::default()
    };
    let link = Link {
        kind: Some("vxlan".to_owned()),
        mtu: 1450,
        up: true,
        running: true,
        ..Link::bare(DEVICE, &name)
    };
    let found = ObservedDevice {
        link,
        addresses: Vec::new(),
        neighbours: Vec::new(),
        fdb: Vec::new(),
    };
    let observed = Observed {
        devices: BTreeMap::from([(name, found)]),
        ..Observed::default()
    };
    (desired, observed)
}

fn news(notice: Notice) -> News {
    news_after(notice, &Lately::default())
}

fn news_after(notice: Notice, lately: &Lately) -> News {
    let (desired, observed) = stage();
    let mut news = News::default();
    news.take(notice, &desired, &observed, lately);
    news
}

fn looks(notice: Notice) -> bool {
    news(notice).scope.network
}

fn ours() -> Route {
    Route {
        gateway: Some(gateway()),
        link: Some(DEVICE),
        onlink: true,
        protocol: ROUTE_PROTOCOL,
        ..Route::new(network("10.244.2.0/24"))
    }
}

fn route(route: Route, removed: bool) -> Notice {
    Notice::Route { route, removed }
}

#[test]
fn the_echo_of_what_is_wanted_is_no_reason_to_look() {
    let entry = FdbEntry::permanent(DEVICE, Mac([9; 6]), host(2));
    let fdb = |entry, removed| Notice::Fdb {
        link: DEVICE,
        entry: Some(entry),
        removed,
    };
    assert!(!looks(route(ours(), false)));
    assert!(!looks(fdb(entry.clone(), false)));
    let neighbour = |neighbour, removed| Notice::Neighbour { neighbour, removed };
    let right = Neighbour::permanent(DEVICE, gateway(), Mac([9; 6]));
    assert!(!looks(neighbour(right.clone(), false)));

    assert!(looks(route(ours(), true)));
    assert!(looks(fdb(entry.clone(), true)));
    assert!(looks(neighbour(right.clone(), true)));
    let mut detour = entry;
    detour.detour = true;
    assert!(looks(fdb(detour, false)));
    let elsewhere = FdbEntry::permanent(DEVICE, Mac([9; 6]), host(3));
    assert!(looks(fdb(elsewhere, false)));
    let other = Neighbour::permanent(DEVICE, gateway(), Mac([8; 6]));
    assert!(looks(neighbour(other, false)));
    let mut stale = right;
    stale.state = NeighbourState::Stale;
    assert!(looks(neighbour(stale, false)));
}

#[test]
fn what_is_added_beside_ours_is_a_reason_and_what_goes_is_none() {
    let stray = Route {
        protocol: 3,
        ..ours()
    };
    let stray = Route {
        destination: network("10.244.9.0/24"),
        ..stray
    };
    assert!(looks(route(stray.clone(), false)));
    assert!(!looks(route(stray, true)));
    let neighbour = Neighbour::permanent(DEVICE, host(9), Mac([8; 6]));
    let inside = Neighbour::permanent(DEVICE, Ipv4Addr::new(10, 244, 9, 0).into(), Mac([8; 6]));
    for (neighbour, expected) in [(neighbour, false), (inside, true)] {
        let notice = |removed| Notice::Neighbour {
            neighbour: neighbour.clone(),
            removed,
        };
        assert_eq!(looks(notice(false)), expected);
        assert!(!looks(notice(true)));
    }
    let mut learned = FdbEntry::permanent(DEVICE, Mac([8; 6]), host(9));
    for permanent in [false, true] {
        learned.permanent = permanent;
        let notice = Notice::Fdb {
            link: DEVICE,
            entry: Some(learned.clone()),
            removed: false,
        };
        assert_eq!(looks(notice), permanent);
    }
}

#[test]
fn a_route_that_takes_the_place_of_ours_is_looked_for_wherever_it_leads() {
    let other = Route {
        gateway: Some(host(77)),
        link: Some(LinkIndex(33)),
        onlink: false,
        protocol: 4,
        ..ours()
    };
    let told = news(route(other.clone(), false));
    assert!(told.scope.network);
    assert_eq!(told.suspects, std::slice::from_ref(&other));
    assert!(!looks(route(other.clone(), true)));
    let blackhole = Route {
        kind: RouteKind::Blackhole,
        link: None,
        gateway: None,
        ..other
    };
    assert_eq!(news(route(blackhole, false)).suspects.len(), 1);
}

#[test]
fn what_pods_do_is_no_reason_to_look() {
    let pod = LinkIndex(55);
    let link = Notice::Link {
        index: pod,
        name: "veth1234".to_owned(),
        removed: false,
    };
    let address = Notice::Address {
        link: pod,
        removed: false,
    };
    let to_pod = Route {
        link: Some(pod),
        ..Route::new(network("10.244.1.5/32"))
    };
    let neighbour = Notice::Neighbour {
        neighbour: Neighbour::permanent(pod, gateway(), Mac([9; 6])),
        removed: true,
    };
    let fdb = Notice::Fdb {
        link: pod,
        entry: None,
        removed: false,
    };
    let elsewhere = Route {
        table: 100,
        ..ours()
    };
    for notice in [
        link,
        address,
        neighbour,
        fdb,
        route(to_pod, false),
        route(elsewhere, true),
    ] {
        assert_eq!(news(notice.clone()).scope, Scope::NOTHING, "{notice:?}");
    }
}

#[test]
fn a_change_of_the_uplink_is_told_apart() {
    let link = |index, name: &str| Notice::Link {
        index,
        name: name.to_owned(),
        removed: false,
    };
    let uplink = news(link(UPLINK, "eth0"));
    assert!(uplink.uplink && uplink.scope.network);
    let device = news(link(DEVICE, "renamed"));
    assert!(!device.uplink && device.scope.network);
    assert!(looks(link(LinkIndex(99), "flannel.1")));
    assert!(news(Notice::Setting).scope.settings);
}

/// A lease that came and went, of which the kernel tells late; and one that went and came.
#[test]
fn what_was_wanted_a_moment_ago_can_wait() {
    let now = std::time::Instant::now();
    let name = "flannel.1".to_owned();
    let gone = IpAddr::from(Ipv4Addr::new(10, 244, 9, 0));
    let hop = Hop::Tunnel {
        device: name.clone(),
        gateway: gone,
    };
    let mut lately = Lately::default();
    lately.note(
        Alteration {
            routes: BTreeMap::from([
                (network("10.244.9.0/24"), Some(hop)),
                (network("10.244.2.0/24"), None),
            ]),
            neighbours: BTreeMap::from([
                ((name.clone(), gone), Some(Mac([7; 6]))),
                ((name.clone(), gateway()), None),
            ]),
            fdb: BTreeMap::from([
                ((name.clone(), Mac([7; 6])), Some(host(9))),
                ((name, Mac([9; 6])), None),
            ]),
        },
        now,
    );
    let neighbour = |address, mac, removed| Notice::Neighbour {
        neighbour: Neighbour::permanent(DEVICE, address, Mac([mac; 6])),
        removed,
    };
    let fdb = |mac, number, removed| Notice::Fdb {
        link: DEVICE,
        entry: Some(FdbEntry::permanent(DEVICE, Mac([mac; 6]), host(number))),
        removed,
    };
    let to = |text, gateway| Route {
        gateway: Some(gateway),
        destination: network(text),
        ..ours()
    };
    for echo in [
        neighbour(gone, 7, false),
        neighbour(gateway(), 9, true),
        fdb(7, 9, false),
        fdb(9, 2, true),
        route(to("10.244.9.0/24", gone), false),
        route(ours(), true),
    ] {
        let found = news_after(echo.clone(), &lately);
        assert!(found.echo && !found.scope.network, "{echo:?}");
        assert!(looks(echo.clone()), "{echo:?}");
    }
    // Neither as it is wanted nor as it was, or of something else.
    for other in [
        neighbour(gone, 8, false),
        fdb(7, 8, false),
        fdb(6, 9, false),
        route(to("10.244.9.0/24", gateway()), false),
        route(to("10.244.8.0/24", gone), false),
    ] {
        let found = news_after(other.clone(), &lately);
        assert!(!found.echo && found.scope.network, "{other:?}");
    }
    lately.forget(now + 2 * ECHO);
    assert!(news_after(fdb(7, 9, false), &lately).scope.network);
}
