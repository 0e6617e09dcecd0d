//! Links of the kinds we make, and all others read.

use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};
use hostnet::{
    Bridge, Change, Link, LinkChange, LinkIndex, Netlink, NewLink, NewLinkKind, VethPeer, Vxlan,
};
use serde_json::{Value, json};

use crate::opinion::{
    bridge_json, has, ip, ip_json, ip_one, link, mac, new_netns, plain_link, same,
};

pub(crate) fn a_veth_is_born_in_two_namespaces_in_one_message() -> Result<()> {
    let pod = new_netns()?;
    let mut netlink = Netlink::open()?;
    let peer = VethPeer {
        index: Some(LinkIndex(42)),
        mac: Some(mac(2)),
        mtu: Some(1400),
        netns: Some(pod.as_raw_fd()),
        queues: Some(3),
        ..VethPeer::new("eth0")
    };
    let near = NewLink {
        index: Some(LinkIndex(4000)),
        mac: Some(mac(1)),
        mtu: Some(1450),
        group: Some(7),
        up: true,
        queues: Some(1),
        ..NewLink::new("veth0a1b", NewLinkKind::Veth { peer })
    };
    let made = netlink.apply_and_link(&[Change::AddLink(near)], "veth0a1b")?;

    same(made.lower, Some(LinkIndex(42)))?;
    ensure!(
        made.lower_netnsid.is_some(),
        "the peer seems to be here: {made:?}"
    );
    same(
        (made.index, made.kind.as_deref()),
        (LinkIndex(4000), Some("veth")),
    )?;
    same(
        (made.mac, made.mtu, made.group, made.up),
        (Some(mac(1)), 1450, 7, true),
    )?;
    let seen = ip_one("link show dev veth0a1b")?;
    has(
        &seen,
        &[
            ("/ifindex", json!(4000)),
            ("/address", json!(mac(1).to_string())),
            ("/mtu", json!(1450)),
            ("/group", json!("7")),
            ("/num_tx_queues", json!(1)),
            ("/num_rx_queues", json!(1)),
            ("/linkinfo/info_kind", json!("veth")),
            ("/link_index", json!(42)),
        ],
    )?;
    ensure!(flags(&seen).contains(&"UP"), "not up: {seen}");

    let seen = pod.run(|| ip_one("link show dev eth0"))??;
    has(
        &seen,
        &[
            ("/ifindex", json!(42)),
            ("/address", json!(mac(2).to_string())),
            ("/mtu", json!(1400)),
            ("/num_tx_queues", json!(3)),
            ("/num_rx_queues", json!(3)),
        ],
    )?;
    let mut inside = pod.netlink()?;
    inside.apply(&[Change::SetLink(LinkChange::up(LinkIndex(42)))])?;
    ensure!(
        link(&mut netlink, "veth0a1b")?.running,
        "no carrier though both ends are up"
    );

    // One end takes the other along.
    netlink.apply(&[Change::DeleteLink(made.index)])?;
    same(inside.link_by_name("eth0")?, None)
}

pub(crate) fn a_bridge_gets_and_loses_a_port() -> Result<()> {
    let mut netlink = Netlink::open()?;
    let bridge = NewLink {
        mac: Some(mac(9)),
        mtu: Some(1450),
        up: true,
        ..NewLink::new(
            "cni0",
            NewLinkKind::Bridge(Bridge {
                multicast_snooping: Some(false),
            }),
        )
    };
    let bridge = netlink.apply_and_link(&[Change::AddLink(bridge)], "cni0")?;
    has(
        &ip_one("link show dev cni0")?,
        &[
            ("/address", json!(mac(9).to_string())),
            ("/mtu", json!(1450)),
            ("/linkinfo/info_kind", json!("bridge")),
            ("/linkinfo/info_data/mcast_snooping", json!(0)),
            ("/linkinfo/info_data/stp_state", json!(0)),
        ],
    )?;

    let port = NewLink {
        master: Some(bridge.index),
        up: true,
        ..NewLink::new(
            "port",
            NewLinkKind::Veth {
                peer: VethPeer::new("far"),
            },
        )
    };
    let hairpin = LinkChange {
        hairpin: Some(true),
        ..LinkChange::new("port")
    };
    let port =
        netlink.apply_and_link(&[Change::AddLink(port), Change::SetLink(hairpin)], "port")?;
    same(port.master, Some(bridge.index))?;
    ensure!(port.hairpin, "{port:?}");
    let seen = bridge_json("link show dev port")?;
    has(
        seen.first().context("no port")?,
        &[("/master", json!("cni0")), ("/hairpin", json!(true))],
    )?;

    let release = LinkChange {
        master: Some(None),
        ..LinkChange::new(port.index)
    };
    netlink.apply(&[Change::SetLink(release)])?;
    same(link(&mut netlink, "port")?.master, None)?;
    ensure!(
        bridge_json("link show dev port")?.is_empty(),
        "still a port"
    );

    // A port that joins and is told to send back in one change.
    let both = LinkChange {
        master: Some(Some(bridge.index)),
        hairpin: Some(true),
        ..LinkChange::new(port.index)
    };
    netlink.apply(&[Change::SetLink(both)])?;
    let port = link(&mut netlink, "port")?;
    same((port.master, port.hairpin), (Some(bridge.index), true))
}

pub(crate) fn a_vxlan_device_is_made_as_flannel_makes_it() -> Result<()> {
    let mut netlink = Netlink::open()?;
    let uplink = plain_link(&mut netlink, "uplink")?;
    ip("addr add 192.0.2.11/24 dev uplink")?;
    ip("addr add 2001:db8::11/64 dev uplink nodad")?;

    let vxlan = Vxlan {
        lower: Some(uplink),
        local: Some("192.0.2.11".parse()?),
        gbp: true,
        ..Vxlan::new(1)
    };
    let device = |name: &str, vxlan: &Vxlan| NewLink {
        mac: Some(mac(0xf1)),
        mtu: Some(1450),
        up: true,
        tx_queue_length: Some(0),
        ..NewLink::new(name, NewLinkKind::Vxlan(vxlan.clone()))
    };
    let made =
        netlink.apply_and_link(&[Change::AddLink(device("flannel.1", &vxlan))], "flannel.1")?;
    // The kernel puts its port where none was named, and adds nothing else.
    same(
        made.vxlan.clone(),
        Some(Vxlan {
            port: 8472,
            ..vxlan
        }),
    )?;
    same(
        (made.mac, made.mtu, made.kind.as_deref()),
        (Some(mac(0xf1)), 1450, Some("vxlan")),
    )?;
    let seen = ip_one("link show dev flannel.1")?;
    has(
        &seen,
        &[
            ("/address", json!(mac(0xf1).to_string())),
            ("/mtu", json!(1450)),
            ("/txqlen", Value::Null),
            ("/linkinfo/info_kind", json!("vxlan")),
            ("/linkinfo/info_data/id", json!(1)),
            ("/linkinfo/info_data/link", json!("uplink")),
            ("/linkinfo/info_data/local", json!("192.0.2.11")),
            ("/linkinfo/info_data/port", json!(8472)),
            ("/linkinfo/info_data/learning", json!(false)),
            ("/linkinfo/info_data/gbp", json!(true)),
            ("/linkinfo/info_data/ageing", json!(300)),
            ("/linkinfo/info_data/udp_csum", json!(true)),
            ("/linkinfo/info_data/ttl", json!(0)),
            ("/linkinfo/info_data/tos", Value::Null),
            ("/linkinfo/info_data/proxy", Value::Null),
            ("/linkinfo/info_data/rsc", Value::Null),
            ("/linkinfo/info_data/l2miss", Value::Null),
            ("/linkinfo/info_data/l3miss", Value::Null),
        ],
    )?;

    let v6 = Vxlan {
        lower: Some(uplink),
        local: Some("2001:db8::11".parse()?),
        port: 4789,
        learning: true,
        ..Vxlan::new(4096)
    };
    let new = Change::AddLink(device("flannel-v6.4096", &v6));
    let made = netlink.apply_and_link(&[new], "flannel-v6.4096")?;
    same(made.vxlan, Some(v6))?;
    has(
        &ip_one("link show dev flannel-v6.4096")?,
        &[
            ("/linkinfo/info_data/id", json!(4096)),
            ("/linkinfo/info_data/local6", json!("2001:db8::11")),
            ("/linkinfo/info_data/port", json!(4789)),
            ("/linkinfo/info_data/learning", json!(true)),
            ("/linkinfo/info_data/gbp", Value::Null),
        ],
    )?;

    // The same VNI once more: the kernel's own words are in the refusal.
    let again = netlink.apply(&[Change::AddLink(device("other", &vxlan))]);
    let refusals = again.err().context("two devices with one VNI")?;
    ensure!(refusals[0].is_exists(), "{refusals}");
    let text = refusals.to_string();
    for part in [
        "cannot add link other type vxlan id 1",
        "A VXLAN device with the specified VNI already exists",
    ] {
        ensure!(text.contains(part), "no {part:?} in {text:?}");
    }
    Ok(())
}

pub(crate) fn a_link_is_altered() -> Result<()> {
    let mut netlink = Netlink::open()?;
    let pair = NewLink::new(
        "a",
        NewLinkKind::Veth {
            peer: VethPeer::new("b"),
        },
    );
    let made = netlink.apply_and_link(&[Change::AddLink(pair)], "a")?;
    ensure!(!made.up && !made.running, "{made:?}");
    let peer = link(&mut netlink, "b")?;
    same((made.lower, made.lower_netnsid), (Some(peer.index), None))?;

    let change = LinkChange {
        mtu: Some(1300),
        mac: Some(mac(77)),
        alias: Some("said".into()),
        no_ipv6_link_local: true,
        arp_notify: true,
        promiscuous: Some(true),
        up: Some(true),
        ..LinkChange::new(made.index)
    };
    let by_name = LinkChange {
        mtu: Some(1301),
        ..LinkChange::up("b")
    };
    netlink.apply(&[Change::SetLink(change), Change::SetLink(by_name)])?;

    let found = link(&mut netlink, "a")?;
    let expected = Link {
        mtu: 1300,
        mac: Some(mac(77)),
        alias: Some("said".into()),
        up: true,
        running: true,
        ..made
    };
    same(&found, &expected)?;
    let seen = ip_one("link show dev a")?;
    has(
        &seen,
        &[
            ("/mtu", json!(1300)),
            ("/address", json!(mac(77).to_string())),
            ("/ifalias", json!("said")),
            ("/inet6_addr_gen_mode", json!("none")),
            ("/promiscuity", json!(1)),
        ],
    )?;
    let notify = hostnet::sysctl::read("net/ipv4/conf/a/arp_notify")?;
    same(notify.as_str(), "1")?;
    same(link(&mut netlink, "b")?.mtu, 1301)?;
    // Both are up and have carrier; only the one that was not told otherwise made itself an address.
    same(netlink.addresses(Some(found.index))?.len(), 0)?;
    same(netlink.addresses(Some(peer.index))?.len(), 1)?;

    let down = LinkChange {
        up: Some(false),
        alias: Some(String::new()),
        ..LinkChange::new(made.index)
    };
    netlink.apply(&[Change::SetLink(down)])?;
    let found = netlink.link(found.index)?.context("gone")?;
    same((found.up, found.running, found.alias), (false, false, None))
}

pub(crate) fn a_link_that_is_not_there_is_told_as_such() -> Result<()> {
    let mut netlink = Netlink::open()?;
    same(netlink.link_by_name("nothing")?, None)?;
    same(
        netlink.link_by_name("a-name-too-long-for-a-link").is_err(),
        true,
    )?;
    same(netlink.link(LinkIndex(4711))?, None)?;
    let changes = [
        Change::DeleteLink(LinkIndex(4711)),
        Change::DeleteLinkByName("nothing".into()),
        Change::SetLink(LinkChange::up("nothing")),
    ];
    let refusals = netlink
        .apply(&changes)
        .err()
        .context("nothing was refused")?;
    same(
        refusals
            .iter()
            .map(|refused| refused.index)
            .collect::<Vec<_>>(),
        vec![0, 1, 2],
    )?;
    ensure!(
        refusals.iter().all(|refused| refused.is_not_found()),
        "{refusals}"
    );
    ensure!(
        !refusals.iter().any(|refused| refused.is_exists()),
        "{refusals}"
    );
    same(
        refusals[1].to_string().as_str(),
        "cannot delete link nothing: No such device (errno 19)",
    )?;

    let refusals = netlink
        .apply_and_link(&[], "nothing")
        .err()
        .context("found")?;
    same(refusals.len(), 1)?;
    ensure!(
        refusals[0].is_not_found() && refusals[0].index == 0,
        "{refusals}"
    );
    Ok(())
}

pub(crate) fn a_taken_name_or_number_is_told_as_such() -> Result<()> {
    let mut netlink = Netlink::open()?;
    let taken = plain_link(&mut netlink, "taken")?;
    let same_name = NewLink::new("taken", NewLinkKind::Bridge(Bridge::default()));
    let same_number = NewLink {
        index: Some(taken),
        ..NewLink::new("free", NewLinkKind::Bridge(Bridge::default()))
    };
    let changes = [Change::AddLink(same_name), Change::AddLink(same_number)];
    let refusals = netlink
        .apply_and_link(&changes, "taken")
        .err()
        .context("both were made")?;
    same(
        refusals
            .iter()
            .map(|refused| (refused.index, refused.is_exists()))
            .collect(),
        vec![(0, true), (1, true)],
    )?;
    same(netlink.link_by_name("free")?, None)
}

/// Links of other kinds come and go on real hosts; all of them are read, and as `ip` reads them.
pub(crate) fn all_kinds_of_links_are_read() -> Result<()> {
    for words in [
        "link add dum type veth peer name mud",
        "link add name br0 type bridge",
        "link add one type veth peer name two",
        "link set one master br0 up",
        "link add link dum name mac0 type macvlan mode bridge",
        "link add vx type vxlan id 9 dstport 4789 group 239.1.1.1 dev dum",
        "link set dum mtu 9000 up",
    ] {
        ip(words)?;
    }
    // Kernels differ in what they can; these are no Ethernet.
    let _ = [
        ip("tunnel add sit1 mode sit remote 192.0.2.1"),
        ip("tuntap add dev tun0 mode tun"),
    ];

    let mut netlink = Netlink::open()?;
    let found = netlink.links()?;
    let seen = ip_json("link show")?;
    same(found.len(), seen.len())?;
    ensure!(found.len() >= 8, "{found:?}");
    for (link, seen) in found.iter().zip(&seen) {
        let text = |path| seen.pointer(path).and_then(Value::as_str);
        same(Some(link.name.as_str()), text("/ifname"))?;
        same(Some(u64::from(link.index.0)), seen["ifindex"].as_u64())?;
        same(Some(u64::from(link.mtu)), seen["mtu"].as_u64())?;
        same(link.kind.as_deref(), text("/linkinfo/info_kind"))?;
        same(link.up, flags(seen).contains(&"UP"))?;
        same(link.loopback, flags(seen).contains(&"LOOPBACK"))?;
        let address = link.mac.map(|mac| mac.to_string());
        if matches!(text("/link_type"), Some("ether" | "loopback")) {
            same(address.as_deref(), text("/address"))?;
        } else {
            same(address, None)?;
        }
        let name = |index: Option<LinkIndex>| {
            found
                .iter()
                .find(|link| Some(link.index) == index)
                .map(|link| link.name.as_str())
        };
        same(name(link.master), text("/master"))?;
        if !matches!(link.kind.as_deref(), Some("vxlan" | "sit")) {
            same(name(link.lower), text("/link"))?;
        }
        same(netlink.link(link.index)?.as_ref(), Some(link))?;
        same(netlink.link_by_name(&link.name)?.as_ref(), Some(link))?;
    }
    let vxlan = link(&mut netlink, "vx")?.vxlan.context("no vxlan data")?;
    same(
        (vxlan.group, vxlan.learning),
        (Some("239.1.1.1".parse()?), true),
    )
}

fn flags(link: &Value) -> Vec<&str> {
    link["flags"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}
