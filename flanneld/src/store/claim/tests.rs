use ipam::choose::count_free;
use ipam::{Ipv4Cidr, Ipv6Cidr, LeaseBackend, NetConf, PerFamily};
use proptest::option;
use proptest::prelude::*;

use super::*;

/// Fifteen subnets of IPv4, or as many of IPv6 as well, or only those.
fn plan(v4: bool, v6: bool) -> SubnetPlan {
    let conf = format!(
        r#"{{"EnableIPv4": {v4}, "Network": "10.1.0.0/16", "SubnetLen": 20,
            "EnableIPv6": {v6}, "IPv6Network": "fd00::/56", "IPv6SubnetLen": 60}}"#
    );
    let conf = NetConf::parse(conf.as_bytes()).expect("a network configuration");
    conf.subnet_plan().expect("a plan")
}

fn record(host: u8) -> LeaseRecord {
    LeaseRecord {
        public: PerFamily {
            v4: (host != 0).then(|| [192, 0, 2, host].into()),
            v6: None,
        },
        backend: LeaseBackend::Unnamed,
    }
}

fn record_v6(host: u16) -> LeaseRecord {
    LeaseRecord {
        public: PerFamily::v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, host].into()),
        backend: LeaseBackend::Unnamed,
    }
}

/// IPv4 subnets in and around the plan's network, of its length and of others.
fn v4_subnet() -> impl Strategy<Value = Ipv4Cidr> {
    (0u8..20, prop_oneof![4 => Just(20u8), 1 => 16u8..24]).prop_map(|(index, prefix)| {
        let address = [10, 1 + index / 16, (index % 16) << 4, 0];
        Ipv4Cidr::masked(address.into(), prefix).expect("a subnet")
    })
}

fn v6_subnet() -> impl Strategy<Value = Ipv6Cidr> {
    (0u16..20, prop_oneof![4 => Just(60u8), 1 => 56u8..64]).prop_map(|(index, prefix)| {
        let address = [0xfd00, 0, 0, index << 4, 0, 0, 0, 0];
        Ipv6Cidr::masked(address.into(), prefix).expect("a subnet")
    })
}

fn subnets() -> impl Strategy<Value = Subnets> {
    (option::weighted(0.9, v4_subnet()), option::of(v6_subnet()))
        .prop_map(|(v4, v6)| Subnets { v4, v6 })
        .prop_filter("no subnet", |subnets| !subnets.is_empty())
}

fn entry() -> impl Strategy<Value = Entry> {
    (subnets(), 0u8..4, any::<bool>(), 1i64..1000).prop_map(|(subnets, host, bound, revision)| {
        let record = match host {
            0 => Err("not JSON".to_owned()),
            host => Ok(record(host)),
        };
        Entry {
            key: LeaseKey::new(subnets).expect("a key"),
            record,
            revision,
            created: 1,
            grant: if bound { 77 } else { 0 },
        }
    })
}

fn families() -> impl Strategy<Value = (bool, bool)> {
    prop_oneof![Just((true, false)), Just((true, true)), Just((false, true))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_decision_takes_what_is_ours_or_free(
        (v4, v6) in families(),
        entries in proptest::collection::vec(entry(), 0..25),
        previous in option::of(subnets()),
        seed: u64,
    ) {
        let (plan, own) = (plan(v4, v6), record(1));
        let ours = |entry: &Entry| entry.record == Ok(own.clone());
        let fitting: Vec<&Entry> = entries
            .iter()
            .filter(|entry| ours(entry) && fits(&plan, &entry.key.subnets()))
            .collect();
        match decide(&plan, &entries, &own, previous.as_ref(), || seed) {
            Ok(decision) => {
                for entry in &decision.withdraw {
                    prop_assert!(ours(entry) && !entry.is_reservation());
                    prop_assert!(!fits(&plan, &entry.key.subnets()));
                }
                for entry in &decision.unfit {
                    prop_assert!(ours(entry) && entry.is_reservation());
                }
                match decision.claim {
                    Claim::Reuse(entry) => {
                        prop_assert!(fitting.contains(&&entry));
                        let reserved = fitting.iter().any(|entry| entry.is_reservation());
                        prop_assert_eq!(entry.is_reservation(), reserved, "reservations come first");
                    }
                    Claim::Create(key, origin) => {
                        let chosen = key.subnets();
                        prop_assert!(fitting.is_empty());
                        prop_assert!(fits(&plan, &chosen));
                        for entry in &entries {
                            let gone = decision.withdraw.contains(entry);
                            prop_assert!(gone || !entry.key.subnets().overlap(&chosen));
                        }
                        if origin == Origin::Previous {
                            let before = previous.into_iter().chain(
                                decision.withdraw.iter().map(|entry| entry.key.subnets()),
                            );
                            let before: Vec<Subnets> = before.collect();
                            prop_assert!(!v4 || before.iter().any(|subnets| subnets.v4 == chosen.v4));
                            prop_assert!(!v6 || before.iter().any(|subnets| subnets.v6 == chosen.v6));
                        }
                    }
                }
            }
            Err(Full(_)) => {
                prop_assert!(fitting.is_empty());
                let taken = || entries.iter().filter(|entry| !ours(entry) || entry.is_reservation());
                let free_v4 = plan.v4.map(|range| {
                    count_free(&range, taken().filter_map(|entry| entry.key.subnets().v4))
                });
                let free_v6 = plan.v6.map(|range| {
                    count_free(&range, taken().filter_map(|entry| entry.key.subnets().v6))
                });
                prop_assert!(free_v4 == Some(0) || free_v6 == Some(0));
            }
        }
    }

    #[test]
    fn previous_subnets_that_are_free_are_taken_again(
        (v4, v6) in families(),
        others in proptest::collection::vec(entry(), 0..10),
        index in 1u8..16,
        index_v6 in 1u16..16,
        seed: u64,
    ) {
        let (plan, own) = (plan(v4, v6), record(99));
        let previous = Subnets {
            v4: v4.then(|| Ipv4Cidr::new([10, 1, index << 4, 0].into(), 20).expect("a subnet")),
            v6: v6.then(|| {
                let address = [0xfd00, 0, 0, index_v6 << 4, 0, 0, 0, 0];
                Ipv6Cidr::new(address.into(), 60).expect("a subnet")
            }),
        };
        let free = others.iter().all(|entry| !entry.key.subnets().overlap(&previous));
        let decided = decide(&plan, &others, &own, Some(&previous), || seed);
        let took = decided.is_ok_and(|decision| {
            decision.claim == Claim::Create(
                LeaseKey::new(previous).expect("a key"),
                Origin::Previous,
            )
        });
        prop_assert_eq!(took, free);
    }

    #[test]
    fn whatever_overlaps_is_a_rival(ours in any_subnets(), length in 0u8..=31, shift: u32, v6 in option::of(v6_subnet())) {
        let guards = rivals(&ours);
        prop_assert!(guards.len() <= 100, "etcd takes 128 comparisons in a transaction");
        // Another lease somewhere in ours or around it.
        let v4 = ours.v4.map(|v4| {
            let inside = u32::from(v4.network()) | (shift & (u32::MAX.checked_shr(v4.prefix().into()).unwrap_or(0)));
            Ipv4Cidr::masked(inside.into(), length).expect("a subnet")
        });
        let other = Subnets { v4, v6: v6.or(ours.v6) };
        prop_assume!(other.overlap(&ours));
        let key = LeaseKey::new(other).expect("a key").to_string();
        prop_assert!(guards.iter().any(|guard| key.starts_with(guard)), "{key} with {guards:?}");
    }
}

fn any_subnets() -> impl Strategy<Value = Subnets> {
    let v4 = (any::<u32>(), 0u8..=30)
        .prop_map(|(address, prefix)| Ipv4Cidr::masked(address.into(), prefix).expect("a subnet"));
    (
        option::weighted(0.9, v4),
        option::weighted(0.2, v6_subnet()),
    )
        .prop_map(|(v4, v6)| Subnets { v4, v6 })
        .prop_filter("no subnet", |subnets| !subnets.is_empty())
}

fn lease(key: &str, record: &LeaseRecord, grant: i64) -> Entry {
    Entry {
        key: key.parse().expect("a lease key"),
        record: Ok(record.clone()),
        revision: 5,
        created: 1,
        grant,
    }
}

#[test]
fn hosts_that_take_neighbouring_subnets_do_not_disturb_each_other() {
    let key = |text: &str| text.parse::<LeaseKey>().expect("a lease key");
    let guards = rivals(&key("10.5.52.0-24").subnets());
    let neighbour = key("10.5.53.0-24").to_string();
    assert!(!guards.iter().any(|guard| neighbour.starts_with(guard)));
}

#[test]
fn several_leases_of_ours_reservation_first_then_the_previous_one() {
    let (plan, own) = (plan(true, false), record(1));
    let previous = lease("10.1.64.0-20", &own, 7);
    let mut entries = vec![lease("10.1.32.0-20", &own, 6), previous.clone()];
    let before = previous.key.subnets();
    let claim = |entries: &[Entry]| {
        let decision = decide(&plan, entries, &own, Some(&before), || 0).expect("a decision");
        decision.claim
    };
    assert_eq!(claim(&entries), Claim::Reuse(previous));
    let reserved = lease("10.1.96.0-20", &own, 0);
    entries.push(reserved.clone());
    assert_eq!(claim(&entries), Claim::Reuse(reserved));
}

#[test]
fn a_second_family_leaves_the_subnet_of_the_first() {
    let own = record(1);
    let entries = [lease("10.1.32.0-20", &own, 6)];
    let decision = decide(&plan(true, true), &entries, &own, None, || 0).expect("a decision");
    let Claim::Create(key, origin) = decision.claim else {
        panic!("{:?}", decision.claim);
    };
    assert_eq!(key.subnets().v4, entries[0].key.subnets().v4);
    assert!(key.subnets().v6.is_some());
    assert_eq!(origin, Origin::Chosen);
    assert_eq!(decision.withdraw, entries);
}

#[test]
fn hosts_with_ipv6_alone_are_told_apart() {
    let plan = plan(false, true);
    let entries = [lease("0.0.0.0-0&fd00:0:0:10::-60", &record_v6(1), 6)];
    let claim = |own: &LeaseRecord| {
        let decision = decide(&plan, &entries, own, None, || 0).expect("a decision");
        decision.claim
    };
    assert_eq!(claim(&record_v6(1)), Claim::Reuse(entries[0].clone()));
    assert!(matches!(claim(&record_v6(2)), Claim::Create(key, _) if key != entries[0].key));
}

#[test]
fn a_full_network_is_named() {
    let own = record(1);
    let all = [lease("10.1.0.0-16", &record(2), 6)];
    let decided = decide(&plan(true, false), &all, &own, None, || 0);
    assert_eq!(decided, Err(Full("10.1.0.0/16".to_owned())));
}

#[test]
fn a_key_is_ours_by_what_it_says() {
    let (own, newer, wish, other) = (record(1), record(2), record(4), record(3));
    let mut known = Known::new(own.clone());
    known.confirm(&own, 5);
    known.attempt(&newer);
    let stands = |entry: &Entry| known.standing(Some(entry), &wish);
    let says = |record: &LeaseRecord| stands(&lease("10.1.32.0-20", record, 6));
    assert_eq!(known.standing(None, &wish), Standing::Gone);
    assert_eq!(says(&own), Standing::Ours);
    assert_eq!(says(&newer), Standing::Ours);
    assert_eq!(says(&wish), Standing::Ours, "what we would write anyway");
    assert!(matches!(says(&other), Standing::Foreign(text) if text.contains("192.0.2.3")));
    let mut garbage = lease("10.1.32.0-20", &own, 6);
    garbage.record = Err("not JSON".to_owned());
    assert!(matches!(stands(&garbage), Standing::Foreign(_)));
}

#[test]
fn a_key_that_an_operator_reserved_for_us_is_ours() {
    let own = LeaseRecord {
        backend: LeaseBackend::HostGw,
        ..record(1)
    };
    let mut known = Known::new(own.clone());
    known.confirm(&own, 5);
    let mut entry = lease("10.1.32.0-20", &record(1), 7);
    let foreign = |entry: &Entry| matches!(known.standing(Some(entry), &own), Standing::Foreign(_));
    assert!(foreign(&entry), "a lease of another program on this host");
    entry.grant = 0;
    assert!(!foreign(&entry), "a reservation");
    entry.record = Ok(record(2));
    assert!(foreign(&entry), "one for another host");
}

#[test]
fn a_lease_of_ours_that_an_operator_copied_into_a_reservation_is_ours() {
    let mut known = Known::new(record(1));
    known.confirm(&record(1), 3);
    known.confirm(&record(2), 4);
    let mut copied = lease("10.1.32.0-20", &record(1), 7);
    let stands = |entry: &Entry| known.standing(Some(entry), &record(2));
    assert!(matches!(stands(&copied), Standing::Foreign(_)));
    copied.grant = 0;
    assert_eq!(stands(&copied), Standing::Ours);
}

#[test]
fn what_a_backup_brings_back_is_ours_if_we_wrote_it() {
    let mut known = Known::new(record(1));
    known.confirm(&record(1), 6);
    known.confirm(&record(2), 9);
    // The same host as now with another device, as a daemon before this one published it.
    let before = LeaseRecord {
        backend: LeaseBackend::HostGw,
        ..record(2)
    };
    for (old, other_host) in [(record(1), false), (before, false), (record(3), true)] {
        let at = |revision| {
            let mut entry = lease("10.1.32.0-20", &old, 7);
            entry.revision = revision;
            known.standing(Some(&entry), &record(2)) == Standing::Ours
        };
        assert_eq!(at(8), !other_host, "{old}: older than what we wrote");
        assert!(!at(10), "{old}: somebody wrote it after us");
    }
}
