//! Arbitrary tables for the property tests of this folder.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnetwork::IpNetwork;
use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
    sample::select,
};

use super::{
    BaseHook, Chain, ChainKind, CtState, Entries, Expr, Family, Hook, Masquerade, Policy, Port,
    Ports, Protocol, Rule, Set, SetKind, Table, Transport,
};

/// Tables that compile: IPv4 ones, with chains `a` and `b`, a set `s`, and ports `p` and `q`.
pub(super) fn tables() -> impl Strategy<Value = Table> {
    (
        select(vec![Family::Inet, Family::Ip]),
        "[a-z]{1,20}",
        option::of("[ -!#-\\[\\]-~]{1,40}"),
        vec(ipv4_prefixes(), 0..8),
        vec(rules(), 0..6),
        vec(rules(), 0..6),
        (
            option::of(hooks()),
            btree_map(known_ports(), targets(), 0..6),
        ),
    )
        .prop_map(
            |(family, name, comment, prefixes, a, b, (hook, targets))| Table {
                family,
                name,
                comment,
                sets: vec![Set {
                    name: "s".to_owned(),
                    kind: SetKind::Ipv4,
                    prefixes,
                }],
                ports: vec![
                    ports("p", Entries::Set(targets.keys().copied().collect())),
                    ports("q", Entries::Targets(targets)),
                ],
                chains: vec![chain("a", hook, a), chain("b", None, b)],
            },
        )
}

fn ports(name: &str, entries: Entries) -> Ports {
    Ports {
        name: name.to_owned(),
        kind: SetKind::Ipv4,
        entries,
    }
}

fn known_ports() -> impl Strategy<Value = Port> {
    any::<(u8, u16)>().prop_map(|(protocol, number)| Port {
        protocol: Protocol(protocol),
        number,
    })
}

fn targets() -> impl Strategy<Value = SocketAddr> {
    any::<(Ipv4Addr, u16)>().prop_map(SocketAddr::from)
}

fn chain(name: &str, hook: Option<BaseHook>, rules: Vec<Rule>) -> Chain {
    Chain {
        name: name.to_owned(),
        hook,
        rules,
    }
}

fn hooks() -> impl Strategy<Value = BaseHook> {
    (
        select(vec![ChainKind::Filter, ChainKind::Nat, ChainKind::Route]),
        select(vec![
            Hook::Forward,
            Hook::Input,
            Hook::Output,
            Hook::Postrouting,
            Hook::Prerouting,
        ]),
        any::<i32>(),
        select(vec![Policy::Accept, Policy::Drop]),
    )
        .prop_map(|(kind, hook, priority, policy)| BaseHook {
            kind,
            hook,
            priority,
            policy,
        })
}

fn rules() -> impl Strategy<Value = Rule> {
    (vec(exprs(), 0..5), option::of("[a-z ]{1,30}"))
        .prop_map(|(exprs, comment)| Rule { exprs, comment })
}

fn exprs() -> impl Strategy<Value = Expr> {
    let names = "[a-z0-9]{1,14}\\*?".prop_map(|name| name.parse().expect("such names can be"));
    let ports = (any::<u16>(), any::<u16>()).prop_map(|(a, b)| a.min(b)..=a.max(b));
    let transports = select(vec![Transport::Tcp, Transport::Udp]);
    prop_oneof![
        select(vec![
            Expr::Accept,
            Expr::Counter,
            Expr::CtState(CtState::ESTABLISHED.or(CtState::RELATED)),
            Expr::DestinationIn("s".to_owned()),
            Expr::DestinationLocal,
            Expr::DestinationNotIn("s".to_owned()),
            Expr::DestinationNotLocal,
            Expr::DestinationPortIn("p".to_owned()),
            Expr::Drop,
            Expr::Goto("b".to_owned()),
            Expr::Jump("b".to_owned()),
            Expr::Notrack,
            Expr::Return,
            Expr::SourceIn("s".to_owned()),
            Expr::SourceNotIn("s".to_owned()),
        ]),
        ipv4_prefixes().prop_map(Expr::Source),
        ipv4_prefixes().prop_map(Expr::SourceNot),
        ipv4_prefixes().prop_map(Expr::Destination),
        ipv4_prefixes().prop_map(Expr::DestinationNot),
        names.prop_map(Expr::InterfaceIn),
        (transports.clone(), ports.clone()).prop_map(|(t, ports)| Expr::SourcePort(t, ports)),
        (transports, ports).prop_map(|(t, ports)| Expr::DestinationPort(t, ports)),
        any::<(u32, u32)>().prop_map(|(value, mask)| Expr::Mark { value, mask }),
        any::<(u32, u32)>().prop_map(|(value, mask)| Expr::MarkNot { value, mask }),
        any::<(u32, u32)>().prop_map(|(value, mask)| Expr::SetMark { value, mask }),
        (0..1_u32 << 24).prop_map(Expr::Vxlan),
        any::<u8>().prop_map(|number| Expr::Protocol(Protocol(number))),
        any::<u8>().prop_map(|number| Expr::ProtocolNot(Protocol(number))),
        any::<(bool, bool)>().prop_map(|(random, fully_random)| {
            Expr::Masquerade(Masquerade {
                random,
                fully_random,
            })
        }),
    ]
}

pub(super) fn ipv4_prefixes() -> impl Strategy<Value = IpNetwork> {
    (any::<u32>(), 0..=32_u8).prop_map(|(bits, length)| {
        let address = IpAddr::V4(Ipv4Addr::from_bits(bits));
        IpNetwork::new(address, length).expect("at most 32 bits")
    })
}

pub(super) fn ipv6_prefixes() -> impl Strategy<Value = IpNetwork> {
    (any::<u128>(), 0..=128_u8).prop_map(|(bits, length)| {
        let address = IpAddr::V6(Ipv6Addr::from_bits(bits));
        IpNetwork::new(address, length).expect("at most 128 bits")
    })
}
