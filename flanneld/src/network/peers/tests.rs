//! What is said of leases that are left out in one family only.

use super::*;

const DUAL: &str = "10.244.7.0-24&fd00:10:0:7::-64";

fn left_out(key: &str, skips: &[(Option<&str>, Unusable)]) -> LeftOut {
    let key: LeaseKey = key.parse().unwrap();
    let skip = |(subnet, reason): &(Option<&str>, Unusable)| Skipped {
        key,
        subnet: subnet.map(|subnet| subnet.parse().unwrap()),
        reason: reason.clone(),
    };
    let skipped: Vec<Skipped> = skips.iter().map(skip).collect();
    let mut all = LeftOut::of(&skipped);
    let one = all.remove(&key).unwrap();
    assert!(all.is_empty());
    one
}

fn lacks(family: &'static str) -> Unusable {
    let what = "a VTEP MAC";
    Unusable::Lacks { what, family }
}

#[test]
fn one_family_of_two_is_a_part() {
    let one = left_out(DUAL, &[(Some("fd00:10:0:7::/64"), lacks("IPv6"))]);
    assert_eq!(
        one.to_string(),
        "fd00:10:0:7::/64: it lacks a VTEP MAC for IPv6"
    );
}

#[test]
fn all_families_are_the_whole() {
    let single = left_out("10.244.7.0-24", &[(Some("10.244.7.0/24"), lacks("IPv4"))]);
    assert_eq!(single.part, None);
    let both = [
        (Some("10.244.7.0/24"), lacks("IPv4")),
        (Some("fd00:10:0:7::/64"), lacks("IPv6")),
    ];
    let both = left_out(DUAL, &both);
    assert_eq!(both.part, None);
    assert_eq!(
        both.to_string(),
        "it lacks a VTEP MAC for IPv4; it lacks a VTEP MAC for IPv6"
    );
}

#[test]
fn a_foreign_backend_is_that_of_the_whole_lease() {
    let theirs = "host-gw".to_owned();
    let foreign = Unusable::ForeignBackend {
        theirs,
        ours: "vxlan",
    };
    let one = left_out(DUAL, &[(Some("10.244.7.0/24"), foreign)]);
    assert_eq!(one.part, None);
}
