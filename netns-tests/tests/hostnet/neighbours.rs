//! Neighbours and FDB entries.

use anyhow::{Context, Result, ensure};
use hostnet::{
    AddressFamily, Change, FdbEntry, LinkIndex, Mac, Neighbour, NeighbourState, Netlink, NewLink,
    NewLinkKind, Vxlan,
};
use serde_json::json;

use crate::opinion::{bridge, bridge_json, has, ip_one, mac, plain_link, same};

/// A VXLAN device that is up.
pub(crate) fn vxlan(netlink: &mut Netlink) -> Result<LinkIndex> {
    let device = NewLink {
        mac: Some(mac(0xf1)),
        up: true,
        ..NewLink::new(
            "flannel.1",
            NewLinkKind::Vxlan(Vxlan {
                local: Some("192.0.2.11".parse()?),
                ..Vxlan::new(1)
            }),
        )
    };
    Ok(netlink
        .apply_and_link(&[Change::AddLink(device)], "flannel.1")?
        .index)
}

pub(crate) fn a_neighbour_is_replaced() -> Result<()> {
    let mut netlink = Netlink::open()?;
    let link = vxlan(&mut netlink)?;
    let other = plain_link(&mut netlink, "other")?;
    for (address, family) in [
        ("10.244.2.0", AddressFamily::Ipv4),
        ("fd00:2::", AddressFamily::Ipv6),
    ] {
        let entry = Neighbour::permanent(link, address.parse()?, mac(2));
        let elsewhere = Neighbour {
            link: other,
            ..entry.clone()
        };
        netlink.apply(&[
            Change::ReplaceNeighbour(entry.clone()),
            Change::ReplaceNeighbour(elsewhere),
        ])?;
        let ours = |netlink: &mut Netlink, family| -> Result<Vec<Neighbour>> {
            let mut found = netlink.neighbours(link, family)?;
            // The kernel's own multicast entries.
            found.retain(|neighbour| neighbour.state != NeighbourState::Noarp);
            Ok(found)
        };
        same(ours(&mut netlink, Some(family))?, vec![entry.clone()])?;
        let seen = ip_one(&format!("neighbour show {address} dev flannel.1"))?;
        has(
            &seen,
            &[
                ("/lladdr", json!(mac(2).to_string())),
                ("/state", json!(["PERMANENT"])),
            ],
        )?;

        let moved = Neighbour {
            mac: Some(mac(3)),
            state: NeighbourState::Reachable,
            ..entry.clone()
        };
        netlink.apply(&[Change::ReplaceNeighbour(moved.clone())])?;
        same(ours(&mut netlink, Some(family))?, vec![moved])?;
        let seen = ip_one(&format!("neighbour show {address} dev flannel.1"))?;
        has(
            &seen,
            &[
                ("/lladdr", json!(mac(3).to_string())),
                ("/state", json!(["REACHABLE"])),
            ],
        )?;
        netlink.apply(&[Change::ReplaceNeighbour(entry.clone())])?;
        same(ours(&mut netlink, Some(family))?, vec![entry])?;
    }
    let both = netlink.neighbours(link, None)?;
    same(
        both.iter()
            .filter(|neighbour| neighbour.state == NeighbourState::Permanent)
            .count(),
        2,
    )?;
    for neighbour in both {
        if neighbour.state == NeighbourState::Permanent {
            netlink.apply(&[Change::DeleteNeighbour(neighbour)])?;
        }
    }
    let left = netlink.neighbours(link, None)?;
    // The kernel keeps the husk of a deleted entry for a moment.
    ensure!(
        left.iter()
            .all(|neighbour| neighbour.state != NeighbourState::Permanent),
        "{left:?}"
    );
    same(netlink.neighbours(LinkIndex(4711), None)?, Vec::new())
}

pub(crate) fn fdb_entries_are_replaced_by_mac() -> Result<()> {
    let mut netlink = Netlink::open()?;
    let link = vxlan(&mut netlink)?;
    let first = FdbEntry::permanent(link, mac(2), "192.0.2.12".parse()?);
    netlink.apply(&[Change::ReplaceFdb(first.clone())])?;
    same(netlink.fdb(link)?, vec![first.clone()])?;
    let seen = bridge_json("fdb show dev flannel.1")?;
    same(seen.len(), 1)?;
    has(
        &seen[0],
        &[
            ("/mac", json!(mac(2).to_string())),
            ("/dst", json!("192.0.2.12")),
            ("/flags", json!(["self"])),
            ("/state", json!("permanent")),
        ],
    )?;

    let moved = FdbEntry {
        destination: "192.0.2.13".parse()?,
        ..first
    };
    netlink.apply(&[Change::ReplaceFdb(moved.clone())])?;
    same(netlink.fdb(link)?, vec![moved.clone()])?;

    // Another MAC behind the same host is another entry; a stale one must be deleted by name.
    let renewed = FdbEntry {
        mac: mac(3),
        ..moved
    };
    let all_others = FdbEntry::permanent(link, Mac([0; 6]), "192.0.2.99".parse()?);
    netlink.apply(&[Change::ReplaceFdb(renewed.clone())])?;
    bridge("fdb append 00:00:00:00:00:00 dev flannel.1 dst 192.0.2.99")?;
    let mut found = netlink.fdb(link)?;
    found.sort_by_key(|entry| entry.mac);
    same(
        found,
        vec![all_others.clone(), moved.clone(), renewed.clone()],
    )?;
    netlink.apply(&[Change::DeleteFdb(moved), Change::DeleteFdb(all_others)])?;
    same(netlink.fdb(link)?, vec![renewed])?;
    same(netlink.fdb(LinkIndex(4711))?, Vec::new())
}

pub(crate) fn neighbours_and_fdb_entries_that_are_not_there_are_told_as_such() -> Result<()> {
    let mut netlink = Netlink::open()?;
    let link = vxlan(&mut netlink)?;
    let nowhere = LinkIndex(4711);
    let changes = [
        Change::DeleteNeighbour(Neighbour::permanent(link, "10.244.2.0".parse()?, mac(2))),
        Change::DeleteNeighbour(Neighbour::permanent(link, "fd00:2::".parse()?, mac(2))),
        Change::DeleteFdb(FdbEntry::permanent(link, mac(2), "192.0.2.12".parse()?)),
        Change::DeleteFdb(FdbEntry::permanent(nowhere, mac(2), "192.0.2.12".parse()?)),
        Change::ReplaceNeighbour(Neighbour::permanent(nowhere, "10.244.2.0".parse()?, mac(2))),
    ];
    let refusals = netlink
        .apply(&changes)
        .err()
        .context("nothing was refused")?;
    same(refusals.len(), changes.len())?;
    for refused in &refusals {
        ensure!(refused.is_not_found(), "{refused}");
        same(&refused.change, &changes[refused.index].to_string())?;
    }
    Ok(())
}
