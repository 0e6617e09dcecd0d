//! Puts a plan into the kernel, and takes it out again.
//!
//! Two connections are opened at most: one to the host, one inside the pod. The process enters the pod's namespace and
//! never comes back; it has no second thread and ends soon.

use std::net::IpAddr;
use std::os::fd::AsRawFd;

use hostnet::netns::Netns;
use hostnet::{Change, Link, LinkIndex, Neighbour, NeighbourState, Netlink, Refused, sysctl};

use ipnetwork::IpNetwork;

use crate::attachment::conf::{AttachmentConf, Kind};
use crate::attachment::name::Identity;
use crate::attachment::{Plan, bridge, routed};
use crate::deadline::Deadline;
use crate::protocol::Error;
use crate::protocol::result::Interface;
use crate::{fresh, masquerade};

mod segment;
mod settle;

use settle::{GATEWAY_PATIENCE, await_addresses, await_forwarding, await_port};

/// How many names are tried for the host end. Another one is needed only if a stranger bears a name with our hash.
const NAMES: u32 = 4;

/// A pod that was attached, by a process that is now in the pod's namespace.
#[derive(Debug)]
pub struct Connected {
    /// For the result, in the order that chained plugins rely on: bridge, host end, pod end.
    pub interfaces: Vec<Interface>,
    link: LinkIndex,
    proxies: Vec<Neighbour>,
    host: Netlink,
    pod: Option<Netlink>,
    netns: Netns,
    deadline: Deadline,
}

impl Connected {
    /// Takes it back, over the connection to the host that is still open.
    ///
    /// # Errors
    ///
    /// Whatever the kernel refuses; then the link is still there.
    pub fn undo(&mut self) -> Result<(), Error> {
        let proxies = self.proxies.drain(..).map(Change::DeleteNeighbour);
        delete(&mut self.host, self.link, proxies.collect())
    }

    /// Everything after the pair is there.
    fn configure(&mut self, plan: &Plan, conf: &AttachmentConf, link: &Link) -> Result<(), Error> {
        let pod = link.lower.ok_or_else(|| Error::NoPeer {
            name: link.name.clone(),
        })?;
        self.deadline.check()?;
        match &conf.kind {
            Kind::Routed => {
                guard(&link.name)?;
                await_forwarding(&mut self.host, link, plan)?;
                self.inside(plan, &routed::pod(plan, pod))?;
                self.deadline.check()?;
                let mut changes = routed::host(plan, link.index);
                let proxies = self.proxies.iter().cloned();
                changes.extend(proxies.map(Change::ReplaceNeighbour));
                // Asked for the link for the same reason as in the pod.
                if let Err(refusals) = self.host.apply_and_link(&changes, &link.name)
                    && !refusals
                        .iter()
                        .all(|refused| is_dispensable(refused, &changes))
                {
                    return Err(Error::Refused(refusals));
                }
                self.await_gateways(plan)
            }
            Kind::Bridge(conf) => {
                if conf.pod_up {
                    self.inside(plan, &bridge::pod(plan, pod))?;
                    self.deadline.check()?;
                }
                // Last, since an end that is marked counts as complete.
                self.host
                    .apply(&bridge::port(conf, plan, link.index))
                    .map_err(Error::Refused)?;
                if conf.is_gateway {
                    self.await_gateways(plan)?;
                }
                if conf.pod_up {
                    await_port(&mut self.host, link.index)?;
                }
                Ok(())
            }
        }
    }

    /// Enters the pod's namespace and makes the changes there.
    fn inside(&mut self, plan: &Plan, changes: &[Change]) -> Result<(), Error> {
        self.netns.enter().map_err(Error::Netns)?;
        let pod = self.pod.insert(Netlink::open().map_err(Error::Netlink)?);
        announce(plan);
        // Asked for a link, recent kernels begin to send on it at once; otherwise the first packet might be lost.
        if let Err(refusals) = pod.apply_and_link(changes, &plan.identity.ifname)
            && !refusals
                .iter()
                .all(|refused| is_taken(refused, changes, &refusals))
        {
            return Err(Error::Refused(refusals));
        }
        // A pod that does not get the packets meant for it is no pod.
        let addresses = plan.addresses.iter().map(|pod| pod.address);
        if await_addresses(pod, addresses, self.deadline.left()?)? {
            return Ok(());
        }
        self.deadline.check()
    }

    fn await_gateways(&mut self, plan: &Plan) -> Result<(), Error> {
        let patience = GATEWAY_PATIENCE.min(self.deadline.left()?);
        await_addresses(&mut self.host, plan.gateways(), patience).map(drop)
    }
}

/// Whether what was refused is only the entry that spares the first packet an ARP request, for want of room: the kernel's table of
/// neighbours is one for all namespaces, and what is younger than five seconds it does not let go.
fn is_dispensable(refused: &Refused, changes: &[Change]) -> bool {
    let seed = |change: &Change| matches!(change, Change::ReplaceNeighbour(neighbour) if neighbour.state == NeighbourState::Reachable);
    refused.error.is_no_room() && changes.get(refused.index).is_some_and(seed)
}

/// Whether what was refused is a route that a pod with several networks has already; the first one wins, as with the reference
/// plugins. So does the first way to a gateway: the kernel has no other for what is behind it (IPv6 only).
fn is_taken(refused: &Refused, changes: &[Change], all: &[Refused]) -> bool {
    let route = |refused: &Refused| match changes.get(refused.index) {
        Some(Change::AddRoute(route)) => Some(route),
        _ => None,
    };
    let leads_elsewhere = |gateway: IpAddr| {
        let mut taken = all.iter().filter(|one| one.is_exists()).filter_map(route);
        taken.any(|way| way.gateway.is_none() && way.destination == gateway.into())
    };
    route(refused)
        .is_some_and(|route| refused.is_exists() || route.gateway.is_some_and(leads_elsewhere))
}

/// Attaches the pod. On an error nothing of the attachment is left, except a bridge that was made for it: others may use
/// it already.
///
/// # Errors
///
/// Whatever the kernel refuses, and [`Error::InterfaceExists`].
pub fn connect(
    plan: &mut Plan,
    conf: &AttachmentConf,
    netns: Netns,
    deadline: Deadline,
) -> Result<Connected, Error> {
    deadline.check()?;
    let mut host = Netlink::open().map_err(Error::Netlink)?;
    let bridge = match &conf.kind {
        Kind::Bridge(bridge) => Some(segment::ensure(&mut host, bridge, plan, conf.one_segment)?),
        Kind::Routed => None,
    };
    let mut proxies = Vec::new();
    // What an IPAM plugin gave is not on record, so nobody could take it back.
    if conf.kind == Kind::Routed && conf.one_segment && conf.ipam.foreign.is_none() {
        proxies = segment::answer_for(&mut host, plan)?;
    }
    if !matches!(&conf.kind, Kind::Bridge(bridge) if !bridge.is_gateway) {
        forward(plan)?;
        if let Some(bridge) = &bridge {
            await_forwarding(&mut host, bridge, plan)?;
        }
    }
    if conf.ip_masq {
        let ranges = conf.ipam.range_sets.iter().flatten();
        let mut pods: Vec<IpNetwork> = ranges.map(|range| range.subnet.into()).collect();
        if conf.ipam.foreign.is_some() {
            pods.clone_from(&conf.pod_networks);
        }
        let network = &plan.identity.network;
        masquerade::ensure(&masquerade::tables(network, &pods, &conf.pod_networks))?;
    }

    deadline.check()?;
    let link = make_pair(&mut host, plan, bridge.as_ref(), &netns)?;
    let mut interfaces = Vec::with_capacity(3);
    interfaces.extend(bridge.as_ref().map(segment::interface));
    interfaces.push(plan.host_interface(link.mtu));
    interfaces.push(plan.pod_interface(&netns.path().to_string_lossy(), link.mtu));
    let mut connected = Connected {
        interfaces,
        link: link.index,
        proxies,
        host,
        pod: None,
        netns,
        deadline,
    };
    match connected.configure(plan, conf, &link) {
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
    let link = find(&mut host, identity, recorded)?.map(|link| link.index);
    let mut changes = link.map_or_else(Vec::new, |link| routed::host_undo(addresses, link));
    let proxies = segment::proxies(&mut host, addresses.iter().copied())?;
    changes.extend(proxies.into_iter().map(Change::DeleteNeighbour));
    delete(&mut host, link, changes)
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
///
/// Nothing else is in the message: if the name is a stranger's, what follows would alter the stranger's link.
fn make_pair(
    host: &mut Netlink,
    plan: &mut Plan,
    bridge: Option<&Link>,
    netns: &Netns,
) -> Result<Link, Error> {
    let master = bridge.map(|bridge| bridge.index);
    let mut attempt = 0;
    let mut cleared = false;
    loop {
        plan.host_name = plan.identity.host_name(attempt);
        let pair = [Change::AddLink(plan.veth(netns.as_raw_fd(), master))];
        let refusals = match host.apply_and_link(&pair, &plan.host_name) {
            Ok(link) => return Ok(link),
            Err(refusals) => refusals,
        };
        if !refusals.iter().any(Refused::is_exists) {
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

/// Keeps a pod from making itself the host's IPv6 router. (`disable_ipv6` would do more, but waits for the lock of the whole
/// network configuration by trying over and over again.)
fn guard(link: &str) -> Result<(), Error> {
    let setting = format!("net/ipv6/conf/{link}/accept_ra");
    fresh::set(&setting, "0").map_err(|reason| Error::Setting { setting, reason })
}

/// Lets the pod tell its IPv6 neighbours when its interface goes up or changes its MAC: whoever knew its address from an earlier
/// pod learns at once. The pod works without, so a read-only `/proc/sys` is no reason to fail. (For IPv4 this is part of
/// [`Plan`].)
fn announce(plan: &Plan) {
    if plan.addresses.iter().any(|pod| pod.address.is_ipv6()) {
        let setting = format!("net/ipv6/conf/{}/ndisc_notify", plan.identity.ifname);
        let _ = fresh::set(&setting, "1");
    }
}

/// Removes a link after making these changes. One that is gone is fine.
///
/// # Errors
///
/// [`Error::Refused`]
pub(crate) fn delete(
    host: &mut Netlink,
    link: impl Into<Option<LinkIndex>>,
    mut changes: Vec<Change>,
) -> Result<(), Error> {
    changes.extend(link.into().map(Change::DeleteLink));
    if changes.is_empty() {
        return Ok(());
    }
    match host.apply(&changes) {
        Err(refusals) if !refusals.iter().all(hostnet::Refused::is_not_found) => {
            Err(Error::Refused(refusals))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
