use proptest::prelude::*;

use super::*;

fn section_of(object: &Object) -> Section<'_> {
    Section::root(object)
}

fn object(text: &str) -> Object {
    match Json::parse(text.as_bytes()) {
        Ok(Json::Object(object)) => object,
        other => panic!("not an object: {other:?}"),
    }
}

fn parse(text: &str) -> Result<AddResult, Error> {
    AddResult::parse(&section_of(&object(text)), SpecVersion::V1_0_0)
}

fn text(result: &AddResult, version: SpecVersion) -> String {
    serde_json::to_string(&result.render(version).unwrap()).unwrap()
}

fn network_of(text: &str) -> IpNetwork {
    parse_network(text).unwrap()
}

fn dual_stack() -> AddResult {
    AddResult {
        interfaces: vec![
            Interface {
                name: "veth1".to_owned(),
                mac: Some("02:00:00:00:00:01".to_owned()),
                mtu: Some(1450),
                ..Interface::default()
            },
            Interface {
                name: "eth0".to_owned(),
                mac: Some("0a:58:0a:f4:01:07".to_owned()),
                mtu: Some(1450),
                sandbox: Some("/run/netns/a".to_owned()),
                ..Interface::default()
            },
        ],
        ips: vec![
            Ip {
                interface: Some(1),
                address: network_of("10.244.1.7/24"),
                gateway: Some("10.244.1.1".parse().unwrap()),
            },
            Ip {
                interface: Some(1),
                address: network_of("fd00::7/64"),
                gateway: Some("fd00::1".parse().unwrap()),
            },
        ],
        routes: vec![
            Route {
                mtu: Some(1400),
                table: Some(0),
                scope: Some(0),
                ..Route::to(network_of("0.0.0.0/0"))
            },
            Route {
                gw: Some("fd00::1".parse().unwrap()),
                ..Route::to(network_of("::/0"))
            },
        ],
        dns: Dns::default(),
    }
}

#[test]
fn golden_of_the_oldest_versions() {
    for (version, name) in [
        (SpecVersion::V0_1_0, "0.1.0"),
        (SpecVersion::V0_2_0, "0.2.0"),
    ] {
        assert_eq!(
            text(&dual_stack(), version),
            format!(
                concat!(
                    r#"{{"cniVersion":"{}","#,
                    r#""ip4":{{"ip":"10.244.1.7/24","gateway":"10.244.1.1","routes":[{{"dst":"0.0.0.0/0"}}]}},"#,
                    r#""ip6":{{"ip":"fd00::7/64","gateway":"fd00::1","routes":[{{"dst":"::/0","gw":"fd00::1"}}]}},"#,
                    r#""dns":{{}}}}"#
                ),
                name
            )
        );
    }
}

#[test]
fn golden_of_the_versions_with_a_version_per_address() {
    for (version, name) in [
        (SpecVersion::V0_3_0, "0.3.0"),
        (SpecVersion::V0_3_1, "0.3.1"),
        (SpecVersion::V0_4_0, "0.4.0"),
    ] {
        assert_eq!(
            text(&dual_stack(), version),
            format!(
                concat!(
                    r#"{{"cniVersion":"{}","#,
                    r#""interfaces":[{{"name":"veth1","mac":"02:00:00:00:00:01"}},"#,
                    r#"{{"name":"eth0","mac":"0a:58:0a:f4:01:07","sandbox":"/run/netns/a"}}],"#,
                    r#""ips":[{{"version":"4","interface":1,"address":"10.244.1.7/24","gateway":"10.244.1.1"}},"#,
                    r#"{{"version":"6","interface":1,"address":"fd00::7/64","gateway":"fd00::1"}}],"#,
                    r#""routes":[{{"dst":"0.0.0.0/0"}},{{"dst":"::/0","gw":"fd00::1"}}],"#,
                    r#""dns":{{}}}}"#
                ),
                name
            )
        );
    }
}

#[test]
fn golden_of_1_0_0() {
    assert_eq!(
        text(&dual_stack(), SpecVersion::V1_0_0),
        concat!(
            r#"{"cniVersion":"1.0.0","#,
            r#""interfaces":[{"name":"veth1","mac":"02:00:00:00:00:01"},"#,
            r#"{"name":"eth0","mac":"0a:58:0a:f4:01:07","sandbox":"/run/netns/a"}],"#,
            r#""ips":[{"interface":1,"address":"10.244.1.7/24","gateway":"10.244.1.1"},"#,
            r#"{"interface":1,"address":"fd00::7/64","gateway":"fd00::1"}],"#,
            r#""routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0","gw":"fd00::1"}]}"#
        )
    );
}

#[test]
fn golden_of_1_1_0() {
    assert_eq!(
        text(&dual_stack(), SpecVersion::V1_1_0),
        concat!(
            r#"{"cniVersion":"1.1.0","#,
            r#""interfaces":[{"name":"veth1","mac":"02:00:00:00:00:01","mtu":1450},"#,
            r#"{"name":"eth0","mac":"0a:58:0a:f4:01:07","sandbox":"/run/netns/a","mtu":1450}],"#,
            r#""ips":[{"interface":1,"address":"10.244.1.7/24","gateway":"10.244.1.1"},"#,
            r#"{"interface":1,"address":"fd00::7/64","gateway":"fd00::1"}],"#,
            r#""routes":[{"dst":"0.0.0.0/0","mtu":1400,"table":0,"scope":0},{"dst":"::/0","gw":"fd00::1"}]}"#
        )
    );
}

#[test]
fn empty_lists_are_left_out() {
    let empty = AddResult::default();
    assert_eq!(
        text(&empty, SpecVersion::V1_1_0),
        r#"{"cniVersion":"1.1.0"}"#
    );
    assert_eq!(
        text(&empty, SpecVersion::V0_4_0),
        r#"{"cniVersion":"0.4.0","dns":{}}"#
    );
    assert_eq!(empty.render(SpecVersion::V0_2_0).unwrap_err().code(), 1);
}

#[test]
fn interface_zero_and_no_interface_differ() {
    let text_with = r#"{"ips":[{"interface":0,"address":"10.0.0.2/8"}]}"#;
    assert_eq!(parse(text_with).unwrap().ips[0].interface, Some(0));
    assert!(text(&parse(text_with).unwrap(), SpecVersion::V1_0_0).contains(r#""interface":0"#));
    let without = parse(r#"{"ips":[{"address":"10.0.0.2/8"}]}"#).unwrap();
    assert_eq!(without.ips[0].interface, None);
}

#[test]
fn mapped_addresses_are_ipv4() {
    assert_eq!(network_of("::ffff:10.0.0.2/104"), network_of("10.0.0.2/8"));
    for wrong in [
        "10.0.0.2",
        "10.0.0.2/",
        "10.0.0.2/33",
        "10.0.0.2/+8",
        "10.0.0.0/255.0.0.0",
        "::ffff:10.0.0.2/24",
        "fd00::/129",
    ] {
        assert_eq!(parse_network(wrong), None, "{wrong}");
    }
}

#[test]
fn an_old_result_fits_a_new_plugin() {
    let old = parse(
        r#"{"cniVersion":"0.2.0","ip6":{"ip":"fd00::7/64"},"ip4":{"ip":"10.0.0.2/8","gateway":"10.0.0.1","routes":[{"dst":"1.0.0.0/8"}]},"dns":{"nameservers":["9.9.9.9"]}}"#,
    )
    .unwrap();
    assert_eq!(old.ips.len(), 2);
    assert!(old.ips[0].address.is_ipv4(), "IPv4 comes first");
    assert_eq!(old.routes, [Route::to(network_of("1.0.0.0/8"))]);
    assert_eq!(old.dns.nameservers, ["9.9.9.9"]);
}

#[test]
fn broken_results_are_refused() {
    for (broken, code) in [
        (r#"{"ips":{}}"#, 6),
        (r#"{"ips":[1]}"#, 6),
        (r#"{"ips":[{}]}"#, 7),
        (r#"{"ips":[{"address":"x"}]}"#, 7),
        (r#"{"ips":[{"address":"10.0.0.1/8","interface":-1}]}"#, 7),
        (r#"{"ip4":{}}"#, 7),
        (r#"{"routes":[{"gw":"10.0.0.1"}]}"#, 7),
        (r#"{"cniVersion":"3.0.0"}"#, 1),
    ] {
        assert_eq!(parse(broken).unwrap_err().code(), code, "{broken}");
    }
}

fn addresses() -> impl Strategy<Value = IpNetwork> {
    prop_oneof![
        (any::<u32>(), 0_u8..=32).prop_map(|(bits, prefix)| IpNetwork::new(
            Ipv4Addr::from(bits).into(),
            prefix
        )
        .unwrap()),
        // Not in the mapped range, which reads back as IPv4.
        (any::<u64>(), 0_u8..=128).prop_map(|(bits, prefix)| {
            let address = std::net::Ipv6Addr::from((0xfd00_u128 << 112) | u128::from(bits));
            IpNetwork::new(address.into(), prefix).unwrap()
        }),
    ]
}

prop_compose! {
    fn results()(
        ips in proptest::collection::vec((addresses(), proptest::option::of(0_usize..3)), 1..4),
        routes in proptest::collection::vec((addresses(), proptest::option::of(any::<u32>())), 0..4),
        names in proptest::collection::vec("[a-z]{1,15}", 0..3),
    ) -> AddResult {
        AddResult {
            interfaces: names.into_iter().map(|name| Interface { name, ..Interface::default() }).collect(),
            ips: ips.into_iter().map(|(address, interface)| Ip { interface, address, gateway: Some(address.ip()) }).collect(),
            routes: routes.into_iter().map(|(dst, table)| Route { table, ..Route::to(dst) }).collect(),
            dns: Dns { search: vec!["x".to_owned()], ..Dns::default() },
        }
    }
}

proptest! {
    /// What a version can express survives being written in it, read, and written again.
    #[test]
    fn every_version_reads_what_it_writes(result in results(), version in 0_usize..7) {
        let version = SpecVersion::ALL[version];
        let first = result.render(version).unwrap();
        let read = AddResult::parse(&section_of(&first), SpecVersion::V0_1_0).unwrap();
        prop_assert_eq!(read.render(version).unwrap(), first);
        if version == SpecVersion::NEWEST {
            prop_assert_eq!(read, result);
        }
    }

    /// Every pair of versions converts: addresses are never lost, except all but the first per family in the oldest.
    #[test]
    fn every_pair_of_versions_converts(result in results(), from in 0_usize..7, to in 0_usize..7) {
        let (from, to) = (SpecVersion::ALL[from], SpecVersion::ALL[to]);
        let read = AddResult::parse(&section_of(&result.render(from).unwrap()), from).unwrap();
        let again = AddResult::parse(&section_of(&read.render(to).unwrap()), to).unwrap();
        if from > SpecVersion::V0_2_0 && to > SpecVersion::V0_2_0 {
            prop_assert_eq!(again.ips, result.ips);
        } else {
            let first = |list: &[Ip], v4| list.iter().find(|ip| ip.address.is_ipv4() == v4).map(|ip| ip.address);
            prop_assert_eq!(first(&again.ips, true), first(&result.ips, true));
            prop_assert_eq!(first(&again.ips, false), first(&result.ips, false));
        }
    }

    #[test]
    fn no_document_panics(text in r#"(\{"(ips|routes|interfaces|ip4|dns|cniVersion)":(\[\{"(address|dst|name|interface)":("[0-9./:a-f]{0,12}"|-?[0-9]{1,12})\}\]|"[0-9.]{0,6}"|\{\}|null|7)\}){1}"#) {
        if let Ok(Json::Object(object)) = Json::parse(text.as_bytes()) {
            let _ = AddResult::parse(&section_of(&object), SpecVersion::V1_0_0);
        }
    }
}
