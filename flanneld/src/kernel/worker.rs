//! The thread itself: takes orders and news, looks, plans, applies, until nothing is left to do.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Instant, SystemTime};

use hostnet::nft::Nftables;
use hostnet::{Netlink, Route, Traffic, memory};
use tokio::sync::{oneshot, watch};
use tracing::{debug, error, info, warn};

use super::apply::{Cause, STEPS_TOLD, tell};
use super::contest::Ledger;
use super::examine::{Examination, Pulse};
use super::journal::Journal;
use super::lately::Lately;
use super::news::News;
use super::rules::Rules;
use super::timers::Timers;
use super::{KernelError, KernelState, Order, observe};
use crate::desired::{Alteration, Desired};
use crate::metrics::kernel::KernelMeter;
use crate::reconcile::{self, Object, Observed, Plan, Scope};

/// So many times a comparison may find more to do before it is taken for a quarrel with another program.
const PASSES: usize = 8;
/// What the orders and timers since the last comparison come to.
#[derive(Debug, Default)]
pub(super) struct Task {
    pub(super) cause: Cause,
    pub(super) news: News,
    /// Who wants to know what is left to do then.
    questions: Vec<oneshot::Sender<Examination>>,
}

/// Where the thread tells what it does.
pub(super) struct Told {
    pub(super) report: watch::Sender<KernelState>,
    pub(super) journal: Journal,
    pub(super) pulse: Pulse,
    pub(super) meter: KernelMeter,
}

pub(super) struct Worker {
    pub(super) netlink: Netlink,
    pub(super) nftables: Nftables,
    pub(super) told: Told,
    pub(super) desired: Option<Box<Desired>>,
    /// What is different from that by now, not yet brought about.
    pending: Alteration,
    /// What was different before.
    lately: Lately,
    pub(super) generation: u64,
    /// As it was found when last looked at. What hangs on devices is kept during a comparison only.
    pub(super) observed: Observed,
    /// Settings that nobody can change from here: containers have `/proc/sys` read-only.
    pub(super) locked: BTreeSet<String>,
    /// What could not be brought in line when last tried.
    pub(super) wrong: Scope,
    pub(super) rules: Rules,
    pub(super) ledger: Ledger,
    pub(super) timers: Timers,
    last_trouble: Option<String>,
}

impl Worker {
    pub(super) fn new(netlink: Netlink, nftables: Nftables, told: Told) -> Self {
        let now = Instant::now();
        Self {
            netlink,
            nftables,
            told,
            desired: None,
            pending: Alteration::default(),
            lately: Lately::default(),
            generation: 0,
            observed: Observed::default(),
            locked: BTreeSet::new(),
            // Nothing is known of it.
            wrong: Scope::ALL,
            rules: Rules::default(),
            ledger: Ledger::default(),
            timers: Timers::new(now),
            last_trouble: None,
        }
    }

    pub(super) fn run(mut self, inbox: &Receiver<Order>) {
        loop {
            self.told.pulse.beat();
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
            let questions = std::mem::take(&mut task.questions);
            self.work(task);
            // Whoever does not wait for the answer any more needs none.
            let asked = questions
                .into_iter()
                .filter(|question| !question.is_closed());
            for question in asked.collect::<Vec<_>>() {
                drop(question.send(self.examine()));
            }
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
            Order::Examine(question) => task.questions.push(question),
            Order::Look(None) => task.news.scope = Scope::ALL,
            Order::Look(Some(notices)) => {
                self.lately.forget(Instant::now());
                if let Some(desired) = &self.desired {
                    for notice in notices {
                        task.news
                            .take(notice, desired, &self.observed, &self.lately);
                    }
                }
            }
        }
    }

    fn work(&mut self, mut task: Task) {
        let Some(mut desired) = self.desired.take() else {
            return;
        };
        let begin = Instant::now();
        // Also where nothing is told of: the first peers of a large network are some megabytes.
        self.lately.forget(begin);
        let altered = !self.pending.is_empty();
        if altered {
            let alteration = std::mem::take(&mut self.pending);
            let known = !self.wrong.network && !task.news.scope.network;
            if !(known && self.alter(&desired, &alteration)) {
                task.news.scope.network = true;
            }
            self.lately.note(alteration.back_to(&desired), begin);
            alteration.apply_to(&mut desired);
        }
        if task.news.scope != Scope::NOTHING {
            self.bring_in_line(&desired, task);
        } else if altered {
            self.tell_state(None);
        }
        self.desired = Some(desired);
        self.told.meter.reconciled(begin.elapsed());
        self.told.meter.sent(self.netlink.traffic());
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
        let Task { cause, news, .. } = task;
        let mut scope = news.scope;
        let before = self.netlink.traffic();
        let mut trouble = None;
        let mut done = BTreeSet::new();
        let mut withheld = BTreeSet::new();
        for pass in 0..PASSES {
            self.told.meter.compared();
            let suspects = if pass == 0 { &news.suspects[..] } else { &[] };
            if let Err(error) = self.look(desired, scope, suspects) {
                self.told.meter.refused(1);
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
            if cause == Cause::Changed {
                let steps = plan.steps.iter();
                let steps = steps.filter(|step| outcome.done.contains(&step.object));
                self.told
                    .meter
                    .repaired(steps.clone().map(|step| &step.object));
                self.told.journal.note(SystemTime::now(), steps);
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
        if scope.network {
            memory::give_back();
        }
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

    pub(super) fn look(
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

    fn tell_state(&mut self, trouble: Option<String>) {
        self.tell_trouble(trouble.clone());
        let contested = self.ledger.contested();
        let devices = self.observed.devices.iter();
        let macs = devices
            .filter_map(|(name, found)| Some((name.clone(), found.link.mac?)))
            .collect();
        let waiting = self.timers.contested.is_some();
        self.told.report.send_replace(KernelState {
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
