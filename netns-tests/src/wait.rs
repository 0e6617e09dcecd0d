//! Waiting for a condition, with a deadline and a message that shows the last state seen.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks again and again until `look` succeeds, and returns what it returned; after `deadline` fails with the last error,
/// which therefore should tell the state seen:
///
/// ```
/// # use std::time::Duration;
/// # use anyhow::ensure;
/// # fn main() -> anyhow::Result<()> {
/// # let peers = || Ok::<_, anyhow::Error>(2);
/// netns_tests::eventually("b forgets a", Duration::from_secs(10), || {
///     let peers = peers()?;
///     ensure!(peers == 2, "{peers} peers");
///     Ok(())
/// })
/// # }
/// ```
pub fn eventually<T>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> Result<T>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        let error = match look() {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if start.elapsed() >= deadline {
            return Err(anyhow!(
                "\"{what}\" did not come true within {deadline:?}; last seen: {error:#}"
            ));
        }
        thread::sleep(PAUSE);
    }
}
