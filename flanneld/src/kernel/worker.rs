//! The thread itself: takes orders and news, looks, plans, applies, until nothing is left to do.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use hostnet::nft::{self, Nftables};
use hostnet::{Change, LinkName, Netlink, Route, Traffic, sysctl};
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use super::contest::Ledger;
use super::news::News;
use super::rules::Rules;
use super::{KernelError, KernelState, Order, observe};
use crate::desired::{Alteration, Desired};
use crate::reconcile::{self, Action, Object, Observed, Plan, Scope, Step};

/// A full comparison is made at least this often, whatever the notifications said.
const SLOW_COMPARISON: Duration = Duration::from_secs(60);
/// Of most settings the kernel tells nobody, and they are quickly read.
const SETTINGS_COMPARISON: Duration = Duration::from_secs(5);
/// After a refusal the next try comes this soon, then twice as late each time…
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// … up to this.
const LAST_RETRY: Duration = Duration::from_secs(10);
/// So many times a comparison may find more to do before it is taken for a quarrel with another program.
const PASSES: usize = 8;
/// So many steps are logged one by one; more are counted.
const STEPS_TOLD: usize = 24;

/// Why a comparison is made, for the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Cause {
    /// Something else is wanted.
    Wanted,
    /// The kernel was changed, or a timer ran out.
    #[default]
    Changed,
}

/// What the orders and timers since the last comparison come to.
#[derive(Debug, Default)]
struct Task {
    cause: Cause,
    news: News,
}

/// When to look again without being told.
#[derive(Debug)]
struct Timers {
    comparison: Instant,
    settings: Instant,
    /// Of rules kept by iptables, where nobody tells of changes.
    rules: Option<Instant>,
    /// The next try after a refusal, and how long to wait after that.
    retry: Option<(Instant, Duration)>,
    /// When something contested may be put right again.
    contested: Option<Instant>,
}

pub(super) struct Worker {
    netlink: Netlink,
    nftables: Nftables,
    report: watch::Sender<KernelState>,
    desired: Option<Box<Desired>>,
    /// What is different from that by now, not yet brought about.
    pending: Alteration,
    generation: u64,
    /// As it was found when last looked at. What hangs on devices is kept during a comparison only.
    observed: Observed,
    /// Settings that nobody can change from here: containers have `/proc/sys` read-only.
    locked: BTreeSet<String>,
    /// What could not be brought in line when last tried.
    wrong: Scope,
    rules: Rules,
    ledger: Ledger,
    timers: Timers,
    last_trouble: Option<String>,
}

impl Worker {
    pub(super) fn new(
        netlink: Netlink,
        nftables: Nftables,
        report: watch::Sender<KernelState>,
    ) -> Self {
        let now = Instant::now();
        Self {
            netlink,
            nftables,
            report,
            desired: None,
            pending: Alteration::default(),
            generation: 0,
            observed: Observed::default(),
            locked: BTreeSet::new(),
            // Nothing is known of it.
            wrong: Scope::ALL,
            rules: Rules::default(),
            ledger: Ledger::default(),
            timers: Timers {
                comparison: now + SLOW_COMPARISON,
                settings: now + SETTINGS_COMPARISON,
                rules: None,
                retry: None,
                contested: None,
            },
            last_trouble: None,
        }
    }

    pub(super) fn run(mut self, inbox: &Receiver<Order>) {
        loop {
            let mut task = Task::default();
            let wait = self.timers.next().saturating_duration_since(Instant::now());
            match inbox.recv_timeout(wait) {
                Ok(order) => self.take(order, &mut task),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(order) = inbox.try_recv() {
                self.take(order, &mut task);
            }
            self.due(Instant::now(), &mut task);
            self.work(task);
        }
    }

    fn take(&mut self, order: Order, task: &mut Task) {
        match order {
            Order::Desire(generation, desired) => {
                self.generation = generation;
                self.desired = Some(desired);
                self.pending = Alteration::default();
                task.cause = Cause::Wanted;
                task.news.scope = Scope::ALL;
            }
            Order::Alter(generation, alteration) => {
                self.generation = generation;
                self.pending.extend(alteration);
                task.cause = Cause::Wanted;
            }
            Order::Look(None) => task.news.scope = Scope::ALL,
            Order::Look(Some(notices)) => {
                if let Some(desired) = &self.desired {
                    for notice in notices {
                        task.news.take(notice, desired, &self.observed);
                    }
                }
            }
        }
    }

    /// What has to be looked at because its time has come.
    fn due(&mut self, now: Instant, task: &mut Task) {
        let timers = &mut self.timers;
        let scope = &mut task.news.scope;
        if timers.comparison <= now {
            timers.comparison = now + SLOW_COMPARISON;
            *scope = Scope::ALL;
        }
        if timers.settings <= now {
            timers.settings = now + SETTINGS_COMPARISON;
            scope.settings = true;
        }
        let period = self.rules.period(self.desired.as_deref());
        if timers.rules.is_some_and(|at| at <= now) {
            scope.firewall = true;
        }
        if scope.firewall || timers.rules.is_none() {
            timers.rules = period.map(|period| now + period);
        }
        if timers.retry.is_some_and(|(at, _)| at <= now) {
            *scope = scope.and(self.wrong);
        }
        if timers.contested.is_some_and(|at| at <= now) {
            timers.contested = None;
            *scope = Scope::ALL;
        }
        for object in self.ledger.settle(now) {
            info!("{object} is left alone again");
        }
    }

    fn work(&mut self, mut task: Task) {
        let Some(mut desired) = self.desired.take() else {
            return;
        };
        let altered = !self.pending.is_empty();
        if altered {
            let alteration = std::mem::take(&mut self.pending);
            let known = !self.wrong.network && !task.news.scope.network;
            if !(known && self.alter(&desired, &alteration)) {
                task.news.scope.network = true;
            }
            alteration.apply_to(&mut desired);
        }
        if task.news.scope != Scope::NOTHING {
            self.bring_in_line(&desired, task);
        } else if altered {
            self.tell_state(None);
        }
        self.desired = Some(desired);
    }

    /// Brings about what is different from what the kernel is known to hold. Returns whether that came to pass.
    fn alter(&mut self, desired: &Desired, alteration: &Alteration) -> bool {
        let before = self.netlink.traffic();
        let plan = reconcile::alter(desired, &self.observed, alteration);
        tell(&plan.steps, Cause::Wanted);
        let outcome = self.apply(desired, &plan);
        let sent = self.netlink.traffic() - before;
        debug!(
            "altered: {} changes in {} batches, {} tables listed, {} objects looked up",
            sent.changes, sent.batches, sent.lists, sent.lookups
        );
        outcome.refused.is_none() && !plan.unfinished
    }

    /// Compares and applies until nothing is left to do.
    fn bring_in_line(&mut self, desired: &Desired, task: Task) {
        let Task { cause, news } = task;
        let mut scope = news.scope;
        let before = self.netlink.traffic();
        let mut trouble = None;
        let mut done = BTreeSet::new();
        let mut withheld = BTreeSet::new();
        for pass in 0..PASSES {
            let suspects = if pass == 0 { &news.suspects[..] } else { &[] };
            if let Err(error) = self.look(desired, scope, suspects) {
                trouble = Some(format!("cannot look at the kernel's tables: {error}"));
                break;
            }
            let mut plan = reconcile::plan_within(desired, &self.observed, scope);
            if cause == Cause::Changed {
                self.withhold(&mut plan, &mut withheld);
            }
            if plan.steps.is_empty() {
                trouble = None;
                break;
            }
            tell(&plan.steps, cause);
            let outcome = self.apply(desired, &plan);
            if cause == Cause::Changed && !news.uplink {
                // What comes to light only after another repair is a consequence, unless it has to be done twice.
                let undone = |object: &Object| pass == 0 || done.contains(object);
                self.note_repairs(outcome.done.iter().filter(|object| undone(object)));
            }
            done.extend(outcome.done);
            if outcome.refused.is_some() && outcome.refused == trouble {
                break;
            }
            trouble = outcome.refused.or_else(|| {
                Some(format!(
                    "something undoes what is done here, most lately: {}",
                    plan.steps[0]
                ))
            });
            // A device brings its settings with it.
            scope.settings |= scope.network;
        }
        if scope.firewall {
            trouble = trouble.or_else(|| self.rules.trouble());
        }
        let sent = self.netlink.traffic() - before;
        if sent != Traffic::default() {
            debug!(
                "compared: {} changes in {} batches, {} tables listed, {} objects looked up",
                sent.changes, sent.batches, sent.lists, sent.lookups
            );
        }
        self.observed.forget_entries();
        self.plan_next(scope, trouble.is_none(), &withheld);
        self.tell_state(trouble);
    }

    /// Takes the steps out of the plan that have to wait, because somebody keeps undoing them.
    fn withhold(&mut self, plan: &mut Plan, withheld: &mut BTreeSet<Object>) {
        let now = Instant::now();
        plan.steps.retain(|step| {
            let held = self.ledger.held_until(&step.object, now).is_some();
            if held {
                withheld.insert(step.object.clone());
            }
            !held
        });
    }

    fn note_repairs<'a>(&mut self, objects: impl Iterator<Item = &'a Object>) {
        let now = Instant::now();
        let mut contested = Vec::new();
        for object in objects {
            if self.ledger.repaired(object, now) {
                contested.push(object);
            }
        }
        for object in contested.iter().take(STEPS_TOLD) {
            warn!(
                "somebody keeps undoing this: {object}. It is put right less often from now on, until it is left alone"
            );
        }
        if contested.len() > STEPS_TOLD {
            let more = contested.len() - STEPS_TOLD;
            warn!("… and the same with {more} objects more");
        }
    }

    fn plan_next(&mut self, scope: Scope, in_line: bool, withheld: &BTreeSet<Object>) {
        let now = Instant::now();
        let held = withheld
            .iter()
            .filter_map(|object| self.ledger.held_until(object, now));
        self.timers.contested = held.chain(self.timers.contested).min();
        if in_line {
            self.wrong = self.wrong.without(scope);
            if self.wrong == Scope::NOTHING {
                self.timers.retry = None;
            }
            return;
        }
        self.wrong = self.wrong.and(scope);
        let wait = self.timers.retry.map_or(FIRST_RETRY, |(_, wait)| wait);
        self.timers.retry = Some((now + wait, (wait * 2).min(LAST_RETRY)));
    }

    fn look(
        &mut self,
        desired: &Desired,
        scope: Scope,
        suspects: &[Route],
    ) -> Result<(), KernelError> {
        if scope.network {
            let (devices, routes) = observe::network(&mut self.netlink, desired)?;
            (self.observed.devices, self.observed.routes) = (devices, routes);
            for suspect in suspects {
                if !self.observed.routes.contains(suspect) {
                    self.observed.routes.push(suspect.clone());
                }
            }
        }
        if scope.leftovers {
            self.observed.leftovers = observe::leftovers(&mut self.netlink, desired)?;
        }
        if scope.settings {
            self.observed.sysctls = observe::settings(desired);
            // One that is not observed is left alone.
            self.observed
                .sysctls
                .retain(|path, _| !self.locked.contains(path));
        }
        if scope.firewall {
            self.observed.firewall = observe::firewall(&mut self.nftables, desired)?;
            self.observed.iptables = self.rules.look(&mut self.nftables, desired);
        }
        Ok(())
    }

    /// Does the steps, all of those that can be done.
    fn apply(&mut self, desired: &Desired, plan: &Plan) -> Outcome {
        let mut outcome = Outcome::default();
        let (steps, changes): (Vec<&Step>, Vec<Change>) = plan
            .steps
            .iter()
            .filter_map(|step| Some((step, step.change()?)))
            .unzip();
        let mut failed = BTreeSet::new();
        if let Err(refusals) = self.netlink.apply(&changes) {
            for refusal in &refusals {
                // What is already gone, or came back in the meantime, the next comparison sees.
                if refusal.is_not_found() {
                    continue;
                }
                failed.insert(refusal.index);
                match changes.get(refusal.index) {
                    Some(Change::SetLink(change)) if change.vxlan.is_some() => {
                        if let LinkName::Index(index) = change.link {
                            self.observed.unalterable.insert(index);
                        }
                    }
                    _ => outcome.refuse(refusal.to_string()),
                }
            }
        }
        let made = steps.iter().enumerate();
        let made = made.filter(|(position, _)| !failed.contains(position));
        outcome
            .done
            .extend(made.map(|(_, step)| step.object.clone()));
        for step in &plan.steps {
            let result = match &step.action {
                Action::Kernel(_) => continue,
                Action::Sysctl { path, value } => match sysctl::write(path, value) {
                    Err(error) if error.is_locked() => {
                        warn!("{error}; going on without it");
                        self.locked.insert(path.clone());
                        continue;
                    }
                    other => other.map(drop).map_err(|error| error.to_string()),
                },
                Action::Firewall => self
                    .nftables
                    .replace(&desired.firewall)
                    .map_err(|error| error.to_string()),
                Action::DeleteTables(tables) => self
                    .delete_tables(tables)
                    .map_err(|error| error.to_string()),
                Action::Iptables(restore) => {
                    self.rules.write(restore).map_err(|error| error.to_string())
                }
            };
            match result {
                Ok(()) => drop(outcome.done.insert(step.object.clone())),
                Err(error) => outcome.refuse(error),
            }
        }
        outcome
    }

    fn delete_tables(&mut self, tables: &[(nft::Family, String)]) -> Result<(), nft::Error> {
        let tables: Vec<_> = tables
            .iter()
            .map(|(family, name)| (*family, name.as_str()))
            .collect();
        self.nftables.delete(&tables)
    }

    fn tell_state(&mut self, trouble: Option<String>) {
        self.tell_trouble(trouble.clone());
        let contested = self.ledger.contested();
        let devices = self.observed.devices.iter();
        let macs = devices
            .filter_map(|(name, found)| Some((name.clone(), found.link.mac?)))
            .collect();
        let waiting = self.timers.contested.is_some();
        self.report.send_replace(KernelState {
            generation: self.generation,
            in_line: self.wrong == Scope::NOTHING && !waiting,
            trouble,
            contested,
            macs,
        });
    }

    /// Logs trouble once, not at every try.
    fn tell_trouble(&mut self, trouble: Option<String>) {
        match (&trouble, &self.last_trouble) {
            (Some(now), before) if before.as_ref() != Some(now) => {
                error!("the kernel's state is not what it should be, trying again: {now}");
            }
            (None, Some(_)) if self.wrong == Scope::NOTHING => {
                info!("the kernel's state is what it should be again");
            }
            (None, Some(_)) => return,
            _ => {}
        }
        self.last_trouble = trouble;
    }
}

impl Timers {
    fn next(&self) -> Instant {
        let retry = self.retry.map(|(at, _)| at);
        let others = retry.into_iter().chain(self.contested).chain(self.rules);
        others.fold(self.comparison.min(self.settings), Instant::min)
    }
}

/// What became of the steps of a plan.
#[derive(Debug, Default)]
struct Outcome {
    done: BTreeSet<Object>,
    refused: Option<String>,
}

impl Outcome {
    fn refuse(&mut self, reason: String) {
        self.refused = Some(match self.refused.take() {
            None => reason,
            Some(before) => format!("{before}; {reason}"),
        });
    }
}

/// A step after a lease changed is told with the lease; a repair is news of its own.
fn tell(steps: &[Step], cause: Cause) {
    for step in steps.iter().take(STEPS_TOLD) {
        match cause {
            Cause::Wanted => debug!("{step}"),
            Cause::Changed => warn!("repaired: {step}"),
        }
    }
    if steps.len() > STEPS_TOLD {
        let more = steps.len() - STEPS_TOLD;
        match cause {
            Cause::Wanted => debug!("… and {more} steps more"),
            Cause::Changed => warn!("… and {more} repairs more"),
        }
    }
}
