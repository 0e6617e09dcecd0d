//! CHECK: whether an attachment still is what its ADD reported.
//!
//! Some runtimes ask right after the ADD and give the pod up on one bad answer, and plugins behind ours may change much:
//! tuning changes MAC and MTU, sbr and vrf move routes to other tables. So this looks for what must be there whatever
//! they do, and says nothing about the rest.

use hostnet::{Link, Netlink, Route, RouteFilter};
use ipam::Attachment;
use ipam::pool::Kind;
use ipnetwork::IpNetwork;

use crate::attachment::name::Identity;
use crate::connect;
use crate::delegated;
use crate::protocol::result::AddResult;
use crate::protocol::{Config, Error, Invocation, Target};
use crate::scratch::{Scratch, Worker};
use crate::{request, sandbox, takedown};

/// Does it.
///
/// # Errors
///
/// [`Error::Damaged`] with what is wrong, [`Error::Netns`] when the container is gone, [`Error::MissingKey`] when the
/// runtime does not tell what the ADD reported.
pub fn check(call: &Invocation, target: &Target, config: &Config) -> Result<(), Error> {
    reported(config)?;
    let recorded = request::recorded(config, target)?;
    if let Some(recorded) = &recorded {
        if let Some(foreign) = &recorded.details.foreign {
            let told = takedown::config_of(foreign)?;
            delegated::check(call, target, config, (&foreign.name, told))?;
        }
        if recorded.details.kind == Kind::Foreign {
            return Ok(());
        }
    } else if let Some(delegate) = Scratch::of(config, target).read() {
        // flannel's own plugin made it, before ours took its place.
        let worker = Worker::of(&delegate);
        if let Some(worker) = worker {
            delegated::check(call, target, config, (worker.name(), delegate.clone()))?;
        }
        if matches!(worker, Some(Worker::Delegate(_))) {
            return Ok(());
        }
    }
    attachment(call, target, config, recorded.as_ref(), true)
}

/// The same for an attachment without a record, whose container's end is on or meant to be off.
///
/// # Errors
///
/// As above.
pub(crate) fn pod(
    call: &Invocation,
    target: &Target,
    config: &Config,
    is_on: bool,
) -> Result<(), Error> {
    attachment(call, target, config, None, is_on)
}

fn attachment(
    call: &Invocation,
    target: &Target,
    config: &Config,
    recorded: Option<&Attachment>,
    is_on: bool,
) -> Result<(), Error> {
    let expected = reported(config)?;
    let (netns, _) = sandbox::open(target, call.netns_override)?;
    let identity = request::identity(config, target);
    let mut host = Netlink::open().map_err(Error::Netlink)?;
    let host_end = check_host(&mut host, &identity, recorded, &expected)?;
    netns.enter().map_err(Error::Netns)?;
    let mut pod = Netlink::open().map_err(Error::Netlink)?;
    check_pod(&mut pod, target, &host_end, &expected, is_on)
}

/// What the ADD reported.
fn reported(config: &Config) -> Result<AddResult, Error> {
    config.previous_result()?.ok_or_else(|| Error::MissingKey {
        key: "prevResult".to_owned(),
    })
}

/// The host end, and the route to a routed pod.
fn check_host(
    host: &mut Netlink,
    identity: &Identity,
    recorded: Option<&Attachment>,
    expected: &AddResult,
) -> Result<Link, Error> {
    let name = recorded.and_then(|attachment| attachment.details.host_ifname.as_deref());
    let found = match connect::find(host, identity, name)? {
        Some(link) => Some(link),
        None => reported_end(host, expected)?,
    };
    let link = found.ok_or_else(|| damaged("the host's end of its link is gone"))?;
    if !link.up {
        return Err(damaged(&format!("the host's end {} is down", link.name)));
    }
    let routed = recorded.filter(|attachment| attachment.details.kind == Kind::Routed);
    if let Some(attachment) = routed {
        let routes = routes(host, Some(&link))?;
        let held = attachment.addresses.iter().map(|held| held.address);
        // Those of an IPAM plugin are not recorded.
        let foreign = attachment.details.foreign.as_ref();
        let told = foreign.map(|_| ips_of(expected, &identity.ifname));
        let told = told.into_iter().flatten().map(|ip| ip.address.ip());
        for address in held.chain(told) {
            if !routes.iter().any(|way| way.to == IpNetwork::from(address)) {
                let name = &link.name;
                return Err(damaged(&format!(
                    "the host has no route to {address} by {name}"
                )));
            }
        }
    }
    Ok(link)
}

/// An attachment that another plugin made, before ours took its place, has neither record nor mark.
fn reported_end(host: &mut Netlink, expected: &AddResult) -> Result<Option<Link>, Error> {
    for interface in &expected.interfaces {
        if interface.sandbox.is_none() {
            let link = host.link_by_name(&interface.name).map_err(Error::Netlink)?;
            let veth = link.filter(|link| link.kind.as_deref() == Some("veth"));
            if veth.is_some() {
                return Ok(veth);
            }
        }
    }
    Ok(None)
}

fn check_pod(
    pod: &mut Netlink,
    target: &Target,
    host_end: &Link,
    expected: &AddResult,
    is_on: bool,
) -> Result<(), Error> {
    let ifname = &target.ifname;
    let link = pod.link_by_name(ifname).map_err(Error::Netlink)?;
    let link = link.ok_or_else(|| damaged(&format!("it has no interface {ifname}")))?;
    if is_on && !link.up {
        return Err(damaged(&format!("its interface {ifname} is down")));
    }
    if host_end.lower != Some(link.index) {
        let name = &host_end.name;
        return Err(damaged(&format!(
            "its interface {ifname} is not the other end of {name}"
        )));
    }

    let addresses = pod.addresses(Some(link.index)).map_err(Error::Netlink)?;
    let routes = routes(pod, None)?;
    for ip in ips_of(expected, ifname) {
        let address = ip.address.ip();
        if !addresses.iter().any(|known| known.address == address) {
            return Err(damaged(&format!("its interface {ifname} lacks {address}")));
        }
        let Some(gateway) = ip.gateway else {
            continue;
        };
        if !routes.iter().any(|way| way.to.contains(gateway)) {
            return Err(damaged(&format!(
                "it has no route to its gateway {gateway}"
            )));
        }
    }
    let lost = expected
        .routes
        .iter()
        .find(|route| !leads_to(&routes, route.dst));
    match lost {
        Some(route) => Err(damaged(&format!("it lacks the route to {}", route.dst))),
        None => Ok(()),
    }
}

/// The addresses that belong to this interface of the container.
fn ips_of<'a>(
    expected: &'a AddResult,
    ifname: &str,
) -> impl Iterator<Item = &'a crate::protocol::result::Ip> {
    expected.ips.iter().filter(move |ip| {
        let Some(index) = ip.interface else {
            return true;
        };
        let interface = expected.interfaces.get(index);
        interface.is_some_and(|known| known.name == ifname && known.sandbox.is_some())
    })
}

/// Where a route leads to, and in which table it stands.
struct Way {
    to: IpNetwork,
    table: u32,
}

/// The routes of all tables.
fn routes(place: &mut Netlink, link: Option<&Link>) -> Result<Vec<Way>, Error> {
    let filter = RouteFilter {
        link: link.map(|link| link.index),
        ..RouteFilter::default()
    };
    let routes = place.routes(&filter).map_err(Error::Netlink)?;
    Ok(routes
        .iter()
        .map(|route| Way {
            to: route.destination,
            table: route.table,
        })
        .collect())
}

/// Whether the route of the result is there. Whoever moves routes to a table of his own (sbr) may merge them there, so that a
/// wider one counts then.
fn leads_to(routes: &[Way], dst: IpNetwork) -> bool {
    routes.iter().any(|way| {
        let (to, moved) = (way.to, way.table != Route::MAIN_TABLE);
        let same = to.network() == dst.network() && to.prefix() == dst.prefix();
        same || (moved && to.prefix() <= dst.prefix() && to.contains(dst.network()))
    })
}

fn damaged(what: &str) -> Error {
    Error::Damaged {
        what: what.to_owned(),
    }
}
