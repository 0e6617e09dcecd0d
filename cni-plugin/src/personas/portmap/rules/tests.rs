use proptest::prelude::*;

use super::*;

fn mapping(protocol: Transport, ports: (u16, u16), host_ip: Option<&str>) -> Mapping {
    Mapping {
        protocol,
        host_port: ports.0,
        container_port: ports.1,
        host_ip: host_ip.map(|text| text.parse().unwrap()),
    }
}

fn record(container: &str, addresses: &[&str], mappings: Vec<Mapping>) -> PortRecord {
    let pod = |text: &&str| {
        let network: IpNetwork = text.parse().unwrap();
        PodAddress {
            address: network.ip(),
            prefix: network.prefix(),
        }
    };
    PortRecord {
        owner: ipam::Owner::new(container, "eth0").unwrap(),
        network: "net".to_owned(),
        order: 1,
        host: 1,
        netns: "/run/netns/a".to_owned(),
        addresses: addresses.iter().map(pod).collect(),
        mappings,
        masqueraded: Masqueraded::Near,
        mark_bit: 13,
        localnet: None,
    }
}

#[test]
fn golden() {
    let web = record(
        "web",
        &["10.1.2.3/24"],
        vec![
            mapping(Transport::Tcp, (8080, 80), None),
            mapping(Transport::Udp, (53, 5353), Some("192.0.2.1")),
        ],
    );
    let expected = r#"table ip loden-hostports {
	comment "ports of this host that lead to pods"
	set near {
		type ipv4_addr
		flags interval
		elements = { 10.1.2.0/24, 127.0.0.0/8 }
	}

	set pods-masqueraded {
		type ipv4_addr
		flags interval
	}

	map by-address {
		type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
		elements = { 192.0.2.1 . udp . 53 : 10.1.2.3 . 5353 }
	}

	map by-port {
		type inet_proto . inet_service : ipv4_addr . inet_service
		elements = { tcp . 8080 : 10.1.2.3 . 80 }
	}

	set masqueraded {
		type inet_proto . inet_service
	}

	set masqueraded-from-near {
		type inet_proto . inet_service
		elements = { tcp . 8080, udp . 53 }
	}

	chain hostports {
		ip saddr @near meta l4proto . th dport @masqueraded-from-near meta mark set meta mark | 0x00002000
		meta l4proto . th dport @masqueraded meta mark set meta mark | 0x00002000
		dnat ip to ip daddr . meta l4proto . th dport map @by-address
		dnat ip to meta l4proto . th dport map @by-port
	}

	chain output {
		type nat hook output priority -100; policy accept;
		fib daddr type local jump hostports
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		meta mark & 0x00002000 == 0x00002000 ip saddr 10.1.2.0/24 ip daddr 10.1.2.0/24 masquerade
		meta mark & 0x00002000 == 0x00002000 ip saddr 127.0.0.0/8 masquerade
		meta mark & 0x00002000 == 0x00002000 ip daddr @pods-masqueraded masquerade
	}

	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		fib daddr type local jump hostports
	}

	chain strangers {
		type filter hook prerouting priority raw; policy accept;
		iifname != "lo" ip daddr 127.0.0.0/8 drop
	}
}
"#;
    let tables = tables(&[&web]);
    assert_eq!(tables.len(), 1, "nothing leads to IPv6");
    assert_eq!(tables[0].to_string(), expected);
}

fn text(records: &[&PortRecord]) -> String {
    tables(records).iter().map(ToString::to_string).collect()
}

#[test]
fn each_family_has_what_is_of_it() {
    let all = [None, Some("0.0.0.0"), Some("::"), Some("fd00::1")];
    let mappings = (1..).zip(all);
    let mappings = mappings.map(|(port, only)| mapping(Transport::Tcp, (port, 80), only));
    let web = record("web", &["10.1.2.3/24", "fd00:1::3/64"], mappings.collect());
    let [v4, v6] = &tables(&[&web])[..] else {
        panic!("two tables");
    };
    let (v4, v6) = (v4.to_string(), v6.to_string());
    let elements = "elements = { tcp . 1 : 10.1.2.3 . 80, tcp . 2 : 10.1.2.3 . 80 }";
    assert!(v4.contains(elements), "{v4}");
    let elements = "elements = { tcp . 1 : fd00:1::3 . 80, tcp . 3 : fd00:1::3 . 80 }";
    assert!(v6.contains(elements), "{v6}");
    let elements = "elements = { fd00::1 . tcp . 4 : fd00:1::3 . 80 }";
    assert!(v6.contains(elements), "{v6}");
}

#[test]
fn of_two_that_claim_a_port_the_later_has_it() {
    let ports = || vec![mapping(Transport::Tcp, (80, 80), None)];
    let (one, other) = (
        record("a", &["10.1.2.3/24"], ports()),
        record("b", &["10.1.2.4/24"], ports()),
    );
    assert!(text(&[&one, &other]).contains("elements = { tcp . 80 : 10.1.2.4 . 80 }"));
    assert!(text(&[&other, &one]).contains("elements = { tcp . 80 : 10.1.2.3 . 80 }"));
    // Another protocol or another address is another port.
    let beside = record(
        "b",
        &["10.1.2.4/24"],
        vec![
            mapping(Transport::Sctp, (80, 80), None),
            mapping(Transport::Tcp, (80, 80), Some("192.0.2.1")),
        ],
    );
    let text = text(&[&one, &beside]);
    assert!(
        text.contains("{ tcp . 80 : 10.1.2.3 . 80, sctp . 80 : 10.1.2.4 . 80 }"),
        "{text}"
    );
    assert!(
        text.contains("{ 192.0.2.1 . tcp . 80 : 10.1.2.4 . 80 }"),
        "{text}"
    );
}

#[test]
fn only_who_is_to_be_masqueraded_is_marked() {
    let ports = || vec![mapping(Transport::Tcp, (80, 80), None)];
    let nobody = PortRecord {
        masqueraded: Masqueraded::Nobody,
        ..record("a", &["10.1.2.3/24"], ports())
    };
    let text_of_nobody = text(&[&nobody]);
    assert!(!text_of_nobody.contains("10.1.2.0/24"), "{text_of_nobody}");
    assert!(
        !text_of_nobody.contains("elements = { tcp . 80 }"),
        "{text_of_nobody}"
    );
    let all = PortRecord {
        masqueraded: Masqueraded::All,
        mark_bit: 4,
        ..nobody
    };
    let text = text(&[&all]);
    assert!(text.contains(
        "set masqueraded {\n\t\ttype inet_proto . inet_service\n\t\telements = { tcp . 80 }"
    ));
    assert!(text.contains("elements = { 10.1.2.3 }"), "{text}");
    assert!(
        text.contains("meta mark set meta mark | 0x00000010"),
        "{text}"
    );
}

#[test]
fn nothing_makes_no_table() {
    assert_eq!(tables(&[]), []);
    let elsewhere = record(
        "a",
        &["10.1.2.3/24"],
        vec![mapping(Transport::Tcp, (80, 80), Some("fd00::1"))],
    );
    assert_eq!(tables(&[&elsewhere]), []);
    for family in FAMILIES {
        empty(family).compile().expect("it compiles");
    }
}

fn records() -> impl Strategy<Value = Vec<PortRecord>> {
    let transports = prop_oneof![
        Just(Transport::Tcp),
        Just(Transport::Udp),
        Just(Transport::Sctp)
    ];
    let only = prop_oneof![
        Just(None),
        (0..3_u8).prop_map(|last| Some(IpAddr::from([192, 0, 2, last]))),
        (0..3_u16).prop_map(|last| Some(IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last]))),
    ];
    let mappings = (transports, 1..6_u16, 1..u16::MAX, only).prop_map(
        |(protocol, host_port, container_port, host_ip)| Mapping {
            protocol,
            host_port,
            container_port,
            host_ip,
        },
    );
    let one = (
        any::<(u32, u128, bool)>(),
        (0..=32_u8, 0..=128_u8),
        proptest::collection::vec(mappings, 0..4),
        0..3_u8,
        0..32_u8,
    );
    let one = one.prop_map(|((v4, v6, both), (short, long), mappings, who, mark_bit)| {
        let mut addresses = vec![PodAddress {
            address: IpAddr::V4(v4.into()),
            prefix: short,
        }];
        addresses.extend(both.then_some(PodAddress {
            address: IpAddr::V6(v6.into()),
            prefix: long,
        }));
        PortRecord {
            addresses,
            masqueraded: [Masqueraded::All, Masqueraded::Near, Masqueraded::Nobody]
                [usize::from(who)],
            mark_bit,
            ..record("a", &[], mappings)
        }
    });
    proptest::collection::vec(one, 0..6)
}

/// Where a packet goes by the tables, as the rules say.
fn way(tables: &[Table], to: IpAddr, port: Port) -> Option<SocketAddr> {
    let family = if to.is_ipv4() {
        Family::Ip
    } else {
        Family::Ip6
    };
    let table = tables.iter().find(|table| table.family == family)?;
    let mut by_address = None;
    let mut by_port = None;
    for ports in &table.ports {
        match &ports.entries {
            Entries::TargetsByAddress(targets) => by_address = targets.get(&(to, port)),
            Entries::Targets(targets) => by_port = targets.get(&port),
            Entries::Set(_) => {}
        }
    }
    by_address.or(by_port).copied()
}

proptest! {
    /// Every packet goes where the latest of the records that fit says, one that names the address before one that does not.
    #[test]
    fn the_latest_that_fits_decides(records in records(), v4: bool, last in 0..3_u8, number in 1..6_u16) {
        let all: Vec<_> = records.iter().collect();
        let tables = tables(&all);
        for table in &tables {
            table.compile().expect("it compiles");
        }
        let to: IpAddr = if v4 {
            [192, 0, 2, last].into()
        } else {
            [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)].into()
        };
        for transport in [Transport::Tcp, Transport::Udp, Transport::Sctp] {
            let port = Port { protocol: protocol(transport), number };
            let mut expected = (None, None);
            for record in &records {
                for pod in record.addresses.iter().filter(|pod| pod.address.is_ipv4() == v4) {
                    for mapping in &record.mappings {
                        if (mapping.protocol, mapping.host_port) != (transport, number) {
                            continue;
                        }
                        let target = SocketAddr::new(pod.address, mapping.container_port);
                        match mapping.host_ip {
                            Some(only) if only == to => expected.0 = Some(target),
                            Some(_) => {}
                            None => expected.1 = Some(target),
                        }
                    }
                }
            }
            prop_assert_eq!(way(&tables, to, port), expected.0.or(expected.1));
        }
    }
}

#[test]
fn a_share_is_what_one_pod_needs() {
    let ports = |number| vec![mapping(Transport::Tcp, (number, 80), None)];
    let (one, other) = (
        record("a", &["10.1.2.3/24"], ports(1)),
        record("b", &["10.9.2.4/24"], ports(2)),
    );
    let text: String = share(&[&one, &other], &one)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(
        text.contains("elements = { tcp . 1 : 10.1.2.3 . 80 }"),
        "{text}"
    );
    assert!(!text.contains("10.9.2"), "{text}");
    // A port that a later pod has taken over leads there.
    let later = record("c", &["10.9.2.5/24"], ports(1));
    let text = share(&[&one, &later], &one)[0].to_string();
    assert!(
        text.contains("elements = { tcp . 1 : 10.9.2.5 . 80 }"),
        "{text}"
    );
}
