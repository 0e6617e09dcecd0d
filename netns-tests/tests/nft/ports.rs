//! Sets and maps of ports: the same for the kernel and for `nft` as what `nft` makes of their text.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use hostnet::nft::{
    BaseHook, Chain, ChainKind, Entries, Expr, Family, Hook, Nftables, Policy, Port, Ports,
    Protocol, Rule, SetKind, Table, priority,
};

use crate::program::{chain, expect_in_place, expect_same_as_nft, listing, nft, table};

fn port(protocol: Protocol, number: u16) -> Port {
    Port { protocol, number }
}

/// Targets of many ports, in a table that translates by them.
fn translating(family: Family, own: IpAddr, to: IpAddr, many: u16) -> Table {
    let kind = match family {
        Family::Ip => SetKind::Ipv4,
        _ => SetKind::Ipv6,
    };
    let protocols = [Protocol::SCTP, Protocol::TCP, Protocol::UDP];
    let targets: BTreeMap<_, _> = protocols
        .into_iter()
        .flat_map(|protocol| (1..=many).map(move |number| port(protocol, number)))
        .map(|port| (port, SocketAddr::new(to, port.number + 8000)))
        .collect();
    let by_address = targets.iter().map(|(port, to)| ((own, *port), *to));
    let ports = [
        ("a", Entries::TargetsByAddress(by_address.collect())),
        ("b", Entries::Targets(targets.clone())),
        ("c", Entries::Set(targets.into_keys().collect())),
        ("d", Entries::Set([].into())),
    ];
    let rules = vec![
        Rule::new([
            Expr::DestinationPortIn("c".to_owned()),
            Expr::SetMark {
                value: 0x2000,
                mask: 0x2000,
            },
        ]),
        Rule::new([Expr::Dnat("a".to_owned())]),
        Rule::new([Expr::Counter, Expr::Dnat("b".to_owned())]),
    ];
    let hook = BaseHook {
        kind: ChainKind::Nat,
        hook: Hook::Prerouting,
        priority: priority::DSTNAT,
        policy: Policy::Accept,
    };
    let chain = Chain {
        hook: Some(hook),
        ..chain("c", rules)
    };
    Table {
        ports: ports
            .map(|(name, entries)| Ports {
                name: name.to_owned(),
                kind,
                entries,
            })
            .into(),
        ..table(family, "t", vec![chain])
    }
}

pub(crate) fn maps_of_ports_are_those_of_nft() -> Result<()> {
    let v4 = ("192.0.2.1".parse()?, "10.244.1.5".parse()?);
    let v6 = ("2001:db8::1".parse()?, "fd00::5".parse()?);
    for (family, (own, to)) in [(Family::Ip, v4), (Family::Ip6, v6)] {
        for many in [0, 1, 2] {
            expect_same_as_nft(&translating(family, own, to, many))?;
        }
    }
    Ok(())
}

pub(crate) fn a_changed_map_is_found_and_put_right() -> Result<()> {
    let (own, to) = ("192.0.2.1".parse()?, "10.244.1.5".parse()?);
    let few = translating(Family::Ip, own, to, 2);
    let mut nftables = Nftables::open()?;
    nftables.replace(std::slice::from_ref(&few))?;
    for meddling in [
        "delete element ip t b { tcp . 1 }",
        "add element ip t b { tcp . 3 : 10.244.1.5 . 8003 }",
        "delete element ip t b { tcp . 1 }\nadd element ip t b { tcp . 1 : 10.244.1.6 . 8001 }",
        "flush map ip t a",
        "add element ip t d { udp . 53 }",
    ] {
        nft(meddling)?;
        ensure!(
            expect_in_place(&mut nftables, &few).is_err(),
            "not noticed: {meddling}"
        );
        nftables.replace(std::slice::from_ref(&few))?;
        expect_in_place(&mut nftables, &few)?;
    }
    // Some thousand do not fit one message, nor their listing one answer.
    for family in [Family::Ip, Family::Ip6] {
        let (own, to) = match family {
            Family::Ip => (own, to),
            _ => ("2001:db8::1".parse()?, "fd00::5".parse()?),
        };
        let many = translating(family, own, to, 1500);
        nftables.replace(std::slice::from_ref(&many))?;
        expect_in_place(&mut nftables, &many)?;
        let text = listing(&many)?;
        ensure!(text.contains("sctp . 1500 : "), "the last is missing");
    }
    Ok(())
}
