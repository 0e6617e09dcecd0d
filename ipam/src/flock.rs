//! Waiting for a lock on a file no longer than the caller can afford.
//!
//! The kernel has no flock with a time limit, so this asks again and again, after a pause that grows a little. A process
//! that dies gives its lock up.

use std::fs::File;
use std::time::{Duration, Instant};

/// A change under the lock takes about this long, so it is the first pause.
const SHORTEST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(4);

/// Asks `attempt` for the lock until it has it or the time is over; the inner error tells how long that took. An attempt
/// gives the file back while another process holds the lock.
pub(crate) fn acquire<L, E>(
    mut file: File,
    wait: Duration,
    mut attempt: impl FnMut(File) -> Result<Result<L, File>, E>,
) -> Result<Result<L, Duration>, E> {
    let begin = Instant::now();
    let mut pause = SHORTEST_PAUSE;
    loop {
        file = match attempt(file)? {
            Ok(lock) => return Ok(Ok(lock)),
            Err(file) => file,
        };
        let waited = begin.elapsed();
        if waited >= wait {
            return Ok(Err(waited));
        }
        std::thread::sleep(pause.min(wait - waited));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
