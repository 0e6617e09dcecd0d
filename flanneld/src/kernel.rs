//! The thread that keeps the kernel as it should be: observes, plans ([`crate::reconcile`]), applies, and looks again.
//!
//! It owns every connection to the kernel. The rest of the daemon hands it a [`Desired`] and watches [`KernelState`]; netlink
//! notifications and a slow timer only tell it to look.

mod observe;
mod rules;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use hostnet::nft::{self, Nftables};
use hostnet::{Change, Group, Mac, Monitor, Netlink, Notice, Wake, sysctl};
use thiserror::Error;
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use self::rules::Rules;
use crate::desired::Desired;
use crate::reconcile::{self, Action, Observed, Plan, Step};

/// A full comparison is made at least this often, whatever the notifications said.
const SLOW_COMPARISON: Duration = Duration::from_secs(60);
/// After a refusal the next try comes this soon, then twice as late each time…
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// … up to this.
const LAST_RETRY: Duration = Duration::from_secs(10);
/// So many times a comparison may find more to do before it is taken for a quarrel with another program.
const PASSES: usize = 8;
/// So many steps are logged one by one; more are counted.
const STEPS_TOLD: usize = 24;

/// The kernel's notifications that can be about something of ours.
const GROUPS: [Group; 6] = [
    Group::Ipv4Addresses,
    Group::Ipv4Routes,
    Group::Ipv6Addresses,
    Group::Ipv6Routes,
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
    generation: u64,
}

#[derive(Debug)]
enum Order {
    Desire(u64, Arc<Desired>),
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
        let worker = Worker {
            netlink,
            nftables,
            report,
            desired: None,
            generation: 0,
            observed: Observed::default(),
            rules: Rules::default(),
            last_trouble: None,
        };
        thread::spawn(move || worker.run(&inbox));
        for monitor in monitors {
            let orders = orders.clone();
            thread::spawn(move || watch_kernel(monitor, &orders));
        }
        Ok(Self {
            orders,
            state,
            generation: 0,
        })
    }

    /// Hands over what the kernel should hold from now on and returns its number.
    pub fn desire(&mut self, desired: Desired) -> u64 {
        self.generation += 1;
        // The thread ends only with the process.
        let _ = self
            .orders
            .send(Order::Desire(self.generation, Arc::new(desired)));
        self.generation
    }

    /// How the kernel stands, now and after each change of that.
    pub fn state(&self) -> watch::Receiver<KernelState> {
        self.state.clone()
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

/// What has to be looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Scope {
    network: bool,
    firewall: bool,
}

impl Scope {
    const ALL: Self = Self {
        network: true,
        firewall: true,
    };
    const NOTHING: Self = Self {
        network: false,
        firewall: false,
    };
}

struct Worker {
    netlink: Netlink,
    nftables: Nftables,
    report: watch::Sender<KernelState>,
    desired: Option<Arc<Desired>>,
    generation: u64,
    /// As it was found when last looked at.
    observed: Observed,
    rules: Rules,
    last_trouble: Option<String>,
}

/// Why a comparison is made, for the log.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Something else is wanted.
    Wanted,
    /// The kernel was changed, or the timer ran out.
    Changed,
}

impl Worker {
    fn run(mut self, inbox: &Receiver<Order>) {
        let mut wait = SLOW_COMPARISON;
        let mut retry = FIRST_RETRY;
        let mut last_all = Instant::now();
        loop {
            let (mut cause, mut scope) = (Cause::Changed, Scope::NOTHING);
            let until_all = (last_all + wait).saturating_duration_since(Instant::now());
            let resync = rules::period(self.desired.as_deref()).unwrap_or(until_all);
            match inbox.recv_timeout(until_all.min(resync)) {
                Ok(order) => self.take(order, &mut cause, &mut scope),
                Err(RecvTimeoutError::Timeout) if resync < until_all => scope.firewall = true,
                Err(RecvTimeoutError::Timeout) => scope = Scope::ALL,
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(order) = inbox.try_recv() {
                self.take(order, &mut cause, &mut scope);
            }
            let Some(desired) = self.desired.clone() else {
                continue;
            };
            if scope == Scope::NOTHING {
                continue;
            }
            if scope == Scope::ALL {
                last_all = Instant::now();
            }
            if self.bring_in_line(&desired, cause, scope) {
                (wait, retry) = (SLOW_COMPARISON, FIRST_RETRY);
            } else {
                wait = retry;
                retry = (retry * 2).min(LAST_RETRY);
            }
        }
    }

    fn take(&mut self, order: Order, cause: &mut Cause, scope: &mut Scope) {
        match order {
            Order::Desire(generation, desired) => {
                self.generation = generation;
                self.desired = Some(desired);
                *cause = Cause::Wanted;
                *scope = Scope::ALL;
            }
            Order::Look(None) => *scope = Scope::ALL,
            Order::Look(Some(notices)) => {
                for notice in &notices {
                    scope.firewall |= self.concerns_firewall(notice);
                    scope.network |= self.concerns_us(notice);
                }
            }
        }
    }

    fn concerns_firewall(&self, notice: &Notice) -> bool {
        match (notice, &self.desired) {
            (Notice::Firewall { table, chain }, Some(desired)) => {
                rules::concerns_us(table, chain.as_deref(), desired)
            }
            _ => false,
        }
    }

    /// Whether something of ours may have changed. On a busy node most notices are about pods' links.
    fn concerns_us(&self, notice: &Notice) -> bool {
        let Some(desired) = &self.desired else {
            return false;
        };
        let ours = |index| {
            self.observed
                .devices
                .values()
                .any(|device| device.link.index == index)
        };
        match notice {
            Notice::Firewall { .. } => false,
            Notice::Link { index, name, .. } => {
                desired.devices.contains_key(name) || ours(*index) || desired.uplink == Some(*index)
            }
            Notice::Address { link, .. } | Notice::Neighbour { link, .. } => ours(*link),
            Notice::Route {
                destination, link, ..
            } => desired.routes.contains_key(destination) || link.is_some_and(ours),
        }
    }

    /// Compares and applies until nothing is left to do. Returns whether that came to pass.
    fn bring_in_line(&mut self, desired: &Desired, cause: Cause, mut scope: Scope) -> bool {
        let mut trouble = None;
        for _ in 0..PASSES {
            if let Err(error) = self.look(desired, scope) {
                trouble = Some(format!("cannot look at the kernel's tables: {error}"));
                break;
            }
            let plan = reconcile::plan(desired, &self.observed);
            if plan.steps.is_empty() {
                trouble = None;
                break;
            }
            tell(&plan, cause);
            let refused = self.apply(desired, &plan);
            if refused.is_some() && refused == trouble {
                break;
            }
            trouble = refused;
            scope = Scope::ALL;
            if trouble.is_none() {
                trouble = Some(format!(
                    "something undoes what is done here, most lately: {}",
                    plan.steps[0]
                ));
            }
        }
        let trouble = trouble.or_else(|| self.rules.trouble());
        let in_line = trouble.is_none();
        self.tell_trouble(trouble.clone());
        let macs = self
            .observed
            .devices
            .iter()
            .filter_map(|(name, found)| Some((name.clone(), found.link.mac?)))
            .collect();
        self.report.send_replace(KernelState {
            generation: self.generation,
            in_line,
            trouble,
            macs,
        });
        in_line
    }

    fn look(&mut self, desired: &Desired, scope: Scope) -> Result<(), KernelError> {
        if scope.network {
            let before = std::mem::take(&mut self.observed);
            self.observed = Observed {
                firewall: before.firewall,
                iptables: before.iptables,
                ..observe::network(&mut self.netlink, desired)?
            };
        }
        if scope.firewall {
            self.observed.firewall = observe::firewall(&mut self.nftables, desired)?;
            self.observed.iptables = self.rules.look(&mut self.nftables, desired);
        }
        Ok(())
    }

    /// Does the steps, all of those that can be done, and returns what was refused.
    fn apply(&mut self, desired: &Desired, plan: &Plan) -> Option<String> {
        let mut refused = Vec::new();
        let changes: Vec<Change> = plan.steps.iter().filter_map(kernel_change).collect();
        if let Err(refusals) = self.netlink.apply(&changes) {
            // What is already gone, or came back in the meantime, the next comparison sees.
            refused.extend(
                refusals
                    .iter()
                    .filter(|refusal| !refusal.is_not_found())
                    .map(ToString::to_string),
            );
        }
        for step in &plan.steps {
            match &step.action {
                Action::Kernel(_) => {}
                Action::Sysctl { path, value } => {
                    if let Err(error) = sysctl::write(path, value) {
                        refused.push(error.to_string());
                    }
                }
                Action::Firewall => {
                    if let Err(error) = self.nftables.replace(&desired.firewall) {
                        refused.push(error.to_string());
                    }
                }
                Action::DeleteTables(tables) => {
                    if let Err(error) = self.delete_tables(tables) {
                        refused.push(error.to_string());
                    }
                }
                Action::Iptables(restore) => {
                    if let Err(error) = self.rules.write(restore) {
                        refused.push(error.to_string());
                    }
                }
            }
        }
        if refused.is_empty() {
            None
        } else {
            Some(refused.join("; "))
        }
    }

    fn delete_tables(&mut self, tables: &[(nft::Family, String)]) -> Result<(), nft::Error> {
        let tables: Vec<_> = tables
            .iter()
            .map(|(family, name)| (*family, name.as_str()))
            .collect();
        self.nftables.delete(&tables)
    }

    /// Logs trouble once, not at every try.
    fn tell_trouble(&mut self, trouble: Option<String>) {
        match (&trouble, &self.last_trouble) {
            (Some(now), before) if before.as_ref() != Some(now) => {
                error!("the kernel's state is not what it should be, trying again: {now}");
            }
            (None, Some(_)) => info!("the kernel's state is what it should be again"),
            _ => {}
        }
        self.last_trouble = trouble;
    }
}

fn kernel_change(step: &Step) -> Option<Change> {
    match &step.action {
        Action::Kernel(change) => Some(change.clone()),
        Action::Sysctl { .. }
        | Action::Firewall
        | Action::DeleteTables(_)
        | Action::Iptables(_) => None,
    }
}

/// A step after a lease changed is told with the lease; a repair is news of its own.
fn tell(plan: &Plan, cause: Cause) {
    for step in plan.steps.iter().take(STEPS_TOLD) {
        match cause {
            Cause::Wanted => debug!("{step}"),
            Cause::Changed => warn!("repaired: {step}"),
        }
    }
    if plan.steps.len() > STEPS_TOLD {
        let more = plan.steps.len() - STEPS_TOLD;
        match cause {
            Cause::Wanted => debug!("… and {more} steps more"),
            Cause::Changed => warn!("… and {more} repairs more"),
        }
    }
}
