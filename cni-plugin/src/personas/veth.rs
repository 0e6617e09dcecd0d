//! The plugins `bridge` and `ptp`: a veth pair into the container, whose host end is a port of a bridge or has a route of its own.
//!
//! They make what `flannel` makes ([`crate::attachment`]), from their own config, and with addresses from the IPAM plugin it names.
//! Nothing is recorded: the host end is found by its name, which follows from the attachment, and known by its mark. So a DEL
//! needs no namespace, and a pod that the reference plugin attached is detached by its interface in the container.

use std::io::Write;
use std::time::Duration;

use hostnet::netns::Netns;
use hostnet::{Change, Netlink};
use ipam::pool::Details;
use ipnetwork::IpNetwork;

use super::addresses::{Addresses, Given};
use super::conf;
use super::stations::Stations;
use super::{Persona, host_local};
use crate::attachment::conf::{AttachmentConf, Kind};
use crate::attachment::name::Identity;
use crate::attachment::{Plan, subnet_of};
use crate::connect::{self, Connected};
use crate::deadline::Deadline;
use crate::protocol::result::AddResult;
use crate::protocol::{Config, Error, Invocation, Request, Target};
use crate::verbs::add::merge;
use crate::verbs::{check, gc};
use crate::{Made, masquerade, request, sandbox, tell};

/// Carries a call out.
pub(crate) fn run(
    persona: Persona,
    call: &Invocation,
    config: impl FnOnce() -> Result<Config, Error>,
    stdout: &mut impl Write,
) -> Result<(), Error> {
    match &call.request {
        Request::Add(target) => {
            let deadline = Deadline::of_add();
            let config = config()?;
            let attached = add(persona, call, target, &config, deadline)?;
            tell(attached, &config, stdout, || {})
        }
        Request::Check(target) => {
            let config = config()?;
            Addresses::of(&config)?.check(call, &config, target)?;
            check::pod(call, target, &config, conf::is_on(&config)?)
        }
        Request::Del(target) => {
            let deadline = Deadline::of_del();
            del(call, target, &config()?, deadline)
        }
        Request::Gc => collect(call, &config()?),
        Request::Status => {
            let config = config()?;
            conf::read(persona, &config, &call.args)?;
            Addresses::of(&config)?.status(call, &config)
        }
        Request::Version => Ok(()),
    }
}

/// An attachment that was made.
struct Attached {
    result: AddResult,
    link: Linked,
    given: Given,
}

/// The pair, with what was made for it.
struct Linked {
    connected: Connected,
    /// The port whose MAC is held.
    held: Option<(Stations, String)>,
}

impl Linked {
    fn undo(mut self) -> Result<(), Error> {
        self.connected.undo()?;
        match self.held {
            Some((mut stations, port)) => stations.release(&port),
            None => Ok(()),
        }
    }
}

impl Made for Attached {
    fn result(&self) -> &AddResult {
        &self.result
    }

    fn undo(self) -> Result<(), Error> {
        self.link.undo()?;
        self.given.undo()
    }
}

fn add(
    persona: Persona,
    call: &Invocation,
    target: &Target,
    config: &Config,
    deadline: Deadline,
) -> Result<Attached, Error> {
    let (netns, _) = sandbox::open(target, call.netns_override)?;
    let previous = config.previous_result()?;
    let conf = conf::read(persona, config, &call.args)?;
    let dns = conf::name_servers(config)?;
    let identity = request::identity(config, target);
    refuse_second(&identity, target, &netns)?;
    let given = Addresses::of(config)?.add(call, config, target, deadline)?;
    match attach(call, &conf, &identity, &given, netns, deadline) {
        Ok((result, link)) => Ok(Attached {
            result: merge(
                previous,
                AddResult {
                    dns: dns.unwrap_or(result.dns),
                    ..result
                },
            ),
            link,
            given,
        }),
        Err(error) => Err(error.after_undoing(given.undo())),
    }
}

/// A link that is marked is complete, and in use.
fn refuse_second(identity: &Identity, target: &Target, netns: &Netns) -> Result<(), Error> {
    let mut host = Netlink::open().map_err(Error::Netlink)?;
    match connect::find(&mut host, identity, None)? {
        Some(link) if identity.marks(&link) => Err(Error::InterfaceExists {
            ifname: target.ifname.clone(),
            netns: netns.path().to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Puts the pair in place.
fn attach(
    call: &Invocation,
    conf: &AttachmentConf,
    identity: &Identity,
    given: &Given,
    netns: Netns,
    deadline: Deadline,
) -> Result<(AddResult, Linked), Error> {
    let given_result = given.result();
    if given_result.ips.is_empty() && !matches!(given, Given::Nothing) {
        return Err(Error::NoAddressGiven);
    }
    let details = Details {
        pod: request::pod(&call.args),
        ..Details::default()
    };
    let given = request::given_by_plugin(conf, given_result);
    let mut plan = request::plan(identity, conf, &details, &given);
    if conf.ip_masq {
        masquerade(conf, &plan)?;
    }
    let conf = AttachmentConf {
        ip_masq: false,
        ..conf.clone()
    };
    // Opened here, for this process stays in the container's namespace.
    let stations = holds_macs(&conf).then(Stations::open).transpose()?;
    let connected = connect::connect(&mut plan, &conf, netns, deadline)?;
    let mut link = Linked {
        connected,
        held: stations.map(|stations| (stations, plan.host_name.clone())),
    };
    if let Some((stations, port)) = &mut link.held
        && let Err(error) = stations.hold(port, plan.pod_mac)
    {
        return Err(error.after_undoing(link.undo()));
    }
    let connected = &link.connected;
    let pod = connected.interfaces.len() - 1;
    let result = AddResult {
        ips: plan.ips(pod),
        interfaces: connected.interfaces.clone(),
        routes: plan.routes,
        dns: given.dns,
    };
    Ok((result, link))
}

fn holds_macs(conf: &AttachmentConf) -> bool {
    matches!(&conf.kind, Kind::Bridge(bridge) if bridge.mac_only)
}

/// What pods send out of their subnet is masqueraded by one table for each subnet: the same for all its pods, so that an ADD
/// mostly finds it there and a DEL need not count who is left.
fn masquerade(conf: &AttachmentConf, plan: &Plan) -> Result<(), Error> {
    let network = &plan.identity.network;
    let ranges = conf.ipam.range_sets.iter().flatten();
    let ranges: Vec<IpNetwork> = ranges.map(|range| range.subnet.into()).collect();
    if !ranges.is_empty() {
        return masquerade::ensure(&masquerade::tables(network, &ranges, &[]));
    }
    for pod in &plan.addresses {
        let subnet = subnet_of(pod);
        let name = format!("{network}-{}-{}", subnet.ip(), subnet.prefix()).replace(':', "-");
        masquerade::ensure(&masquerade::tables(&name, &[subnet], &[]))?;
    }
    Ok(())
}

fn del(
    call: &Invocation,
    target: &Target,
    config: &Config,
    deadline: Deadline,
) -> Result<(), Error> {
    let identity = request::identity(config, target);
    let mut host = Netlink::open().map_err(Error::Netlink)?;
    let found = connect::find(&mut host, &identity, None)?;
    let port = found
        .as_ref()
        .map_or(identity.host_name(0), |link| link.name.clone());
    match found {
        Some(link) => connect::delete(&mut host, link.index, Vec::new())?,
        None => unlink(target)?,
    }
    if macs_are_held(config) {
        Stations::open()?.release(&port)?;
    }
    deadline.check()?;
    Addresses::of(config)?.del(call, config, target, deadline)
}

/// Removes the container's end of a pair that bears no mark: the reference plugin made it. What is no veth is not its work.
/// Enters the container's namespace.
fn unlink(target: &Target) -> Result<(), Error> {
    let Some(netns) = sandbox::open_if_there(target)? else {
        return Ok(());
    };
    let here = Netns::current().map_err(Error::Netns)?;
    netns.enter().map_err(Error::Netns)?;
    let removed = unlink_here(&target.ifname);
    // An IPAM plugin that is run next belongs on the host.
    here.enter().map_err(Error::Netns)?;
    removed
}

fn unlink_here(ifname: &str) -> Result<(), Error> {
    let mut pod = Netlink::open().map_err(Error::Netlink)?;
    let found = pod.link_by_name(ifname).map_err(Error::Netlink)?;
    match found.filter(|link| link.kind.as_deref() == Some("veth")) {
        Some(link) => connect::delete(&mut pod, link.index, Vec::<Change>::new()),
        None => Ok(()),
    }
}

/// Detaches what the runtime no longer knows of, and has its addresses given back. Whether a container still stands is recorded
/// nowhere, so the young are spared only if the config says so; how old they are, host-local's reservations tell.
fn collect(call: &Invocation, config: &Config) -> Result<(), Error> {
    let Some(order) = gc::Order::of(config, Duration::ZERO)? else {
        return Ok(());
    };
    let addresses = Addresses::of(config)?;
    let mut valid = order.valid;
    if addresses == Addresses::HostLocal {
        valid.extend(host_local::younger(config, order.young)?);
    }
    let links = gc::collect_links(config, &valid);
    let links = links.and_then(|()| collect_stations(config));
    let given = addresses.gc(call, config, &valid);
    links.and(given)
}

/// The same by a config that need not be sound.
fn macs_are_held(config: &Config) -> bool {
    matches!(config.root().boolean("macspoofchk"), Ok(Some(true)))
}

fn collect_stations(config: &Config) -> Result<(), Error> {
    if !macs_are_held(config) {
        return Ok(());
    }
    let mut host = Netlink::open().map_err(Error::Netlink)?;
    Stations::open()?.collect(&mut host)
}
