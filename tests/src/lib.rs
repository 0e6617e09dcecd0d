//! What the tests here stand on: a real etcd of one's own, a cable to it that can be cut, hosts with their lease stores, and
//! waiting for conditions with a deadline. The tests themselves are in the folder `tests`; none of them needs root.

#![forbid(unsafe_code)]

mod cable;
mod cluster;
mod etcd;
pub mod kube;
pub mod store;

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

pub use cable::Cable;
pub use cluster::Cluster;
pub use etcd::{Etcd, EtcdOptions};

/// How long a condition may take to come true. Far more than needed: only a failing test waits that long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks `condition` again and again until it yields something, at most for [`PATIENCE`]. `what` names it in the error.
///
/// # Errors
/// When the time is over.
pub async fn eventually<T, F, Answer>(what: &str, mut condition: F) -> Result<T>
where
    F: FnMut() -> Answer,
    Answer: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = condition().await {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            bail!("waited {PATIENCE:?} in vain: {what}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The next event.
///
/// # Errors
/// When none comes for [`PATIENCE`], or none can come any more.
pub async fn next<T>(events: &mut mpsc::Receiver<T>) -> Result<T> {
    timeout(PATIENCE, events.recv())
        .await
        .context("no event came")?
        .context("the events ended")
}

/// The next event of which `pick` makes something, passing over others.
///
/// # Errors
/// As [`next`], for each event.
pub async fn next_that<T, U>(
    events: &mut mpsc::Receiver<T>,
    mut pick: impl FnMut(T) -> Option<U>,
) -> Result<U> {
    loop {
        if let Some(picked) = pick(next(events).await?) {
            return Ok(picked);
        }
    }
}
