//! Asking other hosts whether packets get there: through the overlay, and beside it.
//!
//! A VTEP's address (`x.y.z.0`) and a host's public address are answered for by any kernel, so nothing of ours has to run over there, and
//! flannel's hosts answer too. The packets ([`packet`]) and what the answers mean ([`verdict`]) are pure; [`echo`] and [`tcp`] wait for
//! answers, [`peer`] asks all there is to ask of many hosts at once, in bounded time.

pub mod echo;
#[cfg(test)]
pub(crate) mod outcomes;
pub mod packet;
pub mod peer;
pub mod tcp;
pub mod verdict;

use std::collections::BTreeSet;
use std::time::Duration;

/// How long an answer is waited for, and how often the question is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How often it is asked.
    pub attempts: u16,
    /// How long after each.
    pub wait: Duration,
}

impl Patience {
    /// For hosts of one network, on a busy day, with a packet lost: answers take a millisecond or two.
    pub const USUAL: Self = Self {
        attempts: 3,
        wait: Duration::from_millis(400),
    };
    /// Where silence is expected, and asked about many times.
    pub const SHORT: Self = Self {
        attempts: 2,
        wait: Duration::from_millis(400),
    };
}

/// At most `most` of these, spread over all of them; another `turn`, others.
pub fn sample<T>(all: Vec<T>, most: usize, turn: usize) -> Vec<T> {
    let count = all.len();
    if count <= most {
        return all;
    }
    let places: BTreeSet<usize> = (0..most)
        .map(|place| (place * count / most + turn % count) % count)
        .collect();
    let numbered = all.into_iter().enumerate();
    let chosen = numbered.filter(|(index, _)| places.contains(index));
    chosen.map(|(_, one)| one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_sample_has_its_size_and_no_double(count in 0_usize..300, most in 0_usize..40, turn in 0_usize..1000) {
            let chosen = sample((0..count).collect(), most, turn);
            prop_assert_eq!(chosen.len(), count.min(most));
            prop_assert!(chosen.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    #[test]
    fn in_time_everybody_is_in_the_sample() {
        let mut seen = BTreeSet::new();
        for turn in 0..100 {
            seen.extend(sample((0..100).collect(), 7, turn));
        }
        assert_eq!(seen.len(), 100);
    }
}
