//! Notifications.

use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use hostnet::{
    Address, Change, FdbEntry, Group, Monitor, Neighbour, Netlink, Notice, Route, RouteKind, Wake,
    sysctl,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::neighbours::vxlan;
use crate::opinion::{mac, plain_link, same};

const DEADLINE: Duration = Duration::from_secs(5);

/// Waits until this was told.
fn told(monitor: &mut Monitor, expected: &Notice) -> Result<()> {
    told_of(monitor, &format!("{expected:?}"), |notice| {
        notice == expected
    })
}

/// Waits until something that fits was told.
fn told_of(monitor: &mut Monitor, what: &str, fits: impl Fn(&Notice) -> bool) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    let mut seen = Vec::new();
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        match monitor.wait(Some(left))? {
            Wake::Changed(notices) if notices.iter().any(&fits) => return Ok(()),
            Wake::Changed(notices) => seen.extend(notices),
            Wake::TimedOut => break,
            Wake::Overrun => bail!("overrun while waiting for {what}"),
        }
    }
    bail!("was not told of {what} but of {seen:#?}")
}

/// Waits until this route was told of, with what the kernel adds to it.
fn told_of_route(monitor: &mut Monitor, wanted: &Route, gone: bool) -> Result<()> {
    told_of(monitor, &format!("{wanted}, gone: {gone}"), |notice| {
        let Notice::Route { route, removed } = notice else {
            return false;
        };
        (route.destination, route.link, route.table, *removed)
            == (wanted.destination, wanted.link, wanted.table, gone)
    })
}

pub(crate) fn a_monitor_sees_things_go() -> Result<()> {
    let mut monitor = Monitor::open(&[
        Group::Links,
        Group::Neighbours,
        Group::Ipv4Addresses,
        Group::Ipv4Routes,
        Group::Ipv6Addresses,
        Group::Ipv6Routes,
    ])?;
    let mut netlink = Netlink::open()?;
    let link = vxlan(&mut netlink)?;
    told(
        &mut monitor,
        &Notice::Link {
            index: link,
            name: "flannel.1".into(),
            removed: false,
        },
    )?;

    for address in ["10.244.1.0", "fd00:1::"] {
        let prefix = if address.contains(':') { 128 } else { 32 };
        let address = Address {
            nodad: true,
            ..Address::new(link, address.parse()?, prefix)
        };
        netlink.apply(&[Change::AddAddress(address.clone())])?;
        told(
            &mut monitor,
            &Notice::Address {
                link,
                removed: false,
            },
        )?;
        netlink.apply(&[Change::DeleteAddress(address)])?;
        told(
            &mut monitor,
            &Notice::Address {
                link,
                removed: true,
            },
        )?;
    }
    for destination in ["10.244.2.0/24", "fd00:2::/64"] {
        let route = Route::direct(destination.parse()?, link);
        netlink.apply(&[Change::AddRoute(route.clone())])?;
        told_of_route(&mut monitor, &route, false)?;
        netlink.apply(&[Change::DeleteRoute(route.clone())])?;
        told_of_route(&mut monitor, &route, true)?;
    }
    let blackhole = Route {
        kind: RouteKind::Blackhole,
        ..Route::new("10.244.0.0/16".parse()?)
    };
    netlink.apply(&[Change::AddRoute(blackhole.clone())])?;
    told_of_route(&mut monitor, &blackhole, false)?;
    let neighbour = Neighbour::permanent(link, "10.244.2.0".parse()?, mac(2));
    netlink.apply(&[Change::ReplaceNeighbour(neighbour.clone())])?;
    told(
        &mut monitor,
        &Notice::Neighbour {
            neighbour: neighbour.clone(),
            removed: false,
        },
    )?;
    netlink.apply(&[Change::DeleteNeighbour(neighbour)])?;
    let entry = FdbEntry::permanent(link, mac(2), "192.0.2.12".parse()?);
    netlink.apply(&[
        Change::ReplaceFdb(entry.clone()),
        Change::DeleteFdb(entry.clone()),
    ])?;
    told(
        &mut monitor,
        &Notice::Fdb {
            link,
            entry: Some(entry),
            removed: true,
        },
    )?;

    netlink.apply(&[Change::DeleteLink(link)])?;
    let gone = Notice::Link {
        index: link,
        name: "flannel.1".into(),
        removed: true,
    };
    let mut ready = [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)];
    same(poll(&mut ready, PollTimeout::from(5000u16))?, 1)?;
    told(&mut monitor, &gone)
}

pub(crate) fn a_monitor_tells_of_forwarding() -> Result<()> {
    let mut monitor = Monitor::open(&[Group::Ipv4Settings, Group::Ipv6Settings])?;
    for setting in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        for value in ["1", "0"] {
            sysctl::write(setting, value)?;
            told(&mut monitor, &Notice::Setting)?;
        }
    }
    Ok(())
}

pub(crate) fn a_monitor_tells_of_lost_notifications() -> Result<()> {
    let mut monitor = Monitor::open(&[Group::Ipv4Routes])?;
    let mut netlink = Netlink::open()?;
    let link = plain_link(&mut netlink, "eth0")?;
    let route = Route::direct("10.244.2.0/24".parse()?, link);
    // More than any receive buffer holds that the kernel gives without force.
    let storm: Vec<_> = (0..20_000)
        .flat_map(|_| {
            [
                Change::AddRoute(route.clone()),
                Change::DeleteRoute(route.clone()),
            ]
        })
        .collect();
    netlink.apply(&storm)?;
    let mut overrun = false;
    let mut wakes = 0;
    while !overrun {
        wakes += 1;
        ensure!(wakes < 1000, "no overrun in {wakes} wakes");
        match monitor.wait(Some(DEADLINE))? {
            Wake::Overrun => overrun = true,
            Wake::Changed(_) => {}
            Wake::TimedOut => bail!("everything was told, nothing lost"),
        }
    }
    // After that it works as before.
    same(monitor.wait(Some(Duration::ZERO))?, Wake::TimedOut)?;
    netlink.apply(&[Change::AddRoute(route.clone())])?;
    told_of_route(&mut monitor, &route, false)
}

pub(crate) fn the_firewall_is_monitored() -> Result<()> {
    let mut monitor = Monitor::open_firewall()?;
    let status = Command::new("nft")
        .args(["add", "table", "ip", "t"])
        .status()?;
    ensure!(status.success(), "nft: {status}");
    let expected = Notice::Firewall {
        table: "t".to_owned(),
        chain: None,
    };
    told(&mut monitor, &expected)?;
    same(monitor.wait(Some(Duration::ZERO))?, Wake::TimedOut)
}
