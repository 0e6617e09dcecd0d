//! Whether the node counts as well: what `/healthz` and `/readyz` say. See docs/operations.md for what that means for a supervisor.

use std::time::{Duration, Instant};

use super::board::Facts;
use crate::kernel::KernelState;

/// The kernel may be found different from what it should be for so long: a repair takes milliseconds, and what is refused is tried
/// again within this.
const GRACE: Duration = Duration::from_secs(5);
/// The kernel's thread goes round at least every five seconds. It waits for other programs (iptables' lock) and for thousands of
/// changes, but not for so long.
const STUCK: Duration = Duration::from_secs(120);

/// Whether the process does its work. If not, one sentence why; only a restart can help then.
///
/// # Errors
/// The sentence.
pub fn alive(facts: &Facts) -> Result<(), String> {
    let Some(kernel) = &facts.kernel else {
        return Ok(());
    };
    stuck(kernel.pulse.age())
}

fn stuck(silence: Duration) -> Result<(), String> {
    if silence < STUCK {
        return Ok(());
    }
    Err(format!(
        "the thread that keeps the kernel has not moved for {} s",
        silence.as_secs()
    ))
}

/// Whether this node's pod network works as far as this node can tell. If not, one sentence why.
///
/// # Errors
/// The sentence.
pub fn ready(facts: &Facts, now: Instant) -> Result<(), String> {
    let Some(own) = &facts.own else {
        return Err(waits(facts));
    };
    if let Some(reason) = &own.lost {
        return Err(format!("the lease is lost: {reason}"));
    }
    if let Some(ended) = own.lease.expires.map(|at| at.into_std())
        && ended <= now
    {
        let since = now.duration_since(ended).as_secs();
        let why = own.trouble.as_deref().unwrap_or("it was not renewed");
        return Err(format!("the lease ended {since} s ago: {why}"));
    }
    if !facts.leases.known() {
        return Err("flanneld is not ready yet: the other nodes' leases are not known".to_owned());
    }
    if !facts.subnet_file_written {
        let trouble = facts.kernel.as_ref();
        let trouble = trouble.and_then(|kernel| kernel.state.trouble.as_deref());
        return Err(format!(
            "flanneld is not ready yet: {}",
            trouble.unwrap_or("the kernel does not hold all it should")
        ));
    }
    if let Some(trouble) = &facts.uplink_trouble {
        return Err(format!("there is no uplink: {trouble}"));
    }
    in_line(facts, now)
}

/// Why there is no lease yet. The tunnel's device is made before there is one, so the kernel may be what holds it up.
fn waits(facts: &Facts) -> String {
    let kernel = facts.kernel.as_ref();
    let why = kernel
        .and_then(|kernel| kernel.state.trouble.clone())
        .or_else(|| facts.store.answers().waits);
    match why {
        Some(why) => format!("flanneld is not ready yet, it has no lease: {why}"),
        None => "flanneld is not ready yet: it has no lease".to_owned(),
    }
}

fn in_line(facts: &Facts, now: Instant) -> Result<(), String> {
    let Some(kernel) = &facts.kernel else {
        return Ok(());
    };
    let late = kernel
        .late()
        .map(|since| now.saturating_duration_since(since));
    late.map_or(Ok(()), |late| behind(late, &kernel.state))
}

fn behind(late: Duration, state: &KernelState) -> Result<(), String> {
    if late < GRACE {
        return Ok(());
    }
    let why = match (&state.trouble, state.contested.first()) {
        (_, Some(contested)) => format!("somebody keeps undoing {}", contested.object),
        (Some(trouble), None) => trouble.clone(),
        (None, None) => "the work is not done yet".to_owned(),
    };
    Err(format!(
        "the kernel has not been as it should be for {} s: {why}",
        late.as_secs()
    ))
}

#[cfg(test)]
mod tests;
