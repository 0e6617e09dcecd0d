//! Goldens: the text of a rule, and the code that `nft --debug=netlink` (1.0.6) prints for this text.

use super::super::{
    BaseHook, Chain, ChainKind, CtState, Error, Expr, Family, Hook, InterfacePattern, Masquerade,
    Policy, Protocol, Rule, Set, SetKind, Table, Transport, priority,
};

fn prefix(text: &str) -> ipnetwork::IpNetwork {
    text.parse().expect("a prefix")
}

fn interface(text: &str) -> InterfacePattern {
    text.parse().expect("an interface name")
}

/// A table with two sets, a chain `a` to jump to, and this rule.
fn table(family: Family, exprs: Vec<Expr>) -> Table {
    let set = |name: &str, kind| Set {
        name: name.to_owned(),
        kind,
        prefixes: Vec::new(),
    };
    let sets = match family {
        Family::Inet => vec![set("v4", SetKind::Ipv4), set("v6", SetKind::Ipv6)],
        Family::Ip => vec![set("v4", SetKind::Ipv4)],
        Family::Ip6 => vec![set("v6", SetKind::Ipv6)],
        Family::Bridge => Vec::new(),
    };
    let chain = |name: &str, rules| Chain {
        name: name.to_owned(),
        hook: None,
        rules,
    };
    Table {
        family,
        name: "t".to_owned(),
        comment: None,
        sets,
        ports: Vec::new(),
        chains: vec![chain("a", vec![]), chain("c", vec![Rule::new(exprs)])],
    }
}

#[track_caller]
fn check(family: Family, exprs: Vec<Expr>, text: &str, code: &[&str]) {
    let table = table(family, exprs);
    let listing = table.compile().expect("it compiles").to_string();
    let expected: String = code.iter().map(|line| format!("  [ {line} ]\n")).collect();
    assert_eq!(
        listing,
        format!("{family} t c\n{expected}\n"),
        "code of {text}"
    );
    let printed = table.to_string();
    let line = format!("\tchain c {{\n\t\t{text}\n\t}}\n");
    assert!(printed.contains(&line), "{text} prints as {printed}");
}

#[track_caller]
fn check_ip(expr: Expr, text: &str, code: &[&str]) {
    check(Family::Ip, vec![expr], text, code);
}

const LOAD_SADDR: &str = "payload load 4b @ network header + 12 => reg 1";
const LOAD_DADDR: &str = "payload load 4b @ network header + 16 => reg 1";

#[test]
fn ipv4_prefixes() {
    check_ip(
        Expr::Source(prefix("10.244.0.0/16")),
        "ip saddr 10.244.0.0/16",
        &[
            "payload load 2b @ network header + 12 => reg 1",
            "cmp eq reg 1 0x0000f40a",
        ],
    );
    check_ip(
        Expr::SourceNot(prefix("10.244.0.0/15")),
        "ip saddr != 10.244.0.0/15",
        &[
            LOAD_SADDR,
            "bitwise reg 1 = ( reg 1 & 0x0000feff ) ^ 0x00000000",
            "cmp neq reg 1 0x0000f40a",
        ],
    );
    check_ip(
        Expr::Destination(prefix("10.244.1.1/32")),
        "ip daddr 10.244.1.1",
        &[LOAD_DADDR, "cmp eq reg 1 0x0101f40a"],
    );
    check_ip(
        Expr::DestinationNot(prefix("224.0.0.0/4")),
        "ip daddr != 224.0.0.0/4",
        &[
            LOAD_DADDR,
            "bitwise reg 1 = ( reg 1 & 0x000000f0 ) ^ 0x00000000",
            "cmp neq reg 1 0x000000e0",
        ],
    );
    check_ip(
        Expr::Source(prefix("0.0.0.0/0")),
        "ip saddr 0.0.0.0/0",
        &[
            LOAD_SADDR,
            "bitwise reg 1 = ( reg 1 & 0x00000000 ) ^ 0x00000000",
            "cmp eq reg 1 0x00000000",
        ],
    );
    // Host bits do not matter.
    check_ip(
        Expr::Source(prefix("10.244.7.9/24")),
        "ip saddr 10.244.7.0/24",
        &[
            "payload load 3b @ network header + 12 => reg 1",
            "cmp eq reg 1 0x0007f40a",
        ],
    );
}

#[test]
fn ipv6_prefixes() {
    let check = |expr, text: &str, code: &[&str]| check(Family::Ip6, vec![expr], text, code);
    check(
        Expr::Source(prefix("fd00::/16")),
        "ip6 saddr fd00::/16",
        &[
            "payload load 2b @ network header + 8 => reg 1",
            "cmp eq reg 1 0x000000fd",
        ],
    );
    check(
        Expr::SourceNot(prefix("fd00::/15")),
        "ip6 saddr != fd00::/15",
        &[
            "payload load 16b @ network header + 8 => reg 1",
            "bitwise reg 1 = ( reg 1 & 0x0000feff 0x00000000 0x00000000 0x00000000 ) ^ 0x00000000 0x00000000 0x00000000 0x00000000",
            "cmp neq reg 1 0x000000fd 0x00000000 0x00000000 0x00000000",
        ],
    );
    check(
        Expr::DestinationNot(prefix("ff00::/8")),
        "ip6 daddr != ff00::/8",
        &[
            "payload load 1b @ network header + 24 => reg 1",
            "cmp neq reg 1 0x000000ff",
        ],
    );
    check(
        Expr::Destination(prefix("fd00::1/128")),
        "ip6 daddr fd00::1",
        &[
            "payload load 16b @ network header + 24 => reg 1",
            "cmp eq reg 1 0x000000fd 0x00000000 0x00000000 0x01000000",
        ],
    );
}

#[test]
fn sets() {
    check_ip(
        Expr::SourceIn("v4".to_owned()),
        "ip saddr @v4",
        &[LOAD_SADDR, "lookup reg 1 set v4"],
    );
    check_ip(
        Expr::DestinationIn("v4".to_owned()),
        "ip daddr @v4",
        &[LOAD_DADDR, "lookup reg 1 set v4"],
    );
    check_ip(
        Expr::SourceNotIn("v4".to_owned()),
        "ip saddr != @v4",
        &[LOAD_SADDR, "lookup reg 1 set v4 0x1"],
    );
    check_ip(
        Expr::DestinationNotIn("v4".to_owned()),
        "ip daddr != @v4",
        &[LOAD_DADDR, "lookup reg 1 set v4 0x1"],
    );
    check(
        Family::Ip6,
        vec![Expr::DestinationIn("v6".to_owned())],
        "ip6 daddr @v6",
        &[
            "payload load 16b @ network header + 24 => reg 1",
            "lookup reg 1 set v6",
        ],
    );
}

/// The table sees both families, so a rule on addresses asks for the right one first, and asks once.
#[test]
fn both_families() {
    check(
        Family::Inet,
        vec![
            Expr::Source(prefix("fd00::/16")),
            Expr::DestinationIn("v6".to_owned()),
        ],
        "ip6 saddr fd00::/16 ip6 daddr @v6",
        &[
            "meta load nfproto => reg 1",
            "cmp eq reg 1 0x0000000a",
            "payload load 2b @ network header + 8 => reg 1",
            "cmp eq reg 1 0x000000fd",
            "payload load 16b @ network header + 24 => reg 1",
            "lookup reg 1 set v6",
        ],
    );
    check(
        Family::Inet,
        vec![Expr::Source(prefix("10.0.0.0/8"))],
        "ip saddr 10.0.0.0/8",
        &[
            "meta load nfproto => reg 1",
            "cmp eq reg 1 0x00000002",
            "payload load 1b @ network header + 12 => reg 1",
            "cmp eq reg 1 0x0000000a",
        ],
    );
}

#[test]
fn interfaces() {
    check_ip(
        Expr::InterfaceIn(interface("eth0")),
        "iifname \"eth0\"",
        &[
            "meta load iifname => reg 1",
            "cmp eq reg 1 0x30687465 0x00000000 0x00000000 0x00000000",
        ],
    );
    check_ip(
        Expr::InterfaceIn(interface("abcdefghijklmno")),
        "iifname \"abcdefghijklmno\"",
        &[
            "meta load iifname => reg 1",
            "cmp eq reg 1 0x64636261 0x68676665 0x6c6b6a69 0x006f6e6d",
        ],
    );
    check_ip(
        Expr::InterfaceOut(interface("cni*")),
        "oifname \"cni*\"",
        &["meta load oifname => reg 1", "cmp eq reg 1 0x00696e63"],
    );
    check_ip(
        Expr::InterfaceInNot(interface("veth*")),
        "iifname != \"veth*\"",
        &["meta load iifname => reg 1", "cmp neq reg 1 0x68746576"],
    );
    check_ip(
        Expr::InterfaceOutNot(interface("cni*")),
        "oifname != \"cni*\"",
        &["meta load oifname => reg 1", "cmp neq reg 1 0x00696e63"],
    );
}

#[test]
fn marks() {
    let bit = 0x4000;
    check_ip(
        Expr::Mark {
            value: bit,
            mask: bit,
        },
        "meta mark & 0x00004000 == 0x00004000",
        &[
            "meta load mark => reg 1",
            "bitwise reg 1 = ( reg 1 & 0x00004000 ) ^ 0x00000000",
            "cmp eq reg 1 0x00004000",
        ],
    );
    check_ip(
        Expr::MarkNot {
            value: bit,
            mask: bit,
        },
        "meta mark & 0x00004000 != 0x00004000",
        &[
            "meta load mark => reg 1",
            "bitwise reg 1 = ( reg 1 & 0x00004000 ) ^ 0x00000000",
            "cmp neq reg 1 0x00004000",
        ],
    );
    check_ip(
        Expr::Mark {
            value: bit,
            mask: u32::MAX,
        },
        "meta mark 0x00004000",
        &["meta load mark => reg 1", "cmp eq reg 1 0x00004000"],
    );
    check_ip(
        Expr::SetMark {
            value: 1,
            mask: u32::MAX,
        },
        "meta mark set 0x00000001",
        &["immediate reg 1 0x00000001", "meta set mark with reg 1"],
    );
    check_ip(
        Expr::SetMark {
            value: bit,
            mask: bit,
        },
        "meta mark set meta mark | 0x00004000",
        &[
            "meta load mark => reg 1",
            "bitwise reg 1 = ( reg 1 & 0xffffbfff ) ^ 0x00004000",
            "meta set mark with reg 1",
        ],
    );
    // Value bits outside the mask change nothing.
    check_ip(
        Expr::SetMark {
            value: 0xf12,
            mask: 0xff,
        },
        "meta mark set meta mark & 0xffffff12 | 0x00000012",
        &[
            "meta load mark => reg 1",
            "bitwise reg 1 = ( reg 1 & 0xffffff00 ) ^ 0x00000012",
            "meta set mark with reg 1",
        ],
    );
}

#[test]
fn protocols_and_ports() {
    let udp = ["meta load l4proto => reg 1", "cmp eq reg 1 0x00000011"];
    let tcp = ["meta load l4proto => reg 1", "cmp eq reg 1 0x00000006"];
    let dport = "payload load 2b @ transport header + 2 => reg 1";
    let sport = "payload load 2b @ transport header + 0 => reg 1";
    check_ip(Expr::Protocol(Protocol::UDP), "meta l4proto udp", &udp);
    check_ip(
        Expr::ProtocolNot(Protocol(132)),
        "meta l4proto != sctp",
        &["meta load l4proto => reg 1", "cmp neq reg 1 0x00000084"],
    );
    check_ip(
        Expr::DestinationPort(Transport::Udp, 8472..=8472),
        "udp dport 8472",
        &[udp[0], udp[1], dport, "cmp eq reg 1 0x00001821"],
    );
    check_ip(
        Expr::DestinationPort(Transport::Tcp, 80..=90),
        "tcp dport 80-90",
        &[
            tcp[0],
            tcp[1],
            dport,
            "cmp gte reg 1 0x00005000",
            "cmp lte reg 1 0x00005a00",
        ],
    );
    check(
        Family::Ip,
        vec![
            Expr::DestinationPort(Transport::Udp, 8472..=8472),
            Expr::Vxlan(7),
        ],
        "udp dport 8472 @th,64,8 & 0x8 == 0x8 @th,96,24 0x7",
        &[
            udp[0],
            udp[1],
            dport,
            "cmp eq reg 1 0x00001821",
            "payload load 1b @ transport header + 8 => reg 1",
            "bitwise reg 1 = ( reg 1 & 0x00000008 ) ^ 0x00000000",
            "cmp eq reg 1 0x00000008",
            "payload load 3b @ transport header + 12 => reg 1",
            "cmp eq reg 1 0x00070000",
        ],
    );
    // The protocol is asked for once.
    check(
        Family::Ip,
        vec![
            Expr::SourcePort(Transport::Tcp, 53..=53),
            Expr::Counter,
            Expr::DestinationPort(Transport::Tcp, 80..=80),
        ],
        "tcp sport 53 counter packets 0 bytes 0 tcp dport 80",
        &[
            tcp[0],
            tcp[1],
            sport,
            "cmp eq reg 1 0x00003500",
            "counter pkts 0 bytes 0",
            dport,
            "cmp eq reg 1 0x00005000",
        ],
    );
}

#[test]
fn connection_states_and_local_addresses() {
    let state = |mask: &str| {
        [
            "ct load state => reg 1".to_owned(),
            format!("bitwise reg 1 = ( reg 1 & {mask} ) ^ 0x00000000"),
            "cmp neq reg 1 0x00000000".to_owned(),
        ]
    };
    for (states, text, mask) in [
        (
            CtState::RELATED.or(CtState::ESTABLISHED),
            "ct state established,related",
            "0x00000006",
        ),
        (CtState::INVALID, "ct state invalid", "0x00000001"),
        (CtState::NEW, "ct state new", "0x00000008"),
        (CtState::UNTRACKED, "ct state untracked", "0x00000040"),
    ] {
        let code = state(mask);
        let code: Vec<&str> = code.iter().map(String::as_str).collect();
        check_ip(Expr::CtState(states), text, &code);
    }
    check_ip(
        Expr::DestinationLocal,
        "fib daddr type local",
        &["fib daddr type => reg 1", "cmp eq reg 1 0x00000002"],
    );
    check_ip(
        Expr::DestinationNotLocal,
        "fib daddr type != local",
        &["fib daddr type => reg 1", "cmp neq reg 1 0x00000002"],
    );
}

#[test]
fn statements() {
    let masquerade = |random, fully_random| {
        Expr::Masquerade(Masquerade {
            random,
            fully_random,
        })
    };
    for (expr, text, code) in [
        (Expr::Accept, "accept", "immediate reg 0 accept"),
        (
            Expr::Counter,
            "counter packets 0 bytes 0",
            "counter pkts 0 bytes 0",
        ),
        (Expr::Drop, "drop", "immediate reg 0 drop"),
        (
            Expr::Goto("a".to_owned()),
            "goto a",
            "immediate reg 0 goto -> a",
        ),
        (
            Expr::Jump("a".to_owned()),
            "jump a",
            "immediate reg 0 jump -> a",
        ),
        (Expr::Notrack, "notrack", "notrack"),
        (Expr::Return, "return", "immediate reg 0 return"),
        (masquerade(false, false), "masquerade", "masq"),
        (
            masquerade(true, false),
            "masquerade random",
            "masq flags 0x4",
        ),
        (
            masquerade(false, true),
            "masquerade fully-random",
            "masq flags 0x10",
        ),
        (
            masquerade(true, true),
            "masquerade random,fully-random",
            "masq flags 0x14",
        ),
    ] {
        check_ip(expr, text, &[code]);
    }
}

#[track_caller]
fn check_error(table: &Table, expected: &str) {
    let error = table.compile().expect_err(expected);
    assert_eq!(error.to_string(), expected);
}

#[test]
fn what_leads_nowhere_is_refused() {
    for (expr, expected) in [
        (
            Expr::Jump("nowhere".to_owned()),
            "a rule of table ip t names the chain \"nowhere\", which is not in the table",
        ),
        (
            Expr::Goto("nowhere".to_owned()),
            "a rule of table ip t names the chain \"nowhere\", which is not in the table",
        ),
        (
            Expr::SourceIn("nothing".to_owned()),
            "a rule of table ip t names the set \"nothing\", which is not in the table",
        ),
    ] {
        check_error(&table(Family::Ip, vec![expr]), expected);
    }
}

#[test]
fn the_other_address_family_is_refused() {
    check_error(
        &table(Family::Ip, vec![Expr::Source(prefix("fd00::/16"))]),
        "prefix fd00::/16 is of the other address family than table ip t, so it can never match there",
    );
    check_error(
        &table(
            Family::Ip6,
            vec![Expr::DestinationNot(prefix("10.0.0.0/8"))],
        ),
        "prefix 10.0.0.0/8 is of the other address family than table ip6 t, so it can never match there",
    );
    let mut wrong_set = table(Family::Ip6, vec![]);
    wrong_set.sets[0].kind = SetKind::Ipv4;
    check_error(
        &wrong_set,
        "set v6 is of the other address family than table ip6 t, so it can never match there",
    );
    let mut wrong_prefix = table(Family::Inet, vec![]);
    wrong_prefix.sets[0].prefixes = vec![prefix("10.0.0.0/8"), prefix("fd00::/16")];
    check_error(
        &wrong_prefix,
        "prefix fd00::/16 is of the other address family than set inet t v4, so it can never match there",
    );
}

#[test]
fn names_and_comments_must_be_printable_and_names_used_once() {
    let mut twice = table(Family::Ip, vec![]);
    twice.chains[0].name = "c".to_owned();
    check_error(
        &twice,
        "table ip t has two chains named \"c\"; give them different names",
    );
    let mut twice = table(Family::Inet, vec![]);
    twice.sets[1].name = "v4".to_owned();
    check_error(
        &twice,
        "table inet t has two sets named \"v4\"; give them different names",
    );
    for comment in ["", "a\0b", "say \"no\"", &"x".repeat(129)] {
        let mut table = table(Family::Ip, vec![]);
        table.chains[1].rules[0].comment = Some(comment.to_owned());
        assert!(matches!(
            table.compile(),
            Err(Error::Text { limit: 128, .. })
        ));
    }
    let mut long = table(Family::Ip, vec![]);
    long.name = "x".repeat(256);
    assert!(matches!(
        long.compile(),
        Err(Error::Text { limit: 255, .. })
    ));
}

#[test]
fn interface_names_that_cannot_be_are_refused() {
    for name in [
        "",
        "*",
        "eth 0",
        "a/b",
        "a*b",
        "sixteen-letters-",
        "a\"b",
        "a\0",
        "**",
    ] {
        let error = name.parse::<InterfacePattern>().expect_err(name);
        assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
    }
    assert_eq!(
        interface("fifteen-letters*").to_string(),
        "fifteen-letters*"
    );
}

#[test]
fn hooks_compile_to_the_numbers_of_the_kernel() {
    for (hook, number) in [
        (Hook::Prerouting, 0),
        (Hook::Input, 1),
        (Hook::Forward, 2),
        (Hook::Output, 3),
        (Hook::Postrouting, 4),
    ] {
        let compiled = super::compile_hook(BaseHook {
            kind: ChainKind::Route,
            hook,
            priority: priority::RAW,
            policy: Policy::Drop,
        });
        assert_eq!(
            (
                compiled.kind.as_str(),
                compiled.hook,
                compiled.priority,
                compiled.policy
            ),
            ("route", number, -300, 0)
        );
    }
}

#[test]
fn frames_are_looked_at_on_bridges_only() {
    let station = Expr::EtherSourceNot("0a:58:0a:f4:01:05".parse().unwrap());
    check(
        Family::Bridge,
        vec![station.clone()],
        "ether saddr != 0a:58:0a:f4:01:05",
        &[
            "payload load 6b @ link header + 6 => reg 1",
            "cmp neq reg 1 0xf40a580a 0x00000501",
        ],
    );
    for family in [Family::Inet, Family::Ip, Family::Ip6] {
        let error = table(family, vec![station.clone()]).compile().unwrap_err();
        assert!(error.to_string().contains("ether saddr"), "{error}");
    }
}
