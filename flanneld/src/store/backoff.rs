//! Patience with a store that does not answer: growing, jittered delays, and saying each trouble once instead of at every try.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::Health;

/// At most this many different texts of one trouble are remembered (and said).
const TEXTS: usize = 16;

/// A random number, good enough to spread retries and choices over hosts; not for secrets.
pub(crate) fn random() -> u64 {
    // The standard library seeds its hash maps from the system's randomness, which is all the randomness needed here.
    RandomState::new().hash_one(())
}

/// Delays that double from `first` to `cap`, each drawn from the upper half of its interval so that hosts spread out.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    cap: Duration,
    next: Duration,
}

impl Backoff {
    /// Delays from `first` to `cap`.
    pub(crate) fn new(first: Duration, cap: Duration) -> Self {
        Self {
            first,
            cap,
            next: first.min(cap),
        }
    }

    /// The next delay. Never zero unless `first` is.
    pub(crate) fn delay(&mut self) -> Duration {
        self.delay_drawn(random())
    }

    /// The next delay, for this random number.
    pub(crate) fn delay_drawn(&mut self, drawn: u64) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(self.cap);
        let half = full / 2;
        let span = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
        half + Duration::from_nanos(drawn % span.saturating_add(1))
    }

    /// Waits for the next delay.
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.delay()).await;
    }

    /// Starts again at `first`: what was tried has worked.
    pub(crate) fn reset(&mut self) {
        self.next = self.first.min(self.cap);
    }
}

/// A trouble that may last: a warning when it begins and when its text changes, one line when it is over, silence between.
#[derive(Debug)]
pub(crate) struct Trouble {
    /// What cannot be done, as in "watching the leases".
    task: &'static str,
    since: Option<Instant>,
    said: BTreeSet<String>,
    shown: Option<Health>,
}

impl Trouble {
    /// No trouble yet with `task`.
    pub(crate) fn new(task: &'static str) -> Self {
        Self {
            task,
            since: None,
            said: BTreeSet::new(),
            shown: None,
        }
    }

    /// Shows its text there too as long as it lasts, for reports: a line in the log is hard to find hours later.
    pub(crate) fn shown_in(mut self, health: Health) -> Self {
        self.shown = Some(health);
        self
    }

    /// Whether it has begun and is not over.
    #[cfg(feature = "kube")]
    pub(crate) fn lasts(&self) -> bool {
        self.since.is_some()
    }

    /// Notes a failed try. True if its text is new and was therefore logged.
    pub(crate) fn report(&mut self, reason: &str) -> bool {
        self.since.get_or_insert_with(Instant::now);
        self.show(Some(format!("{}: {reason}", self.task)));
        if self.said.len() >= TEXTS || !self.said.insert(reason.to_owned()) {
            return false;
        }
        warn!("{}: {reason}; trying again until it works", self.task);
        true
    }

    /// Notes success. True if there was trouble before.
    pub(crate) fn over(&mut self) -> bool {
        let Some(since) = self.since.take() else {
            return false;
        };
        self.said.clear();
        self.show(None);
        let seconds = since.elapsed().as_secs();
        info!("{}: works again after {seconds} s", self.task);
        true
    }

    fn show(&self, text: Option<String>) {
        if let Some(health) = &self.shown {
            health.waits(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_waited_for_is_shown_until_it_is_over() {
        let health = Health::new("kubernetes", Vec::new());
        let mut trouble = Trouble::new("acquiring a lease").shown_in(health.clone());
        for reason in ["no subnet yet", "no Node", "no subnet yet"] {
            trouble.report(reason);
            assert_eq!(
                health.answers().waits,
                Some(format!("acquiring a lease: {reason}"))
            );
        }
        assert!(trouble.over());
        assert_eq!(health.answers().waits, None);
    }

    proptest! {
        #[test]
        fn delays_grow_to_the_cap_and_keep_half_of_it(draws in proptest::collection::vec(any::<u64>(), 12)) {
            let (first, cap) = (Duration::from_millis(100), Duration::from_secs(5));
            let mut backoff = Backoff::new(first, cap);
            let mut full = first;
            for drawn in draws {
                let delay = backoff.delay_drawn(drawn);
                prop_assert!(delay >= full / 2 && delay <= full, "{delay:?} of {full:?}");
                full = (full * 2).min(cap);
            }
            prop_assert_eq!(full, cap);
            backoff.reset();
            prop_assert!(backoff.delay() <= first);
        }
    }

    #[test]
    fn each_text_of_a_trouble_is_said_once() {
        let mut trouble = Trouble::new("testing");
        assert!(!trouble.over());
        assert!(trouble.report("refused"));
        assert!(!trouble.report("refused"));
        assert!(trouble.report("timed out"));
        assert!(!trouble.report("refused"));
        assert!(trouble.over());
        assert!(!trouble.over());
        assert!(trouble.report("refused"));
    }

    #[test]
    fn random_numbers_differ() {
        let drawn: BTreeSet<u64> = (0..100).map(|_| random()).collect();
        assert!(drawn.len() > 90);
    }
}
