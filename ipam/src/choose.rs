//! Which free subnet a host takes.
//!
//! Hosts choose at the same time without talking to each other, so the choice is random over the whole range: the more
//! subnets there are to choose from, the rarer two hosts want the same. (Flannel looks only at the first 100.)

use crate::cidr::IpCidr;
use crate::netconf::SubnetRange;

/// How many subnets of the range have no address in common with those taken.
pub fn count_free<C: IpCidr>(range: &SubnetRange<C>, taken: impl IntoIterator<Item = C>) -> u128 {
    count(&gaps(range, taken))
}

/// A subnet of the range that has no address in common with those taken; `None` if there is none.
///
/// Every free subnet is as likely as every other, as far as `random` gives numbers that are spread evenly over `u64`.
pub fn free_subnet<C: IpCidr>(
    range: &SubnetRange<C>,
    taken: impl IntoIterator<Item = C>,
    random: impl FnOnce() -> u64,
) -> Option<C> {
    let gaps = gaps(range, taken);
    // Beyond 2^64 free subnets the first 2^64 are choice enough.
    let free = count(&gaps).min(1 << 64);
    let mut chosen = (u128::from(random()) * free) >> 64;
    for gap in gaps {
        if chosen < gap.len {
            return Some(C::from_bits(
                (gap.first + chosen) << host_bits(range),
                range.length(),
            ));
        }
        chosen -= gap.len;
    }
    None
}

/// Subnets in a row that are free. They are numbered by their network address without the host bits.
struct Gap {
    first: u128,
    len: u128,
}

fn count(gaps: &[Gap]) -> u128 {
    gaps.iter().map(|gap| gap.len).sum()
}

fn gaps<C: IpCidr>(range: &SubnetRange<C>, taken: impl IntoIterator<Item = C>) -> Vec<Gap> {
    let host_bits = host_bits(range);
    let last = range.max.bits() >> host_bits;
    let mut next = range.min.bits() >> host_bits;
    let mut taken: Vec<_> = taken
        .into_iter()
        .map(|subnet| (subnet.bits() >> host_bits, subnet.last_bits() >> host_bits))
        .collect();
    taken.sort_unstable();
    let mut gaps = Vec::new();
    for (taken_first, taken_last) in taken {
        if taken_first > last {
            break;
        }
        if next < taken_first {
            gaps.push(Gap {
                first: next,
                len: taken_first - next,
            });
        }
        next = next.max(taken_last + 1);
    }
    if next <= last {
        gaps.push(Gap {
            first: next,
            len: last - next + 1,
        });
    }
    gaps
}

fn host_bits<C: IpCidr>(range: &SubnetRange<C>) -> u8 {
    C::BITS - range.length()
}

#[cfg(test)]
mod tests;
