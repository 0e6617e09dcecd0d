//! What the kernel can do, its settings, and who else manages our links.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use hostnet::nft::{self, Nftables};
use hostnet::{AddressFamily, Link, LinkIndex, ethtool, sysctl};

use crate::doctor::facts::{Facts, KernelFacts, Managed, TunnelFacts, filter_of};
use crate::doctor::foreign;
use crate::iptables::Variant;
use crate::iptables::programs::Programs;

pub(super) fn features(links: &[Link]) -> KernelFacts {
    let release = sysctl::read("kernel/osrelease").unwrap_or_default();
    let nftables = Nftables::open().and_then(|mut nftables| nftables.chains(nft::Family::Ip));
    let programs = Programs::find();
    let has = |variant| programs.has(variant, &[AddressFamily::Ipv4]);
    KernelFacts {
        vxlan: vxlan(&release, links),
        // Who may not ask has learnt nothing.
        nf_tables: nftables
            .err()
            .filter(|error| !matches!(error, nft::Error::Query { error, .. } if error.is_not_permitted()))
            .map(|error| error.to_string()),
        iptables: has(Variant::Nft) || has(Variant::Legacy),
        release,
    }
}

/// A device is the best proof; else the lists of what is loaded, built in, and could be loaded.
fn vxlan(release: &str, links: &[Link]) -> Option<bool> {
    if links.iter().any(|link| link.vxlan.is_some()) || Path::new("/sys/module/vxlan").exists() {
        return Some(true);
    }
    let modules = Path::new("/lib/modules").join(release);
    let lists =
        ["modules.builtin", "modules.dep"].map(|list| fs::read_to_string(modules.join(list)));
    let [Ok(built_in), Ok(loadable)] = lists else {
        return None;
    };
    let names = |list: &str| {
        list.lines().any(|line| {
            line.split(':')
                .next()
                .is_some_and(|path| path.contains("/vxlan.ko"))
        })
    };
    Some(names(&built_in) || names(&loadable))
}

pub(super) fn offloads(links: &[Link], tunnels: &[TunnelFacts]) -> BTreeMap<LinkIndex, bool> {
    let mut asked: Vec<LinkIndex> = tunnels.iter().map(|tunnel| tunnel.link.index).collect();
    asked.extend(
        tunnels
            .iter()
            .filter_map(|tunnel| tunnel.link.lower.or(tunnel.link.vxlan.as_ref()?.lower)),
    );
    let asked = links.iter().filter(|link| asked.contains(&link.index));
    asked
        .filter_map(|link| Some((link.index, ethtool::tx_checksum(&link.name).ok()?)))
        .collect()
}

pub(super) fn settings(tunnels: &[TunnelFacts]) -> BTreeMap<String, String> {
    let mut names = vec![
        "net/ipv4/ip_forward".to_owned(),
        "net/ipv6/conf/all/forwarding".to_owned(),
    ];
    names.extend(
        tunnels
            .iter()
            .map(|tunnel| format!("net/ipv4/conf/{}/forwarding", tunnel.link.name)),
    );
    names
        .into_iter()
        .filter_map(|name| Some((name.clone(), sysctl::read(&name).ok()?)))
        .collect()
}

/// The reverse-path filters of all links together, of the uplink, and of our devices.
pub(super) fn filters(facts: &Facts) -> Vec<(String, String)> {
    let tunnels = facts.tunnels.iter().map(|tunnel| &tunnel.link);
    let links = facts.uplink().into_iter().chain(tunnels);
    let names = links.map(|link| link.name.as_str()).chain(["all"]);
    names
        .map(filter_of)
        .filter_map(|name| Some((name.clone(), sysctl::read(&name).ok()?)))
        .collect()
}

/// By the files in which both programs keep the state of each link.
pub(super) fn managed(links: &[Link]) -> Vec<Managed> {
    let ours = |link: &&Link| link.name.starts_with("flannel") || link.name == "cni0";
    let mut managed = Vec::new();
    for link in links.iter().filter(ours) {
        let networkd = fs::read_to_string(format!("/run/systemd/netif/links/{}", link.index));
        if networkd.is_ok_and(|state| foreign::networkd_manages(&state)) {
            managed.push(Managed {
                by: "systemd-networkd",
                link: link.name.clone(),
            });
        }
        let manager = fs::read_to_string(format!("/run/NetworkManager/devices/{}", link.index));
        if manager.is_ok_and(|state| foreign::network_manager_manages(&state)) {
            managed.push(Managed {
                by: "NetworkManager",
                link: link.name.clone(),
            });
        }
    }
    managed
}
