//! What packets between hosts go through is broken.

use anyhow::{Result, ensure};
use netns_tests::{Endpoint, Traffic, eventually};

use crate::scene::{FOLLOW, Scene, doctor, wait_cause, wait_cured};

/// A firewall as administrators write it, with one rule.
fn firewall(hook: &str, rule: &str) -> String {
    format!(
        "nft add table inet filter\n\
         nft 'add chain inet filter {hook} {{ type filter hook {hook} priority 0; policy accept; }}'\n\
         nft add rule inet filter {hook} {rule}"
    )
}

pub(crate) fn a_port_closed_at_the_peer_is_named_with_its_direction() -> Result<()> {
    let mut scene = Scene::new()?;
    scene.b.host.sh(&firewall("input", "udp dport 8472 drop"))?;
    let diagnosis = scene.wait_cause("reach")?;
    let there = scene.b.host.ipv4();
    ensure!(
        diagnosis
            .evidence()
            .starts_with(&format!("UDP 8472 from here to {there} is blocked")),
        "{:#}",
        diagnosis.0
    );
    // Over there it is seen where.
    let seen = wait_cause(&scene.b.host, "firewall-port")?;
    ensure!(
        seen.evidence()
            .contains("rule 1 in the chain input of the table inet filter"),
        "{:#}",
        seen.0
    );
    scene.cure(&diagnosis)?;
    wait_cured(&scene.b.host)
}

pub(crate) fn a_port_closed_on_the_way_back_is_named_with_its_direction() -> Result<()> {
    let mut scene = Scene::new()?;
    // In the switch: neither host can see it.
    let from = scene.b.host.ipv4();
    scene.lab.underlay().sh(&format!(
        "nft add table bridge switch\n\
         nft 'add chain bridge switch forward {{ type filter hook forward priority 0; }}'\n\
         nft add rule bridge switch forward ip saddr {from} udp dport 8472 drop"
    ))?;
    let diagnosis = scene.wait_cause("reach")?;
    ensure!(
        diagnosis
            .evidence()
            .starts_with(&format!("UDP 8472 from {from} to here is blocked")),
        "{:#}",
        diagnosis.0
    );
    // The other way round for the other host.
    let seen = wait_cause(&scene.b.host, "reach")?;
    let here = scene.a.host.ipv4();
    ensure!(
        seen.evidence()
            .starts_with(&format!("UDP 8472 from here to {here} is blocked")),
        "{:#}",
        seen.0
    );
    // What is to be typed is for a host's firewall; this one is opened by its own administrator.
    ensure!(
        diagnosis.0["cause"]["remedy"]["say"]
            .as_str()
            .is_some_and(|say| say.contains("every firewall between")),
        "{:#}",
        diagnosis.0
    );
    scene
        .lab
        .underlay()
        .sh("nft flush chain bridge switch forward")?;
    scene.a.host.sh("true")?;
    wait_cured(&scene.a.host)?;
    scene.b.daemon.is_running().map(drop)
}

pub(crate) fn a_firewall_here_that_drops_the_port_is_mended_by_fix() -> Result<()> {
    let scene = Scene::new()?;
    scene.a.host.sh("nft add table inet guard\n\
         nft 'add chain inet guard in { type filter hook input priority 0; policy drop; }'\n\
         nft add rule inet guard in ct state established,related accept\n\
         nft add rule inet guard in iif lo accept\n\
         nft add rule inet guard in icmp type echo-request accept")?;
    let diagnosis = scene.wait_cause("firewall-port")?;
    ensure!(
        diagnosis
            .evidence()
            .contains("the chain in of the table inet guard drops"),
        "{:#}",
        diagnosis.0
    );
    let follows = diagnosis.finding("reach")?;
    ensure!(follows["followsFrom"] == "firewall-port", "{follows:#}");
    let fixed = doctor(&scene.a.host, &["--fix"])?;
    ensure!(
        fixed.1 == 0
            && fixed.0["fixed"][0].as_str().is_some_and(
                |done| done.starts_with("fixed: nft insert rule inet guard in udp dport 8472")
            ),
        "{:#}",
        fixed.0
    );
    Ok(())
}

pub(crate) fn a_peer_without_a_tunnel_is_told_from_one_that_is_away() -> Result<()> {
    let mut scene = Scene::new()?;
    scene.b.daemon.kill()?;
    scene.b.host.sh("ip link delete dev flannel.1")?;
    let diagnosis = scene.wait_cause("reach")?;
    ensure!(
        diagnosis.evidence().contains("has UDP 8472 closed"),
        "{:#}",
        diagnosis.0
    );
    scene.cure(&diagnosis)?;
    scene.lab.cut(&scene.b.host)?;
    let away = scene.wait_cause("reach")?;
    ensure!(
        away.evidence()
            .contains("answers neither through the overlay nor beside it"),
        "{:#}",
        away.0
    );
    scene.lab.mend(&scene.b.host)?;
    wait_cured(&scene.a.host)
}

pub(crate) fn a_hole_in_the_mtu_of_the_underlay_is_measured() -> Result<()> {
    let mut scene = Scene::new()?;
    let (a1, b1) = (scene.a.host.pod("a1")?, scene.b.host.pod("b1")?);
    scene.lab.underlay().sh("ip link set dev b mtu 1400")?;
    let diagnosis = scene.wait_cause("mtu")?;
    // A bridge lets a VLAN tag's four bytes more pass (`is_skb_forwardable`).
    let expected = format!(
        "packets of 1450 bytes do not get through the overlay to {}; the largest that does has 1354",
        scene.b.host.ipv4()
    );
    ensure!(diagnosis.evidence() == expected, "{:#}", diagnosis.0);
    scene.cure(&diagnosis)?;
    wait_cured(&scene.b.host)?;
    // Of pods as they were: their hosts tell them.
    eventually("pods get a large answer", FOLLOW, || {
        a1.tcp_echo(&b1).map(drop)
    })
}

pub(crate) fn a_route_over_a_peers_subnet_is_taken_away() -> Result<()> {
    let mut scene = Scene::new()?;
    let subnet = scene.b.host.subnets()?.remove(0);
    let part = subnet.replace("/24", "/25");
    scene.a.host.sh(&format!(
        "ip link add name wg0 type bridge && ip link set dev wg0 up && ip route add {part} dev wg0"
    ))?;
    let diagnosis = scene.wait_cause("overlap")?;
    ensure!(
        diagnosis
            .evidence()
            .contains(&format!("the route {part} dev wg0 (a VPN)")),
        "{:#}",
        diagnosis.0
    );
    ensure!(diagnosis.verdict("reach")? == "fail", "{:#}", diagnosis.0);
    scene.cure(&diagnosis)
}

pub(crate) fn a_forward_policy_that_drops_is_named() -> Result<()> {
    let mut scene = Scene::new()?;
    let (a1, b1) = (scene.a.host.pod("a1")?, scene.b.host.pod("b1")?);
    scene.a.host.sh("nft add table inet guard\n\
         nft 'add chain inet guard forward { type filter hook forward priority 0; policy drop; }'\n\
         nft add rule inet guard forward ct state established,related accept")?;
    ensure!(a1.ping(&b1).is_err(), "nothing is broken");
    let diagnosis = scene.wait_cause("firewall-forward")?;
    ensure!(
        diagnosis
            .evidence()
            .contains("the chain forward of the table inet guard drops"),
        "{:#}",
        diagnosis.0
    );
    ensure!(diagnosis.verdict("reach")? == "ok", "{:#}", diagnosis.0);
    scene.cure(&diagnosis)?;
    a1.ping(&b1).map(drop)
}
