//! What is asked of addresses: prefixes, sets, either family.

use super::*;

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
