//! What is done when the start is over.

use std::time::Duration;

use hostnet::memory::let_go_of_files;
use tracing::debug;

/// So long after the network works, the first lists, the first probes and their like are over too.
const AFTER: Duration = Duration::from_secs(10);

/// Lets go of the code that only a start needs, a while from now: a quiet daemon needs a small part of its program.
pub(super) fn settle() {
    tokio::spawn(async {
        tokio::time::sleep(AFTER).await;
        match let_go_of_files() {
            Ok(bytes) => debug!("the start is over: let go of {} KiB of code", bytes / 1024),
            Err(error) => debug!("the start is over, its code stays in memory: {error}"),
        }
    });
}
