//! Feeds the target that `LODEN_FUZZ_TARGET` names. One program for all of them: it is built once.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use loden_fuzz::{TARGETS, Target};

static CHOSEN: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("LODEN_FUZZ_TARGET").unwrap_or_default();
    let chosen = TARGETS.iter().find(|target| target.name == name);
    chosen.unwrap_or_else(|| {
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!("LODEN_FUZZ_TARGET must be one of {}", names.join(", "));
        std::process::exit(2)
    })
});

fuzz_target!(|input: &[u8]| (CHOSEN.run)(input));
