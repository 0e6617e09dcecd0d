//! Our devices, and the addresses that the others know them by.

use std::net::IpAddr;

use hostnet::{Mac, Neighbour, Route};
use ipnetwork::IpNetwork;

use super::RESTART;
use crate::doctor::facts::{Facts, TunnelFacts};
use crate::doctor::finding::{Check, Finding, Remedy};
use crate::network::vxlan::derived_mac;
use crate::probe::echo::Reply;

pub(super) fn device(facts: &Facts) -> Finding {
    let backend = facts
        .report()
        .and_then(|report| report.network.backend.as_deref());
    if backend.is_some_and(|backend| backend != "vxlan") {
        return Finding::ok(
            Check::Device,
            format!("the backend {} needs none", backend.unwrap_or_default()),
        );
    }
    let wanted = wanted_families(facts);
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|ipv4| facts.tunnel(**ipv4).is_none())
        .map(|ipv4| if *ipv4 { "IPv4" } else { "IPv6" })
        .collect();
    if !missing.is_empty() {
        // Without the daemon it is not known what there should be; routes of ours that lead elsewhere tell of another backend.
        if backend.is_none() && facts.tunnels.is_empty() && has_plain_routes(facts) {
            return Finding::ok(Check::Device, "the backend needs none");
        }
        return Finding::fail(
            Check::Device,
            format!("there is no VXLAN device for {}", missing.join(" and ")),
            Remedy::say("start flanneld, which makes it").run(RESTART),
        );
    }
    if facts.tunnels.is_empty() {
        return Finding::not_seen(Check::Device, "this node has no subnet yet");
    }
    let wrong: Vec<String> = facts
        .tunnels
        .iter()
        .flat_map(|tunnel| faults(facts, tunnel))
        .collect();
    if let Some(first) = wrong.first() {
        let down: Vec<&TunnelFacts> = facts
            .tunnels
            .iter()
            .filter(|tunnel| !tunnel.link.up)
            .collect();
        let remedy = match down.first() {
            Some(tunnel) if wrong.len() == 1 => {
                Remedy::say("switch it on; flanneld puts back what hangs on it")
                    .run(format!("ip link set dev {} up", tunnel.link.name))
            }
            _ => Remedy::say("start flanneld anew, which makes the device as it should be")
                .run(RESTART),
        };
        return Finding::fail(Check::Device, first.clone(), remedy).also(wrong.into_iter().skip(1));
    }
    let described: Vec<String> = facts.tunnels.iter().map(describe).collect();
    Finding::ok(Check::Device, described.join("; "))
}

/// The families that this node has subnets of.
fn wanted_families(facts: &Facts) -> Vec<bool> {
    let mut families: Vec<bool> = facts.subnets().iter().map(IpNetwork::is_ipv4).collect();
    families.dedup();
    families
}

fn has_plain_routes(facts: &Facts) -> bool {
    facts
        .routes
        .iter()
        .any(|route| route.protocol == crate::reconcile::ROUTE_PROTOCOL && route.gateway.is_some())
}

fn describe(tunnel: &TunnelFacts) -> String {
    let link = &tunnel.link;
    let (vni, port) = link
        .vxlan
        .as_ref()
        .map_or((0, 0), |vxlan| (vxlan.vni, vxlan.port));
    format!(
        "{}, VNI {vni}, port {port}, MTU {}, up",
        link.name, link.mtu
    )
}

fn faults(facts: &Facts, tunnel: &TunnelFacts) -> Vec<String> {
    let link = &tunnel.link;
    let mut wrong = Vec::new();
    let mut unless = |right: bool, fault: String| {
        if !right {
            wrong.push(format!("{} {fault}", link.name));
        }
    };
    unless(link.up, "is down".to_owned());
    let network = facts.report().map(|report| &report.network);
    if let (Some(network), Some(vxlan)) = (network, link.vxlan.as_ref()) {
        let port = vxlan.port;
        unless(
            network.vni.is_none_or(|vni| vni == vxlan.vni),
            format!(
                "has VNI {}, the network has {}",
                vxlan.vni,
                network.vni.unwrap_or_default()
            ),
        );
        unless(
            network.port.is_none_or(|wanted| wanted == port),
            format!(
                "sends to port {port}, the network to {}",
                network.port.unwrap_or_default()
            ),
        );
    }
    let ipv4 = !link.name.starts_with("flannel-v6.");
    let overhead = if ipv4 { 50 } else { 70 };
    if let Some(uplink) = facts.uplink() {
        let room = uplink.mtu.saturating_sub(overhead);
        unless(
            link.mtu <= room,
            format!(
                "has MTU {}, but {} leaves room for {room} only",
                link.mtu, uplink.name
            ),
        );
    }
    let mut subnets = facts.subnets();
    subnets.retain(|subnet| subnet.is_ipv4() == ipv4);
    let held = |subnet: &IpNetwork| {
        facts
            .addresses
            .iter()
            .any(|held| held.link == link.index && held.address == subnet.network())
    };
    if let Some(subnet) = subnets.first() {
        unless(
            held(subnet),
            format!("lacks the address {}", subnet.network()),
        );
    }
    wrong
}

/// The others send to the MAC in the lease; what arrives for another is thrown away without a word.
pub(super) fn mac(facts: &Facts) -> Finding {
    if facts.tunnels.is_empty() {
        return Finding::not_seen(Check::Mac, "there is no VXLAN device");
    }
    let mut seen = Vec::new();
    for tunnel in &facts.tunnels {
        let Some(mac) = tunnel.link.mac else { continue };
        let name = &tunnel.link.name;
        let leased = leased_mac(facts, name);
        if let Some(leased) = leased.filter(|leased| *leased != mac) {
            return drifted(facts, name, mac, leased, "the lease says");
        }
        // Without the daemon the lease cannot be read, but a MAC of our making follows from what this node is.
        let derived = if leased.is_none() {
            derived(facts, tunnel)
        } else {
            None
        };
        if let Some(derived) = derived.filter(|derived| *derived != mac && overlay_is_silent(facts))
        {
            return drifted(
                facts,
                name,
                mac,
                derived,
                "nothing arrives, and flanneld gave it",
            );
        }
        seen.push(format!("{name} {mac}"));
    }
    Finding::ok(Check::Mac, seen.join(", "))
}

fn drifted(facts: &Facts, name: &str, is: Mac, was: Mac, how: &str) -> Finding {
    let evidence =
        format!("{name} has the MAC {is}, but {how} {was}: the other nodes send to that one");
    let back = format!("ip link set dev {name} address {was}");
    let remedy = if facts.report().is_some() {
        Remedy::say("give it back its MAC, and find out who changes it").run(back)
    } else {
        // A link whose address changes loses its neighbours, permanent ones too.
        Remedy::say("start flanneld, which gives it back its MAC and the neighbours that the kernel dropped with it")
            .run(back)
            .run(RESTART)
    };
    Finding::fail(Check::Mac, evidence, remedy)
}

fn leased_mac(facts: &Facts, name: &str) -> Option<Mac> {
    let report = facts.report()?;
    let device = report
        .network
        .devices
        .iter()
        .find(|device| device.name == name)?;
    device.mac.as_ref()?.parse().ok()
}

fn derived(facts: &Facts, tunnel: &TunnelFacts) -> Option<Mac> {
    let vxlan = tunnel.link.vxlan.as_ref()?;
    let public: IpAddr = vxlan.local?;
    let known = facts.addresses.iter().any(|held| held.address == public);
    known.then(|| Some(derived_mac(public, ipam::Vni::new(vxlan.vni)?)))?
}

/// Whether peers were asked through the overlay and none answered, or none can even be sent to.
fn overlay_is_silent(facts: &Facts) -> bool {
    let probes = facts.probes.iter().flatten();
    let through: Vec<&Reply> = probes
        .filter_map(|probed| probed.probe.through.as_ref())
        .collect();
    let silent = !through.is_empty() && through.iter().all(|reply| **reply == Reply::Silent);
    // Other neighbours may be there: the kernel makes those of multicast groups itself.
    let bare = |tunnel: &TunnelFacts| {
        let leads = |neighbour: &Neighbour, gateway| {
            neighbour.address == gateway && neighbour.mac.is_some()
        };
        let known = |gateway| tunnel.neighbours.iter().any(|one| leads(one, gateway));
        let here = |route: &&Route| route.link == Some(tunnel.link.index);
        let routes = facts.routes.iter().filter(here);
        let mut gateways = routes.filter_map(|route| route.gateway).peekable();
        gateways.peek().is_some() && !gateways.any(known)
    };
    silent || facts.tunnels.iter().any(bare)
}
