//! Which uplink is chosen from what a host has.

use super::*;

fn link(index: u32, name: &str) -> Link {
    Link {
        mtu: 1500,
        up: true,
        running: true,
        loopback: name == "lo",
        ..Link::bare(LinkIndex(index), name)
    }
}

fn address(link: u32, text: &str) -> Address {
    Address::new(LinkIndex(link), text.parse().unwrap(), 24)
}

fn default_route(link: Option<u32>, metric: u32) -> Route {
    let mut route = Route::new("0.0.0.0/0".parse().unwrap());
    route.link = link.map(LinkIndex);
    route.priority = Some(metric);
    route
}

/// Two interfaces, the default route over the first.
fn host() -> HostView {
    HostView {
        links: vec![link(1, "lo"), link(2, "eth0"), link(3, "eth1")],
        addresses: vec![
            address(1, "127.0.0.1"),
            address(2, "192.0.2.5"),
            address(3, "198.51.100.5"),
        ],
        default_routes: vec![default_route(Some(2), 100)],
        way: None,
    }
}

fn wanted() -> Wanted {
    Wanted {
        ipv4: true,
        ..Wanted::default()
    }
}

fn chosen(host: &HostView, wanted: &Wanted) -> (String, String, String) {
    let uplink = host.choose(wanted).unwrap();
    (
        uplink.name,
        uplink.local.v4.unwrap().to_string(),
        uplink.public.v4.unwrap().to_string(),
    )
}

fn texts(name: &str, local: &str, public: &str) -> (String, String, String) {
    (name.to_owned(), local.to_owned(), public.to_owned())
}

#[test]
fn the_default_route_tells_the_uplink() {
    assert_eq!(
        chosen(&host(), &wanted()),
        texts("eth0", "192.0.2.5", "192.0.2.5")
    );
}

#[test]
fn of_several_default_routes_the_one_with_the_least_metric_counts() {
    let mut host = host();
    host.default_routes.push(default_route(Some(3), 50));
    assert_eq!(chosen(&host, &wanted()).0, "eth1");
}

#[test]
fn iface_is_a_name_or_an_address_and_the_first_that_fits() {
    for iface in ["eth1", "198.51.100.5"] {
        let wanted = Wanted {
            ifaces: vec!["nothing".to_owned(), iface.to_owned(), "eth0".to_owned()],
            ..wanted()
        };
        assert_eq!(
            chosen(&host(), &wanted),
            texts("eth1", "198.51.100.5", "198.51.100.5")
        );
    }
}

#[test]
fn iface_as_an_address_takes_that_address() {
    let mut host = host();
    host.addresses.push(address(3, "198.51.100.9"));
    let wanted = Wanted {
        ifaces: vec!["198.51.100.9".to_owned()],
        ..wanted()
    };
    assert_eq!(chosen(&host, &wanted).1, "198.51.100.9");
}

#[test]
fn a_public_address_of_this_host_chooses_its_interface() {
    let wanted = Wanted {
        public: PerFamily::v4("198.51.100.5".parse().unwrap()),
        ..wanted()
    };
    assert_eq!(
        chosen(&host(), &wanted),
        texts("eth1", "198.51.100.5", "198.51.100.5")
    );
}

#[test]
fn a_public_address_behind_nat_is_only_published() {
    let wanted = Wanted {
        public: PerFamily::v4("203.0.113.1".parse().unwrap()),
        ..wanted()
    };
    assert_eq!(
        chosen(&host(), &wanted),
        texts("eth0", "192.0.2.5", "203.0.113.1")
    );
}

#[test]
fn of_several_addresses_the_lasting_global_one_counts() {
    let mut host = host();
    let mut others: Vec<Address> = ["192.0.2.1", "192.0.2.2", "169.254.0.1"]
        .into_iter()
        .map(|text| address(2, text))
        .collect();
    others[0].deprecated = true;
    others[1].dynamic = true;
    others[2].scope = Scope::Link;
    host.addresses.splice(0..0, others);
    assert_eq!(chosen(&host, &wanted()).1, "192.0.2.5");
}

#[test]
fn what_is_missing_is_said() {
    let none = Wanted {
        ifaces: vec!["eth7".to_owned()],
        ..wanted()
    };
    let error = host().choose(&none).unwrap_err().to_string();
    assert!(
        error.contains("eth7") && error.contains("eth1 (198.51.100.5)"),
        "{error}"
    );

    let no_route = HostView {
        default_routes: Vec::new(),
        ..host()
    };
    assert_eq!(
        no_route.choose(&wanted()),
        Err(UplinkError::NoDefaultRoute { family: "IPv4" })
    );

    let multipath = HostView {
        default_routes: vec![default_route(None, 0)],
        ..host()
    };
    assert_eq!(
        multipath.choose(&wanted()),
        Err(UplinkError::MultipathDefaultRoute { family: "IPv4" })
    );

    let ipv6 = Wanted {
        ipv6: true,
        ..wanted()
    };
    assert_eq!(
        host().choose(&ipv6),
        Err(UplinkError::NoAddress {
            name: "eth0".to_owned(),
            family: "IPv6"
        })
    );
}

#[test]
fn a_pattern_is_for_addresses_first_and_then_for_names() {
    let with = |pattern: &str| Wanted {
        patterns: vec![Regex::new(pattern).unwrap()],
        ..wanted()
    };
    assert_eq!(chosen(&host(), &with(r"^198\.51\.")).0, "eth1");
    assert_eq!(chosen(&host(), &with("eth[1-9]")).0, "eth1");
    // It is an address of eth0 that begins so, although eth1's name fits as well.
    assert_eq!(chosen(&host(), &with("^192|eth1")).0, "eth0");
    assert!(host().choose(&with("wlan")).is_err());
}

#[test]
fn the_way_to_an_address_tells_interface_and_source() {
    let mut host = host();
    host.addresses.push(address(3, "198.51.100.9"));
    let mut way = Route::new("203.0.113.7/32".parse().unwrap());
    way.link = Some(LinkIndex(3));
    way.source = Some("198.51.100.9".parse().unwrap());
    host.way = Some(way);
    let wanted = Wanted {
        reach: Some("203.0.113.7".parse().unwrap()),
        ..wanted()
    };
    assert_eq!(
        chosen(&host, &wanted),
        texts("eth1", "198.51.100.9", "198.51.100.9")
    );
}

#[test]
fn every_iface_goes_before_every_pattern() {
    let wanted = Wanted {
        ifaces: vec!["eth1".to_owned()],
        patterns: vec![Regex::new("eth0").unwrap()],
        ..wanted()
    };
    assert_eq!(chosen(&host(), &wanted).0, "eth1");
}

#[test]
fn an_interface_that_is_not_here_is_told_with_some_that_are() {
    let wanted = Wanted {
        ifaces: vec!["nosuch0".to_owned()],
        ..wanted()
    };
    let mut host = host();
    let said = host.choose(&wanted).unwrap_err().to_string();
    assert_eq!(
        said,
        "no interface here fits --iface=nosuch0; name one that is here: lo (127.0.0.1), eth0 (192.0.2.5), eth1 (198.51.100.5)"
    );
    // A hundred pods with a link each.
    let pods = (4..104).map(|index| link(index, "vethofapod"));
    host.links.extend(pods);
    let said = host.choose(&wanted).unwrap_err().to_string();
    assert!(said.contains("eth0 (192.0.2.5)"), "{said}");
    assert!(said.ends_with(" and 95 more"), "{said}");
}
