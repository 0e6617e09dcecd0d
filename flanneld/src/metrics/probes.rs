//! Asking a few peers from time to time whether they answer: one echo each through the overlay.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ipam::{Cidr, LeaseBackend, LeaseKey};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::warn;

use crate::probe::Patience;
use crate::probe::echo::{Question, Reply};
use crate::status::board::{Board, Facts};
use crate::store::PeerLease;

/// How often each peer of the sample is asked.
const EVERY: Duration = Duration::from_secs(30);
/// The first time is when the node has settled.
const FIRST: Duration = Duration::from_secs(5);
/// One packet; peers that are silent are asked one after the other, all of the usual sample within [`EVERY`].
const PATIENCE: Patience = Patience {
    attempts: 1,
    wait: Duration::from_secs(1),
};

/// What came of asking the peers of the sample.
pub type Probes = BTreeMap<LeaseKey, Outcome>;

/// What came of asking a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// When it was asked.
    pub at: SystemTime,
    /// How long the answer took, if there was one.
    pub after: Option<Duration>,
}

/// Asks for ever, at most `most` peers, and writes the outcome on the board. Ends only where this process may not ask.
pub async fn run(board: Board, most: usize) {
    if most == 0 {
        return;
    }
    let mut ticks = interval_at(Instant::now() + FIRST, EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let sample = sample(&board.facts(), most);
        let asked = tokio::task::spawn_blocking(move || ask(&sample)).await;
        match asked {
            Ok(Some(probes)) => board.facts().probes = probes,
            Ok(None) => {
                warn!(
                    "peers are not probed: this process may not send echoes, it lacks the capability NET_RAW; \
                     --probe-peers=0 says that none are to be asked"
                );
                return;
            }
            // It panicked; another time it may not.
            Err(_) => {}
        }
    }
}

/// Nothing if this process may not ask.
fn ask(sample: &[(LeaseKey, IpAddr)]) -> Option<Probes> {
    let mut probes = Probes::new();
    for (key, address) in sample {
        let at = SystemTime::now();
        let reply = Question::new(*address).ask(PATIENCE);
        if reply.is_not_permitted() {
            return None;
        }
        let after = match reply {
            Reply::Answered { after, .. } => Some(after),
            _ => None,
        };
        probes.insert(*key, Outcome { at, after });
    }
    Some(probes)
}

/// The peers to be asked, and where. Which ones is settled by their subnets and ours alone: each node has others, and keeps them.
fn sample(facts: &Facts, most: usize) -> Vec<(LeaseKey, IpAddr)> {
    let own = facts.own.as_ref().map(|own| own.lease.key);
    let used = |lease: &&PeerLease| !facts.skipped.contains_key(&lease.key);
    let targets = facts.leases.peers().filter(used).filter_map(target);
    choose(own, targets.collect(), most)
}

fn choose(
    own: Option<LeaseKey>,
    mut targets: Vec<(LeaseKey, IpAddr)>,
    most: usize,
) -> Vec<(LeaseKey, IpAddr)> {
    let rank = |key: &LeaseKey| {
        let mut hasher = DefaultHasher::new();
        (own, key).hash(&mut hasher);
        hasher.finish()
    };
    targets.sort_by_cached_key(|(key, _)| rank(key));
    targets.truncate(most);
    targets
}

/// Its VTEP's address, which is the first of its subnet; without a tunnel, its public one.
fn target(lease: &PeerLease) -> Option<(LeaseKey, IpAddr)> {
    let address = match &lease.record.backend {
        LeaseBackend::Vxlan(_) => lease
            .key
            .subnets()
            .each::<Cidr>()
            .next()
            .map(|subnet| subnet.network()),
        LeaseBackend::HostGw => lease.record.public.each().next(),
        LeaseBackend::Other { .. } | LeaseBackend::Unnamed => None,
    };
    Some((lease.key, address?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> LeaseKey {
        format!("10.244.{number}.0-24").parse().unwrap()
    }

    fn targets(numbers: impl Iterator<Item = usize>) -> Vec<(LeaseKey, IpAddr)> {
        let address = IpAddr::from([10, 244, 0, 0]);
        numbers.map(|number| (key(number), address)).collect()
    }

    fn keys(chosen: &[(LeaseKey, IpAddr)]) -> Vec<LeaseKey> {
        chosen.iter().map(|(key, _)| *key).collect()
    }

    #[test]
    fn the_sample_stays_when_others_come_and_go() {
        let own = Some(key(0));
        let before = choose(own, targets(1..100), 16);
        assert_eq!(before.len(), 16);
        // One in three of the others leaves, whatever the order they are told in.
        let stays =
            |number: &usize| !number.is_multiple_of(3) || keys(&before).contains(&key(*number));
        let after = choose(own, targets((1..100).rev().filter(stays)), 16);
        assert_eq!(keys(&before), keys(&after));
    }

    #[test]
    fn nodes_ask_different_peers() {
        let mut asked: Vec<LeaseKey> = (0..20)
            .flat_map(|own| keys(&choose(Some(key(own)), targets(100..200), 16)))
            .collect();
        asked.sort();
        asked.dedup();
        assert!(asked.len() > 80, "{} of 100", asked.len());
    }

    #[test]
    fn few_peers_are_asked_all() {
        assert_eq!(choose(None, targets(1..4), 16).len(), 3);
    }
}
