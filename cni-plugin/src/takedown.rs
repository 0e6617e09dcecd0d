//! Takes down what a record tells of, in the order that lets nobody have an address to which something still leads.
//!
//! Whoever calls gives the pool's own addresses back and removes the record, when all of this has succeeded.

use std::path::PathBuf;

use ipam::Attachment;
use ipam::pool::{ForeignPlugin, Kind};

use crate::attachment::name::Identity;
use crate::connect;
use crate::deadline::Deadline;
use crate::foreign::{ForeignError, Order, Plugin};
use crate::protocol::json::{Json, Object};
use crate::protocol::{Error, Target, Verb};
use crate::sandbox;

/// What is needed beside the record.
#[derive(Clone, Copy, Debug)]
pub struct Takedown<'a> {
    /// `CNI_PATH`.
    pub search: &'a [PathBuf],
    /// When it has to end.
    pub deadline: Deadline,
}

impl Takedown<'_> {
    /// Takes the attachment down: its link, and then what another program has reserved for it. Nothing to be found is
    /// success.
    ///
    /// # Errors
    ///
    /// If something certainly is still there.
    pub fn carry_out(&self, recorded: &Attachment, target: &Target) -> Result<(), Error> {
        let details = &recorded.details;
        self.deadline.check()?;
        if details.kind != Kind::Foreign {
            let identity = Identity {
                network: recorded.network.clone(),
                container_id: recorded.owner.container_id().to_owned(),
                ifname: recorded.owner.ifname().to_owned(),
            };
            let held: Vec<_> = recorded.addresses.iter().map(|held| held.address).collect();
            connect::disconnect(&identity, details.host_ifname.as_deref(), &held)?;
        }
        if let Some(foreign) = &details.foreign {
            let told = sandbox::for_others(target, details.netns.as_ref());
            let plugin = Plugin::find(&foreign.name, self.search)?;
            order_del(&plugin, &config_of(foreign)?, &told, self.deadline.left()?)?;
        }
        Ok(())
    }
}

/// Has a plugin carry out a DEL.
///
/// # Errors
///
/// [`Error::Foreign`]
pub fn order_del(
    plugin: &Plugin,
    config: &Object,
    target: &Target,
    limit: std::time::Duration,
) -> Result<(), Error> {
    let order = Order {
        verb: Verb::Del,
        target: Some(target),
        config,
        limit,
    };
    Ok(plugin.call(&order)?)
}

/// The config that was recorded.
///
/// # Errors
///
/// [`ForeignError::Record`]
pub fn config_of(foreign: &ForeignPlugin) -> Result<Object, ForeignError> {
    match Json::parse(foreign.config.as_bytes()) {
        Ok(Json::Object(config)) => Ok(config),
        _ => Err(ForeignError::Record {
            name: foreign.name.clone(),
        }),
    }
}
