//! Each expression, as we encode it and as `nft` does.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Result, ensure};
use hostnet::nft::{
    BaseHook, Chain, ChainKind, CtState, Expr, Family, Hook, InterfacePattern, Masquerade,
    Nftables, Policy, Protocol, Rule, Set, SetKind, Table, Transport, priority,
};
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use crate::program::{
    chain, expect_in_place, expect_same_as_nft, filter, listing, nft, rule_each, source_nat, table,
};

pub(crate) fn every_expression_is_that_of_nft() -> Result<()> {
    for family in [Family::Ip, Family::Ip6, Family::Inet] {
        let mut exprs = anywhere()?;
        if family != Family::Ip6 {
            exprs.extend(on_addresses("10.1.2.0/24", "172.16.0.0/12", "v4")?);
        }
        if family != Family::Ip {
            exprs.extend(on_addresses("fd00:1::/48", "fe80::/10", "v6")?);
        }
        let table = Table {
            comment: Some("every expression".to_owned()),
            sets: sets_for(family)?,
            ..table(
                family,
                "t",
                vec![
                    chain("a", vec![]),
                    filter("b", Hook::Forward, rule_each(exprs)),
                    raw("c", rule_each([Expr::Notrack])),
                    source_nat("d", rule_each(masquerades())),
                ],
            )
        };
        expect_same_as_nft(&table)?;
    }
    Ok(())
}

pub(crate) fn frames_are_looked_at_as_by_nft() -> Result<()> {
    let station = Expr::EtherSourceNot("0a:58:0a:f4:01:05".parse()?);
    let port: InterfacePattern = "veth0".parse()?;
    let rules = vec![
        Rule::new([station.clone()]),
        Rule::new([
            Expr::InterfaceIn(port),
            station.clone(),
            Expr::Counter,
            Expr::Drop,
        ]),
    ];
    expect_same_as_nft(&table(
        Family::Bridge,
        "t",
        vec![filter("c", Hook::Prerouting, rules)],
    ))?;
    let elsewhere = table(Family::Inet, "t", vec![chain("c", rule_each([station]))]);
    ensure!(elsewhere.compile().is_err(), "{elsewhere}");
    Ok(())
}

/// A packet has to pass all of a rule's matches, so rules are mostly longer than one; and a comment shows at each.
pub(crate) fn sets_are_those_of_nft() -> Result<()> {
    let set = |name: &str, kind, prefixes: &[&str]| -> Result<Set> {
        let prefixes = prefixes.iter().map(|text| text.parse());
        Ok(Set {
            name: name.to_owned(),
            kind,
            prefixes: prefixes.collect::<Result<_, _>>()?,
        })
    };
    let rules = vec![
        Rule::new([
            Expr::SourceIn("nets".to_owned()),
            Expr::DestinationNotIn("top".to_owned()),
            Expr::DestinationPort(Transport::Udp, 1..=1023),
            Expr::Counter,
            Expr::Accept,
        ])
        .with_comment("the first"),
        Rule::new([
            Expr::DestinationIn("nets6".to_owned()),
            Expr::CtState(CtState::NEW),
            Expr::Drop,
        ])
        .with_comment("the second"),
    ];
    let table = Table {
        sets: vec![
            set(
                "nets",
                SetKind::Ipv4,
                &["10.0.0.0/24", "10.0.2.0/24", "192.0.2.7/32"],
            )?,
            set(
                "nets6",
                SetKind::Ipv6,
                &["fd00::/64", "fd00:0:0:7::/64", "::/128"],
            )?,
            set("nothing", SetKind::Ipv4, &[])?,
            set("top", SetKind::Ipv4, &["0.0.0.0/8", "255.255.255.0/24"])?,
            set("whole", SetKind::Ipv4, &["0.0.0.0/0"])?,
        ],
        ..table(Family::Inet, "t", vec![chain("c", rules)])
    };
    expect_same_as_nft(&table)?;

    let mut nftables = Nftables::open()?;
    nftables.replace(std::slice::from_ref(&table))?;
    let text = listing(&table)?;
    for part in [
        "elements = { 10.0.0.0/24, 10.0.2.0/24,",
        "comment \"the first\"",
        "comment \"the second\"",
    ] {
        ensure!(text.contains(part), "no {part} in\n{text}");
    }
    // `nft` keeps ranges that touch apart; what they cover is the same.
    nft("add element inet t nets { 10.0.1.0/25, 10.0.1.128/25 }")?;
    let mut larger = table;
    larger.sets[0].prefixes = ["10.0.0.0/23", "10.0.2.0/24", "192.0.2.7/32"]
        .iter()
        .map(|text| text.parse())
        .collect::<Result<_, _>>()?;
    expect_in_place(&mut nftables, &larger)
}

pub(crate) fn all_prefix_lengths_are_those_of_nft() -> Result<()> {
    let address = Ipv4Addr::new(203, 0, 113, 85);
    let v4 = (0..=32).map(|length| Ipv4Network::new(address, length).map(IpNetwork::V4));
    let address = Ipv6Addr::new(
        0x2001, 0xdb8, 0xaaaa, 0x5555, 0xa5a5, 0x5a5a, 0xffff, 0x0001,
    );
    let v6 = (0..=128).map(|length| Ipv6Network::new(address, length).map(IpNetwork::V6));
    let rules = v4
        .chain(v6)
        .map(|prefix| {
            let prefix = prefix?;
            Ok([
                Rule::new([Expr::Source(prefix), Expr::Accept]),
                Rule::new([Expr::DestinationNot(prefix), Expr::Drop]),
            ])
        })
        .collect::<Result<Vec<_>>>()?;
    let rules = rules.into_iter().flatten().collect();
    expect_same_as_nft(&table(Family::Inet, "t", vec![chain("c", rules)]))
}

/// Expressions that any chain may have.
fn anywhere() -> Result<Vec<Expr>> {
    let interface = |text: &str| text.parse::<InterfacePattern>();
    let bit = 0x4000;
    Ok(vec![
        Expr::Accept,
        Expr::Counter,
        Expr::CtState(CtState::ESTABLISHED.or(CtState::RELATED)),
        Expr::CtState(CtState::INVALID),
        Expr::CtState(CtState::NEW.or(CtState::UNTRACKED)),
        Expr::DestinationLocal,
        Expr::DestinationNotLocal,
        Expr::DestinationPort(Transport::Tcp, 30_000..=32_767),
        Expr::DestinationPort(Transport::Udp, 8472..=8472),
        Expr::Drop,
        Expr::Goto("a".to_owned()),
        Expr::InterfaceIn(interface("eth0")?),
        Expr::InterfaceIn(interface("fifteen-letters")?),
        Expr::InterfaceInNot(interface("veth*")?),
        Expr::InterfaceOut(interface("fourteen-chars*")?),
        Expr::InterfaceOutNot(interface("cni0")?),
        Expr::Jump("a".to_owned()),
        Expr::Mark {
            value: bit,
            mask: bit,
        },
        Expr::Mark {
            value: 0x1234,
            mask: u32::MAX,
        },
        Expr::MarkNot {
            value: 0,
            mask: 0xff,
        },
        Expr::MarkNot {
            value: 7,
            mask: u32::MAX,
        },
        Expr::Protocol(Protocol::TCP),
        Expr::Protocol(Protocol(132)),
        Expr::ProtocolNot(Protocol::UDP),
        Expr::Return,
        Expr::SetMark {
            value: 7,
            mask: u32::MAX,
        },
        Expr::SetMark {
            value: bit,
            mask: bit,
        },
        Expr::SetMark {
            value: 0,
            mask: bit,
        },
        Expr::SetMark {
            value: 0x12,
            mask: 0xff,
        },
        Expr::SourcePort(Transport::Udp, 53..=53),
        Expr::SourcePort(Transport::Tcp, 0..=65_535),
    ])
}

/// Expressions on addresses of one family.
fn on_addresses(bytes: &str, bits: &str, set: &str) -> Result<Vec<Expr>> {
    let (bytes, bits): (IpNetwork, IpNetwork) = (bytes.parse()?, bits.parse()?);
    Ok(vec![
        Expr::Source(bytes),
        Expr::Source(bits),
        Expr::SourceNot(bytes),
        Expr::SourceNot(bits),
        Expr::Destination(bytes),
        Expr::Destination(bits),
        Expr::DestinationNot(bytes),
        Expr::DestinationNot(bits),
        Expr::SourceIn(set.to_owned()),
        Expr::SourceNotIn(set.to_owned()),
        Expr::DestinationIn(set.to_owned()),
        Expr::DestinationNotIn(set.to_owned()),
    ])
}

fn masquerades() -> impl Iterator<Item = Expr> {
    let ways = [(false, false), (false, true), (true, false), (true, true)];
    ways.into_iter().map(|(random, fully_random)| {
        Expr::Masquerade(Masquerade {
            random,
            fully_random,
        })
    })
}

fn sets_for(family: Family) -> Result<Vec<Set>> {
    let v4 = Set {
        name: "v4".to_owned(),
        kind: SetKind::Ipv4,
        prefixes: vec!["224.0.0.0/4".parse()?],
    };
    let v6 = Set {
        name: "v6".to_owned(),
        kind: SetKind::Ipv6,
        prefixes: vec!["ff00::/8".parse()?],
    };
    Ok(match family {
        Family::Inet => vec![v4, v6],
        Family::Ip => vec![v4],
        Family::Ip6 => vec![v6],
        Family::Bridge => Vec::new(),
    })
}

fn raw(name: &str, rules: Vec<Rule>) -> Chain {
    let hook = BaseHook {
        kind: ChainKind::Filter,
        hook: Hook::Prerouting,
        priority: priority::RAW,
        policy: Policy::Drop,
    };
    Chain {
        hook: Some(hook),
        ..chain(name, rules)
    }
}
