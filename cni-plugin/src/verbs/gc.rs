//! GC: detaches what the runtime no longer knows of.
//!
//! The runtime names the attachments that are valid. No list means no order (cnitool sends none), an empty list means that
//! nothing is valid. Attachments that are young and still stand are spared for a while all the same: a list may be older
//! than they are. One that nobody can be using, because its namespace is gone, is never spared.

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hostnet::Netlink;
use hostnet::netns::Netns;
use ipam::pool::{NetnsIdentity, Stage};
use ipam::{Attachment, Owner, Pool};

use crate::attachment::name::Identity;
use crate::connect;
use crate::deadline::Deadline;
use crate::delegated;
use crate::inherited::Kept;
use crate::mirror::Mirror;
use crate::protocol::json::Section;
use crate::protocol::{Config, Error, Invocation, Target, Verb};
use crate::request;
use crate::scratch::Scratch;
use crate::takedown::Takedown;

/// How long a new attachment is spared (`gcGrace`, in seconds).
const GRACE: Duration = Duration::from_secs(10);

/// How long a plugin of others may take.
const LIMIT: Duration = Duration::from_secs(10);

/// The runtime's list.
const VALID: &str = "cni.dev/valid-attachments";

/// Does it.
///
/// # Errors
///
/// The first one, after everything else was tried.
pub fn gc(call: &Invocation, config: &Config) -> Result<(), Error> {
    let Some(Order { valid, young: time }) = Order::of(config, GRACE)? else {
        return Ok(());
    };
    let young = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();

    let mut first = None;
    for data_dir in request::data_dirs(config) {
        let pool = request::pool(config, &data_dir)?;
        for item in pool.attachments()? {
            let outcome = item.map_err(Error::Pool).and_then(|attachment| {
                let spared = attachment.created > young && stands(&attachment)
                    || pool.stage(&attachment.owner)? == Some(Stage::Making);
                if spared || valid.contains(&attachment.owner) {
                    return Ok(());
                }
                collect(call, config, &pool, &attachment)
            });
            first = first.or(outcome.err());
        }
    }
    first = first.or(collect_links(config, &valid).err());
    let kept = kept(call, config, valid, time)?;
    first = first.or(kept.collect_others(config).err());
    first = first.or(pass_on(call, config).err());
    first.map_or(Ok(()), Err)
}

/// What attachments of flannel's own plugin may not be taken for.
fn kept<'a>(
    call: &'a Invocation,
    config: &Config,
    valid: Vec<Owner>,
    young: SystemTime,
) -> Result<Kept<'a>, Error> {
    let mut kept = Kept {
        owners: valid,
        addresses: HashSet::new(),
        young,
        search: &call.path,
    };
    for data_dir in request::data_dirs(config) {
        let pool = request::pool(config, &data_dir)?;
        // One that cannot be read was complained about before.
        for attachment in pool.attachments()?.flatten() {
            let held = attachment.addresses.iter();
            kept.addresses.extend(held.map(|held| held.address));
            kept.owners.push(attachment.owner);
        }
    }
    Ok(kept)
}

/// What a runtime asks for.
#[derive(Clone, Debug)]
pub struct Order {
    /// The attachments that are to stay.
    pub valid: Vec<Owner>,
    /// Those made later than this are to stay too.
    pub young: SystemTime,
}

impl Order {
    /// Reads the runtime's order; there is none without a list. `grace` is for a config that does not say its own.
    ///
    /// # Errors
    ///
    /// Those of the config.
    pub fn of(config: &Config, grace: Duration) -> Result<Option<Self>, Error> {
        let root = config.root();
        if root.list(VALID)?.is_none() {
            return Ok(None);
        }
        let given = root.number("gcGrace")?;
        let grace = given.map_or(grace, |seconds| Duration::from_secs(seconds.into()));
        let now = SystemTime::now();
        Ok(Some(Self {
            valid: valid(&root)?,
            young: now.checked_sub(grace).unwrap_or(UNIX_EPOCH),
        }))
    }
}

/// The attachments that are to stay.
fn valid(root: &Section<'_>) -> Result<Vec<Owner>, Error> {
    root.sections(VALID)?
        .iter()
        .map(|entry| {
            let text = |key: &str| {
                entry.string(key)?.ok_or_else(|| Error::MissingKey {
                    key: entry.path_of(key),
                })
            };
            Owner::new(text("containerID")?, text("ifname")?)
                .map_err(|error| Error::Pool(error.into()))
        })
        .collect()
}

/// Whether the namespace that was attached is still where the runtime had it.
fn stands(attachment: &Attachment) -> bool {
    let Some(recorded) = &attachment.details.netns else {
        return false;
    };
    let now = Netns::open(&recorded.path).and_then(|netns| netns.identity());
    now.is_ok_and(|now| is_same(recorded, now))
}

fn is_same(recorded: &NetnsIdentity, now: hostnet::NetnsIdentity) -> bool {
    (recorded.dev, recorded.ino) == (now.device, now.inode)
}

fn collect(
    call: &Invocation,
    config: &Config,
    pool: &Pool,
    attachment: &Attachment,
) -> Result<(), Error> {
    let takedown = Takedown {
        search: &call.path,
        deadline: Deadline::of_del(),
    };
    let details = &attachment.details;
    let target = Target {
        container_id: attachment.owner.container_id().to_owned(),
        ifname: attachment.owner.ifname().to_owned(),
        netns: details.netns.as_ref().map(|netns| (&netns.path).into()),
    };
    takedown.carry_out(attachment, &target)?;
    let mirror = Mirror::of(config)?;
    // In the meantime the same container may have been attached anew.
    let mut forgotten = Ok(());
    pool.release_if(&attachment.owner, |now| {
        let stale = now == attachment;
        if stale {
            let removed = Scratch::of(config, &target).remove();
            forgotten = removed.and_then(|()| mirror.forget(attachment));
        }
        stale && forgotten.is_ok()
    })?;
    forgotten
}

/// Has a delegate of others, or an IPAM plugin, do the same with what it has.
fn pass_on(call: &Invocation, config: &Config) -> Result<(), Error> {
    // Without a subnet nothing can be attached, and nothing is known of a delegate.
    match request::delegation(config, &call.args) {
        Ok(delegation) => delegated::pass_on(Verb::Gc, call, config, delegation, LIMIT),
        Err(_) => Ok(()),
    }
}

/// Links of the network that no record knows, and nobody needs. Only here all links are looked at.
///
/// # Errors
///
/// Whatever the kernel refuses, and [`Error::Pool`].
pub(crate) fn collect_links(config: &Config, valid: &[Owner]) -> Result<(), Error> {
    let mut host = Netlink::open().map_err(Error::Netlink)?;
    for link in host.links().map_err(Error::Netlink)? {
        let Some(identity) = link.alias.as_deref().and_then(Identity::of_alias) else {
            continue;
        };
        let Ok(owner) = Owner::new(&identity.container_id, &identity.ifname) else {
            continue;
        };
        if identity.network != config.name || valid.contains(&owner) {
            continue;
        }
        if request::recorded_of(config, &owner)?.is_none() {
            connect::disconnect(&identity, Some(&link.name), &[])?;
        }
    }
    Ok(())
}
