//! A kill after every single change of a file, and a disk that refuses any of them: no address is held twice afterwards,
//! and none is lost.

use super::*;

/// What a process does while it is killed.
type Act = fn(&Pool, &[RangeSet]) -> Result<(), PoolError>;

/// Stops `act` after its first change, its second, and so on until it comes through, each time on a fresh set-up, and
/// looks at what a process finds that comes after. Returns how many changes it makes.
fn stop_everywhere(sets: &[RangeSet], prepare: fn(&mut Bench, &[RangeSet]), act: Act) -> i64 {
    for stop in 0.. {
        for tear in [false, true] {
            let mut bench = Bench::new();
            prepare(&mut bench, sets);
            let before = bench.held();
            let pool = bench.pool();
            pool.disk.probe.stop_after(stop);
            if tear {
                pool.disk.probe.tear_the_last_write();
            }
            let result = act(&pool, sets);
            if !pool.disk.probe.stopped() {
                result.unwrap();
                return stop;
            }
            drop(pool);
            let after = bench.held();
            assert!(
                after.len().abs_diff(before.len()) <= sets.len(),
                "stop {stop}: {before:?} became {after:?}"
            );
            bench.audit(sets);
            // The runtime's next try, or its DEL, finds a pool that works.
            match act(&bench.pool(), sets) {
                Ok(()) | Err(PoolError::Duplicate { .. } | PoolError::Taken { .. }) => {}
                Err(error) => panic!("stop {stop}: the second try says: {error}"),
            }
            bench.audit(sets);
            bench.release("victim");
            assert!(
                !bench
                    .pool()
                    .attachments()
                    .unwrap()
                    .any(|attachment| attachment.unwrap().owner == owner("victim"))
            );
            bench.audit(sets);
        }
    }
    unreachable!("the numbers do not end")
}

fn one() -> Vec<RangeSet> {
    vec![vec![range("10.244.1.0/28")]]
}

fn dual() -> Vec<RangeSet> {
    vec![
        vec![range("10.244.1.0/28")],
        vec![range("fd00:10:244:1::/124")],
    ]
}

fn reserve(pool: &Pool, sets: &[RangeSet]) -> Result<(), PoolError> {
    pool.reserve(&owner("victim"), sets, &[], Details::default())
        .map(drop)
}

fn release(pool: &Pool, _: &[RangeSet]) -> Result<(), PoolError> {
    pool.release(&owner("victim"))?;
    // Who hears that it worked will not try again.
    assert!(!pool.disk.path("attachments/victim@eth0").exists());
    Ok(())
}

fn nothing(_: &mut Bench, _: &[RangeSet]) {}

#[test]
fn first_reservation_of_all() {
    let changes = stop_everywhere(&one(), nothing, reserve);
    assert!(
        changes >= 9,
        "directories, index, attachment: only {changes} changes were met"
    );
    stop_everywhere(&dual(), nothing, reserve);
}

/// Directories are made one after the other, which the probe counts as one change.
#[test]
fn first_reservation_stopped_between_two_directories() {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.pool().disk.path("")).unwrap();
    assert!(bench.release("victim").is_none());
    bench.reserve("victim", &one());
    bench.audit(&one());
}

#[test]
fn reservation_of_a_fresh_address() {
    for sets in [one(), dual()] {
        stop_everywhere(
            &sets,
            |bench, sets| drop(bench.reserve("first", sets)),
            reserve,
        );
    }
}

/// All addresses are given, and these back, in this order.
fn used_up(bench: &mut Bench, sets: &[RangeSet], back: &[usize]) {
    for number in 0..13 {
        bench.reserve(&format!("pod{number}"), sets);
    }
    for number in back {
        bench.pass(1);
        bench.release(&format!("pod{number}")).unwrap();
    }
}

#[test]
fn reservation_of_the_only_address_given_back() {
    stop_everywhere(&one(), |bench, sets| used_up(bench, sets, &[4]), reserve);
}

#[test]
fn reservation_of_the_oldest_address_given_back() {
    stop_everywhere(
        &dual(),
        |bench, sets| used_up(bench, sets, &[4, 2, 7]),
        reserve,
    );
}

#[test]
fn reservation_of_an_address_from_anywhere_in_the_list() {
    // Pods 4, 2 and 7 have the addresses 6, 4 and 9.
    let acts: [Act; 4] = [
        |pool, sets| {
            pool.reserve(
                &owner("victim"),
                sets,
                &[ip("10.244.1.6")],
                Details::default(),
            )
            .map(drop)
        },
        |pool, sets| {
            pool.reserve(
                &owner("victim"),
                sets,
                &[ip("10.244.1.4")],
                Details::default(),
            )
            .map(drop)
        },
        |pool, sets| {
            pool.reserve(
                &owner("victim"),
                sets,
                &[ip("10.244.1.9")],
                Details::default(),
            )
            .map(drop)
        },
        |pool, sets| {
            pool.reserve(
                &owner("victim"),
                sets,
                &[ip("10.244.1.12")],
                Details::default(),
            )
            .map(drop)
        },
    ];
    for act in &acts[..3] {
        stop_everywhere(&one(), |bench, sets| used_up(bench, sets, &[4, 2, 7]), *act);
    }
    stop_everywhere(
        &one(),
        |bench, sets| drop(bench.reserve("first", sets)),
        acts[3],
    );
}

#[test]
fn release_into_an_empty_list() {
    for sets in [one(), dual()] {
        stop_everywhere(
            &sets,
            |bench, sets| drop(bench.reserve("victim", sets)),
            release,
        );
    }
}

#[test]
fn an_address_released_by_a_killed_process_cools_down_too() {
    let sets = one();
    let bench = Bench::new();
    bench.reserve("victim", &sets);
    let pool = bench.pool();
    // Opening the lock, marking the index, removing the attachment.
    pool.disk.probe.stop_after(3);
    pool.release(&owner("victim")).unwrap();
    assert!(bench.held().is_empty() && pool.disk.probe.stopped());
    let usage = bench.pool().usage(&sets[0][0]).unwrap();
    assert_eq!((usage.used, usage.cooling), (0, 1));
}

#[test]
fn release_behind_others() {
    let prepare = |bench: &mut Bench, sets: &[RangeSet]| {
        for name in ["first", "second", "victim"] {
            bench.reserve(name, sets);
        }
        bench.release("first").unwrap();
    };
    stop_everywhere(&dual(), prepare, release);
}

#[test]
fn change_of_ranges() {
    let narrow = |bench: &mut Bench, _: &[RangeSet]| {
        let narrow = vec![vec![part("10.244.1.0/28", "10.244.1.4", "10.244.1.7")]];
        bench.reserve("first", &narrow);
        bench.reserve("second", &narrow);
        bench.release("first").unwrap();
    };
    stop_everywhere(&one(), narrow, reserve);
}

#[test]
fn reboot() {
    let reboot = |bench: &mut Bench, sets: &[RangeSet]| {
        bench.reserve("first", sets);
        bench.reserve("victim", sets);
        bench.boot = BootId::new("second boot");
    };
    stop_everywhere(&dual(), reboot, reserve);
    stop_everywhere(&dual(), reboot, release);
}

#[test]
fn take_over() {
    let act: Act = |pool, _| {
        pool.take_over(&owner("victim"), Details::default())
            .map(drop)
    };
    stop_everywhere(
        &dual(),
        |bench, sets| drop(bench.reserve("victim", sets)),
        act,
    );
}

#[test]
fn release_of_an_address_of_another_program() {
    let prepare = |bench: &mut Bench, sets: &[RangeSet]| {
        bench.foreign = vec![ip("10.244.1.2")];
        bench.reserve("first", sets);
        bench.foreign.clear();
    };
    let act: Act = |pool, _| pool.release_foreign(ip("10.244.1.2")).map(drop);
    stop_everywhere(&one(), prepare, act);
}

#[test]
fn removal_of_a_damaged_attachment() {
    let sets = one();
    for stop in 0.. {
        let bench = Bench::new();
        bench.reserve("victim", &sets);
        bench.reserve("first", &sets);
        let pool = bench.pool();
        std::fs::write(pool.disk.path("attachments/victim@eth0"), "{").unwrap();
        pool.disk.probe.stop_after(stop);
        let result = pool.release(&owner("victim"));
        let stopped = pool.disk.probe.stopped();
        if stopped {
            assert_eq!(bench.release("victim"), None);
        } else {
            assert_eq!(result.unwrap(), None);
        }
        bench.audit(&sets);
        assert_eq!(bench.held(), [ip("10.244.1.3")]);
        if !stopped {
            // Locking, marking the index, removing the file.
            assert_eq!(stop, 4);
            return;
        }
    }
}

/// Lets the disk refuse the first change of `act`, the second, and so on, once each.
fn refuse_everywhere(sets: &[RangeSet], prepare: fn(&mut Bench, &[RangeSet]), act: Act) {
    for refuse in 0.. {
        let mut bench = Bench::new();
        prepare(&mut bench, sets);
        let before = bench.held();
        let pool = bench.pool();
        pool.disk.probe.refuse_after(refuse);
        let result = act(&pool, sets);
        if !pool.disk.probe.refused() {
            result.unwrap();
            return;
        }
        match result {
            Err(error) => {
                assert!(
                    matches!(error, PoolError::Io { .. }),
                    "change {refuse}: {error}"
                );
                assert_eq!(
                    bench.held(),
                    before,
                    "change {refuse} failed but left something"
                );
                bench.audit(sets);
                act(&pool, sets).unwrap();
            }
            Ok(()) => assert!(
                matches!(act(&pool, sets), Ok(()) | Err(PoolError::Duplicate { .. })),
                "change {refuse} was missed but not made up for"
            ),
        }
        bench.audit(sets);
    }
}

#[test]
fn full_disk_at_a_reservation() {
    refuse_everywhere(&dual(), nothing, reserve);
    refuse_everywhere(
        &dual(),
        |bench, sets| drop(bench.reserve("first", sets)),
        reserve,
    );
    refuse_everywhere(
        &dual(),
        |bench, sets| used_up(bench, sets, &[4, 2, 7]),
        reserve,
    );
}

#[test]
fn full_disk_at_a_release() {
    refuse_everywhere(
        &dual(),
        |bench, sets| drop(bench.reserve("victim", sets)),
        release,
    );
}

#[test]
fn full_disk_at_a_take_over() {
    let act: Act = |pool, _| {
        pool.take_over(&owner("victim"), Details::default())
            .map(drop)
    };
    refuse_everywhere(
        &dual(),
        |bench, sets| drop(bench.reserve("victim", sets)),
        act,
    );
}
