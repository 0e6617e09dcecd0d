use proptest::prelude::*;

use super::*;
use crate::protocol::Verb;

fn config(members: &str) -> Config {
    let text = format!(r#"{{"cniVersion":"1.0.0","name":"net","type":"portmap"{members}}}"#);
    Config::parse(text.as_bytes(), Verb::Add).unwrap()
}

fn parsed(members: &str) -> Result<Conf, Error> {
    Conf::parse(&config(members))
}

fn with_mapping(mapping: &str) -> Result<Conf, Error> {
    parsed(&format!(
        r#","runtimeConfig":{{"portMappings":[{mapping}]}}"#
    ))
}

fn target() -> Target {
    Target {
        container_id: "c1".to_owned(),
        ifname: "eth0".to_owned(),
        netns: Some("/run/netns/a".into()),
    }
}

#[test]
fn mappings_are_read_in_every_runtimes_spelling() {
    let tcp = Mapping {
        protocol: Transport::Tcp,
        host_port: 8080,
        container_port: 80,
        host_ip: None,
    };
    for text in [
        r#"{"hostPort":8080,"containerPort":80,"protocol":"tcp"}"#,
        r#"{"HostPort":8080,"ContainerPort":80,"Protocol":"TCP","HostIP":""}"#,
        r#"{"hostPort":8080,"containerPort":80}"#,
    ] {
        assert_eq!(with_mapping(text).unwrap().mappings, [tcp], "{text}");
    }
    let text = r#"{"hostPort":53,"containerPort":5353,"protocol":"udp","hostIP":"fd00::1"}"#;
    let expected = Mapping {
        protocol: Transport::Udp,
        host_port: 53,
        container_port: 5353,
        host_ip: Some("fd00::1".parse().unwrap()),
    };
    assert_eq!(with_mapping(text).unwrap().mappings, [expected]);
}

#[test]
fn a_port_of_zero_is_skipped() {
    let conf = with_mapping(r#"{"hostPort":0,"containerPort":80,"protocol":"tcp"}"#).unwrap();
    assert_eq!(conf.mappings, []);
}

#[test]
fn what_cannot_be_has_code_7() {
    for mapping in [
        r#"{"hostPort":65536,"containerPort":80}"#,
        r#"{"hostPort":-1,"containerPort":80}"#,
        r#"{"hostPort":80}"#,
        r#"{"hostPort":80,"containerPort":0}"#,
        r#"{"hostPort":80,"containerPort":70000}"#,
        r#"{"hostPort":80,"containerPort":80,"protocol":"icmp"}"#,
        r#"{"hostPort":80,"containerPort":80,"hostIP":"localhost"}"#,
    ] {
        let error = with_mapping(mapping).unwrap_err();
        assert_eq!(error.code(), 7, "{mapping}: {error}");
    }
    for members in [
        r#","markMasqBit":32"#,
        r#","markMasqBit":5,"externalSetMarkChain":"KUBE-MARK-MASQ""#,
    ] {
        assert_eq!(parsed(members).unwrap_err().code(), 7, "{members}");
    }
    let error = previous(&config("")).unwrap_err();
    assert_eq!(error.code(), 7);
    assert!(error.to_string().contains("prevResult"), "{error}");
}

#[test]
fn keys_of_the_reference_are_taken_or_refused() {
    for members in [
        r#","backend":"iptables""#,
        r#","backend":"nftables""#,
        r#","externalSetMarkChain":"KUBE-MARK-MASQ""#,
        r#","conditionsV4":[],"conditionsV6":[""]"#,
        r#","runtimeConfig":{"portMappings":null}"#,
    ] {
        let conf = parsed(members).unwrap();
        let expected = (Masqueraded::Near, 13);
        assert_eq!((conf.masqueraded, conf.mark_bit), expected, "{members}");
    }
    for members in [
        r#","backend":"ipvs""#,
        r#","conditionsV4":["!","-d","192.0.2.0/24"]"#,
        r#","conditionsV6":["ip6","daddr","fd00::1"]"#,
    ] {
        assert_eq!(parsed(members).unwrap_err().code(), 2, "{members}");
    }
    let masqueraded = |members: &str| parsed(members).unwrap().masqueraded;
    assert_eq!(masqueraded(r#","masqAll":true"#), Masqueraded::All);
    assert_eq!(masqueraded(r#","snat":false"#), Masqueraded::Nobody);
    assert_eq!(
        masqueraded(r#","snat":false,"masqAll":true"#),
        Masqueraded::Nobody
    );
    assert_eq!(parsed(r#","markMasqBit":7"#).unwrap().mark_bit, 7);
}

const RESULT: &str = r#","prevResult":{"cniVersion":"1.0.0","future":[1],
    "interfaces":[{"name":"veth0"},{"name":"eth0","sandbox":"/run/netns/a"},{"name":"eth1","sandbox":"/run/netns/a"}],
    "ips":[{"address":"192.0.2.1/24","interface":0},{"address":"10.1.2.9/24","interface":2},
           {"address":"10.1.2.3/24","interface":1},{"address":"fd00::3/64"},{"address":"10.1.2.4/24","interface":1}]}"#;

#[test]
fn the_addresses_are_those_of_the_interface() {
    let config = config(&format!(
        r#"{RESULT},"runtimeConfig":{{"portMappings":[{{"hostPort":1,"containerPort":2}}]}}"#
    ));
    let (result, _) = previous(&config).unwrap();
    let conf = Conf::parse(&config).unwrap();
    let record = conf.record(&result, &config, &target(), || Ok(7));
    let record = record.unwrap().unwrap();
    let addresses: Vec<_> = record
        .addresses
        .iter()
        .map(|pod| format!("{}/{}", pod.address, pod.prefix))
        .collect();
    assert_eq!(addresses, ["10.1.2.3/24", "fd00::3/64"]);
    assert_eq!((record.host, record.netns.as_str()), (7, "/run/netns/a"));
}

#[test]
fn without_mappings_nobody_is_asked() {
    let config = config(RESULT);
    let (result, _) = previous(&config).unwrap();
    let conf = Conf::parse(&config).unwrap();
    let record = conf.record(&result, &config, &target(), || {
        panic!("the kernel was asked")
    });
    assert_eq!(record.unwrap(), None);
}

#[test]
fn the_result_is_passed_on_as_it_came() {
    let (_, document) = previous(&config(RESULT)).unwrap();
    let text = serde_json::to_string(&document).unwrap();
    assert!(text.contains(r#""future":[1]"#), "{text}");
    // One of another version is told in the version of the config.
    let (_, document) = previous(&config(
        r#","prevResult":{"cniVersion":"0.2.0","ip4":{"ip":"10.1.2.3/24"}}"#,
    ))
    .unwrap();
    let text = serde_json::to_string(&document).unwrap();
    assert!(text.contains(r#""cniVersion":"1.0.0""#), "{text}");
}

proptest! {
    /// Whatever stands in a mapping, it is taken whole or refused; and what is taken can be looked up by the kernel.
    #[test]
    fn no_mapping_panics(
        host in -3_i64..70_000,
        container in prop_oneof![Just("80".to_owned()), any::<i32>().prop_map(|n| n.to_string()), "[a-z{}\\[\\]]{0,3}"],
        protocol in "(tcp|UDP|sctp|icmp|[a-z]{0,5})",
        address in "([0-9a-f:.]{0,12}|10\\.0\\.0\\.1|::1)",
    ) {
        let text = format!(
            r#"{{"cniVersion":"1.0.0","name":"net","runtimeConfig":{{"portMappings":[
                {{"hostPort":{host},"containerPort":{container},"protocol":"{protocol}","hostIP":"{address}"}}]}}}}"#
        );
        let Ok(config) = Config::parse(text.as_bytes(), Verb::Add) else {
            return Ok(());
        };
        match Conf::parse(&config) {
            Ok(conf) => for mapping in conf.mappings {
                prop_assert!(mapping.host_port > 0 && mapping.container_port > 0);
            },
            Err(error) => prop_assert!(matches!(error.code(), 6 | 7), "{}", error),
        }
    }
}
