//! ADD: attaches a container, completely or not at all.
//!
//! What can be checked without changing anything comes first. Then the address is reserved, which also records what a DEL
//! needs, and then the kernel is told (or a plugin of others, see [`delegated`]); whatever fails takes back what was done
//! before it.

use hostnet::Netlink;
use hostnet::netns::Netns;
use ipam::pool::{Details, Making, NetnsIdentity, Stage};
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
    making: Making,
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
                let attachment = &ours.making.attachment;
                ours.addresses.release(attachment, ours.deadline)
            }
            Made::ByOther(theirs) => theirs.undo(),
        }
    }

    fn told(&self) {
        let making = match &self.made {
            Made::ByUs(ours) => &ours.making,
            Made::ByOther(theirs) => theirs.making(),
        };
        // Without this it is taken for one that was cut short, and made anew if the runtime asks for it again.
        let _ = making.complete();
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
        let Reserved { mut making, given } = self.reserve(&addresses, &details)?;
        let mut plan = request::plan(identity, conf, &making.attachment.details, &given);
        let connected = match self.attach(&mut plan, netns, addresses.pool(), &mut making) {
            Ok(connected) => connected,
            Err(error) => {
                let released = addresses.release(&making.attachment, self.deadline);
                return Err(error.after_undoing(released));
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
            making,
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
                let stage = addresses.pool().stage(owner)?;
                if is_taken(stage, &existing, details.netns.as_ref())? && self.stands(&existing)? {
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

    /// Whether the host end of a recorded attachment is there and complete.
    fn stands(&self, existing: &Attachment) -> Result<bool, Error> {
        let mut host = Netlink::open().map_err(Error::Netlink)?;
        let name = existing.details.host_ifname.as_deref();
        let link = connect::find(&mut host, &self.identity, name)?;
        Ok(link.is_some_and(|link| self.identity.marks(&link)))
    }

    /// Puts the plan into the kernel. If the host end got another name than expected, the record learns of it.
    fn attach(
        &self,
        plan: &mut Plan,
        netns: Netns,
        pool: &Pool,
        making: &mut Making,
    ) -> Result<Connected, Error> {
        let mut connected = connect::connect(plan, self.conf, netns, self.deadline)?;
        let reserved = &making.attachment;
        if reserved.details.host_ifname.as_ref() == Some(&plan.host_name) {
            return Ok(connected);
        }
        let details = Details {
            host_ifname: Some(plan.host_name.clone()),
            ..reserved.details.clone()
        };
        match pool.take_over(&reserved.owner, details) {
            Ok(altered) => {
                *making = altered;
                Ok(connected)
            }
            Err(error) => Err(Error::from(error).after_undoing(connected.undo())),
        }
    }
}

/// Whether an attachment that was recorded before is in the way of another one of the same container and interface: one that
/// its runtime was told of, for the same namespace. A container has one namespace only, so that another one means that the
/// container was restarted; and of what was cut short its runtime knows nothing, so it is made anew.
///
/// # Errors
///
/// [`Error::BeingAttached`] if another process is just making it.
pub fn is_taken(
    stage: Option<Stage>,
    existing: &Attachment,
    now: Option<&NetnsIdentity>,
) -> Result<bool, Error> {
    let identity_of = |netns: &NetnsIdentity| (netns.dev, netns.ino);
    let before = existing.details.netns.as_ref();
    match stage {
        Some(Stage::Making) => Err(Error::BeingAttached {
            owner: existing.owner.to_string(),
        }),
        Some(Stage::Complete) => Ok(before.map(identity_of) == now.map(identity_of)),
        Some(Stage::Abandoned) | None => Ok(false),
    }
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
