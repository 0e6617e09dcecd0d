//! What was wanted until a moment ago.
//!
//! What is done here comes back as a notification on another way, and on a busy machine late: by then something else may be wanted,
//! and what is only an echo looks like somebody's doing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::desired::Alteration;

/// How late an echo may come, and how long looking at what may be one is put off.
pub(super) const ECHO: Duration = Duration::from_secs(2);

/// For each alteration of late, what takes it back.
#[derive(Debug, Default)]
pub(super) struct Lately(VecDeque<(Instant, Alteration)>);

impl Lately {
    /// An alteration has been made that `former` takes back.
    pub(super) fn note(&mut self, former: Alteration, now: Instant) {
        self.forget(now);
        self.0.push_back((now, former));
    }

    /// Lets go of what is too old for an echo.
    pub(super) fn forget(&mut self, now: Instant) {
        while self.0.front().is_some_and(|(at, _)| *at + ECHO < now) {
            self.0.pop_front();
        }
    }

    /// Whether this is so of one of them.
    pub(super) fn any(&self, mut is_so: impl FnMut(&Alteration) -> bool) -> bool {
        self.0.iter().any(|(_, former)| is_so(former))
    }
}
