use proptest::prelude::*;

use super::*;
use crate::protocol::json::Json;

const IPAM: &str = r#""ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.17.0/24"}]],"routes":[{"dst":"10.1.0.0/16"}]}"#;

fn parse_with(text: &str, args: &str) -> Result<AttachmentConf, Error> {
    match Json::parse(text.as_bytes()) {
        Ok(Json::Object(object)) => AttachmentConf::parse(&object, &CniArgs::parse(args)),
        other => panic!("not an object: {other:?}"),
    }
}

fn bridge_with(members: &str) -> Result<AttachmentConf, Error> {
    parse_with(&format!(r#"{{"type":"bridge",{members}{IPAM}}}"#), "")
}

fn bridge_of(conf: AttachmentConf) -> BridgeConf {
    match conf.kind {
        Kind::Bridge(bridge) => bridge,
        Kind::Routed => panic!("routed"),
    }
}

#[test]
fn defaults_are_those_of_the_reference_bridge() {
    let conf = bridge_with("").unwrap();
    assert_eq!(conf.mtu, None);
    assert_eq!(conf.ipam.range_sets.len(), 1);
    assert_eq!(conf.ipam.routes.len(), 1);
    assert_eq!(
        bridge_of(conf),
        BridgeConf {
            name: "cni0".to_owned(),
            is_gateway: false,
            hairpin: false,
            promiscuous: false,
            isolated: false,
            mac_only: false,
            pod_up: true,
            others: OtherAddresses::Kept,
        }
    );
}

#[test]
fn a_default_gateway_is_a_gateway() {
    let conf =
        bridge_with(r#""isDefaultGateway":true,"bridge":"br1","hairpinMode":true,"#).unwrap();
    assert!(conf.default_route);
    let bridge = bridge_of(conf);
    assert!(bridge.is_gateway && bridge.hairpin);
    assert_eq!(bridge.name, "br1");
}

#[test]
fn what_is_not_done_is_refused_and_named() {
    for (members, key) in [
        (r#""vlan":7,"#, "vlan"),
        (r#""vlanTrunk":[{"id":1}],"#, "vlanTrunk"),
        (r#""macspoofchk":true,"#, "macspoofchk"),
        (r#""enabledad":true,"#, "enabledad"),
        (
            r#""disableContainerInterface":true,"#,
            "disableContainerInterface",
        ),
    ] {
        let error = bridge_with(members).unwrap_err();
        assert_eq!(error.code(), 2, "{members}");
        assert!(error.to_string().contains(key), "{error}");
    }
    bridge_with(r#""vlan":0,"vlanTrunk":[],"macspoofchk":false,"#).unwrap();
    let error = parse_with(&format!(r#"{{"type":"macvlan",{IPAM}}}"#), "").unwrap_err();
    assert_eq!(error.code(), 2);
    assert!(error.to_string().contains("macvlan"), "{error}");
}

#[test]
fn of_another_ipam_plugin_nothing_is_read_but_its_name() {
    let conf = parse_with(
        r#"{"type":"ptp","ipam":{"type":"static","addresses":7,"ranges":7}}"#,
        "",
    );
    let ipam = conf.unwrap().ipam;
    assert_eq!(ipam.foreign.as_deref(), Some("static"));
    assert_eq!(ipam.range_sets, Vec::<Vec<RangeSpec>>::new());
}

#[test]
fn nonsense_is_refused_with_code_7() {
    for members in [
        r#""hairpinMode":true,"promiscMode":true,"#,
        r#""bridge":"a name","#,
        r#""bridge":"0123456789abcdef","#,
        r#""mtu":-1,"#,
        r#""runtimeConfig":{"mac":"x"},"#,
        r#""runtimeConfig":{"ips":["x"]},"#,
    ] {
        assert_eq!(bridge_with(members).unwrap_err().code(), 7, "{members}");
    }
    for ipam in [
        r#"{"type":"host-local"}"#,
        r#"{"type":"host-local","ranges":[]}"#,
        r#"{"type":"host-local","ranges":[[{}]]}"#,
        r#"{"type":"host-local","ranges":[[{"subnet":"10.1.17.3/24"}]]}"#,
        r#"{"type":"host-local","ranges":[[{"subnet":"10.1.17.0/24","gateway":"x"}]]}"#,
        r#"{"type":"host-local","subnet":"10.1.17.0/24","routes":[{}]}"#,
    ] {
        let error = parse_with(&format!(r#"{{"type":"ptp","ipam":{ipam}}}"#), "").unwrap_err();
        assert_eq!(error.code(), 7, "{ipam}: {error}");
    }
}

#[test]
fn ranges_of_the_runtime_come_first() {
    let conf = parse_with(
        r#"{"type":"ptp","runtimeConfig":{"ipRanges":[[{"Subnet":"10.9.0.0/24","RangeStart":"10.9.0.7"}]]},
            "ipam":{"type":"host-local","subnet":"10.8.0.0/24","ranges":[[{"subnet":"10.7.0.0/24"},{"subnet":"10.6.0.0/24"}]]}}"#,
        "",
    )
    .unwrap();
    let subnets: Vec<Vec<String>> = conf
        .ipam
        .range_sets
        .iter()
        .map(|set| set.iter().map(|range| range.subnet.to_string()).collect())
        .collect();
    assert_eq!(
        subnets,
        [
            vec!["10.9.0.0/24"],
            vec!["10.8.0.0/24"],
            vec!["10.7.0.0/24", "10.6.0.0/24"]
        ]
    );
    assert_eq!(
        conf.ipam.range_sets[0][0].start,
        Some("10.9.0.7".parse().unwrap())
    );
}

#[test]
fn requested_addresses_of_all_sources_count() {
    let conf = parse_with(
        &format!(r#"{{"type":"ptp","args":{{"cni":{{"ips":["10.1.17.8"]}}}},"runtimeConfig":{{"ips":["10.1.17.9/24"]}},{IPAM}}}"#),
        "IP=10.1.17.7",
    )
    .unwrap();
    let expected: Vec<IpAddr> = ["10.1.17.7", "10.1.17.8", "10.1.17.9"]
        .map(|text| text.parse().unwrap())
        .to_vec();
    assert_eq!(conf.ipam.requested, expected);
}

#[test]
fn the_nearest_source_of_a_mac_wins() {
    let all = r#"{"type":"ptp","args":{"cni":{"mac":"02:00:00:00:00:02"}},"runtimeConfig":{"mac":"02:00:00:00:00:03"},"#;
    let args = r#"{"type":"ptp","args":{"cni":{"mac":"02:00:00:00:00:02"}},"#;
    for (text, expected) in [(all, 3), (args, 2), (r#"{"type":"ptp","#, 1)] {
        let conf = parse_with(&format!("{text}{IPAM}}}"), "MAC=02:00:00:00:00:01").unwrap();
        assert_eq!(conf.mac, Some(Mac([2, 0, 0, 0, 0, expected])));
    }
}

proptest! {
    #[test]
    fn no_config_panics(
        key in "(type|bridge|mtu|vlan|vlanTrunk|ipam|runtimeConfig|args|dns|isGateway)",
        value in "(\\{\\}|\\[\\]|\\[\\[\\]\\]|\\[1\\]|-1|4294967296|\"\"|\"x\"|null|true|\\{\"ips\":\\[1\\]\\}|\\{\"cni\":\\[\\]\\})",
    ) {
        let _ = parse_with(&format!(r#"{{"type":"bridge",{IPAM},"{key}":{value}}}"#), "IP=;MAC=x");
    }
}
