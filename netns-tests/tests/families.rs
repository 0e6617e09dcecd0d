//! Every backend in every family: IPv4, both, IPv6 on hosts that have nothing else.
//!
//! Checked from outside: what stands in etcd, in the subnet file and in the kernel, and that pods of two hosts say to each other
//! all that fits.

use std::fs;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use netns_tests::{
    Address, Cluster, Endpoint, Families, Lease, NetConf, Node, OUTSIDE, OUTSIDE_V6, POD_NETWORK,
    POD_NETWORK_V6, Pod, Traffic,
};

netns_tests::tests![
    vxlan_carries_ipv4,
    vxlan_carries_both_families,
    vxlan_carries_ipv6_alone,
    direct_routing_carries_ipv4,
    direct_routing_carries_both_families,
    direct_routing_carries_ipv6_alone,
    host_gw_carries_ipv4,
    host_gw_carries_both_families,
    host_gw_carries_ipv6_alone,
    alloc_leases_ipv4_and_touches_nothing,
    alloc_leases_both_families_and_touches_nothing,
    alloc_leases_ipv6_alone_and_touches_nothing,
];

/// The underlay's MTU.
const OUTER: u32 = 1500;

/// Outer headers in front of the inner packet: Ethernet 14, UDP 8, VXLAN 8, and IPv4 20 or IPv6 40.
const VXLAN_OVERHEAD: u32 = 50;
const VXLAN_OVERHEAD_V6: u32 = 70;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Vxlan,
    DirectRouting,
    HostGw,
}

impl Kind {
    fn conf(self, families: Families) -> NetConf {
        match self {
            Self::Vxlan => NetConf::new("vxlan", families),
            Self::DirectRouting => NetConf::new("vxlan", families).with("DirectRouting", true),
            Self::HostGw => NetConf::new("host-gw", families),
        }
    }

    /// The devices there should be, with their MTUs.
    fn devices(self, families: Families) -> Vec<(&'static str, u32)> {
        let mut devices = Vec::new();
        if self != Self::HostGw && families.has_ipv4() {
            devices.push(("flannel.1", OUTER - VXLAN_OVERHEAD));
        }
        if self != Self::HostGw && families.has_ipv6() {
            devices.push(("flannel-v6.1", OUTER - VXLAN_OVERHEAD_V6));
        }
        devices
    }
}

fn vxlan_carries_ipv4() -> Result<()> {
    carries(Kind::Vxlan, Families::Ipv4)
}

fn vxlan_carries_both_families() -> Result<()> {
    carries(Kind::Vxlan, Families::Dual)
}

fn vxlan_carries_ipv6_alone() -> Result<()> {
    carries(Kind::Vxlan, Families::Ipv6)
}

fn direct_routing_carries_ipv4() -> Result<()> {
    carries(Kind::DirectRouting, Families::Ipv4)
}

fn direct_routing_carries_both_families() -> Result<()> {
    carries(Kind::DirectRouting, Families::Dual)
}

fn direct_routing_carries_ipv6_alone() -> Result<()> {
    carries(Kind::DirectRouting, Families::Ipv6)
}

fn host_gw_carries_ipv4() -> Result<()> {
    carries(Kind::HostGw, Families::Ipv4)
}

fn host_gw_carries_both_families() -> Result<()> {
    carries(Kind::HostGw, Families::Dual)
}

fn host_gw_carries_ipv6_alone() -> Result<()> {
    carries(Kind::HostGw, Families::Ipv6)
}

fn alloc_leases_ipv4_and_touches_nothing() -> Result<()> {
    leases_only(Families::Ipv4)
}

fn alloc_leases_both_families_and_touches_nothing() -> Result<()> {
    leases_only(Families::Dual)
}

fn alloc_leases_ipv6_alone_and_touches_nothing() -> Result<()> {
    leases_only(Families::Ipv6)
}

fn carries(kind: Kind, families: Families) -> Result<()> {
    let cluster = Cluster::new(kind.conf(families))?;
    let nodes = cluster.nodes(&["a", "b"])?;
    let devices = kind.devices(families);
    let pod_mtu = devices.iter().map(|(_, mtu)| *mtu).min().unwrap_or(OUTER);
    for (node, peer) in [(&nodes[0], &nodes[1]), (&nodes[1], &nodes[0])] {
        let lease = cluster.lab.etcd()?.lease_of(&node.host)?;
        let value = cluster.lab.etcd()?.value(&lease.key)?;
        let wanted = record(kind, families, node)?;
        ensure!(
            value.as_deref() == Some(&wanted),
            "{value:?}\ninstead of\n{wanted}"
        );
        subnet_file(node, families, &lease, pod_mtu)?;
        has_devices(node, &devices)?;
        let peers = cluster.lab.etcd()?.lease_of(&peer.host)?;
        routes(node, peer, kind, families, &peers)?;
    }
    let pods = [nodes[0].host.pod("a1")?, nodes[1].host.pod("b1")?];
    for (from, to) in [(&pods[0], &pods[1]), (&pods[1], &pods[0])] {
        talk(from, to, families, pod_mtu)?;
    }
    reach_the_world(&cluster, &nodes[0], &pods[0], families)
}

fn leases_only(families: Families) -> Result<()> {
    let cluster = Cluster::new(NetConf::new("alloc", families))?;
    let host = cluster.host("a")?;
    let before = host.snapshot()?.kernel();
    // Forwarding and rules are asked for by flags and families, not by the backend.
    let daemon = host.flanneld(&["--iptables-forward-rules=false"])?;
    let node = Node { host, daemon };
    let lease = cluster.lab.etcd()?.lease_of(&node.host)?;
    let value = cluster.lab.etcd()?.value(&lease.key)?;
    let wanted = format!("{{{}}}", public(families, &node));
    ensure!(
        value.as_deref() == Some(&wanted),
        "{value:?}\ninstead of\n{wanted}"
    );
    subnet_file_with(&node, families, &lease, OUTER, false)?;
    // A peer's lease changes nothing either.
    let peer = cluster.node("b")?;
    ensure!(
        cluster.lab.etcd()?.leases()?.len() == 2,
        "one lease is lost"
    );
    drop(peer);
    let difference = node.host.snapshot()?.kernel().diff(&before);
    let touched = difference.gone.iter().chain(&difference.new);
    let touched: Vec<&String> = touched
        .filter(|line| !line.starts_with("sysctl "))
        .collect();
    ensure!(touched.is_empty(), "{difference}");
    Ok(())
}

/// The members of a record that every backend has.
fn public(families: Families, node: &Node) -> String {
    let v4 = if families.has_ipv4() {
        node.host.ipv4().to_string()
    } else {
        "0.0.0.0".to_owned()
    };
    let v6 = if families.has_ipv6() {
        format!("\"{}\"", node.host.ipv6())
    } else {
        "null".to_owned()
    };
    format!(r#""PublicIP":"{v4}","PublicIPv6":{v6}"#)
}

/// The lease as flannel writes it, byte for byte.
fn record(kind: Kind, families: Families, node: &Node) -> Result<String> {
    let public = public(families, node);
    if kind == Kind::HostGw {
        return Ok(format!(r#"{{{public},"BackendType":"host-gw"}}"#));
    }
    let mut record = format!(r#"{{{public},"BackendType":"vxlan""#);
    for (member, device, wanted) in [
        ("BackendData", "flannel.1", families.has_ipv4()),
        ("BackendV6Data", "flannel-v6.1", families.has_ipv6()),
    ] {
        if wanted {
            let mac = mac_of(node, device)?;
            record += &format!(r#","{member}":{{"VNI":1,"VtepMAC":"{mac}"}}"#);
        }
    }
    Ok(record + "}")
}

fn mac_of(node: &Node, device: &str) -> Result<String> {
    let path = format!("/sys/class/net/{device}/address");
    Ok(node.host.exec(["cat", &path])?.trim().to_owned())
}

fn subnet_file(node: &Node, families: Families, lease: &Lease, mtu: u32) -> Result<()> {
    subnet_file_with(node, families, lease, mtu, true)
}

fn subnet_file_with(
    node: &Node,
    families: Families,
    lease: &Lease,
    mtu: u32,
    masquerade: bool,
) -> Result<()> {
    let mut wanted = String::new();
    if families.has_ipv4() {
        let first = lease.subnet().replace(".0/24", ".1/24");
        wanted += &format!("FLANNEL_NETWORK={POD_NETWORK}\nFLANNEL_SUBNET={first}\n");
    }
    if families.has_ipv6() {
        let first = lease.ipv6_subnet().replace("::/64", "::1/64");
        wanted += &format!("FLANNEL_IPV6_NETWORK={POD_NETWORK_V6}\nFLANNEL_IPV6_SUBNET={first}\n");
    }
    wanted += &format!("FLANNEL_MTU={mtu}\nFLANNEL_IPMASQ={masquerade}\n");
    let found = fs::read_to_string(node.host.path("/run/flannel/subnet.env"))?;
    ensure!(found == wanted, "{found}\ninstead of\n{wanted}");
    Ok(())
}

fn has_devices(node: &Node, wanted: &[(&str, u32)]) -> Result<()> {
    let snapshot = node.host.snapshot()?;
    let links = snapshot.lines_of("link flannel");
    ensure!(links.len() == wanted.len(), "{links:#?}");
    for (name, mtu) in wanted {
        let fits = |line: &&str| {
            line.starts_with(&format!("link {name} vxlan up"))
                && line.contains(&format!(" mtu {mtu} "))
                && line.contains(" id 1 ")
                && line.contains(" port 8472")
                && line.contains(" learning false")
        };
        ensure!(links.iter().any(fits), "no {name} of {mtu} in {links:#?}");
    }
    Ok(())
}

/// The routes to the peer lead where the backend says.
fn routes(node: &Node, peer: &Node, kind: Kind, families: Families, lease: &Lease) -> Result<()> {
    let snapshot = node.host.snapshot()?;
    let mut wanted = Vec::new();
    let mut expect = |route: &str, subnet: String, public: IpAddr, device: &str| {
        let way = if kind == Kind::Vxlan {
            let gateway = subnet.split('/').next().unwrap_or_default();
            (
                format!("{route} dev {device} {subnet} "),
                format!("gateway {gateway} "),
            )
        } else {
            (
                format!("{route} dev eth0 {subnet} "),
                format!("gateway {public} "),
            )
        };
        wanted.push(way);
    };
    if families.has_ipv4() {
        expect(
            "route",
            lease.subnet(),
            peer.host.ipv4().into(),
            "flannel.1",
        );
    }
    if families.has_ipv6() {
        let public = peer.host.ipv6().into();
        expect("route6", lease.ipv6_subnet(), public, "flannel-v6.1");
    }
    for (start, gateway) in wanted {
        let found = snapshot.lines_of(&start);
        ensure!(
            found.len() == 1 && found[0].contains(&gateway),
            "not one route \"{start}… {gateway}\":\n{snapshot}"
        );
    }
    let entries = [snapshot.lines_of("fdb"), snapshot.lines_of("neighbour")].concat();
    let tunnelled = entries.iter().any(|line| line.contains("flannel"));
    ensure!(tunnelled == (kind == Kind::Vxlan), "{entries:#?}");
    Ok(())
}

/// All that two pods can send each other in each of their families, up to the full size and not a byte above.
fn talk(from: &Pod, to: &Pod, families: Families, mtu: u32) -> Result<()> {
    ensure!(
        from.mtu()? == mtu,
        "{} has MTU {}",
        from.name(),
        from.mtu()?
    );
    for ipv4 in [true, false] {
        let wanted = if ipv4 {
            families.has_ipv4()
        } else {
            families.has_ipv6()
        };
        let of_family = |pod: &Pod| {
            pod.addresses()
                .into_iter()
                .find(|address| address.is_ipv4() == ipv4)
        };
        let (own, far) = (of_family(from), of_family(to));
        ensure!(
            own.is_some() == wanted && far.is_some() == wanted,
            "{own:?} and {far:?}"
        );
        let (Some(own), Some(far)) = (own, far) else {
            continue;
        };
        from.ping_unfragmented(&far, mtu)?;
        ensure!(
            from.ping_unfragmented(&far, mtu + 1).is_err(),
            "a packet above the MTU crossed"
        );
        for source in [from.tcp_echo_at(to, far)?, from.udp_echo_at(to, far)?] {
            ensure!(
                source.ip() == own,
                "{} saw {source} instead of {own}",
                to.name()
            );
        }
    }
    Ok(())
}

/// Beyond the pod network a pod goes under its host's address.
fn reach_the_world(cluster: &Cluster, node: &Node, pod: &Pod, families: Families) -> Result<()> {
    let world = cluster.lab.world();
    let mut ways: Vec<(IpAddr, IpAddr)> = Vec::new();
    if families.has_ipv4() {
        ways.push((OUTSIDE.into(), node.host.ipv4().into()));
    }
    if families.has_ipv6() {
        ways.push((OUTSIDE_V6.into(), node.host.ipv6().into()));
    }
    for (outside, expected) in ways {
        let source = pod.tcp_echo_at(world, outside)?.ip();
        ensure!(
            source == expected,
            "the world saw {source} instead of {expected}"
        );
        pod.ping(&node.host.address()).context("a pod's own host")?;
    }
    Ok(())
}
