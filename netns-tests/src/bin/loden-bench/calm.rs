//! How busy the whole machine is.

use std::fs;
use std::num::NonZero;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// In `/proc/stat` (`USER_HZ`, the same on every Linux).
const TICKS_A_SECOND: f64 = 100.0;
/// So much of the processors may be in use for it to be calm.
const SHARE: f64 = 0.1;
const LOOK: Duration = Duration::from_secs(1);
/// Others may be at work all the time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the machine has nothing to do: after thousands of namespaces the kernel is busy for a while taking them down.
pub(crate) fn wait_calm() -> Result<()> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get) as f64;
    let start = Instant::now();
    loop {
        let (before, since) = (busy()?, Instant::now());
        thread::sleep(LOOK);
        let spent = busy()? - before;
        if spent < SHARE * processors * since.elapsed().as_secs_f64() || start.elapsed() > PATIENCE
        {
            return Ok(());
        }
    }
}

/// Processor seconds that the machine has spent on anything.
pub(crate) fn busy() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    let first = text.lines().next().context("/proc/stat is empty")?;
    Ok(busy_ticks(first) / TICKS_A_SECOND)
}

/// All columns but idle and waiting; what guests use is in another one already.
fn busy_ticks(line: &str) -> f64 {
    let columns = line.split_whitespace().skip(1).take(8).enumerate();
    columns
        .filter(|(column, _)| ![3, 4].contains(column))
        .filter_map(|(_, number)| number.parse::<f64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_waiting_are_not_busy() {
        assert_eq!(busy_ticks("cpu  10 2 30 4000 500 6 7 8 9 0"), 63.0);
    }
}
