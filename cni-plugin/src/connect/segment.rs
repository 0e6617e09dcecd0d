//! The bridge that pods share: made or found, and given what it lacks.

use hostnet::{Address, Change, Link, Netlink, sysctl};

use super::guard;
use crate::attachment::conf::{BridgeConf, OtherAddresses};
use crate::attachment::{Plan, bridge};
use crate::protocol::Error;
use crate::protocol::result::Interface;

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
        if one_segment {
            share(&conf.name)?;
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
/// one segment, but routed pods of the same host have their own links.
pub(super) fn share(bridge: &str) -> Result<(), Error> {
    if set_if_there(&format!("net/ipv4/conf/{bridge}/proxy_arp"), "1")? {
        // Otherwise each answer is held back for up to 0.8 s.
        set_if_there(&format!("net/ipv4/neigh/{bridge}/proxy_delay"), "0")?;
    }
    Ok(())
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
