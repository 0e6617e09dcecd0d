//! Goldens: the text of sets, maps and rules, and what `nft --debug=netlink` (1.0.6) prints for this text.

use super::super::{Error, Expr, Family, Protocol, Rule, SetKind, Table};
use super::*;

fn port(protocol: Protocol, number: u16) -> Port {
    Port { protocol, number }
}

fn target(text: &str) -> SocketAddr {
    text.parse().expect("an address with a port")
}

/// A set, a map by port and one by address and port, with a rule for each.
fn table(family: Family, kind: SetKind, own: &str, to: &str) -> Table {
    let web = port(Protocol::TCP, 8080);
    let all = [
        (
            "by-address",
            Entries::TargetsByAddress(
                [((own.parse().expect("an address"), web), target(to))].into(),
            ),
        ),
        ("by-port", Entries::Targets([(web, target(to))].into())),
        (
            "marked",
            Entries::Set([web, port(Protocol::SCTP, 90)].into()),
        ),
    ];
    let rules = [
        Expr::DestinationPortIn("marked".to_owned()),
        Expr::Dnat("by-address".to_owned()),
        Expr::Dnat("by-port".to_owned()),
    ];
    Table {
        family,
        name: "t".to_owned(),
        comment: None,
        sets: Vec::new(),
        ports: all
            .map(|(name, entries)| Ports {
                name: name.to_owned(),
                kind,
                entries,
            })
            .into(),
        chains: vec![crate::nft::Chain {
            name: "c".to_owned(),
            hook: None,
            rules: rules.map(|expr| Rule::new([expr])).into(),
        }],
    }
}

fn ipv4() -> Table {
    table(Family::Ip, SetKind::Ipv4, "192.0.2.1", "10.244.1.5:80")
}

fn ipv6() -> Table {
    table(Family::Ip6, SetKind::Ipv6, "2001:db8::1", "[fd00::5]:80")
}

#[test]
fn they_print_as_nft_lists_them() {
    let expected = "table ip t {
\tmap by-address {
\t\ttype ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
\t\telements = { 192.0.2.1 . tcp . 8080 : 10.244.1.5 . 80 }
\t}

\tmap by-port {
\t\ttype inet_proto . inet_service : ipv4_addr . inet_service
\t\telements = { tcp . 8080 : 10.244.1.5 . 80 }
\t}

\tset marked {
\t\ttype inet_proto . inet_service
\t\telements = { tcp . 8080, sctp . 90 }
\t}

\tchain c {
\t\tmeta l4proto . th dport @marked
\t\tdnat ip to ip daddr . meta l4proto . th dport map @by-address
\t\tdnat ip to meta l4proto . th dport map @by-port
\t}
}
";
    assert_eq!(ipv4().to_string(), expected);
    let text = ipv6().to_string();
    let rule = "dnat ip6 to ip6 daddr . meta l4proto . th dport map @by-address";
    assert!(text.contains(rule), "{text}");
}

#[test]
fn rules_compile_to_the_code_of_nft() {
    let by_port = "ip t c
  [ meta load l4proto => reg 1 ]
  [ payload load 2b @ transport header + 2 => reg 9 ]
  [ lookup reg 1 set by-port dreg 1 ]
  [ nat dnat ip addr_min reg 1 proto_min reg 9 ]
";
    let by_address = "ip t c
  [ payload load 4b @ network header + 16 => reg 1 ]
  [ meta load l4proto => reg 9 ]
  [ payload load 2b @ transport header + 2 => reg 10 ]
  [ lookup reg 1 set by-address dreg 1 ]
  [ nat dnat ip addr_min reg 1 proto_min reg 9 ]
";
    let marked = "ip t c
  [ meta load l4proto => reg 1 ]
  [ payload load 2b @ transport header + 2 => reg 9 ]
  [ lookup reg 1 set marked ]
";
    let code = ipv4().compile().unwrap().to_string();
    assert_eq!(code, format!("{marked}\n{by_address}\n{by_port}\n"));
    let code = ipv6().compile().unwrap().to_string();
    let by_address = "ip6 t c
  [ payload load 16b @ network header + 24 => reg 1 ]
  [ meta load l4proto => reg 2 ]
  [ payload load 2b @ transport header + 2 => reg 13 ]
  [ lookup reg 1 set by-address dreg 1 ]
  [ nat dnat ip6 addr_min reg 1 proto_min reg 2 ]
";
    assert!(code.contains(by_address), "{code}");
}

/// `element 010200c0 00000006 0000901f  : 0501f40a 00005000`, in words of a little-endian host.
#[test]
fn elements_are_those_of_nft() {
    let tables = ipv4();
    let [by_address, by_port, marked] = &tables.ports[..] else {
        panic!("three of them");
    };
    let key = vec![192, 0, 2, 1, 6, 0, 0, 0, 0x1f, 0x90, 0, 0];
    let data = vec![10, 244, 1, 5, 0, 80, 0, 0];
    assert_eq!(by_address.elements(), [(key, data.clone())].into());
    let key = vec![6, 0, 0, 0, 0x1f, 0x90, 0, 0];
    assert_eq!(by_port.elements(), [(key.clone(), data)].into());
    assert!(marked.elements().contains_key(&key));
    assert_eq!(
        (by_address.key(), by_port.key(), by_address.data()),
        ((0x730d, 12), (0x30d, 8), Some((0x1cd, 8)))
    );
    assert_eq!(marked.data(), None);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let refusal = |change: fn(&mut Table)| {
        let mut table = ipv4();
        change(&mut table);
        table.compile().unwrap_err()
    };
    let wrong_family = |error: Error| matches!(error, Error::WrongFamily { .. });
    let unknown = |error: Error| matches!(error, Error::Unknown { .. });
    assert!(wrong_family(refusal(|table| table.family = Family::Inet)));
    assert!(wrong_family(refusal(|table| table.family = Family::Ip6)));
    assert!(wrong_family(refusal(|table| {
        let target = target("[fd00::5]:80");
        table.ports[1].entries = Entries::Targets([(port(Protocol::TCP, 1), target)].into());
    })));
    // A set where a map is needed, the other way round, and a name that is twice there.
    assert!(unknown(refusal(|table| {
        table.ports[1].entries = Entries::Set(BTreeSet::new());
    })));
    assert!(unknown(refusal(|table| {
        table.ports[2].entries = Entries::Targets(BTreeMap::new());
    })));
    assert!(matches!(
        refusal(|table| table.ports[2].name = "by-port".to_owned()),
        Error::Duplicate { .. }
    ));
}
