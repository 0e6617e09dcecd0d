//! ADD: attaches a container, completely or not at all.
//!
//! What can be checked without changing anything comes first. Then the address is reserved, which also records what a DEL
//! needs, and then the kernel is told; whatever fails takes back what was done before it.

use std::net::IpAddr;

use hostnet::Netlink;
use hostnet::netns::Netns;
use ipam::pool::{Details, RangeSet};
use ipam::{Attachment, Owner, Pool, PoolError};

use crate::attachment::Plan;
use crate::attachment::conf::AttachmentConf;
use crate::attachment::name::Identity;
use crate::connect::{self, Connected};
use crate::deadline::Deadline;
use crate::mirror::Mirror;
use crate::protocol::result::{AddResult, Dns};
use crate::protocol::{Config, Error, Invocation, Target};
use crate::{Made, request, sandbox};

/// An attachment that was made, as long as it can still be taken back.
#[derive(Debug)]
pub struct Added {
    result: AddResult,
    connected: Connected,
    addresses: Addresses,
    reserved: Attachment,
}

impl Made for Added {
    fn result(&self) -> &AddResult {
        &self.result
    }

    fn undo(mut self) -> Result<(), Error> {
        self.connected.undo()?;
        self.addresses.release(&self.reserved)
    }
}

/// Attaches the target.
///
/// # Errors
///
/// After any of them nothing of the attachment is there.
pub fn add(
    call: &Invocation,
    target: &Target,
    config: &Config,
    deadline: Deadline,
) -> Result<Added, Error> {
    let (netns, record) = sandbox::open(target, call.netns_override)?;
    let previous = config.previous_result()?;
    let conf = request::attachment_conf(config, &call.args)?;
    let sets = request::range_sets(&conf)?;
    let identity = request::identity(config, target);
    let owner = request::owner(target)?;
    let addresses = Addresses {
        pool: request::pool(config, &request::data_dir(&conf))?,
        mirror: Mirror::of(config)?,
    };

    let expected = identity.host_name(0);
    let details = request::details(&conf, call, Some(record), &expected);
    let reserved = reserve(
        &addresses, &owner, &identity, &sets, &conf, &details, deadline,
    )?;
    let mut plan = request::plan(&identity, &conf, &reserved);
    let connected = match attach(
        &mut plan,
        &conf,
        netns,
        &addresses.pool,
        &reserved,
        deadline,
    ) {
        Ok(connected) => connected,
        Err(error) => return Err(error.after_undoing(addresses.release(&reserved))),
    };
    let pod = connected.interfaces.len() - 1;
    let result = AddResult {
        ips: plan.ips(pod),
        interfaces: connected.interfaces.clone(),
        routes: plan.routes,
        dns: conf.dns,
    };
    Ok(Added {
        result: merge(previous, result),
        connected,
        addresses,
        reserved,
    })
}

/// Where addresses are reserved: the pool decides, and host-local's directory follows.
#[derive(Debug)]
struct Addresses {
    pool: Pool,
    mirror: Mirror,
}

impl Addresses {
    fn reserve(
        &self,
        owner: &Owner,
        sets: &[RangeSet],
        requested: &[IpAddr],
        details: &Details,
        deadline: Deadline,
    ) -> Result<Attachment, Error> {
        let mut looked_again = false;
        loop {
            deadline.check()?;
            let reserved = match self.pool.reserve(owner, sets, requested, details.clone()) {
                // host-local may have released some in the meantime, of which it tells nobody.
                Err(PoolError::Exhausted { .. }) if !looked_again => {
                    looked_again = true;
                    self.pool.distrust()?;
                    continue;
                }
                other => other?,
            };
            match self.mirror.note(&reserved) {
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

    fn release(&self, reserved: &Attachment) -> Result<(), Error> {
        self.mirror.forget(reserved)?;
        self.pool.release(&reserved.owner)?;
        Ok(())
    }
}

/// Reserves addresses. Those that the same container and interface hold from before are given back first if the
/// attachment they belong to is gone.
fn reserve(
    addresses: &Addresses,
    owner: &Owner,
    identity: &Identity,
    sets: &[RangeSet],
    conf: &AttachmentConf,
    details: &Details,
    deadline: Deadline,
) -> Result<Attachment, Error> {
    let requested = &conf.ipam.requested;
    match addresses.reserve(owner, sets, requested, details, deadline) {
        Err(Error::Pool(PoolError::Duplicate { existing })) => {
            if is_alive(identity, &existing, details)? {
                return Err(PoolError::Duplicate { existing }.into());
            }
            let held: Vec<_> = existing.addresses.iter().map(|held| held.address).collect();
            deadline.check()?;
            connect::disconnect(identity, existing.details.host_ifname.as_deref(), &held)?;
            addresses.release(&existing)?;
            addresses.reserve(owner, sets, requested, details, deadline)
        }
        other => other,
    }
}

/// Whether a recorded attachment still stands: its host end is there and complete, and it leads to the namespace that is to
/// be attached now. A container has one namespace only, so that another one means that the container was restarted.
fn is_alive(identity: &Identity, existing: &Attachment, now: &Details) -> Result<bool, Error> {
    let identity_of =
        |details: &Details| details.netns.as_ref().map(|netns| (netns.dev, netns.ino));
    if identity_of(&existing.details) != identity_of(now) {
        return Ok(false);
    }
    let mut host = Netlink::open().map_err(Error::Netlink)?;
    let link = connect::find(&mut host, identity, existing.details.host_ifname.as_deref())?;
    Ok(link.is_some_and(|link| identity.marks(&link)))
}

/// Puts the plan into the kernel. If the host end got another name than expected, the record learns of it.
fn attach(
    plan: &mut Plan,
    conf: &AttachmentConf,
    netns: Netns,
    pool: &Pool,
    reserved: &Attachment,
    deadline: Deadline,
) -> Result<Connected, Error> {
    let mut connected = connect::connect(plan, conf, netns, deadline)?;
    if reserved.details.host_ifname.as_ref() == Some(&plan.host_name) {
        return Ok(connected);
    }
    let details = Details {
        host_ifname: Some(plan.host_name.clone()),
        ..reserved.details.clone()
    };
    match pool.take_over(&reserved.owner, details) {
        Ok(_) => Ok(connected),
        Err(error) => Err(Error::from(error).after_undoing(connected.undo())),
    }
}

/// Behind another plugin, our part joins what that one reported.
fn merge(previous: Option<AddResult>, ours: AddResult) -> AddResult {
    let Some(mut result) = previous else {
        return ours;
    };
    let shift = result.interfaces.len();
    result.interfaces.extend(ours.interfaces);
    result.ips.extend(ours.ips.into_iter().map(|mut ip| {
        ip.interface = ip.interface.map(|index| index + shift);
        ip
    }));
    result.routes.extend(ours.routes);
    if ours.dns != Dns::default() {
        result.dns = ours.dns;
    }
    result
}
