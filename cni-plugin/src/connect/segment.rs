//! The bridge that pods share: made or found, and given what it lacks.

use std::net::IpAddr;

use hostnet::{
    Address, AddressFamily, Change, Link, Neighbour, Netlink, Route, RouteFilter, sysctl,
};

use super::guard;
use crate::attachment::conf::{BridgeConf, OtherAddresses};
use crate::attachment::{Plan, bridge, routed};
use crate::protocol::Error;
use crate::protocol::result::Interface;

/// The bridge of flannel's config, which routed pods have to get on with.
const USUAL_BRIDGE: &str = "cni0";

/// The bridge with all it needs; made if need be. One that another ADD made in the meantime is as good.
pub(super) fn ensure(
    host: &mut Netlink,
    conf: &BridgeConf,
    plan: &Plan,
    one_segment: bool,
) -> Result<Link, Error> {
    let found = host.link_by_name(&conf.name).map_err(Error::Netlink)?;
    let bridge = match found {
        Some(found) => a_bridge(found)?,
        None => {
            let create = Change::AddLink(bridge::create(conf, &plan.addresses));
            match host.apply_and_link(&[create], &conf.name) {
                Ok(made) => made,
                Err(refusals) if refusals.iter().all(hostnet::Refused::is_exists) => {
                    let other = host.link_by_name(&conf.name).map_err(Error::Netlink)?;
                    a_bridge(other.ok_or(Error::Refused(refusals))?)?
                }
                Err(refusals) => return Err(Error::Refused(refusals)),
            }
        }
    };
    let mut changes = Vec::new();
    if bridge::is_unfinished(&bridge) {
        guard(&conf.name)?;
        if one_segment && share(&conf.name, plan)? {
            let routes = host.routes(&RouteFilter {
                family: Some(AddressFamily::Ipv6),
                table: Some(Route::MAIN_TABLE),
                ..RouteFilter::default()
            });
            let routes = routes.map_err(Error::Netlink)?;
            let before = routed::pods_in_subnet(plan, &routes);
            let proxies = routed::proxies(before, bridge.index);
            changes.extend(proxies.into_iter().map(Change::ReplaceNeighbour));
        }
        changes.push(Change::SetLink(bridge::finish(bridge.index, plan.mtu)));
    }
    changes.extend(make_room(host, conf, plan, &bridge)?);
    changes.extend(bridge::settle(conf, plan, &bridge));
    if changes.is_empty() {
        return Ok(bridge);
    }
    host.apply_and_link(&changes, &conf.name)
        .map_err(Error::Refused)
}

/// What takes away addresses that stand in the way of the gateway's, where the config allows it.
fn make_room(
    host: &mut Netlink,
    conf: &BridgeConf,
    plan: &Plan,
    bridge: &Link,
) -> Result<Vec<Change>, Error> {
    if !conf.is_gateway || conf.others == OtherAddresses::Kept {
        return Ok(Vec::new());
    }
    let present = host.addresses(Some(bridge.index)).map_err(Error::Netlink)?;
    let blocking = bridge::in_the_way(plan, &present);
    match blocking.first() {
        Some(first) if conf.others == OtherAddresses::Refused => Err(Error::BridgeAddress {
            bridge: bridge.name.clone(),
            address: first.address,
            prefix: first.prefix,
        }),
        _ => {
            let delete = |known: &&Address| Change::DeleteAddress((*known).clone());
            Ok(blocking.iter().map(delete).collect())
        }
    }
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
/// one segment, but routed pods of the same host have their own links. Tells whether the host must be told of each
/// such pod, which is so for IPv6.
fn share(bridge: &str, plan: &Plan) -> Result<bool, Error> {
    if !set_if_there(&format!("net/ipv4/conf/{bridge}/proxy_arp"), "1")? {
        return Ok(false);
    }
    // Otherwise each answer is held back for up to 0.8 s.
    set_if_there(&format!("net/ipv4/neigh/{bridge}/proxy_delay"), "0")?;
    let v6 = plan.addresses.iter().any(|pod| pod.address.is_ipv6());
    if v6 {
        set_if_there(&format!("net/ipv6/conf/{bridge}/proxy_ndp"), "1")?;
        set_if_there(&format!("net/ipv6/neigh/{bridge}/proxy_delay"), "0")?;
    }
    Ok(v6)
}

/// Lets the host answer on the bridge of flannel's config, if it is there, for a routed pod: what it must be told of it.
pub(super) fn answer_for(host: &mut Netlink, plan: &Plan) -> Result<Vec<Neighbour>, Error> {
    if !share(USUAL_BRIDGE, plan)? {
        return Ok(Vec::new());
    }
    let addresses = plan.addresses.iter().map(|pod| pod.address);
    proxies(host, addresses)
}

/// What the host may answer for on that bridge.
pub(super) fn proxies(
    host: &mut Netlink,
    addresses: impl Iterator<Item = IpAddr>,
) -> Result<Vec<Neighbour>, Error> {
    let mut addresses = addresses.filter(IpAddr::is_ipv6).peekable();
    if addresses.peek().is_none() {
        return Ok(Vec::new());
    }
    let bridge = host.link_by_name(USUAL_BRIDGE).map_err(Error::Netlink)?;
    let proxies = bridge.map(|bridge| routed::proxies(addresses, bridge.index));
    Ok(proxies.unwrap_or_default())
}

/// The bridge in the result.
pub(super) fn interface(bridge: &Link) -> Interface {
    Interface {
        name: bridge.name.clone(),
        mac: bridge.mac.map(|mac| mac.to_string()),
        mtu: Some(bridge.mtu),
        ..Interface::default()
    }
}

/// Whether the setting is there.
pub(super) fn set_if_there(setting: &str, value: &str) -> Result<bool, Error> {
    match sysctl::write(setting, value) {
        Ok(_) => Ok(true),
        Err(error) if error.is_missing() => Ok(false),
        Err(error) => Err(Error::Sysctl(error)),
    }
}
