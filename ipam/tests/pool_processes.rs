//! Many processes on one pool at once, some of them killed in the middle of what they do.
//!
//! The processes are this test's own executable, started again with a variable in the environment that tells it what to
//! do instead of testing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::env;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use ipam::pool::{Details, Options, Owner, Pool, PoolError, Range, RangeSet, RangeSpec};

const DIRECTORY: &str = "LODEN_TEST_POOL";
const WORKER: &str = "LODEN_TEST_WORKER";

fn pool(directory: &Path) -> Pool {
    Pool::open(directory, "cbr0", Options::default()).unwrap()
}

fn range(subnet: &str) -> Range {
    RangeSpec::whole(subnet.parse().unwrap())
        .shared_link()
        .unwrap()
}

fn owner(worker: usize, pod: usize) -> Owner {
    Owner::new(&format!("worker{worker}-pod{pod}"), "eth0").unwrap()
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// What this process is to do instead of testing.
fn order() -> Option<(std::path::PathBuf, usize)> {
    let worker = env::var(WORKER).ok()?.parse().ok()?;
    Some((env::var_os(DIRECTORY)?.into(), worker))
}

fn start(test: &str, directory: &Path, worker: usize) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    command
        .env(DIRECTORY, directory)
        .env(WORKER, worker.to_string());
    command
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

fn held(pool: &Pool) -> Vec<IpAddr> {
    let attachments = pool.attachments().unwrap().map(Result::unwrap);
    attachments
        .flat_map(|attachment| attachment.addresses.into_iter().map(|held| held.address))
        .collect()
}

/// No address is held twice, and exactly those not held can be given.
fn audit(directory: &Path, sets: &[RangeSet]) {
    let pool = pool(directory);
    let mut seen = BTreeSet::new();
    for address in held(&pool) {
        assert!(seen.insert(address), "{address} is held twice");
    }
    for number in 0.. {
        match pool.reserve(&owner(usize::MAX, number), sets, &[], Details::default()) {
            Ok(attachment) => {
                for held in &attachment.addresses {
                    assert!(
                        seen.insert(held.address),
                        "{} was given twice",
                        held.address
                    );
                }
            }
            Err(PoolError::Exhausted { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
    for range in sets.iter().flatten() {
        let given = seen
            .iter()
            .filter(|&&address| range.contains(address))
            .count() as u64;
        assert_eq!(
            given,
            pool.usage(range).unwrap().total,
            "addresses of {range} have leaked"
        );
    }
    for number in 0.. {
        if pool.release(&owner(usize::MAX, number)).unwrap().is_none() {
            return;
        }
    }
}

/// Small enough that workers meet an empty pool now and then, and that the two families run out together.
fn crowded() -> [RangeSet; 2] {
    let six = RangeSpec {
        end: "fd00::3e".parse().ok(),
        ..RangeSpec::whole("fd00::/64".parse().unwrap())
    };
    [
        vec![range("10.244.1.0/26")],
        vec![six.shared_link().unwrap()],
    ]
}

const PODS: usize = 16;

/// Attaches and detaches pods of its own for ever, and says so with a byte each time.
fn work_until_killed(directory: &Path, worker: usize) -> ! {
    let pool = pool(directory);
    let sets = crowded();
    let mut state = worker as u64 ^ std::process::id() as u64;
    loop {
        // A linear congruential generator: which pod is next need not be a secret.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let pod = owner(worker, (state >> 33) as usize % PODS);
        match pool.reserve(&pod, &sets, &[], Details::default()) {
            Ok(attachment) => assert_eq!(attachment.addresses.len(), 2),
            Err(PoolError::Duplicate { .. } | PoolError::Exhausted { .. }) => {
                drop(pool.release(&pod).unwrap())
            }
            Err(error) => panic!("{error}"),
        }
        // The reader is gone only when the test is.
        if std::io::stdout()
            .write_all(b".")
            .and_then(|()| std::io::stdout().flush())
            .is_err()
        {
            std::process::exit(1);
        }
    }
}

#[test]
fn sigkill_at_any_moment_loses_no_address() {
    const NAME: &str = "sigkill_at_any_moment_loses_no_address";
    const WORKERS: usize = 5;
    const ROUNDS: usize = 30;
    if let Some((directory, worker)) = order() {
        work_until_killed(&directory, worker);
    }
    let directory = directory();
    let sets = crowded();
    for round in 0..ROUNDS {
        let mut workers: Vec<_> = (0..WORKERS)
            .map(|worker| start(NAME, directory.path(), worker))
            .collect();
        for (place, worker) in workers.iter_mut().enumerate() {
            // They are killed while they work, each after another number of turns.
            let mut turns = vec![0; 200 + (round * 37 + place * 101) % 61];
            worker
                .stdout
                .as_mut()
                .unwrap()
                .read_exact(&mut turns)
                .expect("a worker ended by itself");
            worker.kill().unwrap();
        }
        for mut worker in workers {
            let status = worker.wait().unwrap();
            assert_eq!(
                std::os::unix::process::ExitStatusExt::signal(&status),
                Some(9),
                "{status}"
            );
        }
        audit(directory.path(), &sets);
    }
    let pool = pool(directory.path());
    assert!(
        !held(&pool).is_empty(),
        "the workers left nothing behind to look at"
    );
    for worker in 0..WORKERS {
        for pod in 0..PODS {
            pool.release(&owner(worker, pod)).unwrap();
        }
    }
    assert_eq!(held(&pool), [] as [IpAddr; 0]);
    for range in sets.iter().flatten() {
        assert_eq!(pool.usage(range).unwrap().used, 0);
    }
}

#[test]
fn everyone_gets_an_address_of_their_own() {
    const NAME: &str = "everyone_gets_an_address_of_their_own";
    const WORKERS: usize = 8;
    const THREADS: usize = 8;
    const PODS: usize = 16;
    let sets = [vec![range("10.244.0.0/20")], vec![range("fd00::/64")]];
    if let Some((directory, worker)) = order() {
        let pool = pool(&directory);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (pool, sets) = (&pool, &sets);
                scope.spawn(move || {
                    for pod in 0..PODS {
                        let pod = owner(worker, thread * PODS + pod);
                        pool.reserve(&pod, sets, &[], Details::default()).unwrap();
                        // Every other one comes and goes, so that addresses change hands.
                        pool.release(&pod).unwrap().unwrap();
                        pool.reserve(&pod, sets, &[], Details::default()).unwrap();
                    }
                });
            }
        });
        return;
    }
    let directory = directory();
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| start(NAME, directory.path(), worker))
        .collect();
    for worker in workers {
        let output = worker.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
    let pool = pool(directory.path());
    let held = held(&pool);
    assert_eq!(held.len(), 2 * WORKERS * THREADS * PODS);
    assert_eq!(
        BTreeSet::from_iter(&held).len(),
        held.len(),
        "an address is held twice"
    );
    assert_eq!(
        pool.usage(&sets[0][0]).unwrap().used,
        (WORKERS * THREADS * PODS) as u64
    );
}
