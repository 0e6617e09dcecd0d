//! The bridge attachment: a veth pair whose host end is a port of a bridge that all pods of the host share.
//!
//! It does what the reference plugin `bridge` does for flannel, with these differences: the bridge has an explicit MAC from
//! the beginning (otherwise it changes with its ports, and pods lose their gateway); a gateway address that is there
//! already is fine; after a change of the host's subnet the new gateway address joins the old one, so that pods with
//! old addresses live on; and the ADD does not fail because a port takes its time.

use hostnet::{Address, Bridge, Change, Link, LinkChange, LinkIndex, Mac, NewLink, NewLinkKind};

use super::conf::BridgeConf;
use super::name::{BRIDGE_ALIAS, mac_of};
use super::{Plan, PodAddress, without_detection};

/// The bridge, for when it is not there.
pub fn create(conf: &BridgeConf, addresses: &[PodAddress], mtu: Option<u32>) -> Vec<Change> {
    let gateway = addresses.iter().find_map(|pod| pod.gateway);
    let mac = gateway
        .filter(|_| conf.is_gateway)
        .map_or_else(Mac::random_local, mac_of);
    let link = NewLink {
        mac: Some(mac),
        mtu,
        up: true,
        ..NewLink::new(&conf.name, NewLinkKind::Bridge(Bridge::default()))
    };
    // The kernel takes no alias from the message that makes a link.
    let mark = LinkChange {
        alias: Some(BRIDGE_ALIAS.to_owned()),
        ..LinkChange::new(conf.name.as_str())
    };
    vec![Change::AddLink(link), Change::SetLink(mark)]
}

/// What the bridge needs and may have already.
pub fn settle(conf: &BridgeConf, addresses: &[PodAddress], bridge: &Link) -> Vec<Change> {
    let mut changes = Vec::new();
    let ours = bridge.alias.as_deref() == Some(BRIDGE_ALIAS);
    // Setting the MAC to what it is pins it; a bridge of ours was born with it.
    let mac = bridge.mac.filter(|_| conf.is_gateway && !ours);
    let promiscuous = conf.promiscuous.then_some(true);
    let up = (!bridge.up).then_some(true);
    if mac.is_some() || promiscuous.is_some() || up.is_some() {
        changes.push(Change::SetLink(LinkChange {
            mac,
            promiscuous,
            up,
            ..LinkChange::new(bridge.index)
        }));
    }
    if conf.is_gateway {
        changes.extend(addresses.iter().filter_map(|pod| {
            let address = Address::new(bridge.index, pod.gateway?, pod.prefix);
            Some(Change::ReplaceAddress(without_detection(address)))
        }));
    }
    changes
}

/// What the port needs beside its master.
pub fn port(conf: &BridgeConf, link: &str) -> Vec<Change> {
    if !conf.hairpin {
        return Vec::new();
    }
    vec![Change::SetLink(LinkChange {
        hairpin: Some(true),
        ..LinkChange::new(link)
    })]
}

/// What is to be done in the pod's namespace, where the link has this number.
pub fn pod(plan: &Plan, link: LinkIndex) -> Vec<Change> {
    let mut changes = plan.pod_links(link, false);
    changes.extend(plan.pod_routes(link));
    changes
}
