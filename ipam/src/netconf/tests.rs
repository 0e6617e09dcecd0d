use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> NetConf {
    NetConf::parse(text.as_bytes()).unwrap()
}

fn refusal(text: &str) -> String {
    match NetConf::parse(text.as_bytes()).and_then(|conf| conf.subnet_plan()) {
        Ok(plan) => panic!("{text} was taken: {plan:?}"),
        Err(error) => error.to_string(),
    }
}

fn v4_plan(text: &str) -> (String, String) {
    let range = parse(text).subnet_plan().unwrap().v4.unwrap();
    (range.min.to_string(), range.max.to_string())
}

fn v6_plan(text: &str) -> (String, String) {
    let range = parse(text).subnet_plan().unwrap().v6.unwrap();
    (range.min.to_string(), range.max.to_string())
}

#[test]
fn ipv4_defaults() {
    let conf = parse(r#"{"Network": "10.3.0.0/16"}"#);
    assert_eq!(conf.networks, PerFamily::v4("10.3.0.0/16".parse().unwrap()));
    let plan = conf.subnet_plan().unwrap();
    let range = plan.v4.unwrap();
    assert_eq!(range.min, "10.3.1.0/24".parse().unwrap());
    assert_eq!(range.max, "10.3.255.0/24".parse().unwrap());
    assert_eq!(range.length(), 24);
    assert_eq!(plan.v6, None);
    assert_eq!(conf.enable_nftables, None);
}

#[test]
fn ipv6_defaults() {
    let text = r#"{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fc00::/48"}"#;
    assert_eq!(
        v6_plan(text),
        (
            "fc00:0:0:1::/64".to_owned(),
            "fc00:0:0:ffff::/64".to_owned()
        )
    );
    assert_eq!(parse(text).subnet_plan().unwrap().v4, None);
}

#[test]
fn dual_stack() {
    let conf =
        parse(r#"{"Network": "10.3.0.0/16", "EnableIPv6": true, "IPv6Network": "fc00::/48"}"#);
    let plan = conf.subnet_plan().unwrap();
    assert!(plan.v4.is_some() && plan.v6.is_some());
}

#[test]
fn given_limits_count() {
    let four = r#"{"Network": "10.3.0.0/16", "SubnetMin": "10.3.5.0", "SubnetMax": "10.3.8.0", "SubnetLen": 28}"#;
    assert_eq!(
        v4_plan(four),
        ("10.3.5.0/28".to_owned(), "10.3.8.0/28".to_owned())
    );
    let six = r#"{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fc00::/48",
        "IPv6SubnetMin": "fc00:0:0:2::", "IPv6SubnetMax": "fc00:0:0:5::", "IPv6SubnetLen": 64}"#;
    assert_eq!(
        v6_plan(six),
        ("fc00:0:0:2::/64".to_owned(), "fc00:0:0:5::/64".to_owned())
    );
}

#[test]
fn a_small_network_gets_small_subnets() {
    for (network, first) in [
        ("10.3.0.0/22", "10.3.1.0/24"),
        ("10.3.0.0/23", "10.3.0.128/25"),
        ("10.3.0.0/28", "10.3.0.4/30"),
        ("0.0.0.0/0", "0.0.1.0/24"),
    ] {
        assert_eq!(v4_plan(&format!(r#"{{"Network": "{network}"}}"#)).0, first);
    }
    for (network, first) in [
        ("fc00::/62", "fc00:0:0:1::/64"),
        ("fc00::/63", "fc00::8000:0:0:0/65"),
        ("fc00::/124", "fc00::4/126"),
    ] {
        let text =
            format!(r#"{{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "{network}"}}"#);
        assert_eq!(v6_plan(&text).0, first);
    }
}

#[test]
fn host_bits_of_the_network_are_cleared() {
    assert_eq!(
        parse(r#"{"Network": "10.3.7.9/16"}"#).networks.v4,
        Some("10.3.0.0/16".parse().unwrap())
    );
}

#[test]
fn keys_match_in_any_case_and_the_last_wins() {
    let conf = parse(
        r#"{"network": "10.1.0.0/16", "NETWORK": "10.2.0.0/16", "enableIPv6": true, "iPv6nETWORK": "fc00::/48",
            "enablenftables": true, "unknown": {"deep": [1]}, "subnetlen": null,
            "backend": {"type": "VXLAN", "Directrouting": true, "vni": 7, "VNI": 8}}"#,
    );
    assert_eq!(conf.networks.v4, Some("10.2.0.0/16".parse().unwrap()));
    assert!(conf.networks.v6.is_some());
    assert_eq!(conf.enable_nftables, Some(true));
    let Backend::Vxlan(vxlan) = conf.backend else {
        panic!("{:?}", conf.backend)
    };
    assert_eq!((vxlan.vni.number(), vxlan.direct_routing), (8, true));
}

#[test]
fn go_s_zero_values_count_as_absent() {
    let text =
        r#"{"Network": "10.3.0.0/16", "SubnetLen": 0, "SubnetMin": "0.0.0.0", "SubnetMax": null}"#;
    assert_eq!(v4_plan(text), v4_plan(r#"{"Network": "10.3.0.0/16"}"#));
}

#[test]
fn a_backend_that_is_left_out_is_vxlan_and_said_to_be() {
    let conf = parse(r#"{"Network": "10.3.0.0/16"}"#);
    assert_eq!(conf.backend, Backend::Vxlan(VxlanBackend::default()));
    assert!(conf.backend_defaulted);
    let conf = parse(r#"{"Network": "10.3.0.0/16", "Backend": {"Type": "vxlan"}}"#);
    assert_eq!(conf.backend, Backend::Vxlan(VxlanBackend::default()));
    assert!(!conf.backend_defaulted);
}

#[test]
fn backends() {
    let backend = |object: &str| {
        NetConf::parse(format!(r#"{{"Network": "10.3.0.0/16", "Backend": {object}}}"#).as_bytes())
            .map(|conf| conf.backend)
    };
    let full = r#"{"Type": "vxlan", "VNI": 4096, "Port": 4789, "MTU": 9000, "GBP": true, "Learning": true,
        "DirectRouting": true, "MacPrefix": "0E-2A"}"#;
    let vxlan = VxlanBackend {
        vni: Vni::new(4096).unwrap(),
        port: 4789,
        mtu: Some(9000),
        gbp: true,
        learning: true,
        direct_routing: true,
    };
    assert_eq!(backend(full), Ok(Backend::Vxlan(vxlan)));
    assert_eq!(
        backend(r#"{"Type": "vxlan", "MTU": 0}"#),
        Ok(Backend::Vxlan(VxlanBackend::default()))
    );
    assert_eq!(backend(r#"{"Type": "Host-GW"}"#), Ok(Backend::HostGw));
    assert_eq!(backend(r#"{"Type": "alloc"}"#), Ok(Backend::Alloc));
    let error = |object: &str| backend(object).unwrap_err().to_string();
    assert_eq!(
        error(r#"{"Type": "vlxan"}"#),
        "backend \"vlxan\" is unknown; use vxlan, host-gw or alloc"
    );
    assert_eq!(
        error(r#"{"Type": "UDP"}"#),
        "backend \"udp\" is not available in Loden; use vxlan, which carries the same packets without leaving the kernel"
    );
    for known in [
        "udp",
        "ipip",
        "ipsec",
        "wireguard",
        "extension",
        "tencent-vpc",
    ] {
        let error = error(&format!(r#"{{"Type": "{known}"}}"#));
        assert!(
            error.contains(known) && error.contains("use vxlan"),
            "{error}"
        );
    }
    for without in ["{}", r#"{"Type": ""}"#, r#"{"Type": null}"#] {
        assert_eq!(backend(without), Err(NetConfError::BackendWithoutType));
    }
    for (wrong, what) in [
        (
            r#""vxlan""#,
            "Backend of the network configuration must be an object",
        ),
        (
            r#"{"Type": 1}"#,
            "Type of the network configuration must be the name of a backend",
        ),
        (
            r#"{"Type": "vxlan", "VNI": 16777216}"#,
            "VNI of the network configuration must be a number from 0 to 16777215, not 16777216",
        ),
        (r#"{"Type": "vxlan", "VNI": "1"}"#, "VNI of"),
        (r#"{"Type": "vxlan", "Port": 65536}"#, "Port of"),
        (r#"{"Type": "vxlan", "MTU": 117}"#, "MTU of"),
        (r#"{"Type": "vxlan", "MTU": -1}"#, "MTU of"),
        (
            r#"{"Type": "vxlan", "GBP": "yes"}"#,
            "GBP of the network configuration must be true or false, not",
        ),
    ] {
        assert!(error(wrong).starts_with(what), "{}", error(wrong));
    }
}

#[test]
fn a_network_without_room_for_subnets_is_refused() {
    assert_eq!(
        refusal(r#"{"Network": "10.3.0.0/29"}"#),
        "Network 10.3.0.0/29 is too small to give every host a subnet; it must be /28 or larger"
    );
    assert_eq!(
        refusal(r#"{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fc00::/125"}"#),
        "IPv6Network fc00::/125 is too small to give every host a subnet; it must be /124 or larger"
    );
    // Kubernetes hands the subnets out and does not care.
    assert!(NetConf::parse(br#"{"Network": "10.3.0.0/29"}"#).is_ok());
}

#[test]
fn a_subnet_length_that_does_not_fit_is_refused() {
    for length in ["8", "17", "31", "32", "33", "4000000000"] {
        let error = refusal(&format!(
            r#"{{"Network": "10.3.0.0/16", "SubnetLen": {length}}}"#
        ));
        assert_eq!(
            error,
            format!(
                "SubnetLen {length} does not fit network 10.3.0.0/16; it must be from 18 to 30"
            )
        );
    }
    let six = |length: u8| {
        format!(
            r#"{{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fc00::/48", "IPv6SubnetLen": {length}}}"#
        )
    };
    assert!(refusal(&six(49)).ends_with("it must be from 50 to 126"));
    assert!(refusal(&six(127)).ends_with("it must be from 50 to 126"));
    for length in [18, 30] {
        assert!(
            parse(&format!(
                r#"{{"Network": "10.3.0.0/16", "SubnetLen": {length}}}"#
            ))
            .subnet_plan()
            .is_ok()
        );
    }
    assert!(
        refusal(r#"{"Network": "10.3.0.0/16", "SubnetLen": -1}"#)
            .starts_with("SubnetLen of the network")
    );
}

#[test]
fn limits_that_do_not_fit_are_refused() {
    assert_eq!(
        refusal(r#"{"Network": "10.3.0.0/16", "SubnetMin": "10.4.0.0"}"#),
        "SubnetMin 10.4.0.0 lies outside the network 10.3.0.0/16; choose one within it or leave the key out"
    );
    assert_eq!(
        refusal(r#"{"Network": "10.3.0.0/16", "SubnetMax": "10.3.5.5"}"#),
        "SubnetMax 10.3.5.5 is no subnet of length 24; the one it lies in begins at 10.3.5.0"
    );
    assert_eq!(
        refusal(r#"{"Network": "10.3.0.0/16", "SubnetMin": "10.3.9.0", "SubnetMax": "10.3.5.0"}"#),
        "SubnetMin 10.3.9.0/24 lies behind SubnetMax 10.3.5.0/24, which leaves no subnet; exchange or correct them"
    );
    assert_eq!(
        refusal(r#"{"Network": "10.3.0.0/16", "SubnetMin": "fc00::"}"#),
        "SubnetMin of the network configuration must be an IPv4 address in quotes, not \"fc00::\""
    );
}

#[test]
fn what_is_no_configuration_is_refused() {
    for text in [
        "",
        "{",
        "[]",
        "\"10.3.0.0/16\"",
        "null",
        "{\"Network\": \"10.3.0.0/16\"} x",
    ] {
        assert!(
            refusal(text).starts_with("the network configuration is not a JSON object: "),
            "{}",
            refusal(text)
        );
    }
    let deep = format!("{}{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    assert!(refusal(&deep).starts_with("the network configuration is not a JSON object: "));
    assert!(refusal(&" ".repeat(LONGEST + 1)).contains("more than the 262144 that are read"));
    assert_eq!(
        refusal("{}"),
        "the network configuration has no Network; add it, or switch that family off with EnableIPv4: false"
    );
    assert!(
        refusal(r#"{"Network": "10.3.0.0/16", "EnableIPv6": true}"#).contains("has no IPv6Network")
    );
    assert_eq!(
        refusal(r#"{"EnableIPv4": false}"#),
        NetConfError::NoFamily.to_string()
    );
    assert!(
        refusal(r#"{"Network": "10.3.0.0"}"#)
            .starts_with("Network of the network configuration is wrong: ")
    );
    assert!(
        refusal(r#"{"Network": ["10.3.0.0/16"]}"#)
            .contains("must be a subnet in quotes, not [\"10.3.0.0/16\"]")
    );
}

#[test]
fn knows_its_own_subnets() {
    let range = parse(r#"{"Network": "10.3.0.0/16"}"#)
        .subnet_plan()
        .unwrap()
        .v4
        .unwrap();
    for (subnet, own) in [
        ("10.3.1.0/24", true),
        ("10.3.255.0/24", true),
        ("10.3.0.0/24", false),
        ("10.4.0.0/24", false),
        ("10.3.1.0/25", false),
        ("10.3.0.0/16", false),
    ] {
        assert_eq!(range.contains(subnet.parse().unwrap()), own, "{subnet}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes: Vec<u8>) {
        let _ = NetConf::parse(&bytes);
    }

    /// Whatever the network and the length, a plan keeps to the network and leaves its first subnet out.
    #[test]
    fn plans_lie_in_the_network(bits: u32, prefix in 0..=32_u8, length in 0..=33_u8) {
        let network = Ipv4Cidr::masked(bits.into(), prefix).unwrap();
        let conf = parse(&format!(r#"{{"Network": "{network}", "SubnetLen": {length}}}"#));
        if let Ok(plan) = conf.subnet_plan() {
            let range = plan.v4.unwrap();
            prop_assert!(network.covers(range.min) && network.covers(range.max) && range.min < range.max);
            prop_assert_eq!(range.max.last(), network.last());
            prop_assert_eq!(range.min.previous().unwrap().network(), network.network());
            prop_assert!(length == 0 || range.length() == length);
        } else {
            prop_assert!(prefix > 28 || length > 30 || (length != 0 && length < prefix + 2));
        }
    }
}
