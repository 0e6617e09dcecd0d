use super::*;
use crate::protocol::Verb;

const IPAM: &str = r#""ipam":{"type":"host-local","subnet":"10.1.2.0/24"}"#;

fn config(members: &str) -> Config {
    let text = format!(r#"{{"name":"net","cniVersion":"1.0.0",{members}}}"#);
    Config::parse(text.as_bytes(), Verb::Add).unwrap()
}

fn read_as(persona: Persona, members: &str) -> Result<AttachmentConf, Error> {
    read(
        persona,
        &config(members),
        &CniArgs::parse("MAC=02:00:00:00:00:01"),
    )
}

fn bridge_of(members: &str) -> BridgeConf {
    match read_as(Persona::Bridge, members).unwrap().kind {
        Kind::Bridge(bridge) => bridge,
        Kind::Routed => panic!("routed"),
    }
}

#[test]
fn a_bridge_refuses_other_addresses_unless_told_to_replace_them() {
    assert_eq!(bridge_of(IPAM).others, OtherAddresses::Refused);
    let forced = bridge_of(&format!(r#""forceAddress":true,{IPAM}"#));
    assert_eq!(forced.others, OtherAddresses::Replaced);
}

#[test]
fn what_flannel_does_for_its_pods_is_not_done_here() {
    for persona in [Persona::Bridge, Persona::Ptp] {
        let conf = read_as(persona, IPAM).unwrap();
        assert!(!conf.one_segment && !conf.default_route && !conf.ip_masq);
    }
    let key = format!(r#""isDefaultGateway":true,{IPAM}"#);
    assert!(read_as(Persona::Bridge, &key).unwrap().default_route);
    let ptp = read_as(Persona::Ptp, &key).unwrap();
    assert!(!ptp.default_route, "the plugin has no such key");
    assert_eq!(ptp.mac, None, "nor takes it a MAC");
}

#[test]
fn only_a_bridge_can_do_without_addresses() {
    for members in [
        r#""ipam":{}"#,
        r#""ipam":null"#,
        r#""mtu":1400"#,
        r#""ipam":{"type":""}"#,
    ] {
        assert!(read_as(Persona::Bridge, members).is_ok(), "{members}");
        let error = read_as(Persona::Ptp, members).unwrap_err();
        assert_eq!(error.code(), 7, "{members}: {error}");
    }
    let foreign = r#""ipam":{"type":"dhcp"}"#;
    assert!(
        read_as(Persona::Ptp, foreign)
            .unwrap()
            .ipam
            .range_sets
            .is_empty()
    );
}

#[test]
fn an_interface_is_off_only_without_addresses() {
    let off = r#""disableContainerInterface":true"#;
    assert!(!bridge_of(off).pod_up);
    assert!(!is_on(&config(off)).unwrap());
    let error = read_as(Persona::Bridge, &format!("{off},{IPAM}")).unwrap_err();
    assert_eq!(error.code(), 2, "{error}");
}

#[test]
fn backends_are_the_two_that_there_are() {
    for backend in ["iptables", "nftables"] {
        let members = format!(r#""ipMasqBackend":"{backend}",{IPAM}"#);
        assert!(read_as(Persona::Ptp, &members).is_ok());
    }
    let error = read_as(Persona::Ptp, &format!(r#""ipMasqBackend":"pf",{IPAM}"#)).unwrap_err();
    assert!(error.to_string().contains("\"pf\""), "{error}");
}

#[test]
fn name_servers_of_the_config_count_even_if_there_are_none() {
    for members in [
        IPAM,
        r#""dns":{}"#,
        r#""dns":{"domain":""}"#,
        r#""dns":{"search":null}"#,
    ] {
        assert_eq!(name_servers(&config(members)).unwrap(), None, "{members}");
    }
    let none = name_servers(&config(r#""dns":{"nameservers":[]}"#)).unwrap();
    assert_eq!(none, Some(Dns::default()));
    let some = name_servers(&config(r#""dns":{"domain":"a.test"}"#)).unwrap();
    assert_eq!(some.unwrap().domain.as_deref(), Some("a.test"));
}
