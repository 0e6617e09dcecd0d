//! Following the uplink: its address, MTU and name may change, and another interface may take its place.

use std::thread;

use hostnet::{Group, LinkIndex, Monitor, Netlink, Notice, Wake};
use tokio::sync::watch;
use tracing::error;

use super::{HostView, Uplink, UplinkError, Wanted};

/// What can make another uplink be chosen, or the same one differ.
const GROUPS: [Group; 5] = [
    Group::Links,
    Group::Ipv4Addresses,
    Group::Ipv4Routes,
    Group::Ipv6Addresses,
    Group::Ipv6Routes,
];

/// Starts a thread that chooses anew whenever something changed that could matter. The first value is `uplink`; an error means
/// that there is none at present.
///
/// # Errors
/// The kernel gives no netlink socket.
pub fn follow(
    wanted: Wanted,
    uplink: Uplink,
) -> Result<watch::Receiver<Result<Uplink, UplinkError>>, hostnet::Error> {
    let netlink = Netlink::open()?;
    let monitor = Monitor::open(&GROUPS)?;
    let (report, choice) = watch::channel(Ok(uplink));
    thread::spawn(move || run(netlink, monitor, &wanted, &report));
    Ok(choice)
}

fn run(
    mut netlink: Netlink,
    mut monitor: Monitor,
    wanted: &Wanted,
    report: &watch::Sender<Result<Uplink, UplinkError>>,
) {
    loop {
        // What changed before the monitor was opened is seen by the first look.
        let choice = HostView::observe(&mut netlink, wanted).and_then(|host| host.choose(wanted));
        report.send_if_modified(|before| {
            let changed = *before != choice;
            before.clone_from(&choice);
            changed
        });
        let link = choice.as_ref().ok().map(|uplink| uplink.link);
        loop {
            match monitor.wait(None) {
                Ok(Wake::Changed(notices))
                    if !notices.iter().any(|notice| matters(notice, link)) => {}
                Ok(Wake::TimedOut) => {}
                Ok(Wake::Changed(_) | Wake::Overrun) => break,
                Err(error) => {
                    error!("changes of the uplink are not noticed any more: {error}");
                    return;
                }
            }
        }
        if report.is_closed() {
            return;
        }
    }
}

/// On a busy node most notices are about pods. Without an uplink anything may bring one.
fn matters(notice: &Notice, uplink: Option<LinkIndex>) -> bool {
    let Some(uplink) = uplink else { return true };
    match notice {
        Notice::Address { link, .. } => *link == uplink,
        Notice::Link { index, .. } => *index == uplink,
        Notice::Route { route, .. } => route.destination.prefix() == 0,
        Notice::Firewall { .. }
        | Notice::Fdb { .. }
        | Notice::Neighbour { .. }
        | Notice::Setting => false,
    }
}
