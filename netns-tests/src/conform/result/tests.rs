use serde_json::{Value, json};

use super::{foreign_keys, ips, problems, routes};
use crate::conform::spec::SpecVersion;
use crate::conform::subject::Kind;

/// A right result of this version.
fn right(version: SpecVersion) -> Value {
    if !version.lists_interfaces() {
        return json!({
            "cniVersion": version,
            "ip4": {"ip": "10.1.2.3/24", "gateway": "10.1.2.1", "routes": [{"dst": "0.0.0.0/0"}]},
            "ip6": {"ip": "fd00::3/64", "routes": [{"dst": "::/0", "gw": "fd00::1"}]},
            "dns": {},
        });
    }
    let mut result = json!({
        "cniVersion": version,
        "interfaces": [
            {"name": "veth1", "mac": "02:00:00:00:00:01"},
            {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/a"},
        ],
        "ips": [
            {"address": "10.1.2.3/24", "gateway": "10.1.2.1", "interface": 1},
            {"address": "fd00::3/64", "interface": 0},
        ],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.2.1"}, {"dst": "::/0", "gw": null}],
        "dns": {"nameservers": ["10.1.2.1"], "domain": "x", "search": ["y"], "options": ["z"]},
    });
    if version < SpecVersion::V100 {
        result["ips"][0]["version"] = json!("4");
        result["ips"][1]["version"] = json!("6");
    }
    if version >= SpecVersion::V110 {
        result["interfaces"][0]["mtu"] = json!(1450);
        result["routes"][0]["table"] = json!(0);
    }
    result
}

#[test]
fn right_results_have_no_problem() {
    for version in SpecVersion::ALL {
        let result = right(version);
        assert_eq!(problems(&result, version, Kind::Interface), [""; 0]);
        assert_eq!(foreign_keys(&result, version, Kind::Interface), [""; 0]);
        assert_eq!(ips(&result).len(), 2, "{version}");
        assert_eq!(routes(&result).len(), 2, "{version}");
    }
}

#[test]
fn each_wrong_value_is_named() {
    let wrong = [
        ("/cniVersion", json!(null), "cniVersion is missing"),
        ("/cniVersion", json!(""), "cniVersion is empty"),
        ("/routes", json!({}), "routes: not a list"),
        (
            "/interfaces/1/name",
            json!(""),
            "interfaces[1]: name is empty",
        ),
        ("/interfaces/0/mac", json!("02:00"), "interfaces[0].mac"),
        ("/interfaces/1/sandbox", json!(7), "interfaces[1].sandbox"),
        ("/interfaces/0/mtu", json!("x"), "interfaces[0].mtu"),
        ("/ips/0/address", json!("10.1.2.3"), "ips[0].address"),
        ("/ips/0/address", json!("10.1.2.3/33"), "ips[0].address"),
        ("/ips/0/address", json!(null), "ips[0]: address is missing"),
        ("/ips/0/gateway", json!("fd00::1"), "of the other family"),
        ("/ips/0/gateway", json!("x"), "ips[0].gateway"),
        ("/ips/0/interface", json!(2), "no index into 2 interfaces"),
        ("/ips/0/interface", json!(-1), "no index into 2 interfaces"),
        ("/ips/1", json!("fd00::3/64"), "ips[1]: not an object"),
        ("/routes/0/dst", json!("default"), "routes[0].dst"),
        ("/routes/1/gw", json!("10.1.2.1"), "routes[1].gw"),
        ("/routes/0/table", json!(-1), "routes[0].table"),
        ("/dns/nameservers/0", json!("ns1"), "dns.nameservers"),
        ("/dns/search/0", json!(1), "dns.search"),
    ];
    for (at, value, expected) in wrong {
        let mut result = right(SpecVersion::V110);
        *result.pointer_mut(at).expect(at) = value;
        let found = problems(&result, SpecVersion::V110, Kind::Interface);
        assert_eq!(found.len(), 1, "{at}: {found:?}");
        assert!(found[0].contains(expected), "{at}: {found:?}");
    }
}

#[test]
fn versions_differ() {
    let interface = Kind::Interface;
    let old = right(SpecVersion::V020);
    let foreign = foreign_keys(&old, SpecVersion::V100, interface);
    assert_eq!(foreign, ["the result.ip4", "the result.ip6"]);
    let found = problems(&right(SpecVersion::V100), SpecVersion::V040, interface);
    assert!(found[0].contains("version is missing"), "{found:?}");
    let foreign = foreign_keys(&right(SpecVersion::V040), SpecVersion::V100, interface);
    assert_eq!(foreign, ["ips[0].version", "ips[1].version"]);
    let foreign = foreign_keys(&right(SpecVersion::V110), SpecVersion::V100, interface);
    assert_eq!(foreign, ["interfaces[0].mtu", "routes[0].table"]);
    let mut swapped = right(SpecVersion::V040);
    swapped["ips"][0]["version"] = json!("6");
    assert_eq!(problems(&swapped, SpecVersion::V040, interface).len(), 1);
    let mut swapped = old;
    swapped["ip4"]["ip"] = json!("fd00::1/64");
    assert_eq!(
        problems(&swapped, SpecVersion::V020, interface).len(),
        2,
        "the address and its gateway"
    );
}

#[test]
fn an_ipam_plugin_knows_no_interfaces() {
    let found = problems(&right(SpecVersion::V110), SpecVersion::V110, Kind::Ipam);
    assert_eq!(found.len(), 3, "the list and two indices: {found:?}");
}

#[test]
fn what_is_no_object_is_a_problem() {
    for document in [json!(null), json!([]), json!("x")] {
        assert_eq!(
            problems(&document, SpecVersion::V110, Kind::Interface).len(),
            1
        );
    }
}
