//! The repair matrix: whatever happens to something of ours in the kernel, it is put right, and what is foreign stays.
//!
//! `table` has what can happen (its rows are in `damages`), `scene` does it and compares, `uplink` has what takes more than a line of shell. The hosts of one backend
//! serve all its trials, with both families.

#[path = "repair/scene.rs"]
mod scene;
#[path = "repair/table.rs"]
mod table;
#[path = "repair/uplink.rs"]
mod uplink;

use std::process::ExitCode;
use std::time::Duration;

use netns_tests::harness::{Series, main_with_series};

use table::{Backend, trials};

fn main() -> ExitCode {
    let series = |backend: Backend, run| Series {
        name: backend.name(),
        trials: trials(backend).into_iter().map(|(name, ..)| name).collect(),
        run,
        deadline: Duration::from_secs(300),
    };
    main_with_series(
        &[],
        vec![
            series(Backend::Vxlan, |course| scene::run(Backend::Vxlan, course)),
            series(Backend::HostGw, |course| {
                scene::run(Backend::HostGw, course)
            }),
        ],
    )
}
