//! What the kernel is to do beside the tables: let loopback addresses through to pods, and forget flows of UDP that lead elsewhere.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;

use hostnet::conntrack::{Conntrack, UdpFlow};
use hostnet::{AddressFamily, Netlink, sysctl};
use ipam::host_ports::{Localnet, Mapping, Masqueraded, PortRecord, Transport};

use crate::protocol::Error;

/// The number of the network namespace that this program runs in.
pub(super) fn namespace() -> Result<u64, Error> {
    const OWN: &str = "/proc/thread-self/ns/net";
    let own = fs::metadata(OWN).map_err(|reason| {
        Error::Netns(hostnet::NetnsError::Open {
            path: OWN.into(),
            reason,
        })
    })?;
    Ok(own.ino())
}

fn setting(link: &str) -> String {
    format!("net/ipv4/conf/{link}/route_localnet")
}

/// The link by which the host's loopback addresses are to reach this pod, and whether that has to be switched on.
///
/// Without it the kernel takes packets with such an address on any other link for a mistake; there is no such switch for IPv6.
pub(super) fn localnet(
    record: &PortRecord,
    others: &[PortRecord],
) -> Result<Option<Localnet>, Error> {
    let mut addresses = record.addresses.iter().map(|pod| pod.address);
    let Some(address) = addresses.find(IpAddr::is_ipv4) else {
        return Ok(None);
    };
    if record.masqueraded == Masqueraded::Nobody {
        return Ok(None);
    }
    let mut host = Netlink::open().map_err(Error::Netlink)?;
    let route = host.route_to(address).map_err(Error::Netlink)?;
    // A pod behind a router is not on a link of this host, which then has nothing to open.
    let direct = route.filter(|route| route.gateway.is_none());
    let Some(index) = direct.and_then(|route| route.link) else {
        return Ok(None);
    };
    let Some(link) = host.link(index).map_err(Error::Netlink)? else {
        return Ok(None);
    };
    let is_off = sysctl::read(&setting(&link.name)).map_err(Error::Sysctl)? == "0";
    let inherited = shares(others, record.host, &link.name).any(|other| other.ours);
    Ok(Some(Localnet {
        link: link.name,
        ours: is_off || inherited,
    }))
}

fn shares<'a>(
    records: &'a [PortRecord],
    host: u64,
    link: &'a str,
) -> impl Iterator<Item = &'a Localnet> {
    let here = records.iter().filter(move |record| record.host == host);
    here.filter_map(|record| record.localnet.as_ref())
        .filter(move |localnet| localnet.link == link)
}

/// Switches it on.
pub(super) fn let_loopback_through(record: &PortRecord) -> Result<(), Error> {
    let Some(localnet) = &record.localnet else {
        return Ok(());
    };
    sysctl::write(&setting(&localnet.link), "1").map_err(Error::Sysctl)?;
    Ok(())
}

/// Switches it off if we had switched it on and nobody on record needs it. If somebody does, it is theirs to switch off by
/// then, which is told by the record that is to be written.
pub(super) fn give_loopback_up<'a>(
    record: &PortRecord,
    left: &'a mut [PortRecord],
) -> Result<Option<&'a PortRecord>, Error> {
    let Some(localnet) = record.localnet.as_ref().filter(|localnet| localnet.ours) else {
        return Ok(None);
    };
    let needs = |other: &PortRecord| {
        let link = other.localnet.as_ref().map(|localnet| &localnet.link);
        other.host == record.host && link == Some(&localnet.link)
    };
    if let Some(heir) = left.iter_mut().find(|other| needs(other)) {
        let owned = heir.localnet.as_ref().is_some_and(|localnet| localnet.ours);
        heir.localnet = Some(localnet.clone());
        return Ok((!owned).then_some(heir));
    }
    match sysctl::write(&setting(&localnet.link), "0") {
        // The link is gone, and the setting with it.
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(Error::Sysctl(error)),
        Ok(_) => Ok(None),
    }
}

/// Has flows to the pod's host ports that lead elsewhere begin anew: to the pod, by the rules there are now.
pub(super) fn forget_flows_elsewhere(record: &PortRecord) -> Result<(), hostnet::Error> {
    let mut own = Vec::new();
    if udp(record).next().is_some() {
        let addresses = Netlink::open()?.addresses(None)?;
        own.extend(addresses.into_iter().map(|own| own.address));
    }
    forget(record, |flow, mapping, pod| {
        let to = flow.destination.ip();
        let is_it = match mapping.host_ip.filter(|address| !address.is_unspecified()) {
            Some(only) => to == only,
            None => own.contains(&to) || to.is_loopback(),
        };
        is_it && (flow.answerer.ip(), flow.answerer.port()) != (pod, mapping.container_port)
    })
}

/// Has flows that lead from the host's ports to the pod end.
pub(super) fn forget_flows_to(record: &PortRecord) -> Result<(), hostnet::Error> {
    forget(record, |flow, mapping, pod| {
        (flow.answerer.ip(), flow.answerer.port()) == (pod, mapping.container_port)
            && flow.destination != flow.answerer
    })
}

fn udp(record: &PortRecord) -> impl Iterator<Item = &Mapping> {
    let mappings = record.mappings.iter();
    mappings.filter(|mapping| mapping.protocol == Transport::Udp)
}

fn forget(
    record: &PortRecord,
    is_stale: impl Fn(&UdpFlow, &Mapping, IpAddr) -> bool,
) -> Result<(), hostnet::Error> {
    if udp(record).next().is_none() {
        return Ok(());
    }
    let mut conntrack = Conntrack::open()?;
    for pod in record.addresses.iter().map(|pod| pod.address) {
        for flow in conntrack.udp_flows(AddressFamily::of(pod))? {
            let mut mappings = udp(record);
            if mappings.any(|mapping| {
                flow.destination.port() == mapping.host_port && is_stale(&flow, mapping, pod)
            }) {
                conntrack.delete(&flow)?;
            }
        }
    }
    Ok(())
}
