//! The plugin `loopback`: switches a container's `lo` on.
//!
//! Whatever `CNI_IFNAME` says, the interface is `lo`. Others may switch it on at the same time (containerd attaches all networks
//! at once), which is fine.

use std::io::Write;
use std::net::IpAddr;

use hostnet::netns::Netns;
use hostnet::{Change, Link, LinkChange, Netlink};
use ipnetwork::IpNetwork;

use crate::protocol::result::{AddResult, Interface, Ip};
use crate::protocol::{Config, Error, Invocation, Request, Target};
use crate::{Made, sandbox, tell};

const LO: &str = "lo";

/// Carries a call out.
pub(crate) fn run(
    call: &Invocation,
    config: &Config,
    stdout: &mut impl Write,
) -> Result<(), Error> {
    match &call.request {
        Request::Add(target) => tell(add(call, target, config)?, config, stdout, || {}),
        Request::Check(target) => check(call, target),
        Request::Del(target) => del(target),
        // There is nothing that could be left over, and nothing that an ADD needs.
        Request::Gc | Request::Status | Request::Version => Ok(()),
    }
}

/// A `lo` that is up. Every container has it, so there is nothing to take back.
struct Up {
    result: AddResult,
}

impl Made for Up {
    fn result(&self) -> &AddResult {
        &self.result
    }

    fn undo(self) -> Result<(), Error> {
        Ok(())
    }
}

fn add(call: &Invocation, target: &Target, config: &Config) -> Result<Up, Error> {
    let (netns, _) = sandbox::open(target, call.netns_override)?;
    let previous = config.previous_result()?;
    let (mut pod, lo) = enter(&netns)?;
    pod.apply(&[Change::SetLink(LinkChange::up(lo.index))])
        .map_err(Error::Refused)?;
    let addresses = pod.addresses(Some(lo.index)).map_err(Error::Netlink)?;
    if let Some(foreign) = addresses.iter().find(|known| !known.address.is_loopback()) {
        return Err(Error::Damaged {
            what: format!(
                "its lo has the address {}, which is no loopback address",
                foreign.address
            ),
        });
    }
    let result = previous.unwrap_or_else(|| {
        let first = |v4| {
            addresses
                .iter()
                .find(move |known| known.address.is_ipv4() == v4)
        };
        let ips = [first(true), first(false)].into_iter().flatten();
        AddResult {
            interfaces: vec![Interface {
                name: LO.to_owned(),
                mac: Some("00:00:00:00:00:00".to_owned()),
                sandbox: Some(netns.path().to_string_lossy().into_owned()),
                ..Interface::default()
            }],
            ips: ips.map(|known| ip(known.address, known.prefix)).collect(),
            ..AddResult::default()
        }
    });
    Ok(Up { result })
}

fn ip(address: IpAddr, prefix: u8) -> Ip {
    Ip {
        interface: Some(0),
        address: IpNetwork::new(address, prefix).unwrap_or(address.into()),
        gateway: None,
    }
}

fn check(call: &Invocation, target: &Target) -> Result<(), Error> {
    let (netns, _) = sandbox::open(target, call.netns_override)?;
    let (_, lo) = enter(&netns)?;
    if lo.up {
        return Ok(());
    }
    Err(Error::Damaged {
        what: "its interface lo is down".to_owned(),
    })
}

/// A namespace that is gone needs nothing, and one that is the host's by now must keep its `lo`.
fn del(target: &Target) -> Result<(), Error> {
    let Some(netns) = sandbox::open_if_there(target)? else {
        return Ok(());
    };
    let (mut pod, lo) = enter(&netns)?;
    let down = LinkChange {
        up: Some(false),
        ..LinkChange::new(lo.index)
    };
    pod.apply(&[Change::SetLink(down)]).map_err(Error::Refused)
}

/// Enters the namespace for good, and tells of its `lo`, which every namespace has.
fn enter(netns: &Netns) -> Result<(Netlink, Link), Error> {
    netns.enter().map_err(Error::Netns)?;
    let mut pod = Netlink::open().map_err(Error::Netlink)?;
    let found = pod.link_by_name(LO).map_err(Error::Netlink)?;
    let lo = found.ok_or_else(|| Error::Damaged {
        what: "it has no interface lo".to_owned(),
    })?;
    Ok((pod, lo))
}
