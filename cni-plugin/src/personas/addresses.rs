//! Where the addresses of `bridge` and `ptp` come from: the IPAM plugin that their config names.
//!
//! `host-local` is done in this process: its rules and its directory are those of the plugin of that name, so running a file would
//! cost time and change nothing. Any other plugin is run from `CNI_PATH`, with our own stdin as its config.

use std::time::{Duration, SystemTime};

use hostnet::netns::Netns;
use ipam::Owner;

use super::host_local;
use crate::deadline::Deadline;
use crate::foreign::{ForeignError, Order, Plugin};
use crate::protocol::result::AddResult;
use crate::protocol::{Config, Error, Invocation, Target, Verb};
use crate::takedown::order_del;
use crate::{Made, sandbox};

/// Who gives addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Addresses {
    /// Nobody: the pod gets a link and no more.
    None,
    /// This process.
    HostLocal,
    /// A plugin with this name.
    Foreign(String),
}

/// What was given, as long as it can be given back.
#[derive(Debug)]
pub(super) enum Given {
    /// Nothing was asked for.
    Nothing,
    /// Reservations of ours.
    HostLocal(Box<host_local::Reserved>),
    /// What a plugin said.
    Foreign(Box<Foreign>),
}

/// What a plugin of others gave.
#[derive(Debug)]
pub(super) struct Foreign {
    plugin: Plugin,
    config: Config,
    target: Target,
    result: AddResult,
    deadline: Deadline,
    /// Where it is to run: undoing, this process may be in the pod's namespace.
    home: Netns,
}

impl Given {
    /// Addresses, routes and name servers for the pod.
    pub(super) fn result(&self) -> AddResult {
        match self {
            Self::Nothing => AddResult::default(),
            Self::HostLocal(reserved) => reserved.result().clone(),
            Self::Foreign(foreign) => foreign.result.clone(),
        }
    }

    /// Gives it back.
    pub(super) fn undo(self) -> Result<(), Error> {
        match self {
            Self::Nothing => Ok(()),
            Self::HostLocal(reserved) => reserved.undo(),
            Self::Foreign(foreign) => {
                foreign.home.enter().map_err(Error::Netns)?;
                let Foreign {
                    plugin,
                    config,
                    target,
                    ..
                } = &*foreign;
                order_del(plugin, &config.object, target, foreign.deadline.rest())
            }
        }
    }
}

/// How long a plugin may take to say whether it is ready: containerd waits for the answer without a limit of its own.
const ANSWER: Duration = Duration::from_secs(1);

/// How long it may take with what is not asked that often.
const WORK: Duration = Duration::from_secs(10);

impl Addresses {
    /// Who is named in the config.
    pub(super) fn of(config: &Config) -> Result<Self, Error> {
        let root = config.root();
        let kind = match root.section("ipam")? {
            Some(ipam) => ipam.string("type")?.unwrap_or_default(),
            None => "",
        };
        Ok(match kind {
            "" => Self::None,
            "host-local" => Self::HostLocal,
            other => Self::Foreign(other.to_owned()),
        })
    }

    /// Asks for addresses.
    pub(super) fn add(
        &self,
        call: &Invocation,
        config: &Config,
        target: &Target,
        deadline: Deadline,
    ) -> Result<Given, Error> {
        deadline.check()?;
        match self {
            Self::None => Ok(Given::Nothing),
            Self::HostLocal => {
                let reserved = host_local::add(config, &call.args, target)?;
                Ok(Given::HostLocal(Box::new(reserved)))
            }
            Self::Foreign(name) => {
                let plugin = Plugin::find(name, &call.path)?;
                let home = Netns::current().map_err(Error::Netns)?;
                match plugin.add(target, &config.object, deadline.left()?) {
                    Ok(result) => Ok(Given::Foreign(Box::new(Foreign {
                        plugin,
                        config: config.clone(),
                        target: target.clone(),
                        result,
                        deadline,
                        home,
                    }))),
                    // What it had begun is known to nobody else.
                    Err(error) => {
                        let limit = deadline.rest();
                        let undone = order_del(&plugin, &config.object, target, limit);
                        Err(error.after_undoing(undone))
                    }
                }
            }
        }
    }

    /// Gives back what the target has.
    pub(super) fn del(
        &self,
        call: &Invocation,
        config: &Config,
        target: &Target,
        deadline: Deadline,
    ) -> Result<(), Error> {
        match self {
            Self::None => Ok(()),
            Self::HostLocal => host_local::del(config, target),
            Self::Foreign(name) => {
                let told = sandbox::for_others(target, None);
                let plugin = Plugin::find(name, &call.path)?;
                order_del(&plugin, &config.object, &told, deadline.left()?)
            }
        }
    }

    /// Finds out whether the target still has its addresses.
    pub(super) fn check(
        &self,
        call: &Invocation,
        config: &Config,
        target: &Target,
    ) -> Result<(), Error> {
        match self {
            Self::None => Ok(()),
            Self::HostLocal => host_local::check(config, target),
            Self::Foreign(name) => Ok(Plugin::find(name, &call.path)?.call(&Order {
                verb: Verb::Check,
                target: Some(target),
                config: &config.object,
                limit: WORK,
            })?),
        }
    }

    /// Gives back what no valid attachment has.
    pub(super) fn gc(
        &self,
        call: &Invocation,
        config: &Config,
        valid: &[Owner],
    ) -> Result<(), Error> {
        match self {
            Self::HostLocal => host_local::release_others(config, valid, SystemTime::now()),
            _ => self.tell(call, config, Verb::Gc, WORK),
        }
    }

    /// Whether another pod could have addresses.
    pub(super) fn status(&self, call: &Invocation, config: &Config) -> Result<(), Error> {
        match self {
            Self::HostLocal => host_local::status(config),
            _ => self.tell(call, config, Verb::Status, ANSWER),
        }
    }

    /// Passes on a verb that plugins need not know.
    fn tell(
        &self,
        call: &Invocation,
        config: &Config,
        verb: Verb,
        limit: Duration,
    ) -> Result<(), Error> {
        let Self::Foreign(name) = self else {
            return Ok(());
        };
        let order = Order {
            verb,
            target: None,
            config: &config.object,
            limit,
        };
        match Plugin::find(name, &call.path)?.call(&order) {
            // It is older than the verb, of which it then has nothing to say.
            Err(ForeignError::Refused { code: 4, .. }) => Ok(()),
            outcome => Ok(outcome?),
        }
    }
}
