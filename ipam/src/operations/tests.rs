use std::collections::BTreeMap;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);

fn operations() -> (TempDir, Operations) {
    let directory = tempfile::tempdir().unwrap();
    let operations = Operations::at(&directory.path().join("deep").join("operations"));
    (directory, operations)
}

fn counts(operations: &Operations) -> BTreeMap<(Verb, u32), u64> {
    let counted = operations.read().unwrap();
    let of = |one: &Counted| ((one.verb, one.code), one.tally.count());
    counted.iter().map(of).collect()
}

#[test]
fn calls_are_counted_by_verb_and_code() {
    let (_directory, operations) = operations();
    assert_eq!(counts(&operations), BTreeMap::new());
    operations.add(Verb::Add, 0, MILLISECOND).unwrap();
    operations.add(Verb::Add, 0, 3 * MILLISECOND).unwrap();
    operations.add(Verb::Add, 100, MILLISECOND).unwrap();
    operations.add(Verb::Del, 0, 70_000 * MILLISECOND).unwrap();
    let counted = operations.read().unwrap();
    let added = &counted[0].tally;
    assert_eq!(added.duration(), 4 * MILLISECOND);
    assert_eq!(added.classes[..4], [0, 1, 0, 1]);
    assert_eq!(counted[2].tally.classes[BUCKETS.len()], 1);
    let expected = [
        ((Verb::Add, 0), 2),
        ((Verb::Add, 100), 1),
        ((Verb::Del, 0), 1),
    ];
    assert_eq!(counts(&operations), expected.into());
}

#[test]
fn a_wrong_call_makes_nothing() {
    let (directory, operations) = operations();
    for code in WRONG_CALLS {
        operations.add(Verb::Unknown, code, MILLISECOND).unwrap();
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    operations.add(Verb::Add, 11, MILLISECOND).unwrap();
    operations.add(Verb::Add, 7, MILLISECOND).unwrap();
    let expected = [((Verb::Add, 7), 1), ((Verb::Add, 11), 1)];
    assert_eq!(counts(&operations), expected.into());
}

/// Fills the log, so that the next call folds it.
fn fill(operations: &Operations) {
    let record = Record::new(Verb::Add, 0, MILLISECOND).encode();
    let mut log = operations.open_log(true).unwrap().unwrap();
    log.write_all(&record.repeat(4096)).unwrap();
}

#[test]
fn a_long_log_is_folded_and_nothing_gets_lost() {
    let (_directory, operations) = operations();
    for round in 1..5_u64 {
        // Somebody who has the log open all the while.
        operations.add(Verb::Status, 0, MILLISECOND).unwrap();
        let mut slow = operations.open_log(true).unwrap().unwrap();
        fill(&operations);
        operations.add(Verb::Del, 0, MILLISECOND).unwrap();
        let late = Record::new(Verb::Gc, 0, MILLISECOND).encode();
        slow.write_all(&late).unwrap();
        let expected = [
            ((Verb::Add, 0), 4096 * round),
            ((Verb::Del, 0), round),
            ((Verb::Gc, 0), round),
            ((Verb::Status, 0), round),
        ];
        assert_eq!(counts(&operations), expected.into());
        let size: u64 = fs::read_dir(&operations.directory)
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert!(size < 2 * LONG, "{size} bytes in round {round}");
    }
}

#[test]
fn a_kill_while_folding_counts_nothing_twice() {
    let (_directory, operations) = operations();
    let path = |name: &str| operations.directory.join(name);
    for round in 1..3 {
        fill(&operations);
        operations.add(Verb::Del, 0, MILLISECOND).unwrap();
        assert_eq!(counts(&operations)[&(Verb::Add, 0)], 4096 * round);
    }
    // Killed after the sums were written: the former log is still there, the new one not sealed.
    let sealed_before = fs::read(path("sealed-1")).unwrap();
    fill(&operations);
    operations.add(Verb::Del, 0, MILLISECOND).unwrap();
    fs::rename(path("sealed-2"), path(LOG)).unwrap();
    fs::write(path("sealed-1"), sealed_before).unwrap();
    let before = counts(&operations);
    assert_eq!(before[&(Verb::Add, 0)], 4096 * 3);
    // The next one does the rest.
    operations.add(Verb::Gc, 0, MILLISECOND).unwrap();
    fill(&operations);
    operations.add(Verb::Gc, 0, MILLISECOND).unwrap();
    assert_eq!(counts(&operations)[&(Verb::Add, 0)], 4096 * 4);
    assert!(!path("sealed-1").exists() && path("sealed-3").exists());
}

#[test]
fn processes_at_the_same_time_do_not_disturb_each_other() {
    let (_directory, operations) = operations();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    operations.add(Verb::Check, 0, MILLISECOND).unwrap();
                }
            });
        }
        // What was counted once stays counted.
        let mut last = 0;
        for _ in 0..50 {
            let now = counts(&operations).values().sum();
            assert!(now >= last, "{now} after {last}");
            last = now;
        }
    });
    assert_eq!(counts(&operations)[&(Verb::Check, 0)], 16_000);
}

#[test]
fn foreign_codes_without_end_are_summed_up() {
    let mut sums = Sums::default();
    for code in 0..1000 {
        sums.add(&[Record::new(Verb::Add, code, MILLISECOND)]);
    }
    assert!(sums.counted.len() <= 129, "{}", sums.counted.len());
    let all: u64 = sums.counted.iter().map(|one| one.tally.count()).sum();
    assert_eq!(all, 1000);
}

proptest! {
    #[test]
    fn a_record_is_read_as_it_was_written(verb in 0..6_usize, code: u32, micros: u64) {
        let record = Record { verb: Verb::ALL[verb], code, micros };
        prop_assert_eq!(Record::decode(&record.encode()), Some(record));
    }

    #[test]
    fn whatever_lies_there_is_read(log: Vec<u8>, sums: Vec<u8>, sealed: Vec<u8>) {
        let (_directory, operations) = operations();
        operations.add(Verb::Add, 0, MILLISECOND).unwrap();
        fs::write(operations.directory.join(LOG), log).unwrap();
        fs::write(operations.directory.join(SUMS), sums).unwrap();
        fs::write(operations.directory.join("sealed-0"), sealed).unwrap();
        operations.read().unwrap();
        // Where the log is torn the next call may be lost, but not the one after that.
        operations.add(Verb::Del, 0, MILLISECOND).unwrap();
        operations.add(Verb::Gc, 7, MILLISECOND).unwrap();
        prop_assert!(counts(&operations)[&(Verb::Gc, 7)] >= 1);
    }
}
