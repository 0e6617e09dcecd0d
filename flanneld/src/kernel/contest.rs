//! What somebody else keeps undoing: found out by counting, and put right less and less often, so that two programs that disagree
//! do not wear the host out.
//!
//! No clock of its own: each call says what time it is.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::reconcile::Object;

/// So many repairs of one object in [`WINDOW`] are taken for bad luck.
const REPAIRS: usize = 30;
/// In which repairs are counted. An object that stays right for so long after its last pause counts as left alone.
const WINDOW: Duration = Duration::from_secs(60);
/// How long an object is left as it is after one repair too many; twice as long after each that follows…
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// … up to this.
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// An object that somebody keeps undoing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contested {
    /// What it is.
    pub object: Object,
    /// How often it was put right since [`Self::since`].
    pub repairs: u64,
    /// When it was put right first.
    pub since: Instant,
    /// When it will be put right again at the earliest.
    pub next_attempt: Instant,
}

/// The repairs of late.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    objects: BTreeMap<Object, Record>,
}

#[derive(Debug)]
struct Record {
    recent: VecDeque<Instant>,
    repairs: u64,
    since: Instant,
    /// Once it is contested: the present pause and its end.
    pause: Option<(Duration, Instant)>,
}

impl Ledger {
    /// Notes that the object was put right. Returns whether that was one time too many, which is said once.
    pub(super) fn repaired(&mut self, object: &Object, now: Instant) -> bool {
        let record = self.objects.entry(object.clone()).or_insert(Record {
            recent: VecDeque::new(),
            repairs: 0,
            since: now,
            pause: None,
        });
        record.repairs += 1;
        record.recent.push_back(now);
        record.forget(now);
        let pause = match record.pause {
            Some((pause, _)) => (pause * 2).min(LAST_PAUSE),
            None if record.recent.len() > REPAIRS => FIRST_PAUSE,
            None => return false,
        };
        let first = record.pause.is_none();
        record.pause = Some((pause, now + pause));
        first
    }

    /// Until when the object is to be left as it is.
    pub(super) fn held_until(&self, object: &Object, now: Instant) -> Option<Instant> {
        let (_, until) = self.objects.get(object)?.pause?;
        (until > now).then_some(until)
    }

    /// Forgets what has been right for long enough, and returns what of that was contested.
    pub(super) fn settle(&mut self, now: Instant) -> Vec<Object> {
        let mut calm = Vec::new();
        self.objects.retain(|object, record| {
            record.forget(now);
            match record.pause {
                Some((_, until)) if until + WINDOW <= now => {
                    calm.push(object.clone());
                    false
                }
                Some(_) => true,
                None => !record.recent.is_empty(),
            }
        });
        calm
    }

    /// What is contested.
    pub(super) fn contested(&self) -> Vec<Contested> {
        let contested = self.objects.iter().filter_map(|(object, record)| {
            let (_, next_attempt) = record.pause?;
            Some(Contested {
                object: object.clone(),
                repairs: record.repairs,
                since: record.since,
                next_attempt,
            })
        });
        contested.collect()
    }
}

impl Record {
    fn forget(&mut self, now: Instant) {
        while self
            .recent
            .front()
            .is_some_and(|&then| then + WINDOW <= now)
        {
            self.recent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn object() -> Object {
        Object::Device("flannel.1".to_owned())
    }

    #[test]
    fn a_few_repairs_are_no_contest() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        let apart = WINDOW / u32::try_from(REPAIRS).unwrap();
        for number in 0..500 {
            // As often as it may be, for ever.
            let now = start + apart * number;
            assert!(!ledger.repaired(&object(), now));
            assert_eq!(ledger.held_until(&object(), now), None);
        }
    }

    #[test]
    fn who_keeps_undoing_is_told_of_once_and_waited_for_longer_and_longer() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        let mut now = start;
        let mut told = 0;
        let mut pauses = Vec::new();
        for _ in 0..REPAIRS + 15 {
            told += usize::from(ledger.repaired(&object(), now));
            if let Some(until) = ledger.held_until(&object(), now) {
                pauses.push((until - now).as_secs());
                now = until;
            }
        }
        assert_eq!(told, 1);
        assert_eq!(
            pauses,
            [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60, 60, 60, 60]
        );
        let contested = ledger.contested();
        assert_eq!((contested[0].repairs, contested[0].since), (45, start));
    }

    #[test]
    fn what_is_left_alone_is_forgotten_and_another_object_is_not_affected() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        for _ in 0..=REPAIRS {
            ledger.repaired(&object(), now);
        }
        let other = Object::Firewall;
        ledger.repaired(&other, now);
        assert_eq!(ledger.held_until(&other, now), None);
        assert_eq!(ledger.settle(now + WINDOW), []);
        let later = now + WINDOW + FIRST_PAUSE;
        assert_eq!(ledger.settle(later), [object()]);
        assert_eq!(ledger.contested(), []);
        assert!(!ledger.repaired(&object(), later));
    }

    proptest! {
        #[test]
        fn repairs_never_come_in_a_storm(delays in proptest::collection::vec(0u64..1000, 1..400)) {
            let (mut ledger, mut now) = (Ledger::default(), Instant::now());
            let mut repairs: VecDeque<Instant> = VecDeque::new();
            for delay in delays {
                now += Duration::from_millis(delay);
                ledger.settle(now);
                if ledger.held_until(&object(), now).is_none() {
                    ledger.repaired(&object(), now);
                    repairs.push_back(now);
                }
                repairs.retain(|&then| then + WINDOW > now);
                // Those that are taken for bad luck, and those behind pauses of 1, 2, 4, 8, 16 and 32 seconds.
                prop_assert!(repairs.len() <= REPAIRS + 7, "{} in a minute", repairs.len());
            }
        }
    }
}
