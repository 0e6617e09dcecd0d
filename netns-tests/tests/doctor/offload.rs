//! A network card that gets checksums inside of tunnels wrong.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use netns_tests::{Endpoint, Host, Traffic};

use crate::scene::{Scene, doctor, wait_cured};

/// From the UDP header on: that header, VXLAN's, Ethernet's, IPv4's, and in TCP's the place of the checksum; in bits.
const INNER_CHECKSUM: usize = (8 + 8 + 14 + 20 + 16) * 8;

/// The segment that asks for a connection, with the options of Linux.
const SYN: u32 = 40;

/// Makes the port of `to` do what a card does whose offload is broken, for connections that these addresses of `from` ask for: a checksum
/// that is left to it comes out wrong, and one that is there already is left alone.
///
/// A packet whose checksum is left to the hardware carries there the sum of the pseudo-header, from which the hardware goes on; here it goes on from something
/// else. The port has to do the sum for that, as veth would hand it on to the other host.
fn break_offload(scene: &Scene, pairs: &[(Ipv4Addr, Ipv4Addr)]) -> Result<()> {
    let (from, to) = (&scene.a.host, &scene.b.host);
    let port = to.name();
    let mut lines = format!(
        "ethtool -K {port} tx-checksum-ip-generic off >/dev/null
         nft add table bridge card
         nft 'add chain bridge card out {{ type filter hook forward priority 0; }}'\n"
    );
    for pair in pairs {
        let left_to_do = pseudo_header(*pair);
        lines.push_str(&format!(
            "nft add rule bridge card out ip saddr {} udp dport 8472 @th,{INNER_CHECKSUM},16 {left_to_do} @th,{INNER_CHECKSUM},16 set {}\n",
            from.ipv4(),
            left_to_do ^ 0x0101
        ));
    }
    scene.lab.underlay().sh(&lines).map(drop)
}

/// The sum of the pseudo-header of that segment (RFC 9293, 3.1), as the kernel leaves it in the checksum's place.
fn pseudo_header((from, to): (Ipv4Addr, Ipv4Addr)) -> u32 {
    let words = |address: Ipv4Addr| {
        let [a, b, c, d] = address.octets().map(u32::from);
        (a << 8 | b) + (c << 8 | d)
    };
    let sum = words(from) + words(to) + 6 + SYN;
    (sum & 0xffff) + (sum >> 16)
}

fn vtep(host: &Host) -> Result<Ipv4Addr> {
    let subnet = host.subnets()?.remove(0);
    let address = subnet.split('/').next().unwrap_or_default();
    Ok(address.parse()?)
}

pub(crate) fn a_broken_checksum_offload_is_switched_off() -> Result<()> {
    let mut scene = Scene::new()?;
    let (a1, b1) = (scene.a.host.pod("a1")?, scene.b.host.pod("b1")?);
    let address = |pod: &netns_tests::Pod| {
        let v4 = pod
            .addresses()
            .into_iter()
            .find_map(|address| match address {
                std::net::IpAddr::V4(address) => Some(address),
                std::net::IpAddr::V6(_) => None,
            });
        v4.context("a pod without IPv4")
    };
    a1.tcp_echo(&b1)?;
    let hosts = (vtep(&scene.a.host)?, vtep(&scene.b.host)?);
    break_offload(&scene, &[hosts, (address(&a1)?, address(&b1)?)])?;
    // As users see it.
    a1.ping(&b1)?;
    ensure!(a1.tcp_echo(&b1).is_err(), "nothing is broken");

    let diagnosis = scene.wait_cause("checksum")?;
    ensure!(
        diagnosis.1 == 2
            && diagnosis.evidence().ends_with(
                "is lost where the hardware makes the checksum, and answered where it is made by hand"
            ),
        "{:#}",
        diagnosis.0
    );
    ensure!(
        diagnosis.commands()
            == [(
                None,
                "ethtool -K flannel.1 tx-checksum-ip-generic off".to_owned()
            )],
        "{:#}",
        diagnosis.0
    );
    // The card of the other host is sound.
    let there = doctor(&scene.b.host, &[])?;
    ensure!(there.cause().is_none(), "{:#}", there.0);

    scene.type_remedy(&diagnosis)?;
    wait_cured(&scene.a.host)?;
    a1.tcp_echo(&b1).map(drop)
}
