//! Which rules in the kernel's own chains are flannel's, or ours: those of every layout that a version of flannel has left.
//!
//! Since 0.20 there is one jump per chain; before, the rules themselves stood there, since 0.16.2 with a comment. A rule with one of
//! flannel's comments is flannel's if it also has the form that flannel gave such rules. Without a comment a rule alone could be
//! anybody's; flannel's are known by standing together, all of them, in their order.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;

use super::rule::{Rule, Shape, Side};
use super::saved::{Saved, SavedChain};
use super::wanted::{
    FORWARD_CHAIN, FORWARD_COMMENT, MASQUERADE_COMMENT, POSTROUTING_CHAIN, UNTRACKED_COMMENT,
};
use crate::firewall::multicast;

/// Misspelt in one rule of 0.16.2 and 0.16.3.
const MISSPELT_COMMENT: &str = "flannel masq";

/// The rules of one chain of the kernel's that are flannel's or ours, by their place in it, counted from 0.
pub(super) fn ours(saved: &Saved, table: &str, chain: &str) -> BTreeSet<usize> {
    let Some(found) = saved.tables.get(table).and_then(|table| table.get(chain)) else {
        return BTreeSet::new();
    };
    let single: fn(&Rule) -> bool = match (table, chain) {
        ("nat", "POSTROUTING") => is_masquerading,
        ("filter", "FORWARD") => is_accepting,
        ("raw", "PREROUTING" | "OUTPUT") => is_untracking,
        _ => return BTreeSet::new(),
    };
    let mut ours: BTreeSet<usize> = positions(&found.rules, single).collect();
    match table {
        "nat" => {
            ours.extend(uncommented_masquerading(found).flat_map(|(place, _)| place..place + 4))
        }
        "filter" => {
            let masquerading = saved
                .tables
                .get("nat")
                .and_then(|table| table.get("POSTROUTING"));
            let networks: Vec<IpNetwork> = masquerading
                .into_iter()
                .flat_map(|chain| uncommented_masquerading(chain).map(|(_, network)| network))
                .collect();
            ours.extend(
                uncommented_accepting(found, &networks).flat_map(|place| [place, place + 1]),
            );
        }
        _ => {}
    }
    ours
}

fn positions(rules: &[Rule], is_ours: fn(&Rule) -> bool) -> impl Iterator<Item = usize> {
    (0..)
        .zip(rules)
        .filter(move |(_, rule)| is_ours(rule))
        .map(|(place, _)| place)
}

fn is_masquerading(rule: &Rule) -> bool {
    rule.shape().is_some_and(|shape| {
        let commented = [MASQUERADE_COMMENT, MISSPELT_COMMENT]
            .iter()
            .any(|comment| shape.comment.as_deref() == Some(comment));
        commented && (is_jump(&shape, POSTROUTING_CHAIN) || masquerading_rule(&shape).is_some())
    })
}

fn is_accepting(rule: &Rule) -> bool {
    rule.shape().is_some_and(|shape| {
        shape.comment.as_deref() == Some(FORWARD_COMMENT)
            && (is_jump(&shape, FORWARD_CHAIN) || accepting_rule(&shape).is_some())
    })
}

/// Of any port: the one in use may have been another before.
fn is_untracking(rule: &Rule) -> bool {
    let text = rule.to_string();
    rule.target() == Some("CT") && text.contains(&format!("--comment \"{UNTRACKED_COMMENT}\""))
}

fn is_jump(shape: &Shape, chain: &str) -> bool {
    shape.target == chain && shape.source.is_none() && shape.destination.is_none()
}

/// Which of the four rules of old this is, and its pod network.
fn masquerading_rule(shape: &Shape) -> Option<(usize, IpNetwork)> {
    let (source, destination) = (shape.source?, shape.destination?);
    let returns = shape.target == "RETURN";
    let masquerades = shape.target == "MASQUERADE";
    match (source, destination) {
        (Side::Is(network), Side::Is(to)) if returns && network == to => Some((0, network)),
        (Side::Is(network), Side::IsNot(to)) if masquerades && to == multicast(&network) => {
            Some((1, network))
        }
        (Side::IsNot(network), Side::Is(to)) if returns && lies_in(&to, &network) => {
            Some((2, network))
        }
        (Side::IsNot(network), Side::Is(to)) if masquerades && network == to => Some((3, network)),
        _ => None,
    }
}

/// Which of the two rules of old this is, and its pod network.
fn accepting_rule(shape: &Shape) -> Option<(usize, IpNetwork)> {
    match (shape.source, shape.destination, shape.target.as_str()) {
        (Some(Side::Is(network)), None, "ACCEPT") => Some((0, network)),
        (None, Some(Side::Is(network)), "ACCEPT") => Some((1, network)),
        _ => None,
    }
}

/// Where the four rules without comments begin, and their pod network.
fn uncommented_masquerading(chain: &SavedChain) -> impl Iterator<Item = (usize, IpNetwork)> {
    groups(chain, 4, masquerading_rule)
}

/// Where the two rules without comments begin that are for one of these pod networks.
fn uncommented_accepting<'a>(
    chain: &'a SavedChain,
    networks: &'a [IpNetwork],
) -> impl Iterator<Item = usize> + 'a {
    groups(chain, 2, accepting_rule)
        .filter(|(_, network)| networks.contains(network))
        .map(|(place, _)| place)
}

fn groups(
    chain: &SavedChain,
    length: usize,
    rule_of: fn(&Shape) -> Option<(usize, IpNetwork)>,
) -> impl Iterator<Item = (usize, IpNetwork)> {
    (0..)
        .zip(chain.rules.windows(length))
        .filter_map(move |(place, rules)| {
            let mut network = None;
            for (wanted, rule) in rules.iter().enumerate() {
                let shape = rule.shape().filter(|shape| shape.comment.is_none())?;
                let (number, of) = rule_of(&shape)?;
                if number != wanted || *network.get_or_insert(of) != of {
                    return None;
                }
            }
            network.map(|network| (place, network))
        })
}

fn lies_in(inner: &IpNetwork, outer: &IpNetwork) -> bool {
    outer.prefix() <= inner.prefix() && outer.contains(inner.network())
}
