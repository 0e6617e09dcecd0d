//! ADD: attaches a container, completely or not at all.
//!
//! What can be checked without changing anything comes first. Then the address is reserved, which also records what a DEL
//! needs, and then the kernel is told (or a plugin of others, see [`delegated`]); whatever fails takes back what was done
//! before it.

use hostnet::Netlink;
use hostnet::netns::Netns;
use ipam::pool::{Details, NetnsIdentity};
use ipam::{Attachment, Owner, Pool, PoolError};

use crate::addresses::{Addresses, Reserved};
use crate::attachment::Plan;
use crate::attachment::conf::AttachmentConf;
use crate::attachment::name::Identity;
use crate::connect::{self, Connected};
use crate::deadline::Deadline;
use crate::delegated::{self, Delegated};
use crate::protocol::json::Object;
use crate::protocol::result::{AddResult, Dns};
use crate::protocol::{Config, Error, Invocation, Target};
use crate::request::{self, By};
use crate::sandbox;
use crate::takedown::Takedown;

/// An attachment that was made, as long as it can still be taken back.
#[derive(Debug)]
pub struct Added<'a> {
    result: AddResult,
    made: Made<'a>,
}

#[derive(Debug)]
enum Made<'a> {
    ByUs(Box<Attached<'a>>),
    ByOther(Box<Delegated>),
}

/// What was made here.
#[derive(Debug)]
struct Attached<'a> {
    connected: Connected,
    addresses: Addresses<'a>,
    attachment: Attachment,
    deadline: Deadline,
}

impl crate::Made for Added<'_> {
    fn result(&self) -> &AddResult {
        &self.result
    }

    fn undo(self) -> Result<(), Error> {
        match self.made {
            Made::ByUs(mut ours) => {
                ours.connected.undo()?;
                ours.addresses.release(&ours.attachment, ours.deadline)
            }
            Made::ByOther(theirs) => theirs.undo(),
        }
    }
}

/// Attaches the target, and has the outcome told by `tell` while it can still be taken back.
///
/// # Errors
///
/// After any of them nothing of the attachment is there.
pub fn add(
    call: &Invocation,
    target: &Target,
    config: &Config,
    deadline: Deadline,
    tell: impl FnOnce(Added<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let (netns, record) = sandbox::open(target, call.netns_override)?;
    let previous = config.previous_result()?;
    let delegation = request::delegation(config, &call.args)?;
    let (result, made) = match &delegation.by {
        By::Us(conf) => {
            let task = Task {
                call,
                target,
                config,
                delegate: &delegation.delegate,
                conf,
                identity: request::identity(config, target),
                owner: request::owner(target)?,
                deadline,
            };
            let (result, attached) = task.carry_out(netns, record)?;
            (result, Made::ByUs(Box::new(attached)))
        }
        By::Other(name) => {
            let delegate = (name.as_str(), delegation.delegate);
            let (result, made) = delegated::add(call, target, config, delegate, record, deadline)?;
            (result, Made::ByOther(Box::new(made)))
        }
    };
    tell(Added {
        result: merge(previous, result),
        made,
    })
}

/// An attachment that is to be made here.
struct Task<'a> {
    call: &'a Invocation,
    target: &'a Target,
    config: &'a Config,
    delegate: &'a Object,
    conf: &'a AttachmentConf,
    identity: Identity,
    owner: Owner,
    deadline: Deadline,
}

impl<'a> Task<'a> {
    fn carry_out(
        &self,
        netns: Netns,
        record: NetnsIdentity,
    ) -> Result<(AddResult, Attached<'a>), Error> {
        let Self { conf, identity, .. } = self;
        let addresses = Addresses::of(conf, self.delegate, self.call, self.target, self.config)?;
        let details = request::details(conf, self.call, Some(record), &identity.host_name(0));
        let Reserved { attachment, given } = self.reserve(&addresses, &details)?;
        let mut plan = request::plan(identity, conf, &attachment.details, &given);
        let connected = match self.attach(&mut plan, netns, addresses.pool(), &attachment) {
            Ok(connected) => connected,
            Err(error) => {
                return Err(error.after_undoing(addresses.release(&attachment, self.deadline)));
            }
        };
        let pod = connected.interfaces.len() - 1;
        let result = AddResult {
            ips: plan.ips(pod),
            interfaces: connected.interfaces.clone(),
            routes: plan.routes,
            dns: given.dns,
        };
        let attached = Attached {
            connected,
            addresses,
            attachment,
            deadline: self.deadline,
        };
        Ok((result, attached))
    }

    /// Reserves addresses. Those that the same container and interface hold from before are given back first if the
    /// attachment they belong to is gone.
    fn reserve(&self, addresses: &Addresses<'_>, details: &Details) -> Result<Reserved, Error> {
        let Self { owner, conf, .. } = self;
        match addresses.reserve(owner, conf, details, self.deadline) {
            Err(Error::Pool(PoolError::Duplicate { existing })) => {
                if is_alive(&self.identity, &existing, details)? {
                    return Err(PoolError::Duplicate { existing }.into());
                }
                let takedown = Takedown {
                    search: &self.call.path,
                    deadline: self.deadline,
                };
                takedown.carry_out(&existing, self.target)?;
                addresses.forget(&existing)?;
                addresses.reserve(owner, conf, details, self.deadline)
            }
            other => other,
        }
    }

    /// Puts the plan into the kernel. If the host end got another name than expected, the record learns of it.
    fn attach(
        &self,
        plan: &mut Plan,
        netns: Netns,
        pool: &Pool,
        reserved: &Attachment,
    ) -> Result<Connected, Error> {
        let mut connected = connect::connect(plan, self.conf, netns, self.deadline)?;
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

/// Behind another plugin, our part joins what that one reported.
pub(crate) fn merge(previous: Option<AddResult>, ours: AddResult) -> AddResult {
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
