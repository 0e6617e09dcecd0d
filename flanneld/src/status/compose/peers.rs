//! The other nodes: whether the kernel holds what leads to them, and what of their leases is left out.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hostnet::Mac;
use ipam::{Cidr, LeaseBackend, LeaseRecord, Subnets};
use ipnetwork::IpNetwork;

use super::{addresses, entries, texts, timestamp};
use crate::kernel::{Due, Examination};
use crate::metrics::probes::Outcome;
use crate::network::as_network;
use crate::network::peers::LeftOut;
use crate::reconcile::Object;
use crate::status::board::Facts;
use crate::status::report::{self, PeerInKernel, ProbeState};
use crate::store;

pub(super) fn peers(facts: &Facts, examination: Option<&Examination>) -> Vec<report::Peer> {
    let compared = examination.filter(|found| found.trouble.is_none() && found.complete);
    let faults = compared.map(Faults::of);
    let peer = |lease: &store::PeerLease| {
        let left_out = facts.skipped.get(&lease.key);
        let (kernel, reasons) = standing(lease, left_out, faults.as_ref());
        report::Peer {
            subnets: texts(lease.key.subnets()),
            public: addresses(lease.record.public),
            macs: macs(&lease.record).map(|mac| mac.to_string()).collect(),
            seen: facts.seen.get(&lease.key).copied().map(timestamp),
            kernel,
            reasons,
            left_out: left_out.map(entries::parts).unwrap_or_default(),
            probe: probe(facts.probes.get(&lease.key)),
        }
    };
    facts.leases.peers().map(peer).collect()
}

/// How the kernel stands to a lease, and why it does not stand well. Where one family is left out, the other may be wrong.
fn standing(
    lease: &store::PeerLease,
    left_out: Option<&LeftOut>,
    faults: Option<&Faults<'_>>,
) -> (PeerInKernel, Vec<String>) {
    let mut reasons: Vec<String> = left_out.iter().map(ToString::to_string).collect();
    let used = Subnets {
        v4: lease
            .key
            .subnets()
            .v4
            .filter(|subnet| is_used(Cidr::from(*subnet), left_out)),
        v6: lease
            .key
            .subnets()
            .v6
            .filter(|subnet| is_used(Cidr::from(*subnet), left_out)),
    };
    let wrong = faults
        .map(|faults| faults.about(used, &lease.record))
        .unwrap_or_default();
    let kernel = match (wrong.is_empty(), left_out, faults) {
        (false, ..) => PeerInKernel::Wrong,
        (true, Some(_), _) => PeerInKernel::LeftOut,
        (true, None, None) => PeerInKernel::Unknown,
        (true, None, Some(_)) => PeerInKernel::Right,
    };
    reasons.extend(wrong);
    (kernel, reasons)
}

fn is_used(subnet: Cidr, left_out: Option<&LeftOut>) -> bool {
    left_out.is_none_or(|left_out| left_out.part.is_some_and(|part| part != subnet))
}

fn probe(outcome: Option<&Outcome>) -> report::Probe {
    let Some(outcome) = outcome else {
        return report::Probe::default();
    };
    report::Probe {
        state: match outcome.after {
            Some(_) => ProbeState::Answers,
            None => ProbeState::Silent,
        },
        at: Some(timestamp(outcome.at)),
        micros: outcome
            .after
            .map(|after| u64::try_from(after.as_micros()).unwrap_or(u64::MAX)),
    }
}

/// What is due in the kernel, by what it concerns.
struct Faults<'a> {
    routes: BTreeMap<IpNetwork, &'a Due>,
    neighbours: BTreeMap<IpAddr, &'a Due>,
    fdb: BTreeMap<Mac, &'a Due>,
    /// Devices that are to be made or altered, on which all peers hang.
    devices: Vec<&'a Due>,
}

impl<'a> Faults<'a> {
    fn of(examination: &'a Examination) -> Self {
        let mut faults = Self {
            routes: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            fdb: BTreeMap::new(),
            devices: Vec::new(),
        };
        for due in &examination.due {
            match &due.object {
                Object::Route(destination) => drop(faults.routes.insert(*destination, due)),
                Object::Neighbour(_, address) => drop(faults.neighbours.insert(*address, due)),
                Object::Fdb(_, mac) => drop(faults.fdb.insert(*mac, due)),
                Object::Device(_) => faults.devices.push(due),
                Object::Address(..)
                | Object::Sysctl(_)
                | Object::Firewall
                | Object::Iptables(_) => {}
            }
        }
        faults
    }

    /// What is wrong about these subnets of a lease with this record.
    fn about(&self, subnets: Subnets, record: &LeaseRecord) -> Vec<String> {
        let mut found = Vec::new();
        for subnet in subnets.each::<Cidr>() {
            found.extend(self.routes.get(&as_network(subnet)));
            found.extend(self.neighbours.get(&subnet.network()));
        }
        if let LeaseBackend::Vxlan(data) = &record.backend {
            let v4 = data.v4.filter(|_| subnets.v4.is_some());
            let v6 = data.v6.filter(|_| subnets.v6.is_some());
            let macs = v4.into_iter().chain(v6).map(|data| Mac(data.mac.0));
            found.extend(macs.filter_map(|mac| self.fdb.get(&mac)));
        }
        let all = match subnets.is_empty() {
            true => Vec::new(),
            false => [self.devices.clone(), found].concat(),
        };
        let reason = |due: &&Due| format!("{}: {}", due.object, due.reason);
        all.iter().map(reason).collect()
    }
}

fn macs(record: &LeaseRecord) -> impl Iterator<Item = ipam::Mac> {
    let data = match &record.backend {
        LeaseBackend::Vxlan(data) => [data.v4, data.v6],
        LeaseBackend::HostGw | LeaseBackend::Other { .. } | LeaseBackend::Unnamed => [None, None],
    };
    data.into_iter().flatten().map(|data| data.mac)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::peers::{Skipped, Unusable};

    const KEY: &str = "10.244.2.0-24&fd00:2::-64";

    fn lease() -> store::PeerLease {
        let record = r#"{"PublicIP":"192.0.2.2","PublicIPv6":"2001:db8::2","BackendType":"vxlan",
            "BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:02"},"BackendV6Data":{"VNI":1,"VtepMAC":"02:00:00:00:06:02"}}"#;
        store::PeerLease {
            key: KEY.parse().unwrap(),
            record: LeaseRecord::parse(record.as_bytes()).unwrap(),
            revision: 1,
            created: 1,
        }
    }

    fn without(subnets: &[&str]) -> LeftOut {
        let skip = |subnet: &&str| Skipped {
            key: KEY.parse().unwrap(),
            subnet: Some(subnet.parse().unwrap()),
            reason: Unusable::Lacks {
                what: "a VTEP",
                family: "it",
            },
        };
        let skipped: Vec<Skipped> = subnets.iter().map(skip).collect();
        LeftOut::of(&skipped).into_values().next().unwrap()
    }

    fn examined(objects: &[Object]) -> Examination {
        let due = |object: &Object| Due {
            object: object.clone(),
            action: "add".to_owned(),
            reason: "it is missing".to_owned(),
            held_until: None,
        };
        Examination {
            generation: 1,
            complete: true,
            due: objects.iter().map(due).collect(),
            unfinished: false,
            trouble: None,
        }
    }

    /// A wrong route of one family shows whatever is left out in the other, and what is left out has no fault of its own.
    #[test]
    fn a_family_that_is_left_out_does_not_hide_the_other() {
        let route = |subnet: &str| Object::Route(subnet.parse().unwrap());
        let fdb = |mac: &str| Object::Fdb("flannel.1".to_owned(), mac.parse().unwrap());
        let neighbour = Object::Neighbour("flannel-v6.1".to_owned(), "fd00:2::".parse().unwrap());
        let well = examined(&[]);
        let v4 = examined(&[route("10.244.2.0/24"), fdb("02:00:00:00:00:02")]);
        let v6 = examined(&[neighbour, fdb("02:00:00:00:06:02")]);
        let (none, only_v4, neither) = (
            None,
            Some(without(&["fd00:2::/64"])),
            Some(without(&["10.244.2.0/24", "fd00:2::/64"])),
        );
        use PeerInKernel::{LeftOut, Right, Unknown, Wrong};
        for (left_out, examination, kernel, reasons) in [
            (&none, None, Unknown, 0),
            (&none, Some(&well), Right, 0),
            (&none, Some(&v4), Wrong, 2),
            (&none, Some(&v6), Wrong, 2),
            (&only_v4, None, LeftOut, 1),
            (&only_v4, Some(&well), LeftOut, 1),
            (&only_v4, Some(&v4), Wrong, 3),
            (&only_v4, Some(&v6), LeftOut, 1),
            (&neither, Some(&v4), LeftOut, 1),
            (&neither, Some(&v6), LeftOut, 1),
        ] {
            let faults = examination.map(Faults::of);
            let found = standing(&lease(), left_out.as_ref(), faults.as_ref());
            assert_eq!((found.0, found.1.len()), (kernel, reasons), "{found:?}");
        }
    }
}
