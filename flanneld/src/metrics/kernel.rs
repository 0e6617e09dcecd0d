//! What the kernel's thread does, counted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hostnet::Traffic;

use super::histogram::Histogram;
use crate::reconcile::Object;

/// Counts what the kernel's thread does. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct KernelMeter(Arc<Mutex<KernelCounts>>);

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KernelCounts {
    /// How long it took until nothing was left to do.
    pub durations: Histogram,
    /// Comparisons.
    pub passes: u64,
    /// Repairs by kind of object, in the order of [`KINDS`].
    pub repairs: [u64; KINDS.len()],
    /// What was sent.
    pub traffic: Traffic,
    /// What was refused.
    pub errors: u64,
}

/// The kinds of objects, as the label `object` has them.
pub const KINDS: [&str; 8] = [
    "device",
    "address",
    "route",
    "neighbour",
    "fdb",
    "sysctl",
    "firewall",
    "iptables",
];

fn kind(object: &Object) -> usize {
    match object {
        Object::Device(_) => 0,
        Object::Address(..) => 1,
        Object::Route(_) => 2,
        Object::Neighbour(..) => 3,
        Object::Fdb(..) => 4,
        Object::Sysctl(_) => 5,
        Object::Firewall => 6,
        Object::Iptables(_) => 7,
    }
}

impl KernelMeter {
    /// What was counted so far.
    pub fn counts(&self) -> KernelCounts {
        self.lock().clone()
    }

    /// The kernel was brought in line, or it was tried.
    pub(crate) fn reconciled(&self, took: Duration) {
        self.lock().durations.observe(took);
    }

    /// It was compared once.
    pub(crate) fn compared(&self) {
        self.lock().passes += 1;
    }

    /// This was put right.
    pub(crate) fn repaired<'a>(&self, objects: impl Iterator<Item = &'a Object>) {
        let mut counts = self.lock();
        for object in objects {
            counts.repairs[kind(object)] += 1;
        }
    }

    /// The kernel refused so many things.
    pub(crate) fn refused(&self, times: usize) {
        self.lock().errors += times as u64;
    }

    /// So much was sent since the thread began.
    pub(crate) fn sent(&self, traffic: Traffic) {
        self.lock().traffic = traffic;
    }

    fn lock(&self) -> MutexGuard<'_, KernelCounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_are_counted_by_kind() {
        let meter = KernelMeter::default();
        let objects = [
            Object::Firewall,
            Object::Sysctl("net/ipv4/ip_forward".to_owned()),
            Object::Firewall,
            Object::Device("flannel.1".to_owned()),
        ];
        meter.repaired(objects.iter());
        let counts = meter.counts().repairs;
        let counted: Vec<_> = KINDS
            .into_iter()
            .zip(counts)
            .filter(|(_, n)| *n > 0)
            .collect();
        assert_eq!(counted, [("device", 1), ("sysctl", 1), ("firewall", 2)]);
    }
}
