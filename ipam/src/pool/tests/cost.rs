//! What a reservation costs: accesses to the file system are counted, since times say more about the machine.

use super::*;

/// Accesses of one reservation and one release beside this many others, in a pool with room for more.
fn accesses(others: u32) -> (u64, u64) {
    let bench = Bench::new();
    let sets = [vec![range("10.0.0.0/17")]];
    let pool = bench.pool();
    for number in 0..others {
        pool.reserve(
            &owner(&format!("pod{number}")),
            &sets,
            &[],
            Details::default(),
        )
        .unwrap();
    }
    // Both lists of the index have entries, and the index is there.
    for name in ["early", "late"] {
        pool.reserve(&owner(name), &sets, &[], Details::default())
            .unwrap();
        pool.release(&owner(name)).unwrap();
    }
    let pool = bench.pool();
    pool.reserve(&owner("counted"), &sets, &[], Details::default())
        .unwrap();
    let reserve = pool.disk.probe.take_accesses();
    pool.release(&owner("counted")).unwrap();
    (reserve, pool.disk.probe.take_accesses())
}

#[test]
fn does_not_grow_with_the_number_of_reservations() {
    let empty = accesses(0);
    assert_eq!(empty, accesses(20_000));
    // Each is one system call but for opening, which also closes. Reading the boot ID comes on top, three calls.
    assert!(
        empty.0 <= 12 && empty.1 <= 12,
        "{empty:?} accesses for one family"
    );
}
