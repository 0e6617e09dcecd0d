//! Leases that are in each other's way, and which of them is left over.
//!
//! The daemon leaves out one of two by their ages, which does not tell which host is gone: asking both does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::probe::echo::Reply;
use crate::status::report::{LeftOutCode, Peer, Report};

/// A lease that is left out because another has the same addresses or VTEP.
#[derive(Clone, Debug)]
pub(super) struct Clash<'a> {
    /// The lease that is left out.
    pub left_out: &'a Peer,
    /// Those it is in the way of; none if that is this node's.
    pub others: Vec<&'a Peer>,
}

/// All of them.
pub(super) fn clashes(report: &Report) -> Vec<Clash<'_>> {
    let left_out = report
        .peers
        .iter()
        .filter(|peer| has(peer, LeftOutCode::is_clash));
    left_out
        .map(|left_out| Clash {
            left_out,
            others: report
                .peers
                .iter()
                .filter(|other| {
                    !std::ptr::eq(*other, left_out) && in_each_others_way(other, left_out)
                })
                .collect(),
        })
        .collect()
}

/// The hosts to be asked to tell which lease is left over.
pub(super) fn hosts(report: &Report) -> Vec<IpAddr> {
    let clashes = clashes(report);
    let all = clashes.iter().take(MOST).flat_map(|clash| {
        let others = clash.others.iter().copied();
        others.chain([clash.left_out]).flat_map(|peer| &peer.public)
    });
    let hosts: BTreeSet<IpAddr> = all.copied().collect();
    hosts.into_iter().collect()
}

impl<'a> Clash<'a> {
    /// The lease whose host is gone: the only one that no host answers for. `ours` are the addresses of this host, whose lease
    /// is another.
    pub(super) fn left_over(
        &self,
        replies: &BTreeMap<IpAddr, Reply>,
        ours: &[IpAddr],
    ) -> Option<&'a Peer> {
        let is_gone = |peer: &Peer| {
            peer.public.iter().all(|public| {
                ours.contains(public)
                    || matches!(
                        replies.get(public),
                        Some(Reply::Silent | Reply::Failed { .. })
                    )
            })
        };
        let all = self.others.iter().copied().chain([self.left_out]);
        let (gone, there): (Vec<&Peer>, Vec<&Peer>) = all.partition(|peer| is_gone(peer));
        let answers = |peer: &&Peer| {
            let replies = peer.public.iter().filter_map(|public| replies.get(public));
            replies.into_iter().any(Reply::is_answered)
        };
        // That this host is there needs no asking.
        let with_ours = has(self.left_out, LeftOutCode::is_clash_with_ours);
        let is_plain = there.iter().all(answers) && (with_ours || !there.is_empty());
        match gone.as_slice() {
            [one] if is_plain => Some(one),
            _ => None,
        }
    }
}

fn has(peer: &Peer, is_meant: fn(LeftOutCode) -> bool) -> bool {
    peer.left_out.iter().any(|part| is_meant(part.code))
}

fn in_each_others_way(one: &Peer, other: &Peer) -> bool {
    let shares_mac = one.macs.iter().any(|mac| other.macs.contains(mac));
    let subnets = |peer: &Peer| -> Vec<IpNetwork> {
        let parsed = peer.subnets.iter();
        parsed.filter_map(|subnet| subnet.parse().ok()).collect()
    };
    let theirs = subnets(other);
    let shares_addresses = subnets(one).iter().any(|one| {
        let mut theirs = theirs.iter();
        theirs.any(|other| one.contains(other.network()) || other.contains(one.network()))
    });
    shares_mac || shares_addresses
}

/// How many are told apart at most.
const MOST: usize = 8;

#[cfg(test)]
mod tests;
