//! What our firewall rules do with a packet: which of the rule sets that Loden writes the kernel holds, and that one gone through.

use std::net::IpAddr;

use hostnet::nft::{CompiledTable, Expr, Family, Hook, Table};
use ipam::Subnets;

use crate::firewall::{Firewall, Tunnels, tables};

/// What a chain decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// A rule accepts it.
    Accepted,
    /// A rule drops it.
    Dropped,
    /// A rule masquerades it.
    Masqueraded,
    /// No rule decides.
    Undecided,
}

/// The rules of this family that the kernel holds, if they are ones that Loden writes.
pub(super) fn recognise(
    networks: &Subnets,
    own: &Subnets,
    tunnels: Option<Tunnels>,
    family: Family,
    observed: &CompiledTable,
) -> Option<Table> {
    let both = [true, false];
    for masquerade in both {
        for fully_random in both {
            for forward_accept in both {
                for untracked in [tunnels, None] {
                    let firewall = Firewall {
                        masquerade,
                        fully_random,
                        forward_accept,
                        untracked,
                    };
                    let tables = tables(networks, own, &firewall).into_iter();
                    let same = |table: &Table| {
                        let compiled = table.compile();
                        compiled.is_ok_and(|compiled| compiled.drift(Some(observed)).is_empty())
                    };
                    let mut tables = tables.filter(|table| table.family == family);
                    if let Some(table) = tables.find(same) {
                        return Some(table);
                    }
                }
            }
        }
    }
    None
}

/// What the rules of a table decide at a hook on a packet that carries no mark.
pub(super) fn fate(table: &Table, hook: Hook, from: IpAddr, to: IpAddr) -> Fate {
    let chains = table.chains.iter();
    let mut chains = chains.filter(|chain| chain.hook.as_ref().is_some_and(|at| at.hook == hook));
    let Some(chain) = chains.next() else {
        return Fate::Undecided;
    };
    for rule in &chain.rules {
        for expr in &rule.exprs {
            match judge(expr, from, to) {
                Judgement::Fits => {}
                Judgement::Differs => break,
                Judgement::Ends(fate) => return fate,
            }
        }
    }
    Fate::Undecided
}

enum Judgement {
    /// The rule goes on.
    Fits,
    /// The rule is not about this packet.
    Differs,
    /// It is decided.
    Ends(Fate),
}

/// Only what our own rules for forwarded packets are made of; nothing else fits.
fn judge(expr: &Expr, from: IpAddr, to: IpAddr) -> Judgement {
    let fits = match expr {
        Expr::Source(network) => network.contains(from),
        Expr::SourceNot(network) => !network.contains(from),
        Expr::Destination(network) => network.contains(to),
        Expr::DestinationNot(network) => !network.contains(to),
        Expr::Mark { value, .. } => *value == 0,
        Expr::MarkNot { value, .. } => *value != 0,
        Expr::Counter => true,
        Expr::Accept => return Judgement::Ends(Fate::Accepted),
        Expr::Drop => return Judgement::Ends(Fate::Dropped),
        Expr::Return => return Judgement::Ends(Fate::Undecided),
        Expr::Masquerade(_) => return Judgement::Ends(Fate::Masqueraded),
        _ => false,
    };
    if fits {
        Judgement::Fits
    } else {
        Judgement::Differs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnets(text: &str) -> Subnets {
        Subnets::v4(text.parse().unwrap())
    }

    fn sets() -> Vec<Firewall> {
        let firewall = Firewall {
            masquerade: true,
            fully_random: true,
            forward_accept: true,
            untracked: None,
        };
        let tunnels = Some(Tunnels { port: 8472, vni: 1 });
        vec![
            firewall,
            Firewall {
                masquerade: false,
                ..firewall
            },
            Firewall {
                untracked: tunnels,
                fully_random: false,
                ..firewall
            },
            Firewall {
                forward_accept: false,
                ..firewall
            },
        ]
    }

    #[test]
    fn every_rule_set_is_known_again() {
        let (networks, own) = (subnets("10.244.0.0/16"), subnets("10.244.1.0/24"));
        let tunnels = Some(Tunnels { port: 8472, vni: 1 });
        for firewall in sets() {
            let table = tables(&networks, &own, &firewall).remove(0);
            let observed = table.compile().unwrap();
            let found = recognise(&networks, &own, tunnels, Family::Ip, &observed);
            assert_eq!(found, Some(table), "{firewall:?}");
        }
        let foreign = tables(&networks, &subnets("10.244.9.0/24"), &sets()[0]).remove(0);
        let observed = foreign.compile().unwrap();
        assert_eq!(
            recognise(&networks, &own, tunnels, Family::Ip, &observed),
            None
        );
    }

    #[test]
    fn what_leaves_is_masqueraded_and_pods_among_themselves_are_not() {
        let (networks, own) = (subnets("10.244.0.0/16"), subnets("10.244.1.0/24"));
        let table = tables(&networks, &own, &sets()[0]).remove(0);
        let from: IpAddr = "10.244.1.2".parse().unwrap();
        let at = |hook, to: &str| fate(&table, hook, from, to.parse().unwrap());
        assert_eq!(at(Hook::Postrouting, "198.51.100.1"), Fate::Masqueraded);
        assert_eq!(at(Hook::Postrouting, "10.244.2.2"), Fate::Undecided);
        assert_eq!(at(Hook::Postrouting, "224.0.0.251"), Fate::Undecided);
        assert_eq!(at(Hook::Forward, "198.51.100.1"), Fate::Accepted);
        let plain = tables(&networks, &own, &sets()[1]).remove(0);
        let to = "198.51.100.1".parse().unwrap();
        assert_eq!(fate(&plain, Hook::Postrouting, from, to), Fate::Undecided);
    }
}
