//! The floor of attaching a pod: the netlink messages of an ADD or a DEL and nothing else. No JSON is read or written, no address
//! chosen, nothing locked or recorded, no leftover looked for. No plugin that is a program can be faster than this one.

#![forbid(unsafe_code)]

use std::env;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use cni_plugin::attachment::conf::{BridgeConf, OtherAddresses};
use cni_plugin::attachment::name::{Identity, mac_of};
use cni_plugin::attachment::{Plan, PodAddress, bridge, default_routes, routed};
use hostnet::{Change, LinkIndex, Netlink, Netns};

const USAGE: &str = "\
Usage: loden-floor add NETNS CONTAINER BRIDGE ADDRESS/PREFIX=GATEWAY...    BRIDGE is its number; 0 for a routed pod
       loden-floor del CONTAINER

Started by loden-bench.
";

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["add", netns, container, bridge, ref addresses @ ..] if !addresses.is_empty() => {
            add(netns, container, bridge, addresses)
        }
        ["del", container] => delete(container),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loden-floor: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn add(netns: &str, container: &str, bridge: &str, addresses: &[&str]) -> Result<()> {
    let bridge: u32 = bridge.parse().context("BRIDGE is no number")?;
    let plan = plan(container, addresses)?;
    let netns = Netns::open(netns)?;
    let mut host = Netlink::open()?;
    let master = (bridge != 0).then_some(LinkIndex(bridge));
    let pair = Change::AddLink(plan.veth(netns.as_raw_fd(), master));
    let link = host.apply_and_link(&[pair], &plan.host_name)?;
    let pod = link.lower.context("the kernel named no other end")?;
    let (inside, outside) = if master.is_some() {
        let port = bridge::port(&port_conf(), &plan, link.index);
        (bridge::pod(&plan, pod), port)
    } else {
        (routed::pod(&plan, pod), routed::host(&plan, link.index))
    };
    netns.enter()?;
    Netlink::open()?.apply(&inside)?;
    Ok(host.apply(&outside)?)
}

fn delete(container: &str) -> Result<()> {
    let name = identity(container).host_name(0);
    Ok(Netlink::open()?.apply(&[Change::DeleteLinkByName(name)])?)
}

fn identity(container: &str) -> Identity {
    Identity {
        network: "floor".to_owned(),
        container_id: container.to_owned(),
        ifname: "eth0".to_owned(),
    }
}

fn plan(container: &str, addresses: &[&str]) -> Result<Plan> {
    let identity = identity(container);
    let addresses: Vec<PodAddress> = addresses
        .iter()
        .map(|text| address(text))
        .collect::<Result<_>>()?;
    let first = addresses.first().context("no address")?.address;
    Ok(Plan {
        pod: None,
        host_name: identity.host_name(0),
        identity,
        pod_mac: mac_of(first),
        mtu: Some(1450),
        routes: default_routes(&addresses, &[]),
        addresses,
    })
}

fn address(text: &str) -> Result<PodAddress> {
    let parse = || -> Option<PodAddress> {
        let (own, gateway) = text.split_once('=')?;
        let (address, prefix) = own.split_once('/')?;
        let gateway: IpAddr = gateway.parse().ok()?;
        Some(PodAddress {
            address: address.parse().ok()?,
            prefix: prefix.parse().ok()?,
            gateway: Some(gateway),
        })
    };
    let Some(address) = parse() else {
        bail!("{text} is not ADDRESS/PREFIX=GATEWAY")
    };
    Ok(address)
}

/// Of a port only `hairpin` and `isolated` count.
fn port_conf() -> BridgeConf {
    BridgeConf {
        name: String::new(),
        is_gateway: true,
        hairpin: true,
        promiscuous: false,
        isolated: false,
        mac_only: false,
        pod_up: true,
        others: OtherAddresses::Kept,
    }
}
