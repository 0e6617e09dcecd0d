//! How often something took how long.

use std::time::Duration;

/// Upper ends of the classes that fit requests to a store and work in the kernel, in seconds.
pub const SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Durations, counted by [`SECONDS`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// How many were longer than the class before and no longer than this one; the last takes the rest.
    classes: [u64; SECONDS.len() + 1],
    sum: Duration,
}

impl Histogram {
    /// Counts one.
    pub fn observe(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let class = SECONDS.iter().position(|end| seconds <= *end);
        self.classes[class.unwrap_or(SECONDS.len())] += 1;
        self.sum = self.sum.saturating_add(duration);
    }

    /// How many fell into each class, the one without an end last.
    pub fn classes(&self) -> &[u64] {
        &self.classes
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        self.sum
    }
}
