//! The thread that keeps the kernel as it should be: observes, plans ([`crate::reconcile`]), applies, and looks again.
//!
//! It owns every connection to the kernel. The rest of the daemon hands it a [`Desired`] and watches [`KernelState`]; netlink
//! notifications and a slow timer only tell it to look.

mod apply;
mod contest;
mod examine;
mod journal;
mod lately;
mod news;
mod observe;
mod rules;
mod timers;
mod worker;

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Sender};
use std::thread;

use hostnet::nft::{self, Nftables};
use hostnet::{Group, Mac, Monitor, Netlink, Notice, Wake};
use thiserror::Error;
use tokio::sync::{oneshot, watch};
use tracing::error;

pub use self::contest::Contested;
pub use self::examine::{Due, Examination, Examiner, Pulse};
pub use self::journal::{Journal, REMEMBERED, Repair};
use self::worker::{Told, Worker};
use crate::desired::{Alteration, Desired};
use crate::metrics::kernel::KernelMeter;

/// The kernel's notifications that can be about something of ours.
const GROUPS: [Group; 8] = [
    Group::Ipv4Addresses,
    Group::Ipv4Routes,
    Group::Ipv4Settings,
    Group::Ipv6Addresses,
    Group::Ipv6Routes,
    Group::Ipv6Settings,
    Group::Links,
    Group::Neighbours,
];

/// How the kernel stands to what was last desired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelState {
    /// The number of the [`Desired`] that this speaks of, as [`Kernel::desire`] returned it.
    pub generation: u64,
    /// Whether a comparison found nothing left to do.
    pub in_line: bool,
    /// What the kernel refused last, while it does.
    pub trouble: Option<String>,
    /// What somebody else keeps undoing, and when it will be put right next.
    pub contested: Vec<Contested>,
    /// The MACs of our devices as the kernel has them.
    pub macs: BTreeMap<String, Mac>,
}

/// Why the kernel could not be looked at.
#[derive(Debug, Error)]
pub enum KernelError {
    /// Links, addresses, routes, neighbours or FDB entries.
    #[error(transparent)]
    Netlink(#[from] hostnet::Error),
    /// Firewall tables.
    #[error(transparent)]
    Nftables(#[from] nft::Error),
}

/// The handle of the thread.
#[derive(Debug)]
pub struct Kernel {
    orders: Sender<Order>,
    state: watch::Receiver<KernelState>,
    journal: Journal,
    pulse: Pulse,
    meter: KernelMeter,
    generation: u64,
}

#[derive(Debug)]
enum Order {
    Desire(u64, Box<Desired>),
    /// The same but for this.
    Alter(u64, Alteration),
    /// Tell what would be done.
    Examine(oneshot::Sender<Examination>),
    /// What the kernel told of; nothing stands for anything.
    Look(Option<Vec<Notice>>),
}

impl Kernel {
    /// Opens the connections, in the calling thread's network namespace, and starts the threads.
    ///
    /// # Errors
    /// The kernel gives no netlink socket.
    pub fn start() -> Result<Self, KernelError> {
        let netlink = Netlink::open()?;
        let nftables = Nftables::open()?;
        // Opened before the first look, so that nothing falls between.
        let monitors = [Monitor::open(&GROUPS)?, Monitor::open_firewall()?];
        let (orders, inbox) = mpsc::channel();
        let (report, state) = watch::channel(KernelState::default());
        let told = Told {
            report,
            journal: Journal::default(),
            pulse: Pulse::default(),
            meter: KernelMeter::default(),
        };
        let (journal, pulse, meter) =
            (told.journal.clone(), told.pulse.clone(), told.meter.clone());
        let worker = Worker::new(netlink, nftables, told);
        pulse.beat();
        thread::spawn(move || worker.run(&inbox));
        for monitor in monitors {
            let orders = orders.clone();
            thread::spawn(move || watch_kernel(monitor, &orders));
        }
        Ok(Self {
            orders,
            state,
            journal,
            pulse,
            meter,
            generation: 0,
        })
    }

    /// Hands over what the kernel should hold from now on and returns its number.
    pub fn desire(&mut self, desired: Desired) -> u64 {
        self.generation += 1;
        self.send(Order::Desire(self.generation, Box::new(desired)))
    }

    /// Hands over what is different from what was desired last, and returns its number. The work in the kernel is that for the
    /// difference alone.
    pub fn alter(&mut self, alteration: Alteration) -> u64 {
        self.generation += 1;
        self.send(Order::Alter(self.generation, alteration))
    }

    fn send(&self, order: Order) -> u64 {
        // The thread ends only with the process.
        let _ = self.orders.send(order);
        self.generation
    }

    /// How the kernel stands, now and after each change of that.
    pub fn state(&self) -> watch::Receiver<KernelState> {
        self.state.clone()
    }

    /// What was put right.
    pub fn journal(&self) -> Journal {
        self.journal.clone()
    }

    /// Whether the thread goes round.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// What the thread does, counted.
    pub fn meter(&self) -> KernelMeter {
        self.meter.clone()
    }

    /// Whom to ask what would be done now.
    pub fn examiner(&self) -> Examiner {
        Examiner(self.orders.clone())
    }
}

fn watch_kernel(mut monitor: Monitor, orders: &Sender<Order>) {
    loop {
        let notices = match monitor.wait(None) {
            Ok(Wake::Changed(notices)) => Some(notices),
            Ok(Wake::Overrun) => None,
            Ok(Wake::TimedOut) => continue,
            Err(error) => {
                error!(
                    "the kernel's notifications are lost, changes will be found by the slow comparison only: {error}"
                );
                return;
            }
        };
        if orders.send(Order::Look(notices)).is_err() {
            return;
        }
    }
}
