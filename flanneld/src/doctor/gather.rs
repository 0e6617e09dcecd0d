//! Looking: the kernel, the files, the daemon, the peers. All I/O of the doctor but what `--fix` does.

mod clock;
mod cni;
mod firewall;
mod kernel;
mod peers;

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::SystemTime;

use hostnet::{LinkIndex, Netlink, Route, RouteFilter};
use ipam::SubnetEnv;

use super::clash;
use super::facts::{Facts, NotAsked, PeerFacts, Probed, TunnelFacts};
use crate::http::client::{self, AskError};
use crate::pods::Places;
use crate::probe::Patience;
use crate::probe::echo::{Question, Reply};
use crate::probe::peer::{Target, Tunnel, Way, probe_all};
use crate::probe::sample;
use crate::reconcile;
use crate::status::down;
use crate::status::report::Report;

/// Where to look, and how much.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    /// The daemon's socket.
    pub socket: PathBuf,
    /// The file for the CNI program.
    pub subnet_file: PathBuf,
    /// Where conflists are.
    pub conflists: PathBuf,
    /// Where CNI programs are.
    pub programs: PathBuf,
    /// Only the peer with this address, name or subnet.
    pub peer: Option<String>,
    /// How many peers to ask at most; none is asked if it is 0.
    pub ask: usize,
}

/// Why it cannot be looked at all.
#[derive(Debug, thiserror::Error)]
pub(super) enum GatherError {
    /// The kernel gives no answer.
    #[error("the kernel cannot be asked what this host has: {0}")]
    Netlink(#[from] hostnet::Error),
    /// Nobody is called so.
    #[error(
        "no peer is known by \"{0}\"; give its address, its subnet or a name that leads to its address"
    )]
    NoSuchPeer(String),
}

/// Looks at everything.
///
/// # Errors
/// [`GatherError`]; what else cannot be seen is told in the facts.
pub(super) fn gather(scope: &Scope) -> Result<Facts, GatherError> {
    let daemon = client::ask_and_wait::<Report>(&scope.socket, "/status");
    let daemon = daemon.map_err(|error| match error {
        AskError::NotRunning(_) => NotAsked::NotRunning,
        other => NotAsked::Unknown(other.to_string()),
    });
    let mut netlink = Netlink::open()?;
    let mut facts = observe(&mut netlink, scope, daemon)?;
    facts.firewall = firewall::look(&facts);
    facts.sysctls.extend(kernel::filters(&facts));
    facts.store_clock = clock::compare(facts.report());
    let chosen = choose(&facts, scope)?;
    for peer in &chosen {
        let first = peer.subnet.iter().nth(1);
        let leaves_by = first.and_then(|first| way_to(&mut netlink, first));
        let answered_by = way_to(&mut netlink, peer.public);
        for known in facts
            .peers
            .iter_mut()
            .filter(|known| known.subnet == peer.subnet)
        {
            known.leaves_by = leaves_by;
            known.answered_by = answered_by;
        }
    }
    if scope.ask > 0 {
        facts.probes = Some(ask(&facts, chosen));
        facts.rivals = ask_rivals(&facts);
    }
    Ok(facts)
}

fn observe(
    netlink: &mut Netlink,
    scope: &Scope,
    daemon: Result<Report, NotAsked>,
) -> Result<Facts, GatherError> {
    let links = netlink.links()?;
    let mut tunnels = Vec::new();
    for link in links
        .iter()
        .filter(|link| link.vxlan.is_some() && reconcile::is_named_as_ours(link))
    {
        tunnels.push(TunnelFacts {
            neighbours: netlink.neighbours(link.index, None)?,
            fdb: netlink.fdb(link.index)?,
            link: link.clone(),
        });
    }
    let table = Some(Route::MAIN_TABLE);
    let routes = netlink.routes(&RouteFilter {
        table,
        ..RouteFilter::default()
    })?;
    let peers = match &daemon {
        Ok(report) => peers::told(report, &routes, &tunnels),
        Err(_) => peers::of_kernel(&routes, &tunnels),
    };
    // What is on record of pods is in files, and there without a daemon, too.
    let recorded = match &daemon {
        Ok(report) => cni::look(netlink, scope, report),
        Err(_) => {
            let report = down::look(&scope.subnet_file, &Places::default());
            cni::look(netlink, scope, &report)
        }
    };
    let written = fs::metadata(&scope.subnet_file).and_then(|metadata| metadata.modified());
    Ok(Facts {
        at: SystemTime::now(),
        subnet_file: SubnetEnv::read(&scope.subnet_file).map_err(|error| error.to_string()),
        subnet_file_written: written.ok(),
        store_clock: Err("not asked".to_owned()),
        kernel: kernel::features(&links),
        addresses: netlink.addresses(None)?,
        offloads: kernel::offloads(&links, &tunnels),
        sysctls: kernel::settings(&tunnels),
        managed: kernel::managed(&links),
        firewall: Err("not looked at".to_owned()),
        probes: None,
        rivals: BTreeMap::new(),
        cni: recorded,
        peers,
        routes,
        tunnels,
        links,
        daemon,
    })
}

/// Those to be asked: the one that was named, or some of all.
fn choose(facts: &Facts, scope: &Scope) -> Result<Vec<PeerFacts>, GatherError> {
    let Some(name) = &scope.peer else {
        let turn = facts
            .at
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let turn = usize::try_from(turn).unwrap_or_default();
        return Ok(sample(facts.peers.clone(), scope.ask, turn));
    };
    let is_meant = |peer: &&PeerFacts, address: IpAddr| {
        peer.public == address || peer.subnet.contains(address)
    };
    let by_subnet = |peer: &&PeerFacts| peer.subnet.to_string() == *name;
    let mut found: Vec<PeerFacts> = facts.peers.iter().filter(by_subnet).cloned().collect();
    if found.is_empty() {
        let addresses = (name.as_str(), 0).to_socket_addrs().into_iter().flatten();
        for address in addresses {
            found.extend(
                facts
                    .peers
                    .iter()
                    .filter(|peer| is_meant(peer, address.ip()))
                    .cloned(),
            );
        }
        found.dedup();
    }
    if found.is_empty() {
        return Err(GatherError::NoSuchPeer(name.clone()));
    }
    Ok(found)
}

/// By which link this host would send there now; nothing if it cannot be asked.
fn way_to(netlink: &mut Netlink, address: IpAddr) -> Option<Option<LinkIndex>> {
    let route = netlink.route_to(address).ok()?;
    Some(route.and_then(|route| route.link))
}

fn ask(facts: &Facts, peers: Vec<PeerFacts>) -> Vec<Probed> {
    let targets: Vec<(PeerFacts, Target)> = peers
        .into_iter()
        .filter_map(|peer| target(facts, &peer).map(|target| (peer, target)))
        .collect();
    let probes = probe_all(&targets, AT_ONCE, |(_, target)| target.probe());
    let peers = targets.into_iter().map(|(peer, _)| peer);
    peers
        .zip(probes)
        .map(|(peer, probe)| Probed { peer, probe })
        .collect()
}

/// Whether the hosts answer whose leases are in each other's way; nothing is sent where there are none.
fn ask_rivals(facts: &Facts) -> BTreeMap<IpAddr, Reply> {
    let hosts = facts.report().map(clash::hosts).unwrap_or_default();
    let replies = probe_all(&hosts, AT_ONCE, |host| {
        Question::new(*host).ask(Patience::USUAL)
    });
    hosts.into_iter().zip(replies).collect()
}

fn target(facts: &Facts, peer: &PeerFacts) -> Option<Target> {
    let uplink = facts.uplink()?;
    let uplink = Way {
        link: uplink.index,
        source: facts.address_on(uplink.index, peer.public.is_ipv4())?,
        mtu: uplink.mtu,
    };
    let tunnel = facts
        .tunnel(peer.subnet.is_ipv4())
        .filter(|_| peer.tunnelled);
    let tunnel = tunnel.and_then(|tunnel| {
        let link = &tunnel.link;
        let own = Way {
            link: link.index,
            source: facts.address_on(link.index, peer.subnet.is_ipv4())?,
            mtu: link.mtu,
        };
        Some(Tunnel {
            vtep: peer.subnet.network(),
            own,
            port: link.vxlan.as_ref()?.port,
        })
    });
    Some(Target {
        public: peer.public,
        uplink,
        tunnel,
    })
}

/// How many peers are asked at a time.
const AT_ONCE: usize = 64;
