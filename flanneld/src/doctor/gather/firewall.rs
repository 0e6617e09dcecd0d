//! What is in the way of packets, in the tables of all programs.

use std::net::IpAddr;

use hostnet::nft::{Hook, Nftables, Packet};
use hostnet::{AddressFamily, Link, LinkIndex};
use ipnetwork::IpNetwork;

use crate::doctor::facts::{Facts, FirewallFacts};
use crate::iptables::programs::Programs;
use crate::iptables::{Place, Variant};

const TCP: u8 = 6;
const UDP: u8 = 17;

pub(super) fn look(facts: &Facts) -> Result<FirewallFacts, String> {
    let mut nftables = Nftables::open().map_err(|error| error.to_string())?;
    let mut found = FirewallFacts::default();
    for packet in forwarded(facts) {
        let obstacles = nftables.obstacles(Hook::Forward, &packet);
        found
            .forward
            .extend(obstacles.map_err(|error| error.to_string())?);
    }
    for (hook, packet) in outer(facts) {
        let obstacles = nftables.obstacles(hook, &packet);
        found
            .port
            .extend(obstacles.map_err(|error| error.to_string())?);
    }
    found.forward.dedup();
    found.port.dedup();
    found.legacy_forward = legacy(facts, &mut nftables);
    Ok(found)
}

/// A packet from a pod here to one on another node, and one the other way.
fn forwarded(facts: &Facts) -> Vec<Packet> {
    let mut packets = Vec::new();
    for subnet in facts.subnets() {
        let ipv4 = subnet.is_ipv4();
        let peer = facts
            .peers
            .iter()
            .find(|peer| peer.subnet.is_ipv4() == ipv4);
        let Some((here, there)) = pod_of(subnet).zip(peer.and_then(|peer| pod_of(peer.subnet)))
        else {
            continue;
        };
        let device = match peer.is_some_and(|peer| peer.tunnelled) {
            true => facts.tunnel(ipv4).map(|tunnel| named(&tunnel.link)),
            false => facts.uplink().map(named),
        };
        let packet = |source, destination, input, output| Packet {
            source,
            destination,
            protocol: TCP,
            port: None,
            input,
            output,
        };
        packets.push(packet(here, there, None, device.clone()));
        packets.push(packet(there, here, device, None));
    }
    packets
}

fn named(link: &Link) -> (LinkIndex, String) {
    (link.index, link.name.clone())
}

fn pod_of(subnet: IpNetwork) -> Option<IpAddr> {
    subnet.iter().nth(2)
}

/// The tunnel's packets from and to a peer.
fn outer(facts: &Facts) -> Vec<(Hook, Packet)> {
    let mut packets = Vec::new();
    let Some(uplink) = facts.uplink() else {
        return packets;
    };
    for peer in facts.peers.iter().filter(|peer| peer.tunnelled).take(1) {
        let ipv4 = peer.public.is_ipv4();
        let own = facts.address_on(uplink.index, ipv4);
        let port = facts
            .tunnel(peer.subnet.is_ipv4())
            .and_then(|tunnel| Some(tunnel.link.vxlan.as_ref()?.port));
        let Some(own) = own else { continue };
        let packet = |source, destination, input, output| Packet {
            source,
            destination,
            protocol: UDP,
            port,
            input,
            output,
        };
        let name = Some(named(uplink));
        packets.push((Hook::Input, packet(peer.public, own, name.clone(), None)));
        packets.push((Hook::Output, packet(own, peer.public, None, name)));
    }
    packets
}

/// Families whose FORWARD chain drops by policy in iptables-legacy, with no rule that accepts the pod network.
fn legacy(facts: &Facts, nftables: &mut Nftables) -> Vec<&'static str> {
    let look = Programs::find().look(nftables);
    let networks = facts.networks();
    let mut dropping = Vec::new();
    for (place, saved) in &look.found {
        let Place {
            family,
            variant: Variant::Legacy,
        } = place
        else {
            continue;
        };
        let Some(forward) = saved
            .tables
            .get("filter")
            .and_then(|filter| filter.get("FORWARD"))
        else {
            continue;
        };
        let ipv4 = *family == AddressFamily::Ipv4;
        let network = networks.iter().find(|network| network.is_ipv4() == ipv4);
        if forward.policy.as_deref() != Some("DROP") || network.is_none() {
            continue;
        }
        let names_network = |rule: String| {
            network.is_some_and(|network| {
                rule.contains(&network.to_string()) && rule.contains("ACCEPT")
            })
        };
        let chains = saved.tables.get("filter").into_iter().flatten();
        let mut rules = chains
            .filter(|(name, _)| *name == "FORWARD" || *name == "FLANNEL-FWD")
            .flat_map(|(_, chain)| &chain.rules);
        if !rules.any(|rule| names_network(rule.to_string())) {
            dropping.push(if ipv4 { "IPv4" } else { "IPv6" });
        }
    }
    dropping
}
