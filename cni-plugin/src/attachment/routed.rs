//! The routed attachment: a veth pair, a route to the pod on the host, and in the pod everything through the host.
//!
//! There is no network segment that pods share. The gateway is the first address of the host's subnet, as with the
//! bridge, so that pods find the node where they always did; every host end has it as a /32, from which follows that
//!
//! - the node reaches its pods from that address, and a masqueraded connection (a host port opened from the host
//!   itself) has a source address on every link;
//! - the pod's neighbour entry for the gateway can be permanent, since the MAC of the host end is ours and never
//!   changes;
//! - strict reverse path filtering is content, for the route back to a pod leads through its own link.
//!
//! The host's entry for the pod is only seeded as reachable: the first packet needs no ARP, but a MAC that a chained plugin
//! or the pod changes is still learned (the pod announces it, `arp_notify`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hostnet::{Address, Change, LinkIndex, Neighbour, NeighbourState, Route};
use ipam::Cidr;
use ipnetwork::IpNetwork;

use super::{Plan, PodAddress, masked, without_detection};

/// The gateway of pods from `subnet` if the config names none: its first address, or a link-local one where the subnet is
/// so small that all its addresses belong to pods.
pub fn gateway_of(subnet: Cidr) -> IpAddr {
    if subnet.prefix() <= subnet.address_bits() - 2 {
        return subnet.first_address();
    }
    match subnet {
        Cidr::V4(_) => Ipv4Addr::new(169, 254, 1, 1).into(),
        Cidr::V6(_) => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).into(),
    }
}

/// What is to be done in the pod's namespace, where the link has this number.
pub fn pod(plan: &Plan, link: LinkIndex) -> Vec<Change> {
    let mut changes = plan.pod_links(link, true);
    let gateways = gateways(plan);
    changes.extend(
        gateways
            .iter()
            .map(|gateway| Change::AddRoute(Route::direct((*gateway).into(), link))),
    );
    changes.extend(plan.addresses.iter().filter_map(|pod| {
        let gateway = pod.gateway.filter(|_| pod.has_subnet())?;
        let route = Route::via(masked(pod.network()), gateway, link);
        Some(Change::AddRoute(Route {
            onlink: true,
            ..route
        }))
    }));
    changes.extend(plan.pod_routes(link));
    let host_mac = plan.identity.host_mac();
    changes.extend(
        gateways.iter().map(|gateway| {
            Change::ReplaceNeighbour(Neighbour::permanent(link, *gateway, host_mac))
        }),
    );
    changes
}

/// What is to be done on the host, where the link has this number.
pub fn host(plan: &Plan, link: LinkIndex) -> Vec<Change> {
    let mut changes = vec![Change::SetLink(plan.mark(link))];
    changes.extend(gateways(plan).into_iter().map(|gateway| {
        let prefix = if gateway.is_ipv4() { 32 } else { 128 };
        Change::AddAddress(without_detection(Address::new(link, gateway, prefix)))
    }));
    for pod in &plan.addresses {
        changes.push(Change::AddRoute(Route::direct(pod.host_network(), link)));
        changes.push(Change::ReplaceNeighbour(Neighbour {
            link,
            address: pod.address,
            mac: Some(plan.pod_mac),
            state: NeighbourState::Reachable,
            proxy: false,
        }));
    }
    changes
}

/// What takes the pod off the network before its link goes.
pub fn host_undo(addresses: &[IpAddr], link: LinkIndex) -> Vec<Change> {
    let route = |address: &IpAddr| Change::DeleteRoute(Route::direct((*address).into(), link));
    addresses.iter().map(route).collect()
}

/// What the host answers for on a bridge, to whose pods a routed pod of the same subnet looks like one of them. For IPv4 one
/// setting of the bridge is enough (`proxy_arp`).
pub fn proxies(addresses: impl IntoIterator<Item = IpAddr>, bridge: LinkIndex) -> Vec<Neighbour> {
    let addresses = addresses.into_iter().filter(IpAddr::is_ipv6);
    addresses
        .map(|address| Neighbour::proxy(bridge, address))
        .collect()
}

/// The pods among what the host routes to, as far as they are in the subnets of `plan`.
pub fn pods_in_subnet<'a>(plan: &'a Plan, routes: &'a [Route]) -> impl Iterator<Item = IpAddr> {
    let is_host = |to: IpNetwork| to.prefix() == IpNetwork::from(to.ip()).prefix();
    let to_pods = routes.iter().filter(move |route| {
        is_host(route.destination)
            && route.table == Route::MAIN_TABLE
            && route.gateway.is_none()
            && route.link.is_some()
    });
    let subnets = || plan.addresses.iter().map(PodAddress::network);
    to_pods
        .map(|route| route.destination.ip())
        .filter(move |address| subnets().any(|subnet| subnet.contains(*address)))
        // The kernel routes the address that every host end has, too.
        .filter(|address| plan.gateways().all(|gateway| gateway != *address))
}

/// The gateways, each once.
fn gateways(plan: &Plan) -> Vec<IpAddr> {
    let mut gateways = Vec::new();
    for gateway in plan.addresses.iter().filter_map(|pod| pod.gateway) {
        if !gateways.contains(&gateway) {
            gateways.push(gateway);
        }
    }
    gateways
}
