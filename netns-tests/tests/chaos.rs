//! Chaos, seeded and repeatable: hosts join and leave, daemons are killed, etcd stops and starts, cables are cut, and whatever is ours in
//! the kernel is deleted or altered, several things at a time. After each round there is quiet, and then every pair of pods talks and
//! every host's kernel holds exactly what the leases ask for.
//!
//! `LODEN_CHAOS_SECONDS` says how long (half a minute each when not said), `LODEN_CHAOS_SEED` which sequence of events. The same seed makes the same
//! sequence; only how many rounds fit in the time differs. `arena` has the hosts and what can be done to them, `mischief` what happens in the
//! kernel, `expected` what the leases ask for, `random` the choices.

#[path = "chaos/arena.rs"]
mod arena;
#[path = "chaos/expected.rs"]
mod expected;
#[path = "chaos/mischief.rs"]
mod mischief;
#[path = "chaos/random.rs"]
mod random;

use std::env;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use netns_tests::{Families, NetConf};

use arena::Arena;
use expected::Backend;
use random::Random;

const SECONDS: &str = "LODEN_CHAOS_SECONDS";
const SEED: &str = "LODEN_CHAOS_SEED";

fn main() -> ExitCode {
    netns_tests::harness::main(if env::var_os(SECONDS).is_some() {
        netns_tests::test_list![
            vxlan_comes_through_chaos within 90_000,
            host_gw_comes_through_chaos within 90_000,
        ]
    } else {
        netns_tests::test_list![
            vxlan_comes_through_chaos within 240,
            host_gw_comes_through_chaos within 240,
        ]
    })
}

fn vxlan_comes_through_chaos() -> Result<()> {
    chaos(Backend::Vxlan)
}

fn host_gw_comes_through_chaos() -> Result<()> {
    chaos(Backend::HostGw)
}

fn chaos(backend: Backend) -> Result<()> {
    let seed = number(SEED)?.unwrap_or(1);
    let time = Duration::from_secs(number(SECONDS)?.unwrap_or(30));
    println!("{SEED}={seed}");
    let mut random = Random::new(seed);
    let conf = NetConf::new(backend.name(), Families::Dual);
    let mut arena = Arena::new(conf, backend)?;
    let start = Instant::now();
    let mut round = 0;
    while start.elapsed() < time {
        round += 1;
        println!("round {round}, {:?}", start.elapsed());
        for _ in 0..random.between(3, 7) {
            arena
                .act(&mut random)
                .with_context(|| format!("round {round} of {SEED}={seed}"))?;
        }
        arena
            .settle()
            .with_context(|| format!("after round {round} of {SEED}={seed}"))?;
    }
    println!("{round} rounds, all of them put right");
    Ok(())
}

fn number(variable: &str) -> Result<Option<u64>> {
    let Some(text) = env::var_os(variable) else {
        return Ok(None);
    };
    let text = text.to_string_lossy().replace('_', "");
    text.parse()
        .map(Some)
        .with_context(|| format!("{variable}={text} is no number"))
}
