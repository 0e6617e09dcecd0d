use proptest::option;
use proptest::prelude::*;

use super::*;

fn vxlan(mac: &str) -> VxlanLease {
    VxlanLease {
        vni: Some(Vni::DEFAULT),
        mac: mac.parse().unwrap(),
    }
}

fn v4_public(address: &str, backend: LeaseBackend) -> LeaseRecord {
    LeaseRecord {
        public: PerFamily::v4(address.parse().unwrap()),
        backend,
    }
}

fn parse(value: &str) -> LeaseRecord {
    LeaseRecord::parse(value.as_bytes()).unwrap()
}

fn refusal(value: &str) -> String {
    LeaseRecord::parse(value.as_bytes())
        .unwrap_err()
        .to_string()
}

/// The bytes as flannel writes them.
#[test]
fn golden_values() {
    let dual = LeaseRecord {
        public: PerFamily::both("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()),
        backend: LeaseBackend::Vxlan(PerFamily::both(
            vxlan("c6:d8:1b:2a:d6:81"),
            vxlan("0e:2a:00:00:00:01"),
        )),
    };
    let six = LeaseRecord {
        public: PerFamily::v6("2001:db8::1".parse().unwrap()),
        backend: LeaseBackend::Vxlan(PerFamily::v6(vxlan("0e:2a:00:00:00:01"))),
    };
    for (record, value) in [
        (
            v4_public("1.2.3.4", LeaseBackend::Unnamed),
            r#"{"PublicIP":"1.2.3.4","PublicIPv6":null}"#,
        ),
        (
            v4_public(
                "192.0.2.1",
                LeaseBackend::Vxlan(PerFamily::v4(vxlan("c6:d8:1b:2a:d6:81"))),
            ),
            r#"{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d8:1b:2a:d6:81"}}"#,
        ),
        (
            dual,
            r#"{"PublicIP":"192.0.2.1","PublicIPv6":"2001:db8::1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d8:1b:2a:d6:81"},"BackendV6Data":{"VNI":1,"VtepMAC":"0e:2a:00:00:00:01"}}"#,
        ),
        (
            six,
            r#"{"PublicIP":"0.0.0.0","PublicIPv6":"2001:db8::1","BackendType":"vxlan","BackendV6Data":{"VNI":1,"VtepMAC":"0e:2a:00:00:00:01"}}"#,
        ),
        (
            v4_public("192.0.2.1", LeaseBackend::HostGw),
            r#"{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"host-gw"}"#,
        ),
    ] {
        assert_eq!(record.to_json(), value);
        assert_eq!(parse(value), record);
    }
}

#[test]
fn is_as_tolerant_as_flannel() {
    let expected = v4_public(
        "192.0.2.1",
        LeaseBackend::Vxlan(PerFamily::v4(vxlan("c6:d8:1b:2a:d6:81"))),
    );
    for value in [
        r#"{"PublicIP":"192.0.2.1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d8:1b:2a:d6:81"}}"#,
        r#"{"BackendData":{"VtepMAC":"C6-D8-1B-2A-D6-81","VNI":1,"New":[]},"More":{},"BackendType":"vxlan","PublicIP":"192.0.2.1","BackendV6Data":null}"#,
        r#"{"publicip":"192.0.2.1","backendtype":"vxlan","backenddata":{"vni":1,"vtepmac":"c6:d8:1b:2a:d6:81"}}"#,
    ] {
        assert_eq!(parse(value), expected, "{value}");
    }
    let old = parse(
        r#"{"PublicIP":"192.0.2.1","BackendType":"vxlan","BackendData":{"VtepMAC":"c6:d8:1b:2a:d6:81"}}"#,
    );
    let LeaseBackend::Vxlan(data) = &old.backend else {
        panic!("{old:?}")
    };
    assert_eq!(data.v4.unwrap().vni, None);
    assert!(
        old.to_json()
            .ends_with(r#""BackendData":{"VtepMAC":"c6:d8:1b:2a:d6:81"}}"#)
    );
    assert_eq!(
        parse("{}"),
        LeaseRecord {
            public: PerFamily::default(),
            backend: LeaseBackend::Unnamed
        }
    );
}

#[test]
fn a_foreign_backend_is_known_by_its_name() {
    for data in [
        r#"{"PublicKey":"AAAA","Port":51820}"#,
        r#""trimmed output""#,
        "17",
        "null",
    ] {
        let record = parse(&format!(
            r#"{{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"wireguard","BackendData":{data}}}"#
        ));
        assert_eq!(
            record.backend,
            LeaseBackend::Other {
                name: "wireguard".to_owned()
            }
        );
        assert_eq!(record.backend.name(), "wireguard");
    }
    // Flannel compares names as they stand.
    assert_eq!(
        parse(r#"{"BackendType":"VXLAN"}"#).backend,
        LeaseBackend::Other {
            name: "VXLAN".to_owned()
        }
    );
    let long = parse(&format!(r#"{{"BackendType":"{}"}}"#, "x".repeat(5000)));
    assert!(long.backend.name().len() < 200);
}

#[test]
fn what_is_no_lease_is_refused() {
    for value in [
        "",
        "lease",
        "[]",
        "null",
        "{",
        r#"{"PublicIP":"192.0.2.1"} {}"#,
        "\u{feff}{}",
    ] {
        assert!(
            refusal(value).starts_with("the lease is not a JSON object: "),
            "{}",
            refusal(value)
        );
    }
    assert_eq!(
        refusal(r#"{"PublicIP":"192.0.2"}"#),
        r#"PublicIP of the lease must be an IPv4 address in quotes, not "192.0.2""#
    );
    assert!(refusal(r#"{"PublicIP":7}"#).contains("not 7"));
    assert!(
        refusal(r#"{"PublicIPv6":"192.0.2.1"}"#)
            .starts_with("PublicIPv6 of the lease must be an IPv6 address")
    );
    assert!(refusal(r#"{"BackendType":1}"#).starts_with("BackendType of the lease"));
    assert_eq!(
        refusal(r#"{"PublicIP":"224.0.0.1"}"#),
        "PublicIP 224.0.0.1 of the lease is no address of a host"
    );
    assert!(refusal(r#"{"PublicIP":"255.255.255.255"}"#).contains("no address of a host"));
    assert!(refusal(r#"{"PublicIPv6":"ff02::1"}"#).contains("no address of a host"));
    assert!(refusal(&" ".repeat(LONGEST + 1)).contains("more than the 65536 that are read"));
    let deep = format!("{}{}", "{\"BackendData\":".repeat(3000), "}".repeat(3000));
    assert!(refusal(&deep).starts_with("the lease is not a JSON object: "));
}

#[test]
fn a_vtep_needs_an_address_that_a_device_can_have() {
    let value = |data: &str| {
        refusal(&format!(
            r#"{{"PublicIP":"192.0.2.1","BackendType":"vxlan","BackendData":{data}}}"#
        ))
    };
    assert!(value("{}").contains("BackendData has no VtepMAC"));
    assert!(value("[]").starts_with("BackendData of the lease must be an object"));
    assert!(value(r#"{"VtepMAC":"c6:d8"}"#).contains("\"c6:d8\" is not a MAC address"));
    assert!(value(r#"{"VtepMAC":3}"#).contains("must be a MAC address in quotes, not 3"));
    // An FDB entry for the zero address would draw all unknown traffic.
    assert!(
        value(r#"{"VtepMAC":"00:00:00:00:00:00"}"#).contains("no address that a device can have")
    );
    assert!(
        value(r#"{"VtepMAC":"ff:ff:ff:ff:ff:ff"}"#).contains("no address that a device can have")
    );
}

fn any_vxlan() -> impl Strategy<Value = VxlanLease> {
    let mac = any::<[u8; 6]>().prop_map(|mut octets| {
        octets[0] = octets[0] & 0xfe | 0x02;
        Mac(octets)
    });
    (option::of(0..=Vni::MAX.number()), mac).prop_map(|(vni, mac)| VxlanLease {
        vni: vni.and_then(Vni::new),
        mac,
    })
}

fn any_backend() -> impl Strategy<Value = LeaseBackend> {
    prop_oneof![
        Just(LeaseBackend::HostGw),
        Just(LeaseBackend::Unnamed),
        "[a-z-]{1,12}x".prop_map(|name| LeaseBackend::Other { name }),
        (option::of(any_vxlan()), option::of(any_vxlan()))
            .prop_map(|(v4, v6)| LeaseBackend::Vxlan(PerFamily { v4, v6 })),
    ]
}

proptest! {
    #[test]
    fn round_trip(v4: Option<[u8; 4]>, v6: Option<u128>, backend in any_backend()) {
        let v4 = v4.map(Ipv4Addr::from).filter(|v4| !v4.is_unspecified() && !v4.is_multicast() && !v4.is_broadcast());
        let v6 = v6.map(Ipv6Addr::from_bits).filter(|v6| !v6.is_unspecified() && !v6.is_multicast());
        let record = LeaseRecord { public: PerFamily { v4, v6 }, backend };
        prop_assert_eq!(LeaseRecord::parse(record.to_json().as_bytes()), Ok(record));
    }

    #[test]
    fn any_bytes_are_answered(bytes: Vec<u8>) {
        let _ = LeaseRecord::parse(&bytes);
    }

    #[test]
    fn a_lease_with_anything_in_it_is_answered(key in "PublicIP|PublicIPv6|BackendType|BackendData|VtepMAC", value in r#"[0-9a-z.:{}"\[\],]{0,20}"#) {
        let text = format!(r#"{{"BackendType":"vxlan","{key}":{value}}}"#);
        let _ = LeaseRecord::parse(text.as_bytes());
    }
}
