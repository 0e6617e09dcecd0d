use std::net::{IpAddr, Ipv4Addr};

use hostnet::nft::{Chain, Expr, Rule, Table};
use ipam::{Ipv4Cidr, Ipv6Cidr, PerFamily, Subnets};
use proptest::prelude::*;

use super::{Firewall, OWNED, Tunnels, tables};

const ALL: Firewall = Firewall {
    masquerade: true,
    fully_random: true,
    forward_accept: true,
    untracked: Some(Tunnels { port: 8472, vni: 1 }),
};

fn both() -> (Subnets, Subnets) {
    let v4 = |text: &str| text.parse::<Ipv4Cidr>().expect("a network");
    let v6 = |text: &str| text.parse::<Ipv6Cidr>().expect("a network");
    (
        PerFamily::both(v4("10.244.0.0/16"), v6("fd00:10:244::/56")),
        PerFamily::both(v4("10.244.3.0/24"), v6("fd00:10:244:3::/64")),
    )
}

fn text(tables: &[Table]) -> String {
    tables.iter().map(ToString::to_string).collect()
}

#[test]
fn both_families_with_everything() {
    let (networks, own) = both();
    let tables = tables(&networks, &own, &ALL);
    assert_eq!(text(&tables), include_str!("tests/both-families.nft"));
    let names: Vec<_> = tables
        .iter()
        .map(|table| (table.family, table.name.as_str()))
        .collect();
    assert_eq!(names, OWNED);
    for table in &tables {
        table.compile().expect("it compiles");
    }
}

#[test]
fn the_switches_leave_out_what_they_say() {
    let (networks, own) = both();
    let chains = |firewall: Firewall| -> Vec<Vec<String>> {
        let names = |table: Table| table.chains.into_iter().map(|chain| chain.name).collect();
        tables(&networks, &own, &firewall)
            .into_iter()
            .map(names)
            .collect()
    };
    let no_masquerade = Firewall {
        masquerade: false,
        untracked: None,
        ..ALL
    };
    assert_eq!(chains(no_masquerade), [["forward"], ["forward"]]);
    let no_forward = Firewall {
        forward_accept: false,
        untracked: None,
        ..ALL
    };
    assert_eq!(chains(no_forward), [["postrtg"], ["postrtg"]]);
    let nothing = Firewall {
        forward_accept: false,
        ..no_masquerade
    };
    assert_eq!(tables(&networks, &own, &nothing), []);
    let no_tracking = Firewall {
        untracked: Some(Tunnels { port: 4789, vni: 7 }),
        ..nothing
    };
    assert_eq!(chains(no_tracking), [["rawout", "rawpre"]; 2]);
}

#[test]
fn ports_are_random_unless_switched_off() {
    let (networks, own) = both();
    let plain = Firewall {
        fully_random: false,
        ..ALL
    };
    let plain = text(&tables(&networks, &own, &plain));
    assert!(plain.contains("masquerade comment"), "{plain}");
    assert!(!plain.contains("fully-random"), "{plain}");
    let random = text(&tables(&networks, &own, &ALL));
    assert_eq!(random.replace(" fully-random", ""), plain);
}

#[test]
fn a_family_without_network_or_subnet_has_no_table() {
    let (networks, own) = both();
    let ipv4 = PerFamily { v6: None, ..own };
    let ipv6 = PerFamily {
        v4: None,
        ..networks
    };
    let families = |tables: Vec<Table>| -> Vec<String> {
        tables
            .into_iter()
            .map(|table| table.family.to_string())
            .collect()
    };
    assert_eq!(families(tables(&networks, &ipv4, &ALL)), ["ip"]);
    assert_eq!(families(tables(&ipv6, &own, &ALL)), ["ip6"]);
    assert_eq!(families(tables(&ipv6, &ipv4, &ALL)), [""; 0]);
}

/// A packet as far as the rules look at it.
#[derive(Clone, Copy, Debug)]
struct Packet {
    source: IpAddr,
    destination: IpAddr,
    mark: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Accepted,
    Masqueraded,
    Untouched,
}

/// What a chain does with a packet, by the meaning of the expressions in it.
fn fate(chain: &Chain, packet: Packet) -> Fate {
    chain
        .rules
        .iter()
        .find_map(|rule| verdict(rule, packet))
        .unwrap_or(Fate::Untouched)
}

fn verdict(rule: &Rule, packet: Packet) -> Option<Fate> {
    for expr in &rule.exprs {
        let goes_on = match expr {
            Expr::Accept => return Some(Fate::Accepted),
            Expr::Masquerade(_) => return Some(Fate::Masqueraded),
            Expr::Return => return Some(Fate::Untouched),
            Expr::Destination(prefix) => prefix.contains(packet.destination),
            Expr::DestinationNot(prefix) => !prefix.contains(packet.destination),
            Expr::Mark { value, mask } => packet.mark & mask == *value,
            Expr::Source(prefix) => prefix.contains(packet.source),
            Expr::SourceNot(prefix) => !prefix.contains(packet.source),
            other => panic!("the rules use {other:?}, and this test does not know it"),
        };
        if !goes_on {
            return None;
        }
    }
    None
}

/// A network, a subnet in it, and a packet whose addresses are likely to be in either.
fn cases() -> impl Strategy<Value = (Ipv4Cidr, Ipv4Cidr, Packet)> {
    (
        0..=28_u8,
        0..=8_u8,
        any::<u32>(),
        any::<[u32; 2]>(),
        any::<[u8; 2]>(),
        any::<u32>(),
    )
        .prop_map(|(length, longer, base, random, closeness, mark)| {
            let address = |bits| Ipv4Addr::from_bits(bits);
            let network = Ipv4Cidr::masked(address(base), length).expect("at most 32 bits");
            let subnet = Ipv4Cidr::masked(address(base), (length + longer).min(30))
                .expect("at most 32 bits");
            // Each address shares some bits at its beginning with the subnet's: none, some, or nearly all.
            let near = |random: u32, closeness: u8| {
                let shared = u32::from(closeness % 33);
                let mask = u32::MAX.checked_shr(shared).unwrap_or(0);
                address((base & !mask) | (random & mask)).into()
            };
            let packet = Packet {
                source: near(random[0], closeness[0]),
                destination: near(random[1], closeness[1]),
                mark,
            };
            (network, subnet, packet)
        })
}

fn chain(network: Ipv4Cidr, subnet: Ipv4Cidr, name: &str) -> Chain {
    let tables = tables(&PerFamily::v4(network), &PerFamily::v4(subnet), &ALL);
    let chains = tables.into_iter().flat_map(|table| table.chains);
    chains
        .into_iter()
        .find(|chain| chain.name == name)
        .expect("there is such a chain")
}

fn contains(range: Ipv4Cidr, address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if range.contains(address))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// The masquerading that users of flannel know, said without rules.
    #[test]
    fn who_is_masqueraded((network, subnet, packet) in cases()) {
        let chain = chain(network, subnet, "postrtg");
        let from_pod = contains(network, packet.source);
        let from_our_pod = contains(subnet, packet.source);
        let to_pod = contains(network, packet.destination);
        let to_our_pod = contains(subnet, packet.destination);
        // Between pods never, as far as this node has a part in it.
        let pod_to_pod = (from_our_pod && to_pod) || (from_pod && to_our_pod);
        let out = from_pod && !packet.destination.is_multicast();
        let into_other_nodes = !from_pod && to_pod && !to_our_pod;
        let for_kube_proxy = packet.mark & 0x4000 != 0;
        let expected = if (out || into_other_nodes) && !pod_to_pod && !for_kube_proxy {
            Fate::Masqueraded
        } else {
            Fate::Untouched
        };
        prop_assert_eq!(fate(&chain, packet), expected);
    }

    #[test]
    fn pods_packets_are_forwarded((network, subnet, packet) in cases()) {
        let pods = contains(network, packet.source) || contains(network, packet.destination);
        let expected = if pods { Fate::Accepted } else { Fate::Untouched };
        prop_assert_eq!(fate(&chain(network, subnet, "forward"), packet), expected);
    }
}
