//! STATUS: whether an ADD would work now.
//!
//! Runtimes ask often, some of them while holding a lock, so it is bounded and changes nothing. A pool that is locked by
//! others is a pool at work, not a reason to take the node out of service.

use std::time::Duration;

use ipam::pool::Range;
use ipam::{Pool, PoolError};

use crate::delegated;
use crate::foreign::ForeignError;
use crate::protocol::args::CniArgs;
use crate::protocol::{Config, Error, Invocation, Verb};
use crate::request::{self, By, Delegation};

/// How long the pool's lock is waited for: containerd asks without a deadline of its own.
const PATIENCE: Duration = Duration::from_millis(100);

/// Does it.
///
/// # Errors
///
/// [`Error::NotReady`] if no pod can be attached, and what is wrong with the config.
pub fn status(call: &Invocation, config: &Config) -> Result<(), Error> {
    let delegation = match request::delegation(config, &CniArgs::default()) {
        Ok(delegation) => delegation,
        Err(Error::SubnetFile { source, .. }) => {
            return Err(Error::NotReady {
                limited: has_attachments(config),
                reason: source.to_string(),
            });
        }
        Err(error) => return Err(error),
    };
    let By::Us(conf) = &delegation.by else {
        return ask(call, config, delegation);
    };
    if conf.ipam.foreign.is_some() {
        return ask(call, config, delegation);
    }
    let pool = request::pool_waiting(config, &request::data_dir(conf), PATIENCE)?;
    for set in &request::range_sets(conf)? {
        let Some((free, total)) = room(&pool, set)? else {
            return Ok(());
        };
        if free == 0 {
            let ranges: Vec<_> = set.iter().map(Range::to_string).collect();
            let ranges = ranges.join(", ");
            return Err(Error::NotReady {
                limited: false,
                reason: PoolError::Exhausted { ranges, total }.to_string(),
            });
        }
    }
    Ok(())
}

/// Asks the plugin of others on which an ADD depends. One that does not answer in time is at work like a locked pool.
fn ask(call: &Invocation, config: &Config, delegation: Delegation) -> Result<(), Error> {
    match delegated::pass_on(Verb::Status, call, config, delegation, PATIENCE) {
        Err(Error::Foreign(ForeignError::Late { .. })) => Ok(()),
        Err(Error::Foreign(
            error @ (ForeignError::Missing { .. } | ForeignError::Start { .. }),
        )) => Err(Error::NotReady {
            limited: false,
            reason: error.to_string(),
        }),
        other => other,
    }
}

/// How many addresses of a set can be given, and how many there are; nothing while others keep the pool locked. One that
/// cools down can be given if need be.
fn room(pool: &Pool, set: &[Range]) -> Result<Option<(u64, u64)>, Error> {
    let (mut free, mut total) = (0, 0);
    for range in set {
        let usage = match pool.usage(range) {
            Ok(usage) => usage,
            Err(PoolError::Busy { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        free += usage.free + usage.cooling;
        total += usage.total;
    }
    Ok(Some((free, total)))
}

/// Whether pods of the network are there already, which then may have lost the way to other hosts.
fn has_attachments(config: &Config) -> bool {
    request::data_dirs(config).iter().any(|data_dir| {
        let pool = request::pool(config, data_dir).ok();
        pool.is_some_and(|pool| {
            let first = pool.attachments().map(|mut all| all.next().is_some());
            first.unwrap_or(false)
        })
    })
}
