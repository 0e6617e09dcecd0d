//! Where the addresses of a pod attached here come from: the pool, which host-local's directory follows, or an IPAM plugin
//! of others. Either way there is a record in the pool before anything else is done, so that a kill leaves nothing behind
//! that nobody knows of.

use std::net::IpAddr;

use hostnet::netns::Netns;
use ipam::pool::{Details, ForeignPlugin, Making, RangeSet};
use ipam::{Attachment, Owner, Pool, PoolError};

use crate::attachment::conf::AttachmentConf;
use crate::deadline::Deadline;
use crate::foreign::{ForeignError, Plugin};
use crate::mirror::Mirror;
use crate::protocol::json::Object;
use crate::protocol::{Config, Error, Invocation, Target, Verb};
use crate::request::{self, Given};
use crate::scratch::Scratch;
use crate::takedown;

/// The addresses of one attachment.
#[derive(Debug)]
pub struct Addresses<'a> {
    pool: Pool,
    mirror: Mirror,
    scratch: Scratch,
    delegate: &'a Object,
    source: Source<'a>,
}

#[derive(Debug)]
enum Source<'a> {
    Pool {
        sets: Vec<RangeSet>,
        requested: &'a [IpAddr],
    },
    Plugin(Ipam<'a>),
}

/// An IPAM plugin of others.
#[derive(Debug)]
struct Ipam<'a> {
    plugin: Plugin,
    config: &'a Object,
    target: &'a Target,
    /// Where it is to run: undoing, this process may be in the pod's namespace.
    home: Netns,
}

/// What was reserved.
#[derive(Debug)]
pub struct Reserved {
    /// The record, held as long as the attachment is being made.
    pub making: Making,
    /// What the pod is to have.
    pub given: Given,
}

impl<'a> Addresses<'a> {
    /// Finds out where they are to come from. Nothing is changed yet.
    ///
    /// # Errors
    ///
    /// [`Error::Pool`] for ranges that make no sense, [`Error::Foreign`] for a plugin that is not there.
    pub fn of(
        conf: &'a AttachmentConf,
        delegate: &'a Object,
        call: &Invocation,
        target: &'a Target,
        config: &Config,
    ) -> Result<Self, Error> {
        let source = match &conf.ipam.foreign {
            None => Source::Pool {
                sets: request::range_sets(conf)?,
                requested: &conf.ipam.requested,
            },
            Some(name) => Source::Plugin(Ipam {
                plugin: Plugin::find(name, &call.path)?,
                config: delegate,
                target,
                home: Netns::current().map_err(Error::Netns)?,
            }),
        };
        Ok(Self {
            pool: request::pool(config, &request::data_dir(conf))?,
            mirror: Mirror::of(config)?,
            scratch: Scratch::of(config, target),
            delegate,
            source,
        })
    }

    /// The pool that has the record.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Reserves them.
    ///
    /// # Errors
    ///
    /// Nothing is reserved then. [`PoolError::Duplicate`] if the owner has an attachment already.
    pub fn reserve(
        &self,
        owner: &Owner,
        conf: &AttachmentConf,
        details: &Details,
        deadline: Deadline,
    ) -> Result<Reserved, Error> {
        let reserved = match &self.source {
            Source::Pool { sets, requested } => {
                let making = self.reserve_here(owner, sets, requested, details, deadline)?;
                Reserved {
                    given: request::given_by_pool(conf, &making.attachment),
                    making,
                }
            }
            Source::Plugin(ipam) => self.reserve_there(ipam, owner, conf, details, deadline)?,
        };
        match self.scratch.write(self.delegate) {
            Ok(()) => Ok(reserved),
            Err(error) => {
                Err(error.after_undoing(self.release(&reserved.making.attachment, deadline)))
            }
        }
    }

    fn reserve_here(
        &self,
        owner: &Owner,
        sets: &[RangeSet],
        requested: &[IpAddr],
        details: &Details,
        deadline: Deadline,
    ) -> Result<Making, Error> {
        let mut looked_again = false;
        loop {
            deadline.check()?;
            let reserved = match self.pool.begin(owner, sets, requested, details.clone()) {
                // host-local may have released some in the meantime, of which it tells nobody.
                Err(PoolError::Exhausted { .. }) if !looked_again => {
                    looked_again = true;
                    self.pool.distrust()?;
                    continue;
                }
                other => other?,
            };
            match self.mirror.note(&reserved.attachment) {
                Ok(true) => return Ok(reserved),
                Ok(false) => {
                    // Looking at all of host-local's reservations again finds the one that was in the way.
                    self.pool.release(owner)?;
                    self.pool.distrust()?;
                }
                Err(error) => return Err(error.after_undoing(self.pool.release(owner))),
            }
        }
    }

    fn reserve_there(
        &self,
        ipam: &Ipam<'_>,
        owner: &Owner,
        conf: &AttachmentConf,
        details: &Details,
        deadline: Deadline,
    ) -> Result<Reserved, Error> {
        let limit = deadline.left()?;
        let details = Details {
            foreign: Some(foreign(&ipam.plugin, ipam.config)?),
            ..details.clone()
        };
        let making = self.pool.begin_foreign(owner, details)?;
        let given = ipam.plugin.add(ipam.target, ipam.config, limit);
        let given = given.and_then(|result| {
            if result.ips.is_empty() {
                return Err(Error::Foreign(ForeignError::Answer {
                    name: ipam.plugin.name().to_owned(),
                    verb: Verb::Add,
                    what: "its result has no address".to_owned(),
                }));
            }
            Ok(request::given_by_plugin(conf, result))
        });
        match given {
            Ok(given) => Ok(Reserved { making, given }),
            // It may have been killed with an address in its hands.
            Err(error) => Err(error.after_undoing(self.release(&making.attachment, deadline))),
        }
    }

    /// Gives them back, and removes the record.
    ///
    /// # Errors
    ///
    /// If an address certainly is still reserved. The record is kept then.
    pub fn release(&self, reserved: &Attachment, deadline: Deadline) -> Result<(), Error> {
        if let Source::Plugin(ipam) = &self.source {
            ipam.home.enter().map_err(Error::Netns)?;
            takedown::order_del(&ipam.plugin, ipam.config, ipam.target, deadline.rest())?;
        }
        self.forget(reserved)
    }

    /// Removes a record, with the pool's own addresses and what is written for other programs.
    ///
    /// # Errors
    ///
    /// [`Error::Scratch`], [`Error::HostLocal`], [`Error::Pool`]
    pub fn forget(&self, reserved: &Attachment) -> Result<(), Error> {
        self.scratch.remove()?;
        self.mirror.forget(reserved)?;
        self.pool.release(&reserved.owner)?;
        Ok(())
    }
}

/// What is recorded of a plugin of others.
///
/// # Errors
///
/// [`ForeignError::LongConfig`]: a record is not read back beyond a size.
pub fn foreign(plugin: &Plugin, config: &Object) -> Result<ForeignPlugin, ForeignError> {
    let name = plugin.name().to_owned();
    let config = serde_json::to_string(config).unwrap_or_default();
    if config.len() > RECORDED_MAX {
        return Err(ForeignError::LongConfig { name });
    }
    Ok(ForeignPlugin { name, config })
}

/// Longest config that is recorded; in the record every quotation mark of it takes two bytes.
const RECORDED_MAX: usize = 256 << 10;
