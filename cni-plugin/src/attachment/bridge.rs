//! The bridge attachment: a veth pair whose host end is a port of a bridge that all pods of the host share.
//!
//! It does what the reference plugin `bridge` does for flannel, with these differences: the bridge has an explicit MAC from
//! the beginning (otherwise it changes with its ports, and pods lose their gateway); a gateway address that is there
//! already is fine; after a change of the host's subnet the new gateway address joins the old one, so that pods with
//! old addresses live on; and the ADD does not fail because a port takes its time.

use std::net::IpAddr;

use hostnet::{Address, Bridge, Change, Link, LinkChange, LinkIndex, Mac, NewLink, NewLinkKind};

use super::conf::BridgeConf;
use super::name::{BRIDGE_ALIAS, mac_of};
use super::{Plan, PodAddress, network, without_detection};

/// The bridge, for when it is not there. It stays down until it is [finished](finish), so that one whose maker was killed
/// is known.
pub fn create(conf: &BridgeConf, addresses: &[PodAddress]) -> NewLink {
    let gateway = addresses.iter().find_map(|pod| pod.gateway);
    let mac = gateway
        .filter(|_| conf.is_gateway)
        .map_or_else(Mac::random_local, mac_of);
    NewLink {
        mac: Some(mac),
        ..NewLink::new(&conf.name, NewLinkKind::Bridge(Bridge::default()))
    }
}

/// Whether nobody uses the bridge yet: it was made a moment ago, by whomever, or by an ADD that was killed.
pub fn is_unfinished(bridge: &Link) -> bool {
    !bridge.up && bridge.alias.as_deref().is_none_or(str::is_empty)
}

/// What makes a new bridge ours. The kernel takes no alias from the message that makes a link, and an MTU only as long as
/// there is no port; set by itself it stays.
pub fn finish(bridge: LinkIndex, mtu: Option<u32>) -> LinkChange {
    LinkChange {
        alias: Some(BRIDGE_ALIAS.to_owned()),
        mtu,
        up: Some(true),
        ..LinkChange::new(bridge)
    }
}

/// What the bridge needs and does not have. Its addresses are not looked at: the gateway's is given to it again and again.
pub fn settle(conf: &BridgeConf, plan: &Plan, bridge: &Link) -> Vec<Change> {
    let ours = bridge.alias.as_deref() == Some(BRIDGE_ALIAS);
    let change = LinkChange {
        // Setting the MAC to what it is pins it; a bridge of ours was born with it.
        mac: bridge.mac.filter(|_| conf.is_gateway && !ours),
        mtu: plan.mtu.filter(|mtu| ours && *mtu != bridge.mtu),
        promiscuous: conf.promiscuous.then_some(true),
        up: (!bridge.up).then_some(true),
        ..LinkChange::new(bridge.index)
    };
    let mut changes = Vec::new();
    if change != LinkChange::new(bridge.index) {
        changes.push(Change::SetLink(change));
    }
    if conf.is_gateway {
        changes.extend(plan.addresses.iter().filter_map(|pod| {
            let address = Address::new(bridge.index, pod.gateway?, pod.prefix);
            Some(Change::ReplaceAddress(without_detection(address)))
        }));
    }
    changes
}

/// The addresses of the bridge that stand in the way of a gateway's. One family of IPv4 is enough for a bridge, where IPv6 has
/// many that do not overlap.
pub fn in_the_way<'a>(plan: &Plan, present: &'a [Address]) -> Vec<&'a Address> {
    let gateways: Vec<_> = plan
        .addresses
        .iter()
        .filter_map(|pod| Some((pod.gateway?, pod.prefix)))
        .collect();
    let meets = |known: &Address, gateway: IpAddr, prefix: u8| {
        let (known, wanted) = (
            network(known.address, known.prefix),
            network(gateway, prefix),
        );
        known.is_ipv4() == wanted.is_ipv4()
            && (known.is_ipv4() || known.contains(wanted.ip()) || wanted.contains(known.ip()))
    };
    let blocks = |known: &&Address| {
        let wanted = gateways.contains(&(known.address, known.prefix));
        !wanted
            && gateways
                .iter()
                .any(|&(gateway, prefix)| meets(known, gateway, prefix))
    };
    present.iter().filter(blocks).collect()
}

/// What the port needs beside its master.
pub fn port(conf: &BridgeConf, plan: &Plan, link: LinkIndex) -> Vec<Change> {
    vec![Change::SetLink(LinkChange {
        hairpin: conf.hairpin.then_some(true),
        isolated: conf.isolated.then_some(true),
        ..plan.mark(link)
    })]
}

/// What is to be done in the pod's namespace, where the link has this number.
pub fn pod(plan: &Plan, link: LinkIndex) -> Vec<Change> {
    let mut changes = plan.pod_links(link, false);
    changes.extend(plan.pod_routes(link));
    changes
}
