//! What the peers' leases claim, so that a change of one can be taken in by itself where no other lease has to do with it.
//!
//! Which leases can be used depends on the others only where subnets overlap or VTEP MACs are shared ([`super::peers`]). All others
//! are worth the same alone as among thousands.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipam::{Cidr, LeaseBackend, LeaseKey, Mac, Subnets};

use super::Network;
use super::peers::Skipped;
use crate::desired::{Alteration, Desired};
use crate::leases::Change;
use crate::store::PeerLease;

/// The claims of all peers.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    subnets: BTreeMap<(IpAddr, u8), BTreeSet<LeaseKey>>,
    macs: BTreeMap<Mac, BTreeSet<LeaseKey>>,
}

/// What a changed lease comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    /// What is different in the kernel.
    pub alteration: Alteration,
    /// Whose lease it is.
    pub key: LeaseKey,
    /// Why the lease is left out, if it is.
    pub skipped: Vec<Skipped>,
}

impl Claims {
    /// Those of these leases.
    pub fn of<'a>(leases: impl Iterator<Item = &'a PeerLease>) -> Self {
        let mut claims = Self::default();
        for lease in leases {
            claims.add(lease);
        }
        claims
    }

    /// Takes in a change. Returns what it comes to, or nothing if other leases have to do with it, so that all must be looked at.
    pub fn take(&mut self, change: &Change, network: &Network, own: &Subnets) -> Option<Taken> {
        let (before, now) = match change {
            Change::Joined(lease) => (None, Some(lease)),
            Change::Altered { before, now } => (Some(before), Some(now)),
            Change::Left(lease) => (Some(lease), None),
        };
        if let Some(before) = before {
            self.remove(before);
        }
        let alone = before
            .into_iter()
            .chain(now)
            .all(|lease| self.is_alone(lease));
        if let Some(now) = now {
            self.add(now);
        }
        let key = before.or(now)?.key;
        let worth = |lease: Option<&PeerLease>| network.desired(Some(own), lease.into_iter());
        alone.then(|| {
            let (before, _) = worth(before);
            let (now, skipped) = worth(now);
            Taken {
                alteration: difference(before, now),
                key,
                skipped,
            }
        })
    }

    fn add(&mut self, lease: &PeerLease) {
        for subnet in subnets(lease) {
            let place = (subnet.network(), subnet.prefix());
            self.subnets.entry(place).or_default().insert(lease.key);
        }
        for mac in macs(lease) {
            self.macs.entry(mac).or_default().insert(lease.key);
        }
    }

    fn remove(&mut self, lease: &PeerLease) {
        for subnet in subnets(lease) {
            forget(
                &mut self.subnets,
                (subnet.network(), subnet.prefix()),
                lease.key,
            );
        }
        for mac in macs(lease) {
            forget(&mut self.macs, mac, lease.key);
        }
    }

    /// Whether nobody else claims what this lease does.
    fn is_alone(&self, lease: &PeerLease) -> bool {
        !macs(lease).any(|mac| self.macs.contains_key(&mac))
            && !subnets(lease).any(|subnet| self.is_claimed(subnet))
    }

    fn is_claimed(&self, subnet: Cidr) -> bool {
        let address = subnet.network();
        let around = (0..=subnet.prefix()).any(|prefix| {
            Cidr::masked(address, prefix)
                .is_ok_and(|around| self.subnets.contains_key(&(around.network(), prefix)))
        });
        let inside = || {
            let range = (address, subnet.prefix())..=(subnet.last(), u8::MAX);
            self.subnets.range(range).next().is_some()
        };
        around || inside()
    }
}

fn forget<K: Ord>(claims: &mut BTreeMap<K, BTreeSet<LeaseKey>>, what: K, key: LeaseKey) {
    if let Some(keys) = claims.get_mut(&what) {
        keys.remove(&key);
        if keys.is_empty() {
            claims.remove(&what);
        }
    }
}

fn subnets(lease: &PeerLease) -> impl Iterator<Item = Cidr> + use<> {
    lease.key.subnets().each()
}

fn macs(lease: &PeerLease) -> impl Iterator<Item = Mac> + use<> {
    let data = match &lease.record.backend {
        LeaseBackend::Vxlan(data) => [data.v4, data.v6],
        _ => [None, None],
    };
    data.into_iter().flatten().map(|data| data.mac)
}

/// How what two states want for peers differs.
fn difference(before: Desired, now: Desired) -> Alteration {
    Alteration {
        routes: changed(before.routes, now.routes),
        neighbours: changed(before.neighbours, now.neighbours),
        fdb: changed(before.fdb, now.fdb),
    }
}

fn changed<K: Ord, V: PartialEq>(
    before: BTreeMap<K, V>,
    mut now: BTreeMap<K, V>,
) -> BTreeMap<K, Option<V>> {
    let mut changed = BTreeMap::new();
    for (key, value) in before {
        match now.remove(&key) {
            Some(same) if same == value => {}
            other => drop(changed.insert(key, other)),
        }
    }
    changed.extend(now.into_iter().map(|(key, value)| (key, Some(value))));
    changed
}

#[cfg(test)]
mod tests;
