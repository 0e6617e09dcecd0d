//! Where log lines go: standard error, in the form for people, as much as `-v` asks for.

use std::io::IsTerminal;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging. `verbosity` is flannel's `-v`: 0 tells of changes and of what is wrong, 1 also of what is being done,
/// 2 and more of everything, the libraries' lines too from 3 on.
pub fn start(verbosity: u32) {
    let ours = match verbosity {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let libraries = if verbosity >= 3 {
        LevelFilter::DEBUG
    } else {
        LevelFilter::WARN
    };
    let filter = Targets::new()
        .with_target("flanneld", ours)
        .with_target("hostnet", ours)
        .with_default(libraries);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // Only a second start in the same process can fail, and then the first one goes on.
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init();
}
