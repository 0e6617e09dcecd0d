//! Goldens: the text of a rule, and the code that `nft --debug=netlink` (1.0.6) prints for this text.

mod addresses;
mod matches;
mod refusals;
mod statements;

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
