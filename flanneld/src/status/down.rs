//! What can be told of this node without its daemon: from the subnet file, the kernel and the CNI program's files. Read-only, and as
//! far as the caller may look.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::SystemTime;

use hostnet::nft::Nftables;
use hostnet::{FdbEntry, Link, Mac, Neighbour, Netlink, Route, RouteFilter};
use ipam::{Cidr, SubnetEnv};
use ipnetwork::IpNetwork;

use super::cni;
use super::compose::timestamp;
use super::report::{
    API_VERSION, Daemon, Device, Network, Node, Peer, PeerInKernel, Probe, Report,
};
use crate::firewall::OWNED;
use crate::pods::Places;
use crate::reconcile::{self, DEFAULT_PORT, ROUTE_PROTOCOL, ROUTE_PROTOCOL_BOOT};

/// Looks around.
pub(crate) fn look(subnet_file: &Path, places: &Places) -> Report {
    let mut report = Report {
        api_version: API_VERSION.to_owned(),
        at: timestamp(SystemTime::now()),
        daemon: Daemon::default(),
        node: Node {
            name: cni::host_name(),
            ..Node::default()
        },
        network: Network::default(),
        peers: Vec::new(),
        unreadable: Vec::new(),
        pods: Vec::new(),
        addresses: Vec::new(),
        repairs: Vec::new(),
        contested: Vec::new(),
        problems: Vec::new(),
        unseen: vec![
            "lease, store, repairs, and whether the kernel holds the right things for all peers: only the daemon knows the leases"
                .to_owned(),
        ],
    };
    match SubnetEnv::read(subnet_file) {
        Ok(env) => take_env(&env, &mut report),
        Err(error) => report.unseen.push(format!("this node's subnet: {error}")),
    }
    let seen = Netlink::open().and_then(|mut netlink| look_at_kernel(&mut netlink, &mut report));
    if let Err(error) = seen {
        report.unseen.push(format!("the kernel's tables: {error}"));
    }
    look_at_firewall(&mut report);
    cni::look(places).add_to(&mut report);
    report
}

fn take_env(env: &SubnetEnv, report: &mut Report) {
    let subnets = env.subnets().each();
    report.node.subnets = subnets.map(|subnet: Cidr| subnet.to_string()).collect();
    report.node.mtu = Some(env.mtu);
    report.network.masquerade = Some(env.ip_masq);
    let v4 = env.families.v4.iter().flat_map(|family| &family.networks);
    let v6 = env.families.v6.iter().flat_map(|family| &family.networks);
    let v4 = v4.map(ToString::to_string);
    report.network.networks = v4.chain(v6.map(ToString::to_string)).collect();
}

fn look_at_kernel(netlink: &mut Netlink, report: &mut Report) -> Result<(), hostnet::Error> {
    let links = netlink.links()?;
    let devices: Vec<&Link> = links
        .iter()
        .filter(|link| reconcile::is_named_as_ours(link))
        .collect();
    let mut view = View::default();
    for link in &devices {
        let device = Device {
            name: link.name.clone(),
            mac: link.mac.map(|mac| mac.to_string()),
        };
        report.network.devices.push(device);
        if !link.up {
            let name = &link.name;
            report.problems.push(format!("{name} is down"));
        }
        view.neighbours
            .extend(netlink.neighbours(link.index, None)?);
        view.fdb.extend(netlink.fdb(link.index)?);
    }
    let main = RouteFilter {
        table: Some(Route::MAIN_TABLE),
        ..RouteFilter::default()
    };
    let mut routes = netlink.routes(&main)?;
    routes.retain(|route| {
        let by_ours = devices
            .iter()
            .any(|device| route.link == Some(device.index));
        route.protocol == ROUTE_PROTOCOL || by_ours && route.protocol == ROUTE_PROTOCOL_BOOT
    });
    routes.retain(|route| !route.kind.drops());
    if let Some(vxlan) = devices.iter().find_map(|link| link.vxlan.as_ref()) {
        report.network.backend = Some("vxlan".to_owned());
        report.network.vni = Some(vxlan.vni);
        report.network.port = Some(if vxlan.port == 0 {
            DEFAULT_PORT
        } else {
            vxlan.port
        });
    } else if !routes.is_empty() {
        report.network.backend = Some("host-gw".to_owned());
    }
    report.peers = peers(&routes, &devices, &view);
    Ok(())
}

/// What hangs on our devices.
#[derive(Default)]
struct View {
    neighbours: Vec<Neighbour>,
    fdb: Vec<FdbEntry>,
}

/// The nodes that routes of ours lead to, and where the outer packets go.
fn peers(routes: &[Route], devices: &[&Link], view: &View) -> Vec<Peer> {
    let neighbours: BTreeMap<IpAddr, Mac> = view
        .neighbours
        .iter()
        .filter_map(|neighbour| Some((neighbour.address, neighbour.mac?)))
        .collect();
    let fdb: BTreeMap<Mac, IpAddr> = view
        .fdb
        .iter()
        .map(|entry| (entry.mac, entry.destination))
        .collect();
    let mut peers: Vec<Peer> = Vec::new();
    for route in routes {
        let Some(gateway) = route.gateway else {
            continue;
        };
        let tunnelled = devices
            .iter()
            .any(|device| route.link == Some(device.index));
        let way = if tunnelled {
            through_tunnel(route.destination, gateway, &neighbours, &fdb)
        } else {
            Ok((None, gateway))
        };
        let (kernel, reasons, mac, public) = match way {
            Ok((mac, public)) => (PeerInKernel::Unknown, Vec::new(), mac, Some(public)),
            Err(reason) => (PeerInKernel::Wrong, vec![reason], None, None),
        };
        peers.push(Peer {
            subnets: vec![route.destination.to_string()],
            public: public.into_iter().collect(),
            macs: mac.iter().map(Mac::to_string).collect(),
            seen: None,
            kernel,
            reasons,
            left_out: Vec::new(),
            probe: Probe::default(),
        });
    }
    peers
}

/// The VTEP's MAC and the host that has it.
fn through_tunnel(
    destination: IpNetwork,
    gateway: IpAddr,
    neighbours: &BTreeMap<IpAddr, Mac>,
    fdb: &BTreeMap<Mac, IpAddr>,
) -> Result<(Option<Mac>, IpAddr), String> {
    let mac = neighbours.get(&gateway);
    let mac = *mac.ok_or_else(|| {
        format!(
            "the route {destination} leads to {gateway}, of which no neighbour entry tells the MAC"
        )
    })?;
    let public = fdb.get(&mac);
    let public = *public.ok_or_else(|| {
        format!("the route {destination} leads to {mac}, of which no FDB entry tells the host")
    })?;
    Ok((Some(mac), public))
}

fn look_at_firewall(report: &mut Report) {
    let mut look = || {
        let mut nftables = Nftables::open()?;
        for (family, name) in OWNED {
            if nftables.observe(family, name)?.is_some() {
                report.network.firewall = Some("nftables".to_owned());
            }
        }
        Ok::<(), hostnet::nft::Error>(())
    };
    if let Err(error) = look() {
        report.unseen.push(format!("firewall rules: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use hostnet::{LinkIndex, NeighbourState};

    use super::*;

    #[test]
    fn a_way_with_a_gap_is_wrong_and_the_gap_is_named() {
        let mac = Mac([2, 0, 0, 0, 0, 7]);
        let gateway: IpAddr = "10.244.7.0".parse().unwrap();
        let public: IpAddr = "192.0.2.7".parse().unwrap();
        let destination: IpNetwork = "10.244.7.0/24".parse().unwrap();
        let way = |neighbours: &[(IpAddr, Mac)], fdb: &[(Mac, IpAddr)]| {
            let neighbours = neighbours.iter().copied().collect();
            let fdb = fdb.iter().copied().collect();
            through_tunnel(destination, gateway, &neighbours, &fdb)
        };
        assert!(way(&[], &[]).unwrap_err().contains("neighbour"));
        assert!(way(&[(gateway, mac)], &[]).unwrap_err().contains("FDB"));
        let whole = way(&[(gateway, mac)], &[(mac, public)]);
        assert_eq!(whole, Ok((Some(mac), public)));
    }

    #[test]
    fn routes_by_the_uplink_lead_to_the_host_itself() {
        let gateway: IpAddr = "192.0.2.7".parse().unwrap();
        let route = Route {
            gateway: Some(gateway),
            ..Route::direct("10.244.7.0/24".parse().unwrap(), LinkIndex(2))
        };
        let neighbour = Neighbour {
            link: LinkIndex(9),
            address: gateway,
            mac: None,
            state: NeighbourState::Stale,
            proxy: false,
        };
        let view = View {
            neighbours: vec![neighbour],
            fdb: Vec::new(),
        };
        let found = peers(&[route], &[], &view);
        assert_eq!(found[0].public, [gateway]);
        assert_eq!(found[0].kernel, PeerInKernel::Unknown);
    }
}
