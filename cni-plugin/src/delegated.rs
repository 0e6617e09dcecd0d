//! Attachments that a plugin of others makes, by the config that flannel's plugin would give it.
//!
//! What it was told is recorded before it is told, so that whatever it may have begun can be taken back by a DEL with the
//! same config, even after a kill, or when the config on stdin is another one by then.

use ipam::pool::{Details, Kind, Making, NetnsIdentity};
use ipam::{Pool, PoolError};

use crate::addresses;
use crate::deadline::Deadline;
use crate::foreign::{ForeignError, Order, Plugin};
use crate::mirror::Mirror;
use crate::protocol::json::{Json, Object};
use crate::protocol::result::AddResult;
use crate::protocol::{Config, Error, Invocation, Target, Verb};
use crate::request::{self, By, Delegation};
use crate::scratch::Scratch;
use crate::takedown::{self, Takedown};
use crate::verbs::add;

/// The key by which a runtime tells what an ADD reported.
const PREVIOUS: &str = "prevResult";

/// What a delegate has made.
#[derive(Debug)]
pub struct Delegated {
    plugin: Plugin,
    config: Object,
    target: Target,
    pool: Pool,
    making: Making,
    scratch: Scratch,
    deadline: Deadline,
}

impl Delegated {
    /// Has it taken back.
    ///
    /// # Errors
    ///
    /// If the delegate cannot. The record is kept then.
    pub fn undo(&self) -> Result<(), Error> {
        let limit = self.deadline.rest();
        takedown::order_del(&self.plugin, &self.config, &self.target, limit)?;
        self.scratch.remove()?;
        self.pool.release(&self.making.attachment.owner)?;
        Ok(())
    }

    /// The record, held as long as the attachment is being made.
    pub fn making(&self) -> &Making {
        &self.making
    }
}

/// Has the delegate of this name attach the target.
///
/// # Errors
///
/// Those of the delegate, and [`PoolError::Duplicate`]. Nothing of the attachment is there then.
pub fn add(
    call: &Invocation,
    target: &Target,
    config: &Config,
    (name, delegate): (&str, Object),
    netns: NetnsIdentity,
    deadline: Deadline,
) -> Result<(AddResult, Delegated), Error> {
    let plugin = Plugin::find(name, &call.path)?;
    let owner = request::owner(target)?;
    let pool = request::pool(config, ipam::pool::DEFAULT_DIRECTORY.as_ref())?;
    let details = Details {
        netns: Some(netns.clone()),
        kind: Kind::Foreign,
        pod: request::pod(&call.args),
        foreign: Some(addresses::foreign(&plugin, &delegate)?),
        ..Details::default()
    };
    let making = match pool.begin_foreign(&owner, details.clone()) {
        Err(PoolError::Duplicate { existing }) => {
            // Whether it still stands only the delegate knows.
            if add::is_taken(pool.stage(&owner)?, &existing, Some(&netns))? {
                return Err(PoolError::Duplicate { existing }.into());
            }
            let takedown = Takedown {
                search: &call.path,
                deadline,
            };
            takedown.carry_out(&existing, target)?;
            Mirror::of(config)?.forget(&existing)?;
            pool.release(&owner)?;
            pool.begin_foreign(&owner, details)?
        }
        other => other?,
    };
    let made = Delegated {
        plugin,
        config: delegate,
        target: target.clone(),
        pool,
        making,
        scratch: Scratch::of(config, target),
        deadline,
    };
    let result = made
        .scratch
        .write(&made.config)
        .and_then(|()| deadline.left())
        .and_then(|limit| made.plugin.add(target, &made.config, limit));
    match result {
        Ok(result) => Ok((result, made)),
        Err(error) => Err(error.after_undoing(made.undo())),
    }
}

/// Has a plugin of others look whether its part still is as it was made. It is told what the runtime tells us.
///
/// # Errors
///
/// What the plugin says.
pub fn check(
    call: &Invocation,
    target: &Target,
    config: &Config,
    (name, mut told): (&str, Object),
) -> Result<(), Error> {
    let plugin = Plugin::find(name, &call.path)?;
    told.set("cniVersion", config.version.as_str());
    if let Some(previous) = config.object.member(PREVIOUS) {
        told.set(PREVIOUS, previous.clone());
    }
    let order = Order {
        verb: Verb::Check,
        target: Some(target),
        config: &told,
        limit: Deadline::of_add().left()?,
    };
    Ok(plugin.call(&order)?)
}

/// Passes a verb on that is about no attachment, GC or STATUS, if there is a plugin of others to ask. One that does not know it yet has nothing to say.
///
/// # Errors
///
/// What the plugin says.
pub fn pass_on(
    verb: Verb,
    call: &Invocation,
    config: &Config,
    delegation: Delegation,
    limit: std::time::Duration,
) -> Result<(), Error> {
    let name = match delegation.by {
        By::Other(name) => name,
        By::Us(conf) => match conf.ipam.foreign {
            Some(name) => name,
            None => return Ok(()),
        },
    };
    let plugin = Plugin::find(&name, &call.path)?;
    let mut delegate = delegation.delegate;
    for (key, value) in config.object.members() {
        // What only GC has, of whatever version of the library.
        if key.starts_with("cni.dev/") {
            delegate.set(key, Json::clone(value));
        }
    }
    let order = Order {
        verb,
        target: None,
        config: &delegate,
        limit,
    };
    match plugin.call(&order) {
        Err(ForeignError::Refused { code, .. }) if UNKNOWN.contains(&code) => Ok(()),
        other => Ok(other?),
    }
}

/// The codes of a plugin that is older than the verb: it does not know its version, or the verb itself.
const UNKNOWN: [u32; 2] = [1, 4];
