//! Answering what would be done if everything were compared now, without doing it; and whether the thread still goes round.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Order;
use super::worker::Worker;
use crate::reconcile::{self, Object, Plan, Scope};

/// What a comparison finds to do, and leaves undone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examination {
    /// The number of what is wanted, as [`super::Kernel::desire`] returned it; 0 as long as nothing is.
    pub generation: u64,
    /// Whether the leases of all nodes are known, so that what is not wanted is taken away.
    pub complete: bool,
    /// What would be done, in its order.
    pub due: Vec<Due>,
    /// Whether more follows when that is done.
    pub unfinished: bool,
    /// Why something could not be looked at.
    pub trouble: Option<String>,
}

/// One thing that would be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// What it is about.
    pub object: Object,
    /// What would be done.
    pub action: String,
    /// Why, in words that follow the object's name.
    pub reason: String,
    /// Somebody keeps undoing it, so it is left until then.
    pub held_until: Option<Instant>,
}

/// Asks the kernel's thread.
#[derive(Clone, Debug)]
pub struct Examiner(pub(super) Sender<Order>);

impl Examiner {
    /// What would be done now. Nothing if the thread does not answer within `patience`.
    pub async fn examine(&self, patience: Duration) -> Option<Examination> {
        let (answer, question) = oneshot::channel();
        self.0.send(Order::Examine(answer)).ok()?;
        tokio::time::timeout(patience, question).await.ok()?.ok()
    }
}

/// When the thread last went round: it does so every few seconds whatever happens.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// How long ago that was.
    pub fn age(&self) -> Duration {
        let now = since_first_use();
        Duration::from_millis(now.saturating_sub(self.0.load(Ordering::Relaxed)))
    }

    pub(super) fn beat(&self) {
        self.0.store(since_first_use(), Ordering::Relaxed);
    }
}

fn since_first_use() -> u64 {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let passed = FIRST.get_or_init(Instant::now).elapsed();
    u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)
}

impl Worker {
    /// Compares everything and changes nothing.
    pub(super) fn examine(&mut self) -> Examination {
        let Some(desired) = self.desired.take() else {
            return Examination::default();
        };
        let (plan, trouble) = match self.look(&desired, Scope::ALL, &[]) {
            Ok(()) => (
                reconcile::plan(&desired, &self.observed),
                self.rules.trouble(),
            ),
            // What would be planned after half a look says nothing.
            Err(error) => (
                Plan::default(),
                Some(format!("cannot look at the kernel's tables: {error}")),
            ),
        };
        self.observed.forget_entries();
        let now = Instant::now();
        let due = plan.steps.into_iter().map(|step| Due {
            held_until: self.ledger.held_until(&step.object, now),
            action: step.action.to_string(),
            object: step.object,
            reason: step.reason,
        });
        let examination = Examination {
            generation: self.generation,
            complete: desired.complete,
            due: due.collect(),
            unfinished: plan.unfinished,
            trouble,
        };
        self.desired = Some(desired);
        examination
    }
}
