use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::cidr::{Ipv4Cidr, Ipv6Cidr};
use crate::netconf::{NetConf, SubnetPlan};

fn plan(text: &str) -> SubnetPlan {
    NetConf::parse(text.as_bytes())
        .unwrap()
        .subnet_plan()
        .unwrap()
}

fn v4(text: &str) -> SubnetRange<Ipv4Cidr> {
    plan(text).v4.unwrap()
}

fn four(text: &str) -> Ipv4Cidr {
    text.parse().unwrap()
}

#[test]
fn the_whole_range_is_open_to_choice() {
    let range = v4(r#"{"Network": "10.3.0.0/16"}"#);
    assert_eq!(count_free(&range, []), 255);
    assert_eq!(free_subnet(&range, [], || 0), Some(range.min));
    assert_eq!(free_subnet(&range, [], || u64::MAX), Some(range.max));
    let step = u64::MAX / 255 + 1;
    let all: BTreeSet<_> = (0..255)
        .map(|place| free_subnet(&range, [], || place * step).unwrap())
        .collect();
    assert_eq!(all.len(), 255);
}

#[test]
fn the_last_free_one_is_found() {
    let range = v4(r#"{"Network": "10.3.0.0/24", "SubnetLen": 26}"#);
    let taken = [four("10.3.0.64/26"), four("10.3.0.192/26")];
    for random in [0, u64::MAX / 2, u64::MAX] {
        assert_eq!(
            free_subnet(&range, taken, || random),
            Some(four("10.3.0.128/26"))
        );
    }
    let taken = [
        four("10.3.0.64/26"),
        four("10.3.0.192/26"),
        four("10.3.0.128/26"),
    ];
    assert_eq!(free_subnet(&range, taken, || 7), None);
    assert_eq!(count_free(&range, taken), 0);
}

#[test]
fn subnets_of_other_lengths_are_kept_clear_of() {
    let range = v4(r#"{"Network": "10.3.0.0/24", "SubnetLen": 26}"#);
    let small_and_large = [four("10.3.0.129/32"), four("10.3.0.192/27")];
    assert_eq!(count_free(&range, small_and_large), 1);
    assert_eq!(
        free_subnet(&range, small_and_large, || 0),
        Some(four("10.3.0.64/26"))
    );
    assert_eq!(free_subnet(&range, [four("0.0.0.0/0")], || 0), None);
    // Those beside the range do not count.
    assert_eq!(
        count_free(
            &range,
            [
                four("10.3.1.0/24"),
                four("10.2.255.0/24"),
                four("10.3.0.0/26")
            ]
        ),
        3
    );
}

#[test]
fn huge_ranges_cost_nothing() {
    let range = plan(
        r#"{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "::/0", "IPv6SubnetLen": 126}"#,
    )
    .v6
    .unwrap();
    let taken: [Ipv6Cidr; 1] = ["8000::/1".parse().unwrap()];
    assert_eq!(count_free(&range, taken), (1 << 125) - 1);
    let chosen = free_subnet(&range, taken, || u64::MAX).unwrap();
    assert!(range.contains(chosen) && !chosen.overlaps(taken[0]));
}

proptest! {
    /// Held against a walk over all subnets, as flannel does it.
    #[test]
    fn gives_exactly_the_free_ones(taken in proptest::collection::vec((0..=1023_u32, 22..=32_u8), 0..40), random: u64) {
        let range = v4(r#"{"Network": "10.3.0.0/22", "SubnetLen": 27, "SubnetMin": "10.3.0.64", "SubnetMax": "10.3.3.128"}"#);
        let base = u32::from_be_bytes([10, 3, 0, 0]);
        let taken: Vec<_> = taken.into_iter().map(|(bits, prefix)| Ipv4Cidr::masked((base + bits).into(), prefix).unwrap()).collect();
        let mut walk = Vec::new();
        let mut next = Some(range.min);
        while let Some(subnet) = next.filter(|&subnet| subnet <= range.max) {
            if !taken.iter().any(|taken| taken.overlaps(subnet)) {
                walk.push(subnet);
            }
            next = subnet.next();
        }
        prop_assert_eq!(count_free(&range, taken.iter().copied()), walk.len() as u128);
        let chosen = free_subnet(&range, taken.iter().copied(), || random);
        let expected = walk.get(((u128::from(random) * walk.len() as u128) >> 64) as usize).copied();
        prop_assert_eq!(chosen, expected);
    }

    #[test]
    fn never_overlaps_what_is_taken(taken in proptest::collection::vec((any::<u128>(), 0..=128_u8), 0..20), prefix in 0..=124_u8, bits: u128, random: u64) {
        let network = Ipv6Cidr::masked(bits.into(), prefix).unwrap();
        let range = plan(&format!(r#"{{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "{network}"}}"#)).v6.unwrap();
        let within = |bits: u128| network.bits() | bits & (network.last_bits() - network.bits());
        let taken: Vec<_> = taken.into_iter().map(|(bits, prefix)| Ipv6Cidr::masked(within(bits).into(), prefix).unwrap()).collect();
        match free_subnet(&range, taken.iter().copied(), || random) {
            Some(chosen) => {
                prop_assert!(range.contains(chosen));
                prop_assert!(!taken.iter().any(|taken| taken.overlaps(chosen)));
            }
            None => prop_assert_eq!(count_free(&range, taken.iter().copied()), 0),
        }
    }
}
