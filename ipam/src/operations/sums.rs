//! What records add up to.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::record::{Record, Verb};

/// Upper ends of the classes by which calls are counted, in microseconds. A last class takes what is slower.
pub const BUCKETS: [u64; 12] = [
    500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 500_000, 1_000_000, 10_000_000,
    60_000_000,
];

/// So many pairs of verb and code are told apart; plugins of others may have codes of any number.
const PAIRS: usize = 128;
/// The code that stands for all further ones.
const FURTHER: u32 = u32::MAX;

/// The calls of a verb that ended with the same code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// What was asked for.
    pub verb: Verb,
    /// The code of the error document; 0 for success.
    pub code: u32,
    /// How many and how long.
    pub tally: Tally,
}

/// How many calls there were and how long they took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How many took at most as long as [`BUCKETS`] says and longer than the class before; the last takes the rest.
    pub classes: [u64; BUCKETS.len() + 1],
    /// How long all took together, in microseconds.
    pub micros: u64,
}

impl Tally {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.classes
            .iter()
            .fold(0, |sum, class| sum.saturating_add(*class))
    }

    /// How long all took together.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_micros(self.micros)
    }

    fn add(&mut self, micros: u64) {
        let class = BUCKETS
            .iter()
            .position(|end| micros <= *end)
            .unwrap_or(BUCKETS.len());
        self.classes[class] = self.classes[class].saturating_add(1);
        self.micros = self.micros.saturating_add(micros);
    }
}

/// What was folded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sums {
    /// How many logs.
    pub(super) folded: u64,
    pub(super) counted: Vec<Counted>,
}

impl Sums {
    pub(super) fn add(&mut self, records: &[Record]) {
        for record in records {
            self.tally(record.verb, record.code).add(record.micros);
        }
    }

    fn tally(&mut self, verb: Verb, code: u32) -> &mut Tally {
        let place = |all: &[Counted], code| {
            all.iter()
                .position(|one| (one.verb, one.code) == (verb, code))
        };
        let code = match place(&self.counted, code) {
            None if self.counted.len() >= PAIRS => FURTHER,
            _ => code,
        };
        let place = place(&self.counted, code).unwrap_or_else(|| {
            self.counted.push(Counted {
                verb,
                code,
                tally: Tally::default(),
            });
            self.counted.len() - 1
        });
        &mut self.counted[place].tally
    }
}
