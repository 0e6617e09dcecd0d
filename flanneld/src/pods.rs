//! What calls of the CNI program that were killed have left on this node, found and taken away: at the start of the daemon and
//! from time to time. Most runtimes never ask for that (GC).
//!
//! The CNI program's records say what it has made, and the kernel whether it is still there; `verdict` decides. Records of
//! attachments that plugins of others have a part in are left to whoever can call those.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hostnet::pod_link::Identity;
use hostnet::{Change, Link, LinkIndex, Neighbour, Netlink, Route};
use ipam::host_local::{self, HostLocal, HostLocalError};
use ipam::pool::{self, Details, Kind, Options, PoolError, Stage};
use ipam::{Attachment, Pool};
use thiserror::Error;
use tracing::{info, warn};

#[cfg(test)]
mod tests;

/// How often it is looked.
const PERIOD: Duration = Duration::from_secs(60);

/// How long an attachment is spared whose namespace cannot be seen from here.
const GRACE: Duration = Duration::from_secs(30);

/// How long the pool's lock is waited for. There is always a next time.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// The bridge of flannel's conflist, which routed pods have to get on with.
const USUAL_BRIDGE: &str = "cni0";

/// How many names the CNI program tries for the host's end of a link.
const NAMES: u32 = 4;

/// Where the CNI program keeps what it knows, unless its configuration says otherwise.
#[derive(Clone, Debug)]
pub struct Places {
    /// The pools of pod addresses.
    pub pools: PathBuf,
    /// host-local's reservations, which the CNI program writes too.
    pub reservations: PathBuf,
    /// flannel's notes about containers, which the CNI program writes too.
    pub notes: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            pools: pool::DEFAULT_DIRECTORY.into(),
            reservations: host_local::DEFAULT_DIRECTORY.into(),
            notes: "/var/lib/cni/flannel".into(),
        }
    }
}

/// Why something that was left could not be taken away.
#[derive(Debug, Error)]
pub enum PodsError {
    /// The pool.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// host-local's directory.
    #[error(transparent)]
    HostLocal(#[from] HostLocalError),
    /// The kernel gives no answer.
    #[error(transparent)]
    Netlink(#[from] hostnet::Error),
    /// The kernel refuses.
    #[error("the kernel refuses to take a pod's link away: {0}")]
    Refused(hostnet::Refusals),
    /// A file.
    #[error("cannot {action} {}: {reason}", path.display())]
    File {
        /// What was to be done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
}

/// What the kernel and the files say about an attachment on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Findings {
    stage: Stage,
    /// Whether the host's end of its link is there.
    linked: bool,
    namespace: Namespace,
    /// Since it was made.
    age: Duration,
}

/// What is at the path of the namespace that was attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Namespace {
    /// The same one.
    Same,
    /// Nothing, or another one.
    Gone,
    /// It cannot be told from here: in a container the host's namespaces are not to be seen.
    Unseen,
}

/// Looks once, and then every minute, on a thread of its own in the network namespace of the caller.
pub fn keep_clean(places: Places) {
    thread::spawn(move || {
        let mut told = None;
        loop {
            let trouble = match Netlink::open() {
                Ok(mut netlink) => {
                    let outcome = repair(&places, &mut netlink, SystemTime::now());
                    for sentence in &outcome.done {
                        info!("{sentence}");
                    }
                    outcome.trouble.first().map(ToString::to_string)
                }
                Err(error) => Some(error.to_string()),
            };
            if let Some(trouble) = trouble.as_ref().filter(|now| told.as_ref() != Some(*now)) {
                warn!("what a killed call of the CNI program left cannot be taken away: {trouble}");
            }
            told = trouble;
            thread::sleep(PERIOD);
        }
    });
}

/// What came of a look.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was taken away, a sentence each.
    pub done: Vec<String>,
    /// What could not be.
    pub trouble: Vec<PodsError>,
}

/// Takes away what is left of attachments that nobody has, or will ever ask for.
pub fn repair(places: &Places, netlink: &mut Netlink, now: SystemTime) -> Outcome {
    let mut outcome = Outcome::default();
    for network in networks(&places.pools) {
        if let Err(error) = repair_network(places, &network, netlink, now, &mut outcome) {
            outcome.trouble.push(error);
        }
    }
    outcome
}

/// The attachments that nobody has any more, each by its container and interface: those that [`repair`] would take away.
///
/// # Errors
/// What cannot be read.
pub fn stale(
    places: &Places,
    netlink: &mut Netlink,
    now: SystemTime,
) -> Result<Vec<String>, PodsError> {
    let mut stale = Vec::new();
    for network in networks(&places.pools) {
        let options = Options {
            lock_wait: LOCK_WAIT,
            ..Options::default()
        };
        let pool = Pool::open(&places.pools, &network, options)?;
        for item in pool.attachments()? {
            let attachment = item?;
            if judge(&pool, &attachment, netlink, now)?.is_some() {
                let owner = &attachment.owner;
                stale.push(format!("{} {}", owner.container_id(), owner.ifname()));
            }
        }
    }
    Ok(stale)
}

/// The networks that have a pool. A directory whose name is no network's is somebody else's.
pub(crate) fn networks(pools: &Path) -> Vec<String> {
    let entries = fs::read_dir(pools).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

fn repair_network(
    places: &Places,
    network: &str,
    netlink: &mut Netlink,
    now: SystemTime,
    outcome: &mut Outcome,
) -> Result<(), PodsError> {
    let options = Options {
        lock_wait: LOCK_WAIT,
        ..Options::default()
    };
    let Ok(pool) = Pool::open(&places.pools, network, options) else {
        return Ok(());
    };
    for item in pool.attachments()? {
        let done = item.map_err(PodsError::from).and_then(|attachment| {
            let Some((why, link)) = judge(&pool, &attachment, netlink, now)? else {
                return Ok(None);
            };
            let gone = take_away(places, &pool, &attachment, link, netlink)?;
            Ok(gone.then(|| format!("{} is detached: {why}", attachment.owner)))
        });
        match done {
            Ok(done) => outcome.done.extend(done),
            Err(error) => outcome.trouble.push(error),
        }
    }
    Ok(())
}

/// Why an attachment is to go, if it is, and its link.
fn judge(
    pool: &Pool,
    attachment: &Attachment,
    netlink: &mut Netlink,
    now: SystemTime,
) -> Result<Option<(&'static str, Option<Link>)>, PodsError> {
    let details = &attachment.details;
    let ours = matches!(details.kind, Kind::Bridge { .. } | Kind::Routed);
    if !ours || details.foreign.is_some() {
        return Ok(None);
    }
    let Some(stage) = pool.stage(&attachment.owner)? else {
        return Ok(None);
    };
    let link = find(netlink, attachment)?;
    let made = UNIX_EPOCH + Duration::from_secs(attachment.created);
    let findings = Findings {
        stage,
        linked: link.is_some(),
        namespace: namespace(details),
        age: now.duration_since(made).unwrap_or_default(),
    };
    Ok(verdict(findings).map(|why| (why, link)))
}

/// Why the attachment is to go, if it is.
fn verdict(findings: Findings) -> Option<&'static str> {
    match findings.stage {
        Stage::Making => None,
        Stage::Abandoned => Some("the ADD that made it was killed before it could tell anybody"),
        // The link goes with the pod's namespace, so there is no pod any more.
        Stage::Complete if !findings.linked => match findings.namespace {
            Namespace::Gone => Some("its pod is gone, and nobody has detached it"),
            Namespace::Unseen if findings.age >= GRACE => {
                Some("its link is gone, and nobody has detached it")
            }
            // Somebody else took the link: for CHECK to tell, while there is a pod.
            Namespace::Same | Namespace::Unseen => None,
        },
        Stage::Complete => None,
    }
}

fn namespace(details: &Details) -> Namespace {
    let Some(recorded) = &details.netns else {
        return Namespace::Unseen;
    };
    let path = Path::new(&recorded.path);
    match fs::metadata(path) {
        Ok(found) if (found.dev(), found.ino()) == (recorded.dev, recorded.ino) => Namespace::Same,
        Ok(_) => Namespace::Gone,
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                && path.parent().is_some_and(Path::is_dir) =>
        {
            Namespace::Gone
        }
        Err(_) => Namespace::Unseen,
    }
}

fn identity(attachment: &Attachment) -> Identity {
    Identity {
        network: attachment.network.clone(),
        container_id: attachment.owner.container_id().to_owned(),
        ifname: attachment.owner.ifname().to_owned(),
    }
}

/// The host's end of its link.
pub(crate) fn find(
    netlink: &mut Netlink,
    attachment: &Attachment,
) -> Result<Option<Link>, PodsError> {
    let identity = identity(attachment);
    let recorded = attachment.details.host_ifname.clone();
    let derived = (0..NAMES).map(|attempt| identity.host_name(attempt));
    for name in recorded.into_iter().chain(derived) {
        let link = netlink.link_by_name(&name)?;
        if let Some(link) = link.filter(|link| identity.owns(link)) {
            return Ok(Some(link));
        }
    }
    Ok(None)
}

/// Takes it away, in the order that lets nobody have an address to which something still leads. Whether it was still the same.
fn take_away(
    places: &Places,
    pool: &Pool,
    attachment: &Attachment,
    link: Option<Link>,
    netlink: &mut Netlink,
) -> Result<bool, PodsError> {
    let reservations = HostLocal::new(&places.reservations, &attachment.network)?;
    if !reservations.directory().is_dir() {
        // The CNI program writes there with each address, so this is a container that does not see it. An address given
        // back by one of two books only would never be given again.
        return Ok(false);
    }
    delete(netlink, attachment, link.map(|link| link.index))?;
    let mut trouble = None;
    let released = pool.release_if(&attachment.owner, |now| {
        // In the meantime the same container may have been attached anew.
        if now != attachment {
            return false;
        }
        let forgotten = forget(places, &reservations, attachment);
        trouble = forgotten.err();
        trouble.is_none()
    })?;
    trouble.map_or(Ok(released.is_some()), Err)
}

fn delete(
    netlink: &mut Netlink,
    attachment: &Attachment,
    link: Option<LinkIndex>,
) -> Result<(), PodsError> {
    let held = || attachment.addresses.iter().map(|held| held.address);
    let mut changes = Vec::new();
    if let Some(link) = link {
        changes.extend(held().map(|to| Change::DeleteRoute(Route::direct(to.into(), link))));
        changes.push(Change::DeleteLink(link));
    }
    // The bridge answers for routed pods of IPv6, to pods that are on it.
    if held().any(|address| address.is_ipv6())
        && let Some(bridge) = netlink.link_by_name(USUAL_BRIDGE)?
    {
        let proxies = held().filter(IpAddr::is_ipv6);
        changes
            .extend(proxies.map(|to| Change::DeleteNeighbour(Neighbour::proxy(bridge.index, to))));
    }
    match netlink.apply(&changes) {
        Err(refusals) if !refusals.iter().all(hostnet::Refused::is_not_found) => {
            Err(PodsError::Refused(refusals))
        }
        _ => Ok(()),
    }
}

/// Removes what is noted of it for other programs.
fn forget(
    places: &Places,
    reservations: &HostLocal,
    attachment: &Attachment,
) -> Result<(), PodsError> {
    let owner = &attachment.owner;
    for held in &attachment.addresses {
        reservations.unclaim(held.address, owner)?;
    }
    let note = places.notes.join(owner.container_id());
    let draft = format!(".{}.{}", owner.container_id(), owner.ifname());
    remove(&places.notes.join(draft))?;
    if is_of(&note, &attachment.network) {
        remove(&note)?;
    }
    Ok(())
}

/// Whether flannel's note about a container is of this network: the container may be in others too.
fn is_of(note: &Path, network: &str) -> bool {
    let note = fs::read(note).unwrap_or_default();
    let note: serde_json::Value = serde_json::from_slice(&note).unwrap_or_default();
    note.get("name").and_then(serde_json::Value::as_str) == Some(network)
}

fn remove(path: &Path) -> Result<(), PodsError> {
    match fs::remove_file(path) {
        Err(reason)
            if !matches!(
                reason.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::InvalidFilename
            ) =>
        {
            Err(PodsError::File {
                action: "remove",
                path: path.to_owned(),
                reason,
            })
        }
        _ => Ok(()),
    }
}
