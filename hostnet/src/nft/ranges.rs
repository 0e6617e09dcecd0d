//! What a set of prefixes covers, as the fewest ranges: the form in which two sets can be compared.
//!
//! Also its translation to and from the elements of an nf_tables interval set, which is a list of boundaries: an element
//! starts a range, one marked as an end stands just behind its last address. Behind the highest address there is no room
//! for an end, so there it is left out.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

/// Disjoint ranges of addresses (first, last) that do not touch, in ascending order; addresses as numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Ranges(Vec<(u128, u128)>);

/// An element of an interval set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Boundary {
    pub(super) address: u128,
    /// The address is the first that is *not* covered (`NFT_SET_ELEM_INTERVAL_END`).
    pub(super) end: bool,
}

impl Ranges {
    /// What these prefixes cover together.
    pub(super) fn covering<'a>(prefixes: impl IntoIterator<Item = &'a IpNetwork>) -> Self {
        let ranges = prefixes
            .into_iter()
            .map(|prefix| (number(prefix.network()), number(prefix.broadcast())));
        Self::merged(ranges.collect())
    }

    /// The elements that make up the set.
    pub(super) fn boundaries(&self, highest: u128) -> Vec<Boundary> {
        let mut boundaries = Vec::with_capacity(2 * self.0.len());
        for &(first, last) in &self.0 {
            boundaries.push(Boundary {
                address: first,
                end: false,
            });
            if last < highest {
                boundaries.push(Boundary {
                    address: last + 1,
                    end: true,
                });
            }
        }
        boundaries
    }

    /// What these elements, in any order, cover. An end without a start is nothing, as for the kernel.
    pub(super) fn from_boundaries(mut boundaries: Vec<Boundary>, highest: u128) -> Self {
        // At one address an end belongs to what comes before it, a start to what follows.
        boundaries.sort_unstable_by_key(|boundary| (boundary.address, !boundary.end));
        let mut ranges = Vec::with_capacity(boundaries.len());
        let mut open = None;
        for Boundary { address, end } in boundaries {
            if end {
                if let (Some(first), Some(last)) = (open.take(), address.checked_sub(1)) {
                    ranges.push((first, last));
                }
            } else if let Some(first) = open.replace(address) {
                // Two starts in a row: the second ends the first, as when a lookup finds the nearest one below.
                ranges.push((first, address.saturating_sub(1)));
            }
        }
        ranges.extend(open.map(|first| (first, highest)));
        Self::merged(ranges)
    }

    fn merged(mut ranges: Vec<(u128, u128)>) -> Self {
        ranges.retain(|(first, last)| first <= last);
        ranges.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u128, u128)> {
        self.0.iter().copied()
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests;
