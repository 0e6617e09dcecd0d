//! What is asked of everything else: interfaces, marks, protocols and ports, connections.

use super::*;

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
