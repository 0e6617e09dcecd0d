//! Medians, percentiles, spreads and ratios: pure functions over samples.

use serde::{Deserialize, Serialize};

/// The median of some values with the lowest and the highest of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// Of these values; nothing of none, and nothing when one of them is no number.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let sorted = sorted(values)?;
        Some(Self {
            low: *sorted.first()?,
            median: middle(&sorted)?,
            high: *sorted.last()?,
        })
    }

    /// How many times `other` each value is, round by round: what disturbs the machine in a round disturbs both. Rounds in
    /// which `other` is zero tell nothing.
    pub(crate) fn of_ratios(values: &[f64], other: &[f64]) -> Option<Self> {
        let pairs = values.iter().zip(other);
        let ratios: Vec<f64> = pairs
            .filter(|(_, other)| **other != 0.0)
            .map(|(value, other)| value / other)
            .collect();
        Self::of(&ratios)
    }
}

/// The median; between two values in the middle, their mean.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    middle(&sorted(values)?)
}

/// The smallest of the values below or at which so many per cent of them lie (the nearest rank).
pub(crate) fn percentile(values: &[f64], percent: f64) -> Option<f64> {
    let sorted = sorted(values)?;
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len()) - 1).copied()
}

fn sorted(values: &[f64]) -> Option<Vec<f64>> {
    let mut sorted = values.to_vec();
    if sorted.is_empty() || sorted.iter().any(|value| !value.is_finite()) {
        return None;
    }
    sorted.sort_by(f64::total_cmp);
    Some(sorted)
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let half = sorted.len() / 2;
    let upper = *sorted.get(half)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*sorted.get(half.checked_sub(1)?)?, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&hundred, 50.0), Some(50.0));
        assert_eq!(percentile(&hundred, 99.0), Some(99.0));
        assert_eq!(percentile(&hundred, 100.0), Some(100.0));
        assert_eq!(percentile(&hundred, 0.0), Some(1.0));
        assert_eq!(percentile(&[5.0, 9.0], 99.0), Some(9.0));
        assert_eq!(percentile(&[], 50.0), None);
    }

    #[test]
    fn a_spread_reaches_from_the_lowest_to_the_highest() {
        let spread = Spread::of(&[2.0, 9.0, 4.0]).unwrap();
        assert_eq!((spread.low, spread.median, spread.high), (2.0, 4.0, 9.0));
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        // The machine was half as fast in the second round: for both, so the ratio does not notice.
        let spread = Spread::of_ratios(&[30.0, 60.0, 33.0], &[10.0, 20.0, 10.0]).unwrap();
        assert_eq!((spread.low, spread.median, spread.high), (3.0, 3.0, 3.3));
        assert_eq!(Spread::of_ratios(&[1.0], &[0.0]), None);
        assert_eq!(Spread::of_ratios(&[1.0], &[]), None);
    }
}
