//! The firewall rules of a node as data: which packets are masqueraded, accepted for forwarding, and not tracked.
//!
//! Pure functions but for [`mode`] and [`removal`], which ask the kernel; writing and comparing the tables is [`hostnet::nft`]'s. The
//! tables have the names of flannel's nftables mode, on purpose: whichever of the two programs starts next on a node replaces the
//! other's rules. The same rules for iptables' tables are in [`crate::iptables`].

pub mod mode;
pub mod removal;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use hostnet::AddressFamily;
use hostnet::nft::{
    BaseHook, Chain, ChainKind, Expr, Family, Hook, Masquerade, Policy, Rule, Table, Transport,
    priority,
};
use ipam::Subnets;
use ipnetwork::IpNetwork;

/// The tables this daemon owns, whether or not it wants them at the moment.
///
/// Those among them that [`tables`] does not give are to be deleted.
pub const OWNED: [(Family, &str); 2] =
    [(Family::Ip, "flannel-ipv4"), (Family::Ip6, "flannel-ipv6")];

/// Which rules are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Firewall {
    /// Pods reach the world outside the pod network under the node's address (`--ip-masq`).
    pub masquerade: bool,
    /// Masqueraded connections get random source ports (unless `--ip-masq-fully-random-disable`).
    pub fully_random: bool,
    /// Packets from and to the pod network are accepted for forwarding (unless `--iptables-forward-rules=false`).
    pub forward_accept: bool,
    /// The tunnels whose outer packets need no connection tracking: each of them would be looked up in the table of
    /// connections, and each peer take room in it, for nothing.
    pub untracked: Option<Tunnels>,
}

/// What the outer packets of VXLAN tunnels are known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnels {
    /// The UDP port that they go to.
    pub port: u16,
    /// The identifier of the network.
    pub vni: u32,
}

/// The ranges of one address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranges {
    /// All pods of the cluster.
    pub network: IpNetwork,
    /// The pods of this node.
    pub subnet: IpNetwork,
}

/// The ranges of each family that has both.
pub fn ranges(networks: &Subnets, own: &Subnets) -> BTreeMap<AddressFamily, Ranges> {
    let ipv4 = networks.v4.zip(own.v4).map(|(network, subnet)| Ranges {
        network: network.into(),
        subnet: subnet.into(),
    });
    let ipv6 = networks.v6.zip(own.v6).map(|(network, subnet)| Ranges {
        network: network.into(),
        subnet: subnet.into(),
    });
    let ipv4 = ipv4.map(|ranges| (AddressFamily::Ipv4, ranges));
    ipv4.into_iter()
        .chain(ipv6.map(|ranges| (AddressFamily::Ipv6, ranges)))
        .collect()
}

/// The tables wanted: one for each address family that has rules.
///
/// `networks` are the pod networks of the whole cluster, `own` the parts of them that belong to the pods of this node. A
/// family that has not both has no table.
#[must_use]
pub fn tables(networks: &Subnets, own: &Subnets, firewall: &Firewall) -> Vec<Table> {
    let ranges = ranges(networks, own);
    OWNED
        .into_iter()
        .filter_map(|(family, name)| Some((family, name, *ranges.get(&address_family(family))?)))
        .map(|(family, name, ranges)| Table {
            family,
            name: name.to_owned(),
            comment: Some(format!("rules for {name}")),
            sets: Vec::new(),
            ports: Vec::new(),
            chains: chains(ranges, firewall),
        })
        .filter(|table| !table.chains.is_empty())
        .collect()
}

fn chains(ranges: Ranges, firewall: &Firewall) -> Vec<Chain> {
    let forward = firewall.forward_accept.then(|| forward(ranges.network));
    let postrouting = firewall
        .masquerade
        .then(|| postrouting(ranges, firewall.fully_random));
    let untracked = firewall.untracked.map(untracked).into_iter().flatten();
    forward
        .into_iter()
        .chain(postrouting)
        .chain(untracked)
        .collect()
}

const fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::Bridge | Family::Ip | Family::Inet => AddressFamily::Ipv4,
        Family::Ip6 => AddressFamily::Ipv6,
    }
}

/// Exempts the outer packets of tunnels from connection tracking, both ways.
///
/// Of what arrives only that for this host itself: what it forwards may need its connection, be it to a tunnel in a pod. And only what
/// is a packet of our network: masquerading gives the tunnels' port to other connections too, as it does every port, and without
/// tracking their answers would not find back.
fn untracked(tunnels: Tunnels) -> [Chain; 2] {
    let chain = |name: &str, hook, exprs: Vec<Expr>| Chain {
        name: name.to_owned(),
        hook: Some(BaseHook {
            kind: ChainKind::Filter,
            hook,
            priority: priority::RAW,
            policy: Policy::Accept,
        }),
        rules: vec![Rule::new(exprs).with_comment("outer packets of tunnels")],
    };
    let Tunnels { port, vni } = tunnels;
    let to = Expr::DestinationPort(Transport::Udp, port..=port);
    let (local, network) = (Expr::DestinationLocal, Expr::Vxlan(vni));
    let sent = vec![to.clone(), network.clone(), Expr::Notrack];
    let received = vec![to, network, local, Expr::Notrack];
    [
        chain("rawout", Hook::Output, sent),
        chain("rawpre", Hook::Prerouting, received),
    ]
}

/// Lets pods' packets through a host that forwards nothing by default.
///
/// An accept here ends this chain alone: a drop in another table, or in iptables' FORWARD chain, still wins.
fn forward(network: IpNetwork) -> Chain {
    Chain {
        name: "forward".to_owned(),
        hook: Some(BaseHook {
            kind: ChainKind::Filter,
            hook: Hook::Forward,
            priority: priority::FILTER,
            policy: Policy::Accept,
        }),
        rules: vec![
            Rule::new([Expr::Source(network), Expr::Accept]).with_comment("from pods"),
            Rule::new([Expr::Destination(network), Expr::Accept]).with_comment("to pods"),
        ],
    }
}

/// The rules of flannel's iptables mode, in its order.
///
/// Its nftables mode compares the whole mark where kube-proxy owns one bit of it, and in the fourth rule has the network
/// in place of the subnet, so that its sixth can never match; both are meant as here.
fn postrouting(ranges: Ranges, fully_random: bool) -> Chain {
    let Ranges { network, subnet } = ranges;
    let masquerade = Expr::Masquerade(Masquerade {
        random: false,
        fully_random,
    });
    let marked = Expr::Mark {
        value: KUBE_PROXY_MARK,
        mask: KUBE_PROXY_MARK,
    };
    Chain {
        name: "postrtg".to_owned(),
        hook: Some(BaseHook {
            kind: ChainKind::Nat,
            hook: Hook::Postrouting,
            priority: priority::SRCNAT,
            policy: Policy::Accept,
        }),
        rules: vec![
            Rule::new([marked, Expr::Return]).with_comment("left to kube-proxy"),
            Rule::new([
                Expr::Source(subnet),
                Expr::Destination(network),
                Expr::Return,
            ])
            .with_comment("our pods to pods"),
            Rule::new([
                Expr::Source(network),
                Expr::Destination(subnet),
                Expr::Return,
            ])
            .with_comment("pods to our pods"),
            Rule::new([
                Expr::SourceNot(network),
                Expr::Destination(subnet),
                Expr::Return,
            ])
            .with_comment("clients outside keep their address towards our pods"),
            Rule::new([
                Expr::Source(network),
                Expr::DestinationNot(multicast(&network)),
                masquerade.clone(),
            ])
            .with_comment("pods to the world"),
            Rule::new([
                Expr::SourceNot(network),
                Expr::Destination(network),
                masquerade,
            ])
            .with_comment("clients outside to pods of other nodes"),
        ],
    }
}

/// All multicast addresses of the family (RFC 5771, RFC 4291 section 2.7).
pub(crate) fn multicast(network: &IpNetwork) -> IpNetwork {
    let (address, length) = match network {
        IpNetwork::V4(_) => (Ipv4Addr::new(224, 0, 0, 0).into(), 4),
        IpNetwork::V6(_) => (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0).into(), 8),
    };
    IpNetwork::new(address, length).unwrap_or(*network)
}

/// kube-proxy sets this bit on packets that it masquerades itself (`--iptables-masquerade-bit`, 14 by default).
const KUBE_PROXY_MARK: u32 = 0x4000;

#[cfg(test)]
mod tests;
