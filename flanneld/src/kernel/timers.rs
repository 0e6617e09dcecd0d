//! When the thread looks again without being told.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tracing::info;

use super::lately::ECHO;
use super::worker::{Task, Worker};
use crate::reconcile::{Object, Scope};

/// A full comparison is made at least this often, whatever the notifications said.
const SLOW_COMPARISON: Duration = Duration::from_secs(60);
/// Of most settings the kernel tells nobody, and they are quickly read.
const SETTINGS_COMPARISON: Duration = Duration::from_secs(5);
/// After a refusal the next try comes this soon, then twice as late each time…
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// … up to this.
const LAST_RETRY: Duration = Duration::from_secs(10);

/// When to look again without being told.
#[derive(Debug)]
pub(super) struct Timers {
    comparison: Instant,
    settings: Instant,
    /// Of rules kept by iptables, where nobody tells of changes.
    rules: Option<Instant>,
    /// The next try after a refusal, and how long to wait after that.
    retry: Option<(Instant, Duration)>,
    /// When something contested may be put right again.
    pub(super) contested: Option<Instant>,
    /// When what seemed to be an echo is looked at after all.
    echo: Option<Instant>,
}

impl Timers {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            comparison: now + SLOW_COMPARISON,
            settings: now + SETTINGS_COMPARISON,
            rules: None,
            retry: None,
            contested: None,
            echo: None,
        }
    }

    pub(super) fn next(&self) -> Instant {
        let retry = self.retry.map(|(at, _)| at);
        let others = retry.into_iter().chain(self.contested).chain(self.rules);
        let others = others.chain(self.echo);
        others.fold(self.comparison.min(self.settings), Instant::min)
    }
}

impl Worker {
    /// What has to be looked at because its time has come.
    pub(super) fn due(&mut self, now: Instant, task: &mut Task) {
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
        if task.news.echo {
            timers.echo.get_or_insert(now + ECHO);
        }
        if timers.echo.is_some_and(|at| at <= now) {
            scope.network = true;
        }
        if scope.network {
            timers.echo = None;
        }
        for object in self.ledger.settle(now) {
            info!("{object} is left alone again");
        }
    }

    pub(super) fn plan_next(&mut self, scope: Scope, in_line: bool, withheld: &BTreeSet<Object>) {
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
}
