//! Puts a plan into the kernel, and takes it out again.
//!
//! Two connections are opened at most: one to the host, one inside the pod. The process enters the pod's namespace and
//! never comes back; it has no second thread and ends soon.

use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use hostnet::netns::Netns;
use hostnet::{Change, Link, LinkChange, LinkIndex, Netlink, Refusals, sysctl};

use crate::attachment::conf::{AttachmentConf, BridgeConf, Kind};
use crate::attachment::name::Identity;
use crate::attachment::{Plan, bridge, routed};
use crate::protocol::Error;
use crate::protocol::result::Interface;

/// How many names are tried for the host end. Another one is needed only if a stranger bears a name with our hash.
const NAMES: u32 = 4;

/// How long a bridge port may take until it forwards; the ADD goes on without it then.
const PORT_PATIENCE: Duration = Duration::from_millis(100);
const PORT_PAUSE: Duration = Duration::from_millis(1);

/// The bridge of flannel's config, which routed pods have to get on with.
const USUAL_BRIDGE: &str = "cni0";

/// A pod that was attached, by a process that is now in the pod's namespace.
#[derive(Debug)]
pub struct Connected {
    /// For the result, in the order that chained plugins rely on: bridge, host end, pod end.
    pub interfaces: Vec<Interface>,
    link: LinkIndex,
    host: Netlink,
}

impl Connected {
    /// Takes it back, over the connection to the host that is still open.
    ///
    /// # Errors
    ///
    /// Whatever the kernel refuses; then the link is still there.
    pub fn undo(&mut self) -> Result<(), Error> {
        delete(&mut self.host, self.link, Vec::new())
    }
}

/// Attaches the pod. On an error nothing of the attachment is left, except a bridge that was made for it: others may use
/// it already.
///
/// # Errors
///
/// Whatever the kernel refuses, and [`Error::InterfaceExists`].
pub fn connect(plan: &mut Plan, conf: &AttachmentConf, netns: &Netns) -> Result<Connected, Error> {
    let mut host = Netlink::open().map_err(Error::Netlink)?;
    let bridge = match &conf.kind {
        Kind::Bridge(bridge) => Some(ensure_bridge(&mut host, bridge, plan)?),
        Kind::Routed => {
            share_segment(USUAL_BRIDGE)?;
            None
        }
    };
    if !matches!(&conf.kind, Kind::Bridge(bridge) if !bridge.is_gateway) {
        forward(plan)?;
    }

    let link = make_pair(&mut host, plan, conf, bridge.as_ref(), netns)?;
    let mut interfaces: Vec<_> = bridge.as_ref().map(bridge_interface).into_iter().collect();
    interfaces.push(plan.host_interface(link.mtu));
    interfaces.push(plan.pod_interface(&netns.path().to_string_lossy(), link.mtu));
    let mut connected = Connected {
        interfaces,
        link: link.index,
        host,
    };
    match configure(&mut connected.host, plan, conf, &link, netns) {
        Ok(()) => Ok(connected),
        Err(error) => Err(error.after_undoing(connected.undo())),
    }
}

/// Detaches a pod: first what leads to it, then the link. `recorded` is the host end's name if it is known; without it the
/// name follows from the identity. Nothing to be found is success.
///
/// # Errors
///
/// Whatever the kernel refuses; then the link is still there.
pub fn disconnect(
    identity: &Identity,
    recorded: Option<&str>,
    addresses: &[IpAddr],
) -> Result<(), Error> {
    let mut host = Netlink::open().map_err(Error::Netlink)?;
    if let Some(link) = find(&mut host, identity, recorded)? {
        delete(
            &mut host,
            link.index,
            routed::host_undo(addresses, link.index),
        )?;
    }
    Ok(())
}

/// The host end of an attachment, known by its mark. A name that others took is never touched.
///
/// # Errors
///
/// [`Error::Netlink`]
pub fn find(
    host: &mut Netlink,
    identity: &Identity,
    recorded: Option<&str>,
) -> Result<Option<Link>, Error> {
    if let Some(name) = recorded {
        let link = host.link_by_name(name).map_err(Error::Netlink)?;
        if let Some(link) = link.filter(|link| identity.owns(link)) {
            return Ok(Some(link));
        }
    }
    for attempt in 0..NAMES {
        let name = identity.host_name(attempt);
        if Some(name.as_str()) == recorded {
            continue;
        }
        match host.link_by_name(&name).map_err(Error::Netlink)? {
            Some(link) if identity.owns(&link) => return Ok(Some(link)),
            // Only a name that is taken makes an ADD go on to the next.
            Some(_) => {}
            None => break,
        }
    }
    Ok(None)
}

/// The bridge, made if need be; one that another ADD made in the meantime is as good.
fn ensure_bridge(host: &mut Netlink, conf: &BridgeConf, plan: &Plan) -> Result<Link, Error> {
    if let Some(bridge) = host.link_by_name(&conf.name).map_err(Error::Netlink)? {
        return a_bridge(bridge);
    }
    let changes = bridge::create(conf, &plan.addresses, plan.mtu);
    let bridge = match host.apply_and_link(&changes, &conf.name) {
        Ok(bridge) => bridge,
        Err(refusals) if refusals.iter().all(hostnet::Refused::is_exists) => {
            let bridge = host.link_by_name(&conf.name).map_err(Error::Netlink)?;
            bridge.ok_or(Error::Refused(refusals))?
        }
        Err(refusals) => return Err(Error::Refused(refusals)),
    };
    // A pod must not be able to make itself the host's router.
    set_if_there(&format!("net/ipv6/conf/{}/accept_ra", conf.name), "0")?;
    share_segment(&conf.name)?;
    a_bridge(bridge)
}

fn a_bridge(link: Link) -> Result<Link, Error> {
    if link.kind.as_deref() == Some("bridge") {
        return Ok(link);
    }
    Err(Error::NotABridge {
        name: link.name,
        kind: link.kind.unwrap_or_else(|| "hardware".to_owned()),
    })
}

/// Lets the host answer on the bridge for pods that are not on it: to bridged pods the whole subnet looks like
/// one segment, but routed pods of the same host have their own links.
fn share_segment(bridge: &str) -> Result<(), Error> {
    if set_if_there(&format!("net/ipv4/conf/{bridge}/proxy_arp"), "1")? {
        // Otherwise each answer is held back for up to 0.8 s.
        set_if_there(&format!("net/ipv4/neigh/{bridge}/proxy_delay"), "0")?;
    }
    Ok(())
}

fn forward(plan: &Plan) -> Result<(), Error> {
    for (v4, setting) in [
        (true, "net/ipv4/ip_forward"),
        (false, "net/ipv6/conf/all/forwarding"),
    ] {
        if plan.addresses.iter().any(|pod| pod.address.is_ipv4() == v4) {
            sysctl::write(setting, "1").map_err(Error::Sysctl)?;
        }
    }
    Ok(())
}

/// Makes the veth pair under the first name that is free, and tells what the kernel made of the host end.
fn make_pair(
    host: &mut Netlink,
    plan: &mut Plan,
    conf: &AttachmentConf,
    bridge: Option<&Link>,
    netns: &Netns,
) -> Result<Link, Error> {
    let mut attempt = 0;
    let mut cleared = false;
    loop {
        plan.host_name = plan.identity.host_name(attempt);
        let (changes, pair) = pair_changes(plan, conf, bridge, netns);
        let refusals = match host.apply_and_link(&changes, &plan.host_name) {
            Ok(link) => return Ok(link),
            Err(refusals) => refusals,
        };
        let refused_pair = refusals.iter().find(|refused| refused.index == pair);
        if refused_pair.is_none() {
            return settle_pair(host, plan, refusals, changes.len() - 1);
        }
        if refused_pair.is_some_and(|refused| !refused.is_exists()) {
            return Err(Error::Refused(refusals));
        }
        match host.link_by_name(&plan.host_name).map_err(Error::Netlink)? {
            // Then it is the other end that could not be made.
            None => {
                return Err(Error::InterfaceExists {
                    ifname: plan.identity.ifname.clone(),
                    netns: netns.path().to_owned(),
                });
            }
            // Left by an ADD that was killed.
            Some(link) if !cleared && plan.identity.owns(&link) => {
                delete(host, link.index, Vec::new())?;
                cleared = true;
            }
            Some(_) if attempt + 1 < NAMES => attempt += 1,
            Some(_) => return Err(Error::Refused(refusals)),
        }
    }
}

/// What makes the pair, and at which place of it the pair itself is.
fn pair_changes(
    plan: &Plan,
    conf: &AttachmentConf,
    bridge: Option<&Link>,
    netns: &Netns,
) -> (Vec<Change>, usize) {
    let mut changes = match (&conf.kind, bridge) {
        (Kind::Bridge(conf), Some(bridge)) => bridge::settle(conf, &plan.addresses, bridge),
        _ => Vec::new(),
    };
    let pair = changes.len();
    let master = bridge.map(|bridge| bridge.index);
    changes.push(Change::AddLink(plan.veth(netns.as_raw_fd(), master)));
    if let Kind::Bridge(conf) = &conf.kind {
        changes.extend(bridge::port(conf, &plan.host_name));
    }
    changes.push(Change::SetLink(plan.mark()));
    // The last change, see `settle_pair`: nobody speaks to the host end by a link-local address.
    changes.push(Change::SetLink(LinkChange {
        no_ipv6_link_local: true,
        ..LinkChange::new(plan.host_name.as_str())
    }));
    (changes, pair)
}

/// The pair is there, but something beside it was refused. A kernel without IPv6 refuses the last change, which then has no
/// meaning; anything else is an error.
fn settle_pair(
    host: &mut Netlink,
    plan: &Plan,
    refusals: Refusals,
    last: usize,
) -> Result<Link, Error> {
    let link = host.link_by_name(&plan.host_name).map_err(Error::Netlink)?;
    let Some(link) = link else {
        return Err(Error::Refused(refusals));
    };
    let only_ipv6 = refusals.iter().all(|refused| refused.index == last);
    if only_ipv6 && !Path::new("/proc/sys/net/ipv6").exists() {
        return Ok(link);
    }
    let undone = delete(host, link.index, Vec::new());
    Err(Error::Refused(refusals).after_undoing(undone))
}

/// Everything after the pair is there.
fn configure(
    host: &mut Netlink,
    plan: &Plan,
    conf: &AttachmentConf,
    link: &Link,
    netns: &Netns,
) -> Result<(), Error> {
    let pod = link.lower.ok_or_else(|| Error::NoPeer {
        name: link.name.clone(),
    })?;
    match &conf.kind {
        Kind::Routed => {
            set_if_there(&format!("net/ipv6/conf/{}/accept_ra", link.name), "0")?;
            inside(netns, plan, &routed::pod(plan, pod))?;
            host.apply(&routed::host(plan, link.index))
                .map_err(Error::Refused)
        }
        Kind::Bridge(_) => {
            inside(netns, plan, &bridge::pod(plan, pod))?;
            await_port(host, link.index)
        }
    }
}

/// Enters the pod's namespace and makes the changes there.
fn inside(netns: &Netns, plan: &Plan, changes: &[Change]) -> Result<(), Error> {
    netns.enter().map_err(Error::Netns)?;
    let mut pod = Netlink::open().map_err(Error::Netlink)?;
    announce(plan);
    // Asked for a link, recent kernels settle the state of its carrier instead of doing so some time later.
    let Err(refusals) = pod.apply_and_link(changes, &plan.identity.ifname) else {
        return Ok(());
    };
    // A pod with several networks may have such a route already; the first one wins, as with the reference plugins.
    let expected = |refused: &hostnet::Refused| {
        refused.is_exists() && matches!(changes.get(refused.index), Some(Change::AddRoute(_)))
    };
    if refusals.iter().all(expected) {
        return Ok(());
    }
    Err(Error::Refused(refusals))
}

/// Lets the pod tell its neighbours when its interface goes up or changes its MAC: whoever knew its address from an earlier
/// pod learns at once. The pod works without, so a read-only `/proc/sys` is no reason to fail.
fn announce(plan: &Plan) {
    let ifname = &plan.identity.ifname;
    for (v4, setting) in [(true, "ipv4/conf"), (false, "ipv6/conf")] {
        let name = if v4 { "arp_notify" } else { "ndisc_notify" };
        if plan.addresses.iter().any(|pod| pod.address.is_ipv4() == v4) {
            let _ = sysctl::write(&format!("net/{setting}/{ifname}/{name}"), "1");
        }
    }
}

/// Waits until a bridge port forwards, so that the pod's first packet is not lost. One that does not is reported nowhere:
/// under load the kernel takes its time, and then it works.
fn await_port(host: &mut Netlink, link: LinkIndex) -> Result<(), Error> {
    let deadline = Instant::now() + PORT_PATIENCE;
    loop {
        // Asking is what makes recent kernels settle it.
        let port = host.link(link).map_err(Error::Netlink)?;
        if port.is_none_or(|port| port.running) || Instant::now() >= deadline {
            return Ok(());
        }
        thread::sleep(PORT_PAUSE);
    }
}

fn delete(host: &mut Netlink, link: LinkIndex, mut changes: Vec<Change>) -> Result<(), Error> {
    changes.push(Change::DeleteLink(link));
    match host.apply(&changes) {
        Err(refusals) if !refusals.iter().all(hostnet::Refused::is_not_found) => {
            Err(Error::Refused(refusals))
        }
        _ => Ok(()),
    }
}

/// Whether the setting is there.
fn set_if_there(setting: &str, value: &str) -> Result<bool, Error> {
    match sysctl::write(setting, value) {
        Ok(_) => Ok(true),
        Err(error) if error.is_missing() => Ok(false),
        Err(error) => Err(Error::Sysctl(error)),
    }
}

fn bridge_interface(bridge: &Link) -> Interface {
    Interface {
        name: bridge.name.clone(),
        mac: bridge.mac.map(|mac| mac.to_string()),
        mtu: Some(bridge.mtu),
        ..Interface::default()
    }
}
