//! What the daemon knows, where everybody in this process can look it up: its parts write, reports read.
//!
//! All of it lives on the daemon's one thread, so the lock is never waited for; nobody may hold it across an `await`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use ipam::{LeaseKey, NetConf};

use crate::firewall::mode::Mode;
use crate::kernel::{Examiner, Journal, Kernel, KernelState, Pulse};
use crate::leases::Leases;
use crate::metrics::histogram::Histogram;
use crate::metrics::kernel::KernelMeter;
use crate::metrics::probes::Probes;
use crate::network::peers::LeftOut;
use crate::store::{self, OwnEvent, OwnLease, PeerEvent, Unreadable, Used};
use crate::uplink::Uplink;

/// Of so many orders that wait at a time it is measured how long they do; a kernel that refuses lets them pile up.
const WAITING: usize = 64;

/// What the daemon knows. Clones are the same board.
#[derive(Clone, Debug)]
pub struct Board(Arc<Mutex<Facts>>);

/// What stands on a [`Board`].
#[derive(Debug)]
pub struct Facts {
    /// When the daemon started.
    pub started: Moment,
    /// How the store does.
    pub store: store::Health,
    /// The network configuration, once it is read.
    pub conf: Option<NetConf>,
    /// The interface between hosts.
    pub uplink: Option<Uplink>,
    /// Why there is none at present.
    pub uplink_trouble: Option<String>,
    /// The MTU for pods in bytes.
    pub pod_mtu: Option<u32>,
    /// Where the firewall rules are kept.
    pub firewall: Option<Mode>,
    /// Whether what leaves the pod network is to be masqueraded.
    pub masquerade: bool,
    /// Our lease, once there is one.
    pub own: Option<Own>,
    /// The leases of the others.
    pub leases: Leases,
    /// Those of them that are left out, in one family or in all.
    pub skipped: BTreeMap<LeaseKey, LeftOut>,
    /// Entries among the leases that are none as they should be, by their keys.
    pub unreadable: BTreeMap<String, Unreadable>,
    /// When the store last told something new of them.
    pub seen: BTreeMap<LeaseKey, SystemTime>,
    /// What the watch of the leases told so far.
    pub told: Told,
    /// The peers of the sample that is asked from time to time.
    pub probes: Probes,
    /// How the kernel stands to what is wanted.
    pub kernel: Option<KernelFacts>,
    /// Whether the file for the CNI program is written.
    pub subnet_file_written: bool,
}

/// What the watch of the leases told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// How many leases it told of as new, changed or gone.
    pub events: u64,
    /// When it last told of any.
    pub last: Option<SystemTime>,
}

/// The kernel's side.
#[derive(Debug)]
pub struct KernelFacts {
    /// As the thread last told.
    pub state: KernelState,
    /// Whom to ask what is to be done.
    pub examiner: Examiner,
    /// What was put right.
    pub journal: Journal,
    /// Whether the thread goes round.
    pub pulse: Pulse,
    /// What it does, counted.
    pub meter: KernelMeter,
    /// How long it took from each order to the kernel's holding what was ordered.
    pub lag: Histogram,
    /// Orders that are not carried out yet, the oldest first, and when they were given.
    orders: VecDeque<(u64, Instant)>,
    /// The number of what was last ordered.
    ordered: u64,
    /// Since when the kernel is not known to be as it should be, and which order it was about then.
    late: Option<(u64, Instant)>,
}

/// Our lease.
#[derive(Clone, Debug)]
pub struct Own {
    /// The lease as it is now.
    pub lease: OwnLease,
    /// Since when this process has it.
    pub since: SystemTime,
    /// When it was last made sure of.
    pub renewed: Option<SystemTime>,
    /// What happened, if it is not ours any more.
    pub lost: Option<String>,
    /// Why it is not being kept at present.
    pub trouble: Option<String>,
}

/// A point in time by both clocks: the one that goes evenly and the one that people read.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    even: Instant,
    system: SystemTime,
}

impl Board {
    /// The board of a daemon that starts now.
    pub fn new(store: store::Health) -> Self {
        Self(Arc::new(Mutex::new(Facts {
            started: Moment::now(),
            store,
            conf: None,
            uplink: None,
            uplink_trouble: None,
            pod_mtu: None,
            firewall: None,
            masquerade: false,
            own: None,
            leases: Leases::default(),
            skipped: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            seen: BTreeMap::new(),
            told: Told::default(),
            probes: Probes::new(),
            kernel: None,
            subnet_file_written: false,
        })))
    }

    /// What stands on it.
    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Facts {
    /// The kernel's thread has started.
    pub(crate) fn connect(&mut self, kernel: &Kernel) {
        self.kernel = Some(KernelFacts {
            state: KernelState::default(),
            examiner: kernel.examiner(),
            journal: kernel.journal(),
            pulse: kernel.pulse(),
            meter: kernel.meter(),
            lag: Histogram::default(),
            orders: VecDeque::new(),
            ordered: 0,
            late: None,
        });
    }

    /// We have a lease.
    pub(crate) fn take_own(&mut self, lease: OwnLease) {
        self.leases.set_own(lease.key);
        self.own = Some(Own {
            lease,
            since: SystemTime::now(),
            renewed: None,
            lost: None,
            trouble: None,
        });
    }

    /// News of our lease.
    pub(crate) fn on_own(&mut self, event: &OwnEvent) {
        if let OwnEvent::Moved(lease) = event {
            return self.take_own(lease.clone());
        }
        let Some(own) = &mut self.own else { return };
        match event {
            OwnEvent::Renewed { expires } => own.lease.expires = *expires,
            OwnEvent::Published(record) => own.lease.record = record.clone(),
            OwnEvent::Reacquired(lease) => own.lease = lease.clone(),
            OwnEvent::Lost { reason } => return own.lost = Some(reason.clone()),
            OwnEvent::Trouble { reason } => return own.trouble = Some(reason.clone()),
            OwnEvent::Moved(_) => {}
        }
        own.renewed = Some(SystemTime::now());
        own.trouble = None;
        if !matches!(event, OwnEvent::Renewed { .. }) {
            own.lost = None;
        }
    }

    /// News of the peers, before they are taken in.
    pub(crate) fn hear(&mut self, event: &PeerEvent) {
        let now = SystemTime::now();
        self.told.last = Some(now);
        if !matches!(event, PeerEvent::Snapshot { .. }) {
            self.told.events += 1;
        }
        match event {
            PeerEvent::Snapshot { peers, skipped } => {
                let entries = skipped.iter().cloned();
                self.unreadable = entries.map(|entry| (entry.key.clone(), entry)).collect();
                let mut seen = BTreeMap::new();
                for lease in peers {
                    let before = self.seen.get(&lease.key);
                    let same = self.leases.revision(&lease.key) == Some(lease.revision);
                    let at = before.filter(|_| same).copied().unwrap_or(now);
                    seen.insert(lease.key, at);
                }
                self.seen = seen;
            }
            PeerEvent::Changed(lease) => {
                self.seen.insert(lease.key, now);
                self.forget_unreadable(&lease.key);
            }
            PeerEvent::Removed(key) => {
                self.seen.remove(key);
                self.forget_unreadable(key);
            }
            PeerEvent::Unreadable(entry) => {
                drop(self.unreadable.insert(entry.key.clone(), entry.clone()));
            }
            PeerEvent::Mended(key) => drop(self.unreadable.remove(key)),
        }
    }

    /// In etcd the key of an entry is that of its lease, so whatever is told of the lease is what has become of the entry.
    fn forget_unreadable(&mut self, key: &LeaseKey) {
        self.unreadable
            .retain(|_, entry| entry.used != Used::Nothing || entry.lease != Some(*key));
    }

    /// The kernel's thread was given another order.
    pub(crate) fn ordered(&mut self, generation: u64) {
        if let Some(kernel) = &mut self.kernel {
            kernel.ordered = generation;
            if kernel.orders.len() < WAITING {
                kernel.orders.push_back((generation, Instant::now()));
            }
            kernel.late.get_or_insert((generation, Instant::now()));
        }
    }

    /// News of the kernel.
    pub(crate) fn on_kernel(&mut self, state: KernelState) {
        if let Some(kernel) = &mut self.kernel {
            let now = Instant::now();
            kernel.late = after(kernel.late, kernel.ordered, &state, now);
            for since in carried_out(&mut kernel.orders, &state) {
                kernel.lag.observe(now.saturating_duration_since(since));
            }
            kernel.state = state;
        }
    }
}

/// Takes out the orders that the kernel has followed by this news: when they were given.
fn carried_out(orders: &mut VecDeque<(u64, Instant)>, state: &KernelState) -> Vec<Instant> {
    let mut done = Vec::new();
    while let Some((generation, since)) = orders.front().copied()
        && state.in_line
        && generation <= state.generation
    {
        orders.pop_front();
        done.push(since);
    }
    done
}

impl KernelFacts {
    /// Since when the kernel is not known to be as it should be, if it is not.
    pub fn late(&self) -> Option<Instant> {
        self.late.map(|(_, since)| since)
    }
}

/// Since when the kernel lags behind after this news: an order that is carried out takes the wait for it away, not that for later ones.
fn after(
    late: Option<(u64, Instant)>,
    ordered: u64,
    state: &KernelState,
    now: Instant,
) -> Option<(u64, Instant)> {
    if !state.in_line {
        return late.or(Some((state.generation, now)));
    }
    match late {
        Some((awaited, _)) if state.generation < awaited => late,
        _ if state.generation < ordered => Some((ordered, now)),
        _ => None,
    }
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self {
            even: Instant::now(),
            system: SystemTime::now(),
        }
    }

    /// By the clock that people read.
    pub fn system(self) -> SystemTime {
        self.system
    }

    /// When another point in time is by the clock that people read, if this one is now.
    pub fn date(self, of: Instant) -> SystemTime {
        let date = match of.checked_duration_since(self.even) {
            Some(ahead) => self.system.checked_add(ahead),
            None => self.system.checked_sub(self.even.duration_since(of)),
        };
        date.unwrap_or(self.system)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn state(generation: u64, in_line: bool) -> KernelState {
        KernelState {
            generation,
            in_line,
            ..KernelState::default()
        }
    }

    #[test]
    fn an_order_carried_out_ends_the_wait_for_it_and_not_for_later_ones() {
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        let late = Some((3, start));
        assert_eq!(after(late, 3, &state(2, true), later), late);
        assert_eq!(after(late, 3, &state(3, true), later), None);
        assert_eq!(after(late, 5, &state(3, true), later), Some((5, later)));
    }

    #[test]
    fn what_is_wrong_is_late_from_its_first_moment_on() {
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        let late = after(None, 3, &state(3, false), start);
        assert_eq!(late, Some((3, start)));
        assert_eq!(after(late, 3, &state(3, false), later), late);
        assert_eq!(after(late, 3, &state(3, true), later), None);
    }

    #[test]
    fn an_order_waits_until_the_kernel_is_as_it_says() {
        let start = Instant::now();
        let at = |number: u64| (number, start + Duration::from_secs(number));
        let mut orders = VecDeque::from([at(1), at(2), at(3)]);
        assert_eq!(carried_out(&mut orders, &state(2, false)), []);
        let done = carried_out(&mut orders, &state(2, true));
        assert_eq!(done, [at(1).1, at(2).1]);
        assert_eq!(carried_out(&mut orders, &state(2, true)), []);
        assert_eq!(orders, [at(3)]);
    }

    #[test]
    fn dates_of_both_sides() {
        let now = Moment::now();
        let minute = Duration::from_secs(60);
        assert_eq!(now.date(now.even + minute), now.system + minute);
        assert_eq!(now.date(now.even), now.system);
    }
}
