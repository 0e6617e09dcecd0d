//! What packets stand on: the kernel, the uplink, our devices.

use hostnet::{NeighbourState, Scope};

use super::*;
use crate::probe::outcomes::silent;

#[test]
fn a_kernel_without_vxlan_is_named() {
    let (check, evidence, command) = cause_after(|facts| {
        facts.kernel.vxlan = Some(false);
        facts.tunnels.clear();
    });
    assert_eq!(check, Check::Kernel);
    assert_eq!(evidence, "Linux 6.1 has no VXLAN devices");
    assert_eq!(command, "modprobe vxlan");
}

#[test]
fn the_uplink_explains_the_silence_behind_it() {
    let (check, evidence, command) = cause_after(|facts| {
        facts.links[0].running = false;
        probed(facts, silent());
    });
    assert_eq!(
        (check, evidence.as_str()),
        (Check::Uplink, "eth0 has no carrier")
    );
    assert_eq!(command, "ip link set dev eth0 up");
}

#[test]
fn a_device_that_is_not_as_it_should_be_is_named() {
    let (check, evidence, _) = cause_after(|facts| {
        facts.tunnels.clear();
        facts.links.pop();
        facts.routes.remove(0);
    });
    assert_eq!(
        (check, evidence.as_str()),
        (Check::Device, "there is no VXLAN device for IPv4")
    );
    let (check, evidence, _) = cause_after(|facts| facts.tunnels[0].link.mtu = 1500);
    assert_eq!(check, Check::Device);
    assert_eq!(
        evidence,
        "flannel.1 has MTU 1500, but eth0 leaves room for 1450 only"
    );
    let (check, evidence, _) = cause_after(|facts| {
        facts.addresses.pop();
    });
    assert_eq!(
        (check, evidence.as_str()),
        (Check::Device, "flannel.1 lacks the address 10.244.1.0")
    );
}

#[test]
fn another_mac_is_blamed_only_where_peers_are_silent() {
    let steal = |facts: &mut Facts| facts.tunnels[0].link.mac = Some(peer_mac());
    // flannel's devices have MACs of their own making.
    let (check, ..) = cause_after(steal);
    assert_eq!(check, Check::Daemon);
    let (check, evidence, command) = cause_after(|facts| {
        steal(facts);
        probed(facts, silent());
    });
    assert_eq!(check, Check::Mac, "{evidence}");
    let was = well().tunnels[0].link.mac.unwrap();
    assert_eq!(command, format!("ip link set dev flannel.1 address {was}"));
}

#[test]
fn another_mac_is_blamed_where_its_change_took_the_neighbours() {
    let (check, evidence, _) = cause_after(|facts| {
        let tunnel = &mut facts.tunnels[0];
        tunnel.link.mac = Some(peer_mac());
        let multicast = Neighbour {
            state: NeighbourState::Noarp,
            ..Neighbour::permanent(
                TUNNEL,
                "224.0.0.22".parse().unwrap(),
                "01:00:5e:00:00:16".parse().unwrap(),
            )
        };
        tunnel.neighbours = vec![multicast];
        facts.probes = Some(Vec::new());
    });
    assert_eq!(check, Check::Mac, "{evidence}");
}

#[test]
fn scopes_of_addresses_are_minded() {
    let mut facts = well();
    let mut local = address(UPLINK, "fe80::1", 64);
    local.scope = Scope::Link;
    facts.addresses.push(local);
    assert_eq!(facts.address_on(UPLINK, false), None);
    assert_eq!(
        facts.address_on(UPLINK, true),
        Some("192.0.2.11".parse().unwrap())
    );
}
