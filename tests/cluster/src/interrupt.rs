//! SIGINT and SIGTERM: whatever waits ends at once, and what was changed is put back before the program ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use signal_hook::consts::{SIGINT, SIGTERM};

static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
static CLEANING: AtomicBool = AtomicBool::new(false);

/// Listens from now on.
pub(crate) fn listen() -> Result<()> {
    let flag = Arc::clone(ASKED.get_or_init(Arc::default));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
    }
    Ok(())
}

/// Whether somebody asked to end.
pub(crate) fn asked() -> bool {
    ASKED.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// From here on things are put back, which is not interrupted.
pub(crate) fn cleaning(yes: bool) {
    CLEANING.store(yes, Ordering::Relaxed);
}

/// # Errors
/// If somebody asked to end, unless things are being put back.
pub(crate) fn check() -> Result<()> {
    if asked() && !CLEANING.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}

/// Lets this much time pass.
///
/// # Errors
/// If somebody asks to end meanwhile.
pub(crate) fn pause(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        check()?;
        std::thread::sleep(Duration::from_millis(20).min(time));
    }
    check()
}
