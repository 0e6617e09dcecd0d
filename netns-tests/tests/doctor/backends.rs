//! Other networks than VXLAN over IPv4: all well, and one thing broken.

use anyhow::{Result, ensure};
use netns_tests::{Endpoint, Host, Traffic};

use crate::scene::{Scene, address_of, doctor};

const DUAL: &str = r#"{"Network": "10.244.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:10:244::/56", "Backend": {"Type": "vxlan"}}"#;
const IPV6: &str = r#"{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fd00:10:244::/56", "Backend": {"Type": "vxlan"}}"#;
const HOST_GW: &str = r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "host-gw"}}"#;
const DIRECT: &str =
    r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan", "DirectRouting": true}}"#;

/// No check fails or warns, and each could be made.
fn is_well(host: &Host) -> Result<()> {
    let diagnosis = doctor(host, &[])?;
    ensure!(diagnosis.1 == 0, "{:#}", diagnosis.0);
    for finding in diagnosis.0["findings"].as_array().into_iter().flatten() {
        let unasked = finding["check"] == "checksum" || finding["check"] == "mac";
        ensure!(
            finding["verdict"] == "ok" || unasked && finding["verdict"] == "notSeen",
            "{finding:#}"
        );
    }
    Ok(())
}

/// A firewall in `host` that drops this.
fn drop_input(host: &Host, what: &str) -> Result<()> {
    host.sh(&format!(
        "nft add table inet filter\n\
         nft 'add chain inet filter input {{ type filter hook input priority 0; policy accept; }}'\n\
         nft add rule inet filter input {what} drop"
    ))
    .map(drop)
}

pub(crate) fn host_gw_is_well_and_a_hole_in_its_mtu_is_measured() -> Result<()> {
    let mut scene = Scene::with_conf(HOST_GW)?;
    is_well(&scene.a.host)?;
    scene.lab.underlay().sh("ip link set dev b mtu 1400")?;
    let diagnosis = scene.wait_cause("mtu")?;
    // A bridge may let a VLAN tag's four bytes more pass.
    let expected = format!(
        "packets of 1500 bytes do not get to {}; the largest that does has 140",
        scene.b.host.ipv4()
    );
    ensure!(
        diagnosis.evidence().starts_with(&expected),
        "{:#}",
        diagnosis.0
    );
    scene.cure(&diagnosis)
}

pub(crate) fn with_host_gw_a_neighbour_that_is_away_is_named() -> Result<()> {
    let scene = Scene::with_conf(HOST_GW)?;
    scene.lab.cut(&scene.b.host)?;
    let diagnosis = scene.wait_cause("reach")?;
    ensure!(
        diagnosis
            .evidence()
            .contains(&scene.b.host.ipv4().to_string()),
        "{:#}",
        diagnosis.0
    );
    scene.lab.mend(&scene.b.host)?;
    crate::scene::wait_cured(&scene.a.host)
}

pub(crate) fn direct_routing_is_well_and_a_route_taken_from_it_is_named() -> Result<()> {
    let mut scene = Scene::with_conf(DIRECT)?;
    is_well(&scene.a.host)?;
    let subnet = scene.b.host.subnets()?.remove(0);
    let part = subnet.replace("/24", "/25");
    scene.a.host.sh(&format!("ip link add name docker0 type bridge && ip link set dev docker0 up && ip route add {part} dev docker0"))?;
    let diagnosis = scene.wait_cause("overlap")?;
    ensure!(
        diagnosis
            .evidence()
            .contains(&format!("the route {part} dev docker0 (Docker)")),
        "{:#}",
        diagnosis.0
    );
    scene.cure(&diagnosis)
}

pub(crate) fn both_families_are_well_and_the_one_that_is_broken_is_named() -> Result<()> {
    let mut scene = Scene::with_conf(DUAL)?;
    is_well(&scene.a.host)?;
    let (a1, b1) = (scene.a.host.pod("a1")?, scene.b.host.pod("b1")?);
    for address in b1.addresses() {
        a1.ping(&address)?;
    }
    drop_input(&scene.b.host, "meta nfproto ipv6 udp dport 8472")?;
    let diagnosis = scene.wait_cause("reach")?;
    let there = scene.b.host.ipv6();
    ensure!(
        diagnosis
            .evidence()
            .starts_with(&format!("UDP 8472 from here to {there} is blocked")),
        "{:#}",
        diagnosis.0
    );
    scene.cure(&diagnosis)
}

pub(crate) fn ipv6_alone_is_well_and_a_closed_port_is_named() -> Result<()> {
    let mut scene = Scene::on_ipv6_hosts(IPV6)?;
    is_well(&scene.a.host)?;
    drop_input(&scene.b.host, "udp dport 8472")?;
    let diagnosis = scene.wait_cause("reach")?;
    let there = address_of(&scene.b.host);
    ensure!(
        diagnosis
            .evidence()
            .starts_with(&format!("UDP 8472 from here to {there} is blocked")),
        "{:#}",
        diagnosis.0
    );
    scene.cure(&diagnosis)
}
