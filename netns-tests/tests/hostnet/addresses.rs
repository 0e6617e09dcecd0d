//! Addresses.

use anyhow::{Context, Result, ensure};
use hostnet::{
    Address, Change, LinkChange, LinkIndex, Netlink, NewLink, NewLinkKind, Scope, VethPeer,
};
use serde_json::{Value, json};

use crate::opinion::{has, ip, ip_one, plain_link, same};

pub(crate) fn addresses_are_written_and_read() -> Result<()> {
    let mut netlink = Netlink::open()?;
    let pair = NewLink {
        up: true,
        ..NewLink::new(
            "a",
            NewLinkKind::Veth {
                peer: VethPeer::new("b"),
            },
        )
    };
    let quiet = LinkChange {
        no_ipv6_link_local: true,
        ..LinkChange::new("a")
    };
    let link = netlink
        .apply_and_link(
            &[
                Change::AddLink(pair),
                Change::SetLink(quiet),
                Change::SetLink(LinkChange::up("b")),
            ],
            "a",
        )?
        .index;

    let subnet = Address::new(link, "10.244.1.1".parse()?, 24);
    let host = Address {
        scope: Scope::Link,
        ..Address::new(link, "10.5.52.0".parse()?, 32)
    };
    let bare = Address {
        noprefixroute: true,
        ..Address::new(link, "10.6.0.1".parse()?, 16)
    };
    let v6 = Address {
        nodad: true,
        ..Address::new(link, "fd00:10:5::1".parse()?, 64)
    };
    let asked = Address::new(link, "fd00:10:6::1".parse()?, 128);
    let wanted = [subnet, host, bare, v6, asked];
    let changes: Vec<_> = wanted.iter().cloned().map(Change::AddAddress).collect();
    netlink.apply(&changes)?;

    let mut found = netlink.addresses(Some(link))?;
    found.retain(|address| address.scope != Scope::Link || address.address.is_ipv4());
    for address in &wanted {
        let read = found.iter().find(|read| read.address == address.address);
        let read = read.with_context(|| format!("no {address} among {found:?}"))?;
        // Only what the kernel has to ask its neighbours about starts as tentative.
        let tentative = address.address.is_ipv6() && !address.nodad;
        same(
            read,
            &Address {
                tentative,
                ..address.clone()
            },
        )?;
    }
    same(found.len(), wanted.len())?;

    let seen = ip_one("address show dev a")?;
    let by_local = |local: &str| -> Result<&Value> {
        let list = seen["addr_info"].as_array().context("no addresses")?;
        list.iter()
            .find(|address| address["local"] == local)
            .with_context(|| format!("ip sees no {local}"))
    };
    has(
        by_local("10.244.1.1")?,
        &[
            ("/prefixlen", json!(24)),
            ("/scope", json!("global")),
            ("/broadcast", json!("10.244.1.255")),
        ],
    )?;
    has(
        by_local("10.5.52.0")?,
        &[
            ("/prefixlen", json!(32)),
            ("/scope", json!("link")),
            ("/broadcast", Value::Null),
        ],
    )?;
    has(
        by_local("10.6.0.1")?,
        &[("/prefixlen", json!(16)), ("/noprefixroute", json!(true))],
    )?;
    has(
        by_local("fd00:10:5::1")?,
        &[
            ("/prefixlen", json!(64)),
            ("/nodad", json!(true)),
            ("/tentative", Value::Null),
        ],
    )?;
    has(
        by_local("fd00:10:6::1")?,
        &[("/prefixlen", json!(128)), ("/tentative", json!(true))],
    )?;

    // Those of all links are those of this one and those of the others.
    let other = plain_link(&mut netlink, "other")?;
    ip("address add 192.0.2.1/24 dev other valid_lft 300 preferred_lft 0")?;
    let all = netlink.addresses(None)?;
    same(
        all.iter().filter(|address| address.link == link).count(),
        netlink.addresses(Some(link))?.len(),
    )?;
    let dying = all
        .iter()
        .find(|address| address.link == other && address.address.is_ipv4())
        .context("no other")?;
    ensure!(
        dying.dynamic && dying.deprecated && !dying.temporary,
        "{dying:?}"
    );
    same(netlink.addresses(Some(LinkIndex(4711)))?, Vec::new())
}

pub(crate) fn addresses_that_are_there_or_not_are_told_as_such() -> Result<()> {
    let mut netlink = Netlink::open()?;
    let link = plain_link(&mut netlink, "d")?;
    for (address, prefix) in [("10.244.1.1", 24), ("fd00::1", 64)] {
        let address = Address {
            nodad: true,
            ..Address::new(link, address.parse()?, prefix)
        };
        let refused = |change: Change, netlink: &mut Netlink| -> Result<hostnet::Refused> {
            let refusals = netlink.apply(&[change]).err().context("not refused")?;
            refusals.into_iter().next().context("empty refusals")
        };
        let absent = refused(Change::DeleteAddress(address.clone()), &mut netlink)?;
        ensure!(absent.is_not_found(), "{absent}");
        netlink.apply(&[Change::AddAddress(address.clone())])?;
        let present = refused(Change::AddAddress(address.clone()), &mut netlink)?;
        ensure!(present.is_exists(), "{present}");
        ensure!(
            present
                .to_string()
                .starts_with(&format!("cannot add address {address}: ")),
            "{present}"
        );
        netlink.apply(&[Change::ReplaceAddress(address.clone())])?;
        netlink.apply(&[Change::DeleteAddress(address.clone())])?;
        ensure!(
            !netlink
                .addresses(Some(link))?
                .iter()
                .any(|found| found.address == address.address),
            "still there"
        );

        let nowhere = Address {
            link: LinkIndex(4711),
            ..address
        };
        let nowhere = refused(Change::AddAddress(nowhere), &mut netlink)?;
        ensure!(nowhere.is_not_found(), "{nowhere}");
    }
    Ok(())
}
