use proptest::{collection::vec, prelude::*};

use super::{Boundary, Ranges};
use crate::nft::strategies::{ipv4_prefixes, ipv6_prefixes};

const IPV4: u128 = u32::MAX as u128;

fn covering(prefixes: &[&str]) -> Ranges {
    let prefixes: Vec<_> = prefixes
        .iter()
        .map(|text| text.parse().expect("a prefix"))
        .collect();
    Ranges::covering(&prefixes)
}

fn boundary(address: u128, end: bool) -> Boundary {
    Boundary { address, end }
}

#[test]
fn prefixes_that_touch_or_overlap_are_one_range() {
    let ranges = covering(&["10.0.1.0/24", "10.0.0.0/24", "10.0.0.128/25", "10.0.3.0/24"]);
    let expected = vec![(0x0a00_0000, 0x0a00_01ff), (0x0a00_0300, 0x0a00_03ff)];
    assert_eq!(ranges.iter().collect::<Vec<_>>(), expected);
    assert_eq!(ranges, covering(&["10.0.3.0/24", "10.0.0.0/23"]));
}

#[test]
fn the_highest_address_needs_no_end() {
    let start = boundary(0xffff_ff00, false);
    let ranges = covering(&["255.255.255.0/24"]);
    assert_eq!(ranges.boundaries(IPV4), [start]);
    assert_eq!(Ranges::from_boundaries(vec![start], IPV4), ranges);
    let everything = covering(&["::/0"]);
    assert_eq!(everything.boundaries(u128::MAX), [boundary(0, false)]);
}

/// `nft` begins each set with an end at 0, and lists ranges that touch one by one.
#[test]
fn elements_as_nft_writes_them_are_understood() {
    let elements = vec![
        boundary(0, true),
        boundary(0x0a00_0000, false),
        boundary(0x0a00_0100, true),
        boundary(0x0a00_0100, false),
        boundary(0x0a00_0200, true),
    ];
    assert_eq!(
        Ranges::from_boundaries(elements, IPV4),
        covering(&["10.0.0.0/23"])
    );
}

proptest! {
    #[test]
    fn an_address_is_covered_exactly_if_a_prefix_has_it(
        prefixes in vec(ipv4_prefixes(), 0..12),
        addresses in vec(any::<u32>(), 8),
    ) {
        let ranges = Ranges::covering(&prefixes);
        let edges = prefixes.iter().flat_map(|prefix| [prefix.network(), prefix.broadcast()]);
        let edges = edges.map(super::number);
        let near = edges.flat_map(|edge| [edge.saturating_sub(1), edge, (edge + 1).min(IPV4)]);
        for number in near.chain(addresses.into_iter().map(u128::from)) {
            let address = std::net::Ipv4Addr::from_bits(u32::try_from(number).expect("32 bits"));
            let expected = prefixes.iter().any(|prefix| prefix.contains(address.into()));
            let covered = ranges.iter().any(|(first, last)| (first..=last).contains(&number));
            prop_assert_eq!(covered, expected, "{}", address);
        }
    }

    #[test]
    fn ranges_survive_as_elements(
        ipv4 in vec(ipv4_prefixes(), 0..12),
        ipv6 in vec(ipv6_prefixes(), 0..12),
    ) {
        for (prefixes, highest) in [(ipv4, IPV4), (ipv6, u128::MAX)] {
            let ranges = Ranges::covering(&prefixes);
            let mut elements = ranges.boundaries(highest);
            // The kernel lists them from the highest to the lowest.
            elements.reverse();
            prop_assert_eq!(Ranges::from_boundaries(elements, highest), ranges);
        }
    }

    #[test]
    fn no_elements_make_it_panic(elements in vec(any::<(u128, bool)>(), 0..12)) {
        let elements = elements.into_iter().map(|(address, end)| boundary(address, end));
        let ranges = Ranges::from_boundaries(elements.collect(), u128::MAX);
        prop_assert!(ranges.iter().all(|(first, last)| first <= last));
        let follow = ranges.iter().zip(ranges.iter().skip(1));
        for ((_, last), (first, _)) in follow {
            prop_assert!(last.checked_add(1).is_some_and(|next| next < first));
        }
    }
}
