//! The tables that records make: one for each family, with the same chains, sets and maps however many pods there are.
//!
//! What is sent to an address of this host is looked up by address and port, then by port. Whoever would not get an answer
//! otherwise (the pod itself, its neighbours on a bridge, the host by a loopback address) is marked before that, and masqueraded at
//! the end by the mark; nobody else is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use hostnet::nft::{
    BaseHook, Chain, ChainKind, Entries, Expr, Family, Hook, Masquerade, Policy, Port, Ports,
    Protocol, Rule, Set, SetKind, Table, priority,
};
use ipam::host_ports::{Mapping, Masqueraded, PodAddress, PortRecord, TABLE, Transport};
use ipnetwork::IpNetwork;

/// The families, in the order of their tables.
pub(super) const FAMILIES: [Family; 2] = [Family::Ip, Family::Ip6];

// Names of sets and maps.
const BY_ADDRESS: &str = "by-address";
const BY_PORT: &str = "by-port";
const NEAR: &str = "near";
const MASQUERADED: &str = "masqueraded";
const MASQUERADED_FROM_NEAR: &str = "masqueraded-from-near";
const PODS: &str = "pods-masqueraded";

// Names of chains.
const HOST_PORTS: &str = "hostports";

/// The tables for these records, the oldest first; none for a family in which nothing leads anywhere.
pub(super) fn tables(records: &[&PortRecord]) -> Vec<Table> {
    let contents = FAMILIES.map(|family| Content::of(family, records));
    let filled = contents.into_iter().filter(|content| !content.is_empty());
    filled.map(Content::table).collect()
}

/// What of the tables for these records one of them needs.
pub(super) fn share(records: &[&PortRecord], of: &PortRecord) -> Vec<Table> {
    let shares = FAMILIES.map(|family| {
        let mut all = Content::of(family, records);
        let own = Content::of(family, &[of]);
        all.by_address
            .retain(|key, _| own.by_address.contains_key(key));
        all.by_port.retain(|key, _| own.by_port.contains_key(key));
        Content {
            by_address: all.by_address,
            by_port: all.by_port,
            mark_bit: all.mark_bit,
            ..own
        }
    });
    let filled = shares.into_iter().filter(|content| !content.is_empty());
    filled.map(Content::table).collect()
}

/// A table that leads nowhere.
pub(super) fn empty(family: Family) -> Table {
    Content::of(family, &[]).table()
}

/// Whether the two have the same rules, their places among others aside.
pub(super) fn is_same(one: &PortRecord, other: &PortRecord) -> bool {
    let rules = |record: &PortRecord| tables(&[record]);
    rules(one) == rules(other)
}

/// What the sets and maps of a table hold.
#[derive(Clone, Debug)]
struct Content {
    family: Family,
    by_address: BTreeMap<(IpAddr, Port), SocketAddr>,
    by_port: BTreeMap<Port, SocketAddr>,
    /// The ports at which everybody is masqueraded.
    all: BTreeSet<Port>,
    /// The ports at which those are who are near.
    from_near: BTreeSet<Port>,
    /// The prefixes of pods that are masqueraded for their neighbours.
    prefixes: BTreeSet<IpNetwork>,
    /// Pods for which everybody is masqueraded.
    pods: BTreeSet<IpNetwork>,
    /// The newest record's: any would do.
    mark_bit: u8,
}

impl Content {
    fn of(family: Family, records: &[&PortRecord]) -> Self {
        let mut content = Self {
            family,
            by_address: BTreeMap::new(),
            by_port: BTreeMap::new(),
            all: BTreeSet::new(),
            from_near: BTreeSet::new(),
            prefixes: BTreeSet::new(),
            pods: BTreeSet::new(),
            mark_bit: 0,
        };
        for record in records {
            let v4 = content.is_v4();
            let mut pods = record.addresses.iter();
            if let Some(pod) = pods.find(|pod| pod.address.is_ipv4() == v4) {
                content.add(record, *pod);
            }
        }
        content
    }

    fn is_v4(&self) -> bool {
        self.family == Family::Ip
    }

    fn is_empty(&self) -> bool {
        self.by_address.is_empty() && self.by_port.is_empty()
    }

    fn add(&mut self, record: &PortRecord, pod: PodAddress) {
        let v4 = self.is_v4();
        let fits = |mapping: &&Mapping| mapping.host_ip.is_none_or(|only| only.is_ipv4() == v4);
        let mut leads_there = false;
        for mapping in record.mappings.iter().filter(fits) {
            leads_there = true;
            let target = SocketAddr::new(pod.address, mapping.container_port);
            let port = Port {
                protocol: protocol(mapping.protocol),
                number: mapping.host_port,
            };
            // Of two that claim the same the later one has it.
            match mapping.host_ip.filter(|only| !only.is_unspecified()) {
                Some(only) => self.by_address.insert((only, port), target),
                None => self.by_port.insert(port, target),
            };
            match record.masqueraded {
                Masqueraded::All => self.all.insert(port),
                Masqueraded::Near => self.from_near.insert(port),
                Masqueraded::Nobody => false,
            };
        }
        if !leads_there {
            return;
        }
        self.mark_bit = record.mark_bit;
        match record.masqueraded {
            Masqueraded::All => self.pods.insert(pod.address.into()),
            // A prefix that cannot be is that of the pod alone.
            Masqueraded::Near => self.prefixes.insert(prefix_of(pod)),
            Masqueraded::Nobody => false,
        };
    }

    fn table(self) -> Table {
        let kind = if self.is_v4() {
            SetKind::Ipv4
        } else {
            SetKind::Ipv6
        };
        let near = self.prefixes.iter().copied().chain(self.loopback());
        let set = |name: &str, prefixes: Vec<IpNetwork>| Set {
            name: name.to_owned(),
            kind,
            prefixes,
        };
        let ports = |name: &str, entries| Ports {
            name: name.to_owned(),
            kind,
            entries,
        };
        let sets = vec![
            set(NEAR, near.collect()),
            set(PODS, self.pods.iter().copied().collect()),
        ];
        let chains = self.chains();
        Table {
            family: self.family,
            name: TABLE.to_owned(),
            comment: Some("ports of this host that lead to pods".to_owned()),
            sets,
            ports: vec![
                ports(BY_ADDRESS, Entries::TargetsByAddress(self.by_address)),
                ports(BY_PORT, Entries::Targets(self.by_port)),
                ports(MASQUERADED, Entries::Set(self.all)),
                ports(MASQUERADED_FROM_NEAR, Entries::Set(self.from_near)),
            ],
            chains,
        }
    }

    fn chains(&self) -> Vec<Chain> {
        let chain = |name: &str, hook, rules| Chain {
            name: name.to_owned(),
            hook,
            rules,
        };
        let mark = Expr::SetMark {
            value: self.mark(),
            mask: self.mark(),
        };
        let in_set = |name: &str| Expr::DestinationPortIn(name.to_owned());
        let enter = || {
            vec![Rule::new([
                Expr::DestinationLocal,
                Expr::Jump(HOST_PORTS.to_owned()),
            ])]
        };
        let mut chains = vec![
            chain(
                HOST_PORTS,
                None,
                vec![
                    Rule::new([
                        Expr::SourceIn(NEAR.to_owned()),
                        in_set(MASQUERADED_FROM_NEAR),
                        mark.clone(),
                    ]),
                    Rule::new([in_set(MASQUERADED), mark]),
                    Rule::new([Expr::Dnat(BY_ADDRESS.to_owned())]),
                    Rule::new([Expr::Dnat(BY_PORT.to_owned())]),
                ],
            ),
            chain("output", nat(Hook::Output), enter()),
            chain("postrouting", nat(Hook::Postrouting), self.masquerading()),
            chain("prerouting", nat(Hook::Prerouting), enter()),
        ];
        let strangers = self.loopback().map(strangers);
        chains.extend(strangers.map(|rules| chain("strangers", Some(RAW), rules)));
        chains
    }

    fn mark(&self) -> u32 {
        1 << self.mark_bit
    }

    fn masquerading(&self) -> Vec<Rule> {
        let marked = Expr::Mark {
            value: self.mark(),
            mask: self.mark(),
        };
        let masquerade = Expr::Masquerade(Masquerade::default());
        let rule = |matches: Vec<Expr>| {
            let marked = [marked.clone()].into_iter();
            Rule::new(marked.chain(matches).chain([masquerade.clone()]))
        };
        let neighbours = self
            .prefixes
            .iter()
            .map(|prefix| rule(vec![Expr::Source(*prefix), Expr::Destination(*prefix)]));
        let loopback = self.loopback().map(|own| rule(vec![Expr::Source(own)]));
        let pods = rule(vec![Expr::DestinationIn(PODS.to_owned())]);
        neighbours.chain(loopback).chain([pods]).collect()
    }

    /// The host's loopback addresses, from which the kernel reaches pods over IPv4 only.
    fn loopback(&self) -> Option<IpNetwork> {
        let range = IpNetwork::new(IpAddr::from([127, 0, 0, 0]), 8).ok();
        range.filter(|_| self.is_v4())
    }
}

/// On a link that lets loopback addresses through, whoever is on it could reach what listens on 127.0.0.1 of this host. Answers
/// to what the host has sent are to an address of the host here still.
fn strangers(loopback: IpNetwork) -> Vec<Rule> {
    let lo = "lo".parse().map(Expr::InterfaceInNot);
    let matches = lo.map(|elsewhere| [elsewhere, Expr::Destination(loopback), Expr::Drop]);
    matches.map(Rule::new).into_iter().collect()
}

fn prefix_of(pod: PodAddress) -> IpNetwork {
    let given = IpNetwork::new(pod.address, pod.prefix);
    let whole = given.and_then(|given| IpNetwork::new(given.network(), given.prefix()));
    whole.unwrap_or(pod.address.into())
}

const fn protocol(transport: Transport) -> Protocol {
    match transport {
        Transport::Sctp => Protocol::SCTP,
        Transport::Tcp => Protocol::TCP,
        Transport::Udp => Protocol::UDP,
    }
}

/// Before connection tracking.
const RAW: BaseHook = BaseHook {
    kind: ChainKind::Filter,
    hook: Hook::Prerouting,
    priority: priority::RAW,
    policy: Policy::Accept,
};

/// Where the reference plugin and kube-proxy translate too.
const fn nat(hook: Hook) -> Option<BaseHook> {
    let priority = match hook {
        Hook::Postrouting => priority::SRCNAT,
        _ => priority::DSTNAT,
    };
    Some(BaseHook {
        kind: ChainKind::Nat,
        hook,
        priority,
        policy: Policy::Accept,
    })
}

#[cfg(test)]
mod tests;
