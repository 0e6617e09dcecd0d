//! The lease protocol in a simulated world: hosts run the real code of this folder against a model of etcd, while requests and
//! answers get lost, come late or twice, networks fall silent, hosts pause past the end of their lease, clocks jump or stand
//! still, daemons die, etcd stops, elects, compacts its history or goes back to a backup, and operators meddle.
//!
//! Every schedule follows from a number, its seed. `LODEN_SCHEDULES` says how many are run, `LODEN_SEED` runs a single one and
//! says what happened.

use std::sync::atomic::{AtomicU64, Ordering};

use self::run::Schedule;

mod checks;
mod daemon;
mod faults;
mod model;
mod plan;
mod random;
mod run;
mod scene;
mod watches;
mod world;

/// Schedules in `make test`.
const SCHEDULES: u64 = 1_500;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let digits = text.replace('_', "");
    Some(digits.parse().expect("the variable holds a number"))
}

/// Runs one schedule; an error tells how to run it again.
fn run(seed: u64) -> Result<(), String> {
    let mut schedule = Schedule::new(seed);
    schedule.run().map_err(|wrong| {
        format!(
            "{wrong}\nSeed {seed}, a {:?} schedule; what happened, in milliseconds:\n{}\n\
             See it again with LODEN_SEED={seed} and the name of this test",
            schedule.temper,
            schedule.log.join("\n")
        )
    })
}

#[test]
fn no_two_hosts_hold_the_same_and_everybody_who_can_win_wins() {
    if let Some(seed) = number("LODEN_SEED") {
        run(seed).unwrap_or_else(|wrong| panic!("{wrong}"));
        return;
    }
    let count = number("LODEN_SCHEDULES").unwrap_or(SCHEDULES);
    let next = AtomicU64::new(0);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count {
                        return;
                    }
                    if let Err(wrong) = run(seed) {
                        // The others need not go on.
                        next.store(count, Ordering::Relaxed);
                        panic!("{wrong}");
                    }
                }
            });
        }
    });
}
