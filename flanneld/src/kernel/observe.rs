//! Looking at the kernel: just as much of it as a [`Desired`] speaks of.

use std::collections::BTreeMap;

use hostnet::nft::{self, CompiledTable, Nftables};
use hostnet::{AddressFamily, LinkIndex, Netlink, Route, RouteFilter, sysctl};
use ipnetwork::IpNetwork;

use super::KernelError;
use crate::desired::Desired;
use crate::reconcile::{self, Leftover, ObservedDevice, ROUTE_PROTOCOL};

/// Reads the devices by name, what hangs on them, and the routes of ours.
pub(super) fn network(
    netlink: &mut Netlink,
    desired: &Desired,
) -> Result<(BTreeMap<String, ObservedDevice>, Vec<Route>), KernelError> {
    let (mut devices, mut routes) = (BTreeMap::new(), Vec::new());
    for name in desired.devices.keys() {
        let Some(link) = netlink.link_by_name(name)? else {
            continue;
        };
        let index = link.index;
        let device = ObservedDevice {
            addresses: netlink.addresses(Some(index))?,
            neighbours: neighbours(netlink, desired, index)?,
            fdb: if link.vxlan.is_some() {
                netlink.fdb(index)?
            } else {
                Vec::new()
            },
            link,
        };
        devices.insert(name.clone(), device);
    }
    // By the links that routes of ours can leave by, and by our mark, which those that leave by none carry too.
    let ours = devices
        .values()
        .map(|found: &ObservedDevice| found.link.index);
    let links: Vec<LinkIndex> = ours.chain(desired.uplink).collect();
    for family in families(desired) {
        let main = RouteFilter {
            family: Some(family),
            table: Some(Route::MAIN_TABLE),
            ..RouteFilter::default()
        };
        for &link in &links {
            let link = Some(link);
            routes.extend(netlink.routes(&RouteFilter { link, ..main })?);
        }
        let protocol = Some(ROUTE_PROTOCOL);
        let marked = netlink.routes(&RouteFilter { protocol, ..main })?;
        let elsewhere = |route: &Route| route.link.is_none_or(|link| !links.contains(&link));
        routes.extend(marked.into_iter().filter(elsewhere));
    }
    Ok((devices, routes))
}

/// Looks for devices that are named like ours, and are not wanted.
pub(super) fn leftovers(
    netlink: &mut Netlink,
    desired: &Desired,
) -> Result<Vec<Leftover>, KernelError> {
    let mut leftovers = Vec::new();
    for link in netlink.links()? {
        if reconcile::is_named_as_ours(&link) && !desired.devices.contains_key(&link.name) {
            let addresses = netlink.addresses(Some(link.index))?;
            let addresses = addresses
                .iter()
                .filter_map(|held| IpNetwork::new(held.address, held.prefix).ok())
                .collect();
            leftovers.push(Leftover { link, addresses });
        }
    }
    Ok(leftovers)
}

/// Reads the settings.
pub(super) fn settings(desired: &Desired) -> BTreeMap<String, String> {
    let read = |path: &String| Some((path.clone(), sysctl::read(path).ok()?));
    desired.sysctls.keys().filter_map(read).collect()
}

/// Reads the firewall tables that are wanted, and those that are not.
pub(super) fn firewall(
    nftables: &mut Nftables,
    desired: &Desired,
) -> Result<Vec<CompiledTable>, KernelError> {
    let wanted = desired
        .firewall
        .iter()
        .map(|table| (table.family, table.name.as_str()));
    let unwanted = desired
        .no_firewall
        .iter()
        .map(|(family, name)| (*family, name.as_str()));
    let mut observed = Vec::new();
    for (family, name) in wanted.chain(unwanted) {
        match nftables.observe(family, name) {
            Ok(table) => observed.extend(table),
            // A kernel without nf_tables has none that could be in the way.
            Err(nft::Error::Query { .. }) if desired.firewall.is_empty() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(observed)
}

fn families(desired: &Desired) -> impl Iterator<Item = AddressFamily> + use<> {
    let ipv4 = desired.networks.iter().any(ipnetwork::IpNetwork::is_ipv4);
    let ipv6 = desired.networks.iter().any(ipnetwork::IpNetwork::is_ipv6);
    [(ipv4, AddressFamily::Ipv4), (ipv6, AddressFamily::Ipv6)]
        .into_iter()
        .filter(|(on, _)| *on)
        .map(|(_, family)| family)
}

fn neighbours(
    netlink: &mut Netlink,
    desired: &Desired,
    link: LinkIndex,
) -> Result<Vec<hostnet::Neighbour>, hostnet::Error> {
    let mut all = Vec::new();
    for family in families(desired) {
        all.extend(netlink.neighbours(link, Some(family))?);
    }
    Ok(all)
}
