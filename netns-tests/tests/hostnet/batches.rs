//! Many changes at once, and looking while others change.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use hostnet::{
    Address, Bridge, Change, Error, FdbEntry, LinkIndex, Netlink, NewLink, NewLinkKind, Route,
    RouteFilter, RouteKind,
};
use ipnetwork::{IpNetwork, Ipv4Network};

use crate::neighbours::vxlan;
use crate::opinion::{bridge_json, mac, plain_link, same};

pub(crate) fn four_thousand_fdb_entries() -> Result<()> {
    const PEERS: u32 = 4000;
    let mut netlink = Netlink::open()?;
    let link = vxlan(&mut netlink)?;
    let entries: Vec<_> = (0..PEERS)
        .map(|peer| FdbEntry::permanent(link, mac(peer), host(peer)))
        .collect();
    let changes =
        |change: fn(FdbEntry) -> Change| entries.iter().cloned().map(change).collect::<Vec<_>>();
    netlink.apply(&changes(Change::ReplaceFdb))?;
    let found: BTreeSet<_> = netlink
        .fdb(link)?
        .into_iter()
        .map(|entry| (entry.mac, entry.destination))
        .collect();
    let expected: BTreeSet<_> = entries
        .iter()
        .map(|entry| (entry.mac, entry.destination))
        .collect();
    ensure!(
        found == expected,
        "{} entries instead of {PEERS}",
        found.len()
    );
    same(bridge_json("fdb show dev flannel.1")?.len(), entries.len())?;
    netlink.apply(&changes(Change::DeleteFdb))?;
    same(netlink.fdb(link)?, Vec::new())
}

pub(crate) fn refusals_find_their_change_in_the_middle_of_batches() -> Result<()> {
    let mut netlink = Netlink::open()?;
    let link = plain_link(&mut netlink, "eth0")?;
    netlink.apply(&[Change::AddAddress(Address::new(
        link,
        "192.0.2.11".parse()?,
        24,
    ))])?;
    // Around the ends of the batches of 128.
    let bad = [0, 1, 126, 127, 128, 200, 255, 256, 299];
    let good_gateway = "192.0.2.1".parse()?;
    let bad_gateway = "198.51.100.1".parse()?;
    let routes: Vec<_> = (0u32..300)
        .map(|number| {
            let gateway = if bad.contains(&number) {
                bad_gateway
            } else {
                good_gateway
            };
            Route {
                protocol: 76,
                ..Route::via(network(number), gateway, link)
            }
        })
        .collect();
    let changes: Vec<_> = routes.iter().cloned().map(Change::AddRoute).collect();
    let refusals = netlink.apply(&changes).err().context("all were made")?;
    let found: Vec<_> = refusals
        .iter()
        .map(|refused| u32::try_from(refused.index))
        .collect::<Result<_, _>>()?;
    same(found, bad.to_vec())?;
    for refused in &refusals {
        same(
            refused.error.text.as_deref(),
            Some("Nexthop has invalid gateway"),
        )?;
        same(&refused.change, &changes[refused.index].to_string())?;
    }
    // The kernel went on after each.
    let filter = RouteFilter {
        protocol: Some(76),
        ..RouteFilter::default()
    };
    same(netlink.routes(&filter)?.len(), routes.len() - bad.len())
}

pub(crate) fn every_refusal_of_a_batch_is_brought_back() -> Result<()> {
    let mut netlink = Netlink::open()?;
    plain_link(&mut netlink, "taken")?;
    // The kernel's words make these the longest answers.
    let again = |_| Change::AddRoute(Route::via(network(1), host(1), LinkIndex(1)));
    let changes: Vec<_> = (0..1000).map(again).collect();
    let refusals = netlink.apply(&changes).err().context("all were made")?;
    same(
        refusals
            .iter()
            .map(|refused| refused.index)
            .collect::<Vec<_>>(),
        (0..1000).collect(),
    )?;
    let answers: BTreeSet<_> = refusals
        .iter()
        .map(|refused| refused.error.clone().to_string())
        .collect();
    same(answers.len(), 1)?;
    // Nothing is left behind that the next request could take for its answer.
    same(netlink.apply_and_link(&[], "taken")?.name.as_str(), "taken")
}

pub(crate) fn a_dump_during_changes_lacks_nothing_that_stays() -> Result<()> {
    const STAYING: u32 = 2000;
    const LOOKS: usize = 60;
    let mut netlink = Netlink::open()?;
    let link = vxlan(&mut netlink)?;
    let entry = |peer| FdbEntry::permanent(link, mac(peer), host(peer));
    let route = |number| Route {
        kind: RouteKind::Blackhole,
        protocol: 76,
        ..Route::new(network(number))
    };
    let staying: Vec<_> = (0..STAYING)
        .flat_map(|number| {
            [
                Change::ReplaceFdb(entry(number)),
                Change::ReplaceRoute(route(number)),
            ]
        })
        .chain((0..60).map(|number| {
            Change::AddLink(NewLink::new(
                format!("stay{number}"),
                NewLinkKind::Bridge(Bridge::default()),
            ))
        }))
        .collect();
    netlink.apply(&staying)?;

    let stop = AtomicBool::new(false);
    let (rounds, interrupted) = std::thread::scope(|scope| -> Result<(usize, usize)> {
        let changer = scope.spawn(|| -> Result<usize> {
            let mut netlink = Netlink::open()?;
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) {
                let passing = STAYING..STAYING + 40;
                let come: Vec<_> = passing
                    .clone()
                    .flat_map(|number| {
                        [
                            Change::ReplaceFdb(entry(number)),
                            Change::ReplaceRoute(route(number)),
                        ]
                    })
                    .chain([Change::AddLink(NewLink::new(
                        "passing",
                        NewLinkKind::Bridge(Bridge::default()),
                    ))])
                    .collect();
                let go: Vec<_> = passing
                    .flat_map(|number| {
                        [
                            Change::DeleteFdb(entry(number)),
                            Change::DeleteRoute(route(number)),
                        ]
                    })
                    .chain([Change::DeleteLinkByName("passing".into())])
                    .collect();
                netlink.apply(&come)?;
                netlink.apply(&go)?;
                rounds += 1;
            }
            Ok(rounds)
        });
        let looked = look_again_and_again(&mut netlink, link, LOOKS, STAYING);
        stop.store(true, Ordering::Relaxed);
        let rounds = changer
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((rounds, looked?))
    })?;
    ensure!(rounds > 3, "only {rounds} rounds of changes");
    // A list that never stands still is given up with an error, which is honest but must be rare.
    ensure!(
        interrupted < LOOKS,
        "{interrupted} of {} lists were given up",
        3 * LOOKS
    );
    Ok(())
}

/// How many lists were given up; fails if one lacks something that was there all the time.
fn look_again_and_again(
    netlink: &mut Netlink,
    link: LinkIndex,
    looks: usize,
    staying: u32,
) -> Result<usize> {
    let staying = usize::try_from(staying)?;
    let filter = RouteFilter {
        protocol: Some(76),
        ..RouteFilter::default()
    };
    let mut interrupted = 0;
    for _ in 0..looks {
        let below = mac(u32::try_from(staying)?);
        let counts = [
            (
                netlink
                    .fdb(link)
                    .map(|found| found.iter().filter(|entry| entry.mac < below).count()),
                staying,
            ),
            (
                netlink.routes(&filter).map(|found| {
                    found
                        .iter()
                        .filter(|route| route.destination < network(2000))
                        .count()
                }),
                staying,
            ),
            (
                netlink.links().map(|found| {
                    found
                        .iter()
                        .filter(|link| link.name.starts_with("stay"))
                        .count()
                }),
                60,
            ),
        ];
        for (count, expected) in counts {
            match count {
                Ok(count) => same(count, expected)?,
                Err(Error::Interrupted { .. }) => interrupted += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(interrupted)
}

fn host(number: u32) -> IpAddr {
    Ipv4Addr::from(0xc612_0000 + number).into()
}

fn network(number: u32) -> IpNetwork {
    let address = Ipv4Addr::from(0x0a00_0000 + (number << 8));
    Ipv4Network::new(address, 24)
        .map_or_else(|_| IpNetwork::from(IpAddr::from(address)), IpNetwork::V4)
}
