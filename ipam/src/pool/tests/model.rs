//! The pool held against a map in memory, through anything that can happen to it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// A pod comes; perhaps it asks for an address, given as an offset in the subnet.
    Reserve {
        pod: u8,
        wish: Option<u8>,
        narrow: bool,
    },
    Release {
        pod: u8,
    },
    /// The process is killed after this many changes while a pod comes or goes.
    KilledReserve {
        pod: u8,
        changes: i64,
    },
    KilledRelease {
        pod: u8,
        changes: i64,
    },
    Pass {
        seconds: u64,
    },
    Distrust,
    Reboot,
}

fn any_step() -> impl Strategy<Value = Step> {
    let pod = || 0..16_u8;
    prop_oneof![
        6 => (pod(), proptest::option::weighted(0.2, 0..16_u8), prop::bool::weighted(0.1))
            .prop_map(|(pod, wish, narrow)| Step::Reserve { pod, wish, narrow }),
        5 => pod().prop_map(|pod| Step::Release { pod }),
        2 => (pod(), 0..14_i64).prop_map(|(pod, changes)| Step::KilledReserve { pod, changes }),
        2 => (pod(), 0..14_i64).prop_map(|(pod, changes)| Step::KilledRelease { pod, changes }),
        1 => (0..60_u64).prop_map(|seconds| Step::Pass { seconds }),
        1 => Just(Step::Distrust),
        1 => Just(Step::Reboot),
    ]
}

fn name(pod: u8) -> String {
    format!("pod{pod}")
}

fn wide() -> Vec<RangeSet> {
    vec![vec![range("10.244.1.0/28")]]
}

fn narrow() -> Vec<RangeSet> {
    vec![vec![part("10.244.1.0/28", "10.244.1.4", "10.244.1.9")]]
}

/// What the pool says must follow from what is held.
fn reserve(
    bench: &Bench,
    held: &mut BTreeMap<u8, IpAddr>,
    pod: u8,
    wish: Option<IpAddr>,
    sets: &[RangeSet],
) {
    let range = &sets[0][0];
    let can_give = |address: IpAddr| range.contains(address) && range.gateway() != Some(address);
    let taken = |address: IpAddr| held.values().any(|&other| other == address);
    let wishes: Vec<_> = wish.into_iter().collect();
    match bench
        .pool()
        .reserve(&owner(&name(pod)), sets, &wishes, Details::default())
    {
        Ok(attachment) => {
            let address = attachment.addresses[0].address;
            assert!(can_give(address) && !taken(address) && !held.contains_key(&pod));
            assert!(wish.is_none_or(|wish| wish == address));
            held.insert(pod, address);
        }
        Err(PoolError::Duplicate { existing }) => {
            assert_eq!(held.get(&pod), Some(&existing.addresses[0].address))
        }
        Err(PoolError::Taken { address }) => assert!(taken(address) && wish == Some(address)),
        Err(PoolError::Gateway { address } | PoolError::OutOfRange { address, .. }) => {
            assert!(!can_give(address))
        }
        Err(PoolError::Exhausted { total, .. }) => {
            assert!(wish.is_none());
            assert_eq!(
                held.values().filter(|&&address| can_give(address)).count() as u64,
                total
            );
        }
        Err(error) => panic!("{error}"),
    }
}

/// After a kill the pod either has what it had before or what it was to have after.
fn settle(bench: &Bench, held: &mut BTreeMap<u8, IpAddr>, pod: u8) {
    match bench.pool().attachment(&owner(&name(pod))).unwrap() {
        Some(attachment) => {
            let address = attachment.addresses[0].address;
            assert!(
                held.iter()
                    .all(|(&other, &theirs)| other == pod || theirs != address),
                "{address} is held twice"
            );
            assert!(
                held.insert(pod, address)
                    .is_none_or(|before| before == address)
            );
        }
        None => drop(held.remove(&pod)),
    }
}

fn killed(bench: &Bench, changes: i64, act: impl FnOnce(&Pool)) {
    let pool = bench.pool();
    pool.disk.probe.stop_after(changes);
    act(&pool);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_a_map(steps in proptest::collection::vec(any_step(), 1..60)) {
        let mut bench = Bench::new();
        let mut held = BTreeMap::new();
        let mut boots = 0;
        for step in steps {
            match step {
                Step::Reserve { pod, wish, narrow: is_narrow } => {
                    let wish = wish.map(|offset| IpAddr::from([10, 244, 1, offset]));
                    reserve(&bench, &mut held, pod, wish, &if is_narrow { narrow() } else { wide() });
                }
                Step::Release { pod } => {
                    let released = bench.release(&name(pod)).map(|attachment| attachment.addresses[0].address);
                    prop_assert_eq!(released, held.remove(&pod));
                }
                Step::KilledReserve { pod, changes } => {
                    killed(&bench, changes, |pool| drop(pool.reserve(&owner(&name(pod)), &wide(), &[], Details::default())));
                    settle(&bench, &mut held, pod);
                }
                Step::KilledRelease { pod, changes } => {
                    killed(&bench, changes, |pool| drop(pool.release(&owner(&name(pod)))));
                    settle(&bench, &mut held, pod);
                }
                Step::Pass { seconds } => bench.pass(seconds),
                Step::Distrust => bench.pool().distrust().unwrap(),
                Step::Reboot => {
                    boots += 1;
                    bench.boot = BootId::new(&format!("boot {boots}"));
                    held.clear();
                }
            }
            bench.inspect(&wide()[0][0]);
            bench.inspect(&narrow()[0][0]);
            prop_assert_eq!(BTreeSet::from_iter(bench.held()), BTreeSet::from_iter(held.values().copied()));
        }
        bench.audit(&wide());
    }
}
