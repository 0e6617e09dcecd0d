//! How long a call may take: a runtime that gives up on a call kills it, and cannot tell what it left.
//!
//! The program has one thread and waits inside the kernel, which cannot be cut short; what is bounded is what waits for
//! others (locks), and no step begins once the rest of the time belongs to undoing what was done.

use std::time::{Duration, Instant};

use ipam::pool::DEFAULT_LOCK_WAIT;

use crate::protocol::{Error, Verb};

/// Longest time of an ADD, undoing included. The shortest limit of a known runtime is a minute; a call that gives up much
/// earlier makes a bad hour worse: with 200 pods made at once on a machine of two processors, ADDs wait more than 20 s for
/// the kernel's one lock of links (RTNL), and each that is undone takes that lock as often again, and then its next try.
const ADD: Duration = Duration::from_secs(50);

/// Longest time of a DEL. It undoes nothing: doing it again takes up where it ended.
const DEL: Duration = Duration::from_secs(30);

/// What undoing may take even if there is no time left.
const LAST: Duration = Duration::from_secs(1);

/// The end of a call.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    verb: Verb,
    begin: Instant,
    limit: Duration,
    /// What undoing may take.
    reserve: Duration,
}

impl Deadline {
    /// That of an ADD that begins now. Its last part is for the one lock that undoing has to wait for.
    #[must_use]
    pub fn of_add() -> Self {
        Self::begun(Verb::Add, Instant::now(), ADD, DEFAULT_LOCK_WAIT)
    }

    /// That of a DEL that begins now.
    #[must_use]
    pub fn of_del() -> Self {
        Self::begun(Verb::Del, Instant::now(), DEL, Duration::ZERO)
    }

    fn begun(verb: Verb, begin: Instant, limit: Duration, reserve: Duration) -> Self {
        Self {
            verb,
            begin,
            limit,
            reserve,
        }
    }

    /// Whether another step may begin.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfTime`] if not.
    pub fn check(&self) -> Result<(), Error> {
        if self.begin.elapsed() + self.reserve < self.limit {
            return Ok(());
        }
        Err(Error::OutOfTime {
            verb: self.verb,
            limit: self.limit,
        })
    }

    /// How long a step that begins now may take.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfTime`] if none may begin.
    pub fn left(&self) -> Result<Duration, Error> {
        self.check()?;
        let spent = self.begin.elapsed() + self.reserve;
        Ok(self.limit.saturating_sub(spent))
    }

    /// How long undoing may take from now on; never nothing, since it is not to be left out.
    #[must_use]
    pub fn rest(&self) -> Duration {
        let left = self.limit.saturating_sub(self.begin.elapsed());
        left.max(LAST)
    }

    /// How long a lock may be waited for from now on.
    #[must_use]
    pub fn lock_wait(&self) -> Duration {
        let left = self.limit.saturating_sub(self.begin.elapsed());
        left.min(DEFAULT_LOCK_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun_ago(seconds: u64, deadline: Deadline) -> Deadline {
        let ago = Duration::from_secs(seconds);
        Deadline {
            begin: deadline.begin.checked_sub(ago).unwrap(),
            ..deadline
        }
    }

    #[test]
    fn no_step_begins_that_could_not_be_undone_in_time() {
        assert!(begun_ago(41, Deadline::of_add()).check().is_ok());
        let error = begun_ago(42, Deadline::of_add()).check().unwrap_err();
        assert_eq!(error.code(), 11);
        let text = error.to_string();
        assert!(text.contains("ADD") && text.contains("50 s"), "{text}");
        assert!(begun_ago(29, Deadline::of_del()).check().is_ok());
        assert!(begun_ago(30, Deadline::of_del()).check().is_err());
    }

    #[test]
    fn a_step_gets_what_undoing_does_not_need() {
        let left = begun_ago(35, Deadline::of_add()).left().unwrap();
        assert!(left <= Duration::from_secs(7), "{left:?}");
        assert!(begun_ago(42, Deadline::of_add()).left().is_err());
        let rest = begun_ago(42, Deadline::of_add()).rest();
        assert!(rest <= Duration::from_secs(8), "{rest:?}");
        assert_eq!(begun_ago(30, Deadline::of_del()).rest(), LAST);
    }

    #[test]
    fn a_lock_is_waited_for_no_longer_than_there_is_time() {
        assert_eq!(Deadline::of_add().lock_wait(), DEFAULT_LOCK_WAIT);
        assert!(begun_ago(27, Deadline::of_del()).lock_wait() <= Duration::from_secs(3));
        assert_eq!(
            begun_ago(30, Deadline::of_del()).lock_wait(),
            Duration::ZERO
        );
    }
}
