//! Nodes that are made anew, stripped, deleted and added, and such as are none of ours.

use anyhow::{Context, Result, ensure};
use netns_tests::traffic::Pings;
use netns_tests::{Traffic, eventually};

use crate::scene::{DEADLINE, DUAL, Scene, all_talk, meet, wait_tunnel};

pub(crate) fn a_node_made_anew_with_another_subnet_is_followed() -> Result<()> {
    let scene = Scene::new(DUAL)?;
    let members = scene.members()?;
    let old = members[0].host.pod("old")?;
    scene.admin(|cluster| async move { cluster.delete_node("a").await })?;
    members[0].daemon.wait_log("there is no Node a")?;
    scene.create_node("a", 9)?;
    let moved = scene.cidrs(9);
    eventually("the subnet file has the new subnets", DEADLINE, || {
        let subnets = members[0].host.subnets()?;
        ensure!(subnets == moved, "it has {subnets:?}");
        Ok(())
    })?;
    meet(&members)?;
    let pods = [
        members[0].host.pod("new")?,
        members[1].host.pod("b1")?,
        members[2].host.pod("c1")?,
    ];
    let address = pods[0].addresses().first().copied().context("no address")?;
    ensure!(address.to_string().starts_with("10.244.9."), "{address}");
    all_talk(&pods)?;
    // The pod with an address of the former subnet is still its host's.
    for address in old.addresses() {
        members[0].host.ping(&address)?;
    }
    Ok(())
}

pub(crate) fn stripped_and_deleted_nodes_come_back() -> Result<()> {
    let scene = Scene::new(DUAL)?;
    let mut members = scene.members()?;
    let pods = [members[0].host.pod("a1")?, members[1].host.pod("b1")?];
    let macs = [members[1].mac(4)?, members[1].mac(6)?];
    let tunnels = [members[0].tunnel(4)?, members[0].tunnel(6)?];
    let written = scene.annotations("b")?;
    ensure!(written.len() == 6, "{written:?}");
    let strip: Vec<(&str, Option<&str>)> =
        written.keys().map(|name| (name.as_str(), None)).collect();
    let put_back = || {
        eventually("what was stripped is put back", DEADLINE, || {
            let now = scene.annotations("b")?;
            ensure!(now == written, "{now:?}");
            Ok(())
        })
    };

    // Stripped while its daemon looks on, and while it does not.
    let pings = Pings::between(&pods[0], &pods[1])?;
    scene.annotate("b", &strip)?;
    put_back()?;
    members[1].daemon.wait_log("put right")?;
    members[1].daemon.kill()?;
    scene.annotate("b", &strip)?;
    members[0]
        .daemon
        .wait_log("Node b is used as it was before: its annotations are gone")?;
    let now = [members[0].tunnel(4)?, members[0].tunnel(6)?];
    ensure!(now == tunnels, "{tunnels:?} became {now:?}");
    members[1].daemon.restart()?;
    members[1].daemon.wait_ready()?;
    put_back()?;
    pings.finish()?;

    // Deleted: the others forget it, in both families; it goes on, and is back as it was when its Node is.
    let own = members[1].tunnel(4)?;
    scene.admin(|cluster| async move { cluster.delete_node("b").await })?;
    members[1].daemon.wait_log("there is no Node b")?;
    for other in [&members[0], &members[2]] {
        wait_tunnel(other, 4, &[], &["10.244.2.0", &macs[0]])?;
        wait_tunnel(other, 6, &[], &["fd00:10:244:2:", &macs[1]])?;
    }
    ensure!(members[1].tunnel(4)? == own, "{}", members[1].tunnel(4)?);
    scene.create_node("b", 2)?;
    put_back()?;
    meet(&members)?;
    ensure!([members[1].mac(4)?, members[1].mac(6)?] == macs);
    all_talk(&pods)
}

/// A Node's name, the number of its subnets, and its annotations.
type Foreign<'a> = (&'a str, u8, &'a [(&'a str, Option<&'a str>)]);

pub(crate) fn nodes_that_are_not_ours_are_left_out_with_a_reason() -> Result<()> {
    let scene = Scene::new(DUAL)?;
    let members = scene.members()?;
    let before = [members[0].tunnel(4)?, members[0].tunnel(6)?];
    let data = r#"{"VNI":1,"VtepMAC":"02:00:00:00:00:11"}"#;
    let data6 = r#"{"VNI":1,"VtepMAC":"02:00:00:00:00:66"}"#;
    let ours = ("kube-subnet-manager", Some("true"));
    let vxlan = ("backend-type", Some("vxlan"));
    let foreign: [Foreign<'_>; 5] = [
        // Of another network altogether: nothing is said.
        ("stranger", 40, &[]),
        // flannel on Windows writes IPv4 alone, and a VNI that is not ours.
        (
            "windows",
            41,
            &[
                ours,
                vxlan,
                ("public-ip", Some("192.0.2.41")),
                (
                    "backend-data",
                    Some(r#"{"VNI":4096,"VtepMAC":"00:15:5d:ab:cd:ef"}"#),
                ),
            ],
        ),
        (
            "host-gw",
            42,
            &[
                ours,
                ("backend-type", Some("host-gw")),
                ("backend-data", Some("null")),
                ("backend-v6-data", Some("null")),
                ("public-ip", Some("192.0.2.42")),
                ("public-ipv6", Some("2001:db8::2a")),
            ],
        ),
        (
            "half",
            43,
            &[
                ours,
                vxlan,
                ("backend-data", Some(data)),
                ("public-ip", Some("192.0.2.43")),
            ],
        ),
        (
            "broken",
            44,
            &[
                ours,
                vxlan,
                ("backend-data", Some(r#"{"VtepMAC":"#)),
                (
                    "backend-v6-data",
                    Some(r#"{"VNI":1,"VtepMAC":"02:00:00:00:00:44"}"#),
                ),
                ("public-ip", Some("many")),
                ("public-ipv6", Some("2001:db8::2c")),
            ],
        ),
    ];
    for (name, number, annotations) in foreign {
        scene.create_node(name, number)?;
        scene.annotate(name, annotations)?;
    }
    let [a, ..] = &members;
    wait_tunnel(
        a,
        4,
        &["dst 192.0.2.41 ", "10.244.43.0/24"],
        &["192.0.2.42", "10.244.44."],
    )?;
    wait_tunnel(
        a,
        6,
        &["dst 2001:db8::2c "],
        &["2001:db8::2a", "fd00:10:244:43:"],
    )?;
    for text in [
        "fd00:10:244:41::/64 of the lease 10.244.41.0/24 and fd00:10:244:41::/64 is left out: it lacks a public address for IPv6",
        "10.244.42.0/24 and fd00:10:244:42::/64 is left out: it is a lease of backend host-gw",
        "fd00:10:244:43::/64 of the lease 10.244.43.0/24 and fd00:10:244:43::/64 is left out: it lacks a public address for IPv6",
        "10.244.44.0/24 of the lease 10.244.44.0/24 and fd00:10:244:44::/64 is left out: it lacks a public address for IPv4",
        "Node broken is used only in part: annotation public-ip is \"many\"",
    ] {
        let log = a.daemon.log();
        ensure!(log.matches(text).count() == 1, "{text:?} in\n{log}");
    }
    ensure!(!a.daemon.log().contains("stranger"), "{}", a.daemon.log());

    // What was there before is untouched, and what is mended is taken.
    for (family, before) in [(4, &before[0]), (6, &before[1])] {
        let now = a.tunnel(family)?;
        let lost = before
            .lines()
            .find(|line| !now.lines().any(|there| there == *line));
        ensure!(lost.is_none(), "gone: {lost:?}\n{now}");
    }
    scene.annotate(
        "half",
        &[
            ("backend-v6-data", Some(data6)),
            ("public-ipv6", Some("2001:db8::2b")),
        ],
    )?;
    wait_tunnel(a, 6, &["dst 2001:db8::2b ", "fd00:10:244:43::/64"], &[])
}
