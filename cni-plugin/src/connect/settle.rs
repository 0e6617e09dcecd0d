//! What the kernel does in its own time, after it has said that it is done: an ADD waits for it, so that the first packet of a
//! pod, or to it, is not lost.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use hostnet::{Link, LinkIndex, Netlink, RouteKind};

use super::segment;
use crate::attachment::Plan;
use crate::protocol::Error;

/// How long it may take where the ADD can go on without it.
const PATIENCE: Duration = Duration::from_millis(100);

/// The same for the address of a gateway. One on a bridge may be from before and never come into use (somebody else has
/// it), which is no reason to leave pods without their other family.
pub(super) const GATEWAY_PATIENCE: Duration = Duration::from_secs(5);

/// Pauses between two looks, the first and the longest.
const PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(16);

/// Waits until the host forwards what comes from a link that leads to pods. It was told so before, but another program that
/// switches forwarding at the same moment can make the kernel leave all links out; then this one is switched by itself.
pub(super) fn await_forwarding(host: &mut Netlink, link: &Link, plan: &Plan) -> Result<(), Error> {
    let wanted = plan.addresses.iter().any(|pod| pod.address.is_ipv4());
    if !wanted || link.forwards_ipv4 != Some(false) {
        return Ok(());
    }
    let settled = eventually(Instant::now() + PATIENCE, || {
        let link = host.link(link.index).map_err(Error::Netlink)?;
        Ok(link.is_none_or(|link| link.forwards_ipv4 != Some(false)))
    })?;
    if !settled {
        segment::set_if_there(&format!("net/ipv4/conf/{}/forwarding", link.name), "1")?;
    }
    Ok(())
}

/// Waits until a bridge port forwards, so that the pod's first packet is not lost. One that does not is reported nowhere:
/// under load the kernel takes its time, and then it works.
pub(super) fn await_port(host: &mut Netlink, link: LinkIndex) -> Result<(), Error> {
    eventually(Instant::now() + PATIENCE, || {
        // Asking is what makes recent kernels settle it.
        let port = host.link(link).map_err(Error::Netlink)?;
        Ok(port.is_none_or(|port| port.running))
    })
    .map(drop)
}

/// Waits until packets to these addresses are taken in, and tells whether they are. The kernel puts IPv6 addresses to use in its
/// own time, even those whose uniqueness it need not find out: one worker does it for all namespaces, one address after the
/// other, so that pods on a busy node may wait for seconds.
pub(super) fn await_addresses(
    place: &mut Netlink,
    addresses: impl Iterator<Item = IpAddr>,
    patience: Duration,
) -> Result<bool, Error> {
    // What is only known on its link cannot be looked up like this.
    let global = |address: &IpAddr| match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    };
    let deadline = Instant::now() + patience;
    for address in addresses.filter(global) {
        let settled = eventually(deadline, || {
            let route = place.route_to(address).map_err(Error::Netlink)?;
            Ok(route.is_some_and(|route| route.kind == RouteKind::Local))
        })?;
        if !settled {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether it came to hold in time.
fn eventually(
    deadline: Instant,
    mut holds: impl FnMut() -> Result<bool, Error>,
) -> Result<bool, Error> {
    let mut pause = PAUSE;
    while !holds()? {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        thread::sleep(pause);
        pause = LONGEST_PAUSE.min(pause * 2);
    }
    Ok(true)
}
