//! What was put right of late, for whoever asks.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::reconcile::{Object, Step};

/// So many repairs are remembered.
pub const REMEMBERED: usize = 200;

/// Something that somebody changed and that was put right, once or again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// When, the last time.
    pub at: SystemTime,
    /// When, the first time.
    pub first: SystemTime,
    /// How often.
    pub times: u64,
    /// What.
    pub object: Object,
    /// What was done, the last time.
    pub action: String,
    /// Why, in words that follow the object's name.
    pub reason: String,
}

/// The last repairs, the newest at the end. Clones are the same journal.
#[derive(Clone, Debug, Default)]
pub struct Journal(Arc<Mutex<VecDeque<Repair>>>);

impl Journal {
    /// What was put right, the newest last.
    pub fn repairs(&self) -> Vec<Repair> {
        self.lock().iter().cloned().collect()
    }

    /// Notes what was put right at this time. The same thing for the same reason is one repair, done again: what somebody keeps
    /// undoing must not push the others out.
    pub(super) fn note<'a>(&self, at: SystemTime, steps: impl Iterator<Item = &'a Step>) {
        let mut repairs = self.lock();
        for step in steps {
            let same =
                |repair: &Repair| repair.object == step.object && repair.reason == step.reason;
            // Of late is where it is looked for first: what is undone now was undone a moment ago.
            let before = repairs.iter().rposition(same);
            let before = before.and_then(|place| repairs.remove(place));
            if repairs.len() == REMEMBERED {
                repairs.pop_front();
            }
            let (first, times) = before.map_or((at, 0), |before| (before.first, before.times));
            repairs.push_back(Repair {
                at,
                first,
                times: times + 1,
                object: step.object.clone(),
                action: step.action.to_string(),
                reason: step.reason.clone(),
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Repair>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::reconcile::Action;

    fn step(reason: impl Into<String>) -> Step {
        Step {
            object: Object::Firewall,
            action: Action::Firewall,
            reason: reason.into(),
        }
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let journal = Journal::default();
        let steps: Vec<Step> = (0..REMEMBERED + 7)
            .map(|number| step(number.to_string()))
            .collect();
        journal.note(SystemTime::now(), steps.iter());
        let repairs = journal.repairs();
        assert_eq!(repairs.len(), REMEMBERED);
        assert_eq!(repairs[0].reason, "7");
        assert_eq!(repairs[REMEMBERED - 1].reason, (REMEMBERED + 6).to_string());
    }

    #[test]
    fn the_same_thing_for_the_same_reason_is_one_repair() {
        let journal = Journal::default();
        let start = SystemTime::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        journal.note(start, [&step("gone"), &step("altered")].into_iter());
        for seconds in 1..=REMEMBERED as u64 + 10 {
            journal.note(later(seconds), [&step("gone")].into_iter());
        }
        let repairs = journal.repairs();
        let short = repairs
            .iter()
            .map(|repair| (&*repair.reason, repair.times, repair.first, repair.at));
        let last = REMEMBERED as u64 + 10;
        assert_eq!(
            short.collect::<Vec<_>>(),
            [
                ("altered", 1, start, start),
                ("gone", last + 1, start, later(last)),
            ]
        );
    }
}
