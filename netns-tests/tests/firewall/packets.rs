//! What becomes of packets.

use std::net::{IpAddr, UdpSocket};

use anyhow::{Context, Result, ensure};
use netns_tests::{Endpoint, Host, OUTSIDE, OUTSIDE_V6, Traffic, eventually};
use serde_json::json;

use crate::scene::{FOLLOW, NETWORK, NETWORK_V6, Scene, Way, addresses};

pub(crate) fn nf_tables_masquerades_what_flannel_does() -> Result<()> {
    masquerades(Way::NfTables)
}

pub(crate) fn iptables_on_nf_tables_masquerades_what_flannel_does() -> Result<()> {
    masquerades(Way::Iptables)
}

pub(crate) fn old_iptables_masquerades_what_flannel_does() -> Result<()> {
    masquerades(Way::OldIptables)
}

/// Whom the receiver sees, over TCP, and over UDP where a router on the way may cut large datagrams.
fn seen(from: &impl Endpoint, to: &impl Endpoint, address: IpAddr) -> Result<IpAddr> {
    let source = from.tcp_echo_at(to, address)?.ip();
    if address.is_ipv4() {
        let again = from.udp_echo_at(to, address)?.ip();
        ensure!(
            source == again,
            "seen as {source} over TCP and {again} over UDP"
        );
    }
    Ok(source)
}

fn expect(
    what: &str,
    from: &impl Endpoint,
    to: &impl Endpoint,
    address: IpAddr,
    expected: IpAddr,
) -> Result<()> {
    let source = seen(from, to, address).with_context(|| what.to_owned())?;
    ensure!(
        source == expected,
        "{what}: {address} sees {source}, not {expected}"
    );
    Ok(())
}

fn masquerades(way: Way) -> Result<()> {
    let scene = Scene::new(way)?;
    let world = scene.lab.world();
    let (a, b) = (&scene.a, &scene.b);
    // The world sends what is for pods to host a, whoever's they are.
    let (v4, v6) = (a.ipv4(), a.ipv6());
    world.ip_batch(&format!(
        "route add {NETWORK} via {v4} src {OUTSIDE}
         route add {NETWORK_V6} via {v6} src {OUTSIDE_V6}
         "
    ))?;
    let (a1, b1) = (addresses(&scene.a1)?, addresses(&scene.b1)?);
    let outside: [IpAddr; 2] = [OUTSIDE.into(), OUTSIDE_V6.into()];
    let (host_a, host_b): ([IpAddr; 2], [IpAddr; 2]) =
        ([v4.into(), v6.into()], [b.ipv4().into(), b.ipv6().into()]);
    for family in [0, 1] {
        let (pod_a, pod_b) = (&scene.a1, &scene.b1);
        expect("pod to pod", pod_a, pod_b, b1[family], a1[family])?;
        expect("pod to pod", pod_b, pod_a, a1[family], b1[family])?;
        expect(
            "pod to the world",
            pod_a,
            world,
            outside[family],
            host_a[family],
        )?;
        expect(
            "pod to another node",
            pod_a,
            b,
            host_b[family],
            host_a[family],
        )?;
        expect(
            "the world to a local pod",
            world,
            pod_a,
            a1[family],
            outside[family],
        )?;
        let through = seen(world, pod_b, b1[family]).context("the world to a remote pod")?;
        ensure!(
            through != outside[family] && through.is_ipv4() == b1[family].is_ipv4(),
            "what the world sends to pods of other nodes comes from {through}"
        );
    }
    left_to_kube_proxy(&scene, a1[0])
}

/// kube-proxy marks what it masquerades itself, and may set other bits of the mark.
fn left_to_kube_proxy(scene: &Scene, pod: IpAddr) -> Result<()> {
    for (mark, expected) in [
        ("0x4000", pod),
        ("0x4001", pod),
        ("0x8001", scene.a.ipv4().into()),
    ] {
        scene.a.exec([
            "nft",
            &format!(
                "add table ip marks; flush table ip marks; \
                 add chain ip marks c {{ type filter hook prerouting priority mangle; }}; \
                 add rule ip marks c meta mark set {mark}"
            ),
        ])?;
        expect(mark, &scene.a1, scene.lab.world(), OUTSIDE.into(), expected)?;
    }
    Ok(())
}

pub(crate) fn pods_talk_although_forwarding_is_dropped_with_nf_tables() -> Result<()> {
    pods_talk_although_forwarding_is_dropped(Way::NfTables)
}

pub(crate) fn pods_talk_although_forwarding_is_dropped_with_iptables() -> Result<()> {
    pods_talk_although_forwarding_is_dropped(Way::Iptables)
}

/// As Docker sets it, here in the tables of both kinds, while the daemon runs.
fn drop_forwarding(host: &Host) -> Result<()> {
    host.sh("for variant in nft legacy; do
             for program in iptables-$variant ip6tables-$variant; do
                 $program -P FORWARD DROP
                 $program -N DOCKER-USER
                 $program -A FORWARD -j DOCKER-USER
             done
         done")?;
    Ok(())
}

fn pods_talk_although_forwarding_is_dropped(way: Way) -> Result<()> {
    let mut scene = Scene::new(way)?;
    let [_, b1_v6] = addresses(&scene.b1)?;
    for host in [&scene.a, &scene.b] {
        drop_forwarding(host)?;
    }
    // Of the tables in nf_tables the kernel tells at once; the old ones are looked at now and then, and at the start.
    scene
        .b
        .sh("for program in iptables ip6tables; do $program-legacy -P FORWARD ACCEPT; done")?;
    if way == Way::NfTables {
        scene.daemon_a.restart()?;
        scene.daemon_a.wait_ready()?;
    }
    eventually("pods talk although forwarding is dropped", FOLLOW, || {
        scene.a1.ping(&scene.b1)?;
        scene.a1.ping(&b1_v6)
    })?;
    let hooks = scene.a.sh("iptables-nft-save -t filter; iptables-legacy-save -t filter; ip6tables-nft-save -t filter; ip6tables-legacy-save -t filter")?;
    ensure!(hooks.matches("-j FLANNEL-FWD").count() == 4, "{hooks}");
    ensure!(hooks.matches(":FORWARD DROP").count() == 4, "{hooks}");
    // With the need the rules go, except where they are kept anyway.
    scene.a.sh("iptables-nft -P FORWARD ACCEPT")?;
    if way == Way::NfTables {
        eventually("the rules are gone again", FOLLOW, || {
            let left = scene.a.sh("iptables-nft-save -t filter")?;
            ensure!(
                !left.contains("FLANNEL") && left.contains("DOCKER-USER"),
                "{left}"
            );
            Ok(())
        })?;
    }
    scene.a1.ping(&scene.b1)?;
    Ok(())
}

pub(crate) fn without_forward_rules_nf_tables_lets_a_drop_be() -> Result<()> {
    without_forward_rules(Way::NfTables)
}

pub(crate) fn without_forward_rules_iptables_lets_a_drop_be() -> Result<()> {
    without_forward_rules(Way::Iptables)
}

fn without_forward_rules(way: Way) -> Result<()> {
    let arguments = ["--ip-masq", "--iptables-forward-rules=false"];
    let scene = Scene::with(way, &way.conf(), &arguments)?;
    scene.a1.ping(&scene.b1)?;
    scene.a.sh("iptables-nft -P FORWARD DROP")?;
    scene.a1.cannot_ping(&scene.b1)
}

pub(crate) fn outer_packets_are_not_tracked_with_nf_tables() -> Result<()> {
    outer_packets_are_not_tracked(Way::NfTables, 8472)
}

pub(crate) fn outer_packets_are_not_tracked_with_iptables() -> Result<()> {
    outer_packets_are_not_tracked(Way::Iptables, 4789)
}

pub(crate) fn outer_packets_are_not_tracked_with_old_iptables() -> Result<()> {
    outer_packets_are_not_tracked(Way::OldIptables, 8472)
}

fn outer_packets_are_not_tracked(way: Way, port: u16) -> Result<()> {
    let conf = way.conf_with(json!({"Type": "vxlan", "VNI": 7, "Port": port}));
    let mut scene = Scene::with(way, &conf, &["--ip-masq"])?;
    // Whatever looks at the state of connections has the kernel track all of them.
    for host in [&scene.a, &scene.b] {
        host.exec([
            "nft",
            "add table inet looks; \
             add chain inet looks c { type filter hook forward priority 10; }; \
             add rule inet looks c ct state new counter",
        ])?;
    }
    let talk = |scene: &Scene| -> Result<()> {
        let [v4, v6] = addresses(&scene.b1)?;
        scene.a1.ping(&v4)?;
        scene.a1.ping(&v6)?;
        Ok(())
    };
    let tracked = |host: &Host| host.sh("cat /proc/net/nf_conntrack");
    let outer = format!("dport={port} ");
    talk(&scene)?;
    for host in [&scene.a, &scene.b] {
        let table = tracked(host)?;
        ensure!(table.contains("icmp"), "nothing is tracked at all: {table}");
        ensure!(!table.contains(&outer), "{table}");
    }
    // Without the rules they would be, so that the above says something.
    scene.daemon_a.kill()?;
    scene.a.sh(
        "for table in 'ip flannel-ipv4' 'ip6 flannel-ipv6'; do nft delete table $table || true; done
         for program in iptables-nft ip6tables-nft iptables-legacy ip6tables-legacy; do $program -t raw -F; done",
    )?;
    talk(&scene)?;
    let table = tracked(&scene.a)?;
    let families = |name| {
        let lines = table.lines().filter(|line| line.contains(&outer));
        lines.filter(|line| line.starts_with(name)).count()
    };
    ensure!(families("ipv4") > 0 && families("ipv6") > 0, "{table}");
    Ok(())
}

pub(crate) fn answers_to_the_tunnels_port_find_back_with_nf_tables() -> Result<()> {
    answers_to_the_tunnels_port_find_back(Way::NfTables)
}

pub(crate) fn answers_to_the_tunnels_port_find_back_with_iptables() -> Result<()> {
    answers_to_the_tunnels_port_find_back(Way::Iptables)
}

/// Masquerading may give a connection any port, the tunnels' too. Here it keeps the one that the pod has chosen.
fn answers_to_the_tunnels_port_find_back(way: Way) -> Result<()> {
    let arguments = ["--ip-masq", "--ip-masq-fully-random-disable"];
    let scene = Scene::with(way, &way.conf(), &arguments)?;
    let tunnels = 8472;
    let server = scene.lab.world().run(|| UdpSocket::bind((OUTSIDE, 0)))??;
    server.set_read_timeout(Some(FOLLOW))?;
    let client = scene.a1.run(|| UdpSocket::bind(("0.0.0.0", tunnels)))??;
    client.set_read_timeout(Some(FOLLOW))?;
    client.send_to(b"question", server.local_addr()?)?;
    let mut datagram = [0; 64];
    let (_, source) = server.recv_from(&mut datagram)?;
    ensure!(
        source == (scene.a.ipv4(), tunnels).into(),
        "the world sees {source}"
    );
    server.send_to(b"answer", source)?;
    let length = client.recv(&mut datagram).context("the answer is lost")?;
    ensure!(&datagram[..length] == b"answer");
    Ok(())
}
