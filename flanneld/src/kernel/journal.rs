//! What was put right of late, for whoever asks.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::reconcile::{Object, Step};

/// So many repairs are remembered.
pub const REMEMBERED: usize = 200;

/// Something that somebody changed and that was put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// When.
    pub at: SystemTime,
    /// What.
    pub object: Object,
    /// What was done.
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

    /// Notes what was put right just now.
    pub(super) fn note<'a>(&self, steps: impl Iterator<Item = &'a Step>) {
        let at = SystemTime::now();
        let mut repairs = self.lock();
        for step in steps {
            if repairs.len() == REMEMBERED {
                repairs.pop_front();
            }
            repairs.push_back(Repair {
                at,
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
    use super::*;
    use crate::reconcile::Action;

    #[test]
    fn the_oldest_are_forgotten() {
        let journal = Journal::default();
        let step = |number: usize| Step {
            object: Object::Firewall,
            action: Action::Firewall,
            reason: number.to_string(),
        };
        let steps: Vec<Step> = (0..REMEMBERED + 7).map(step).collect();
        journal.note(steps.iter());
        let repairs = journal.repairs();
        assert_eq!(repairs.len(), REMEMBERED);
        assert_eq!(repairs[0].reason, "7");
        assert_eq!(repairs[REMEMBERED - 1].reason, (REMEMBERED + 6).to_string());
    }
}
