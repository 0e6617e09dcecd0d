//! What happens to the uplink. There is a state between, which the whole cluster has to follow, and then everything is put back.

use anyhow::{Result, bail, ensure};
use netns_tests::{Endpoint, eventually};

use crate::scene::{REPAIR, Scene};
use crate::table::Backend;

/// Does what `name` says to the first host's uplink and back.
pub(crate) fn suffer(scene: &Scene, backend: Backend, name: &str) -> Result<()> {
    let what = name
        .strip_prefix(backend.name())
        .and_then(|rest| rest.strip_prefix("_uplink_"))
        .unwrap_or_default();
    match what {
        "down_and_up" => flap(scene),
        "mtu_changed" => mtu(scene, backend),
        "ipv4_address_changed" => address(scene, "-4", "192.0.2.11", "192.0.2.77", 24),
        "ipv6_address_changed" => address(scene, "-6", "2001:db8::b", "2001:db8::77", 64),
        "replaced" => {
            scene.cluster.lab.replace_uplink(&scene.nodes[0].host)?;
            scene.wait_whole()
        }
        "default_route_deleted" => default_route(scene),
        other => bail!("nothing is known about {other:?}"),
    }
}

/// The kernel drops routes over the link and IPv6 addresses on it; whoever manages the host brings back what is the host's.
fn flap(scene: &Scene) -> Result<()> {
    scene.nodes[0].host.ip_batch(
        "link set dev eth0 down\n\
         link set dev eth0 up\n\
         address add 2001:db8::b/64 dev eth0 nodad\n\
         route add default via 192.0.2.1\n\
         route add default via 2001:db8::1\n",
    )?;
    scene.wait_whole()
}

fn mtu(scene: &Scene, backend: Backend) -> Result<()> {
    let host = &scene.nodes[0].host;
    let (pods, devices): (u32, &[(&str, u32)]) = match backend {
        Backend::Vxlan => (1380, &[("flannel.1", 1400), ("flannel-v6.1", 1380)]),
        Backend::HostGw => (1450, &[]),
    };
    host.sh("ip link set dev eth0 mtu 1450")?;
    eventually("devices and subnet file follow the MTU", REPAIR, || {
        for (device, mtu) in devices {
            let link = host.exec(["ip", "link", "show", "dev", device])?;
            ensure!(link.contains(&format!("mtu {mtu} ")), "{link}");
        }
        let file = host.exec(["cat", "/run/flannel/subnet.env"])?;
        ensure!(file.contains(&format!("FLANNEL_MTU={pods}\n")), "{file}");
        scene.pods_talk()
    })?;
    host.sh("ip link set dev eth0 mtu 1500")?;
    scene.wait_whole()
}

/// The lease is published anew, and the peer sends to the new address.
fn address(scene: &Scene, family: &str, old: &str, new: &str, length: u8) -> Result<()> {
    let router = if family == "-4" {
        "192.0.2.1"
    } else {
        "2001:db8::1"
    };
    let (host, peer) = (&scene.nodes[0].host, &scene.nodes[1].host);
    let swap = |old: &str, new: &str| {
        host.ip_batch(&format!(
            "address delete {old}/{length} dev eth0\n\
             address add {new}/{length} dev eth0{}\n\
             route replace default via {router}\n",
            if family == "-6" { " nodad" } else { "" }
        ))
    };
    let lease = scene.cluster.lab.etcd()?.leases()?.len();
    swap(old, new)?;
    eventually("the peer follows the address", REPAIR, || {
        let ways = peer.sh("bridge fdb show; ip -4 route; ip -6 route")?;
        ensure!(
            ways.contains(&format!(" {new} ")) && !ways.contains(&format!(" {old} ")),
            "{ways}"
        );
        scene.pods_talk()
    })?;
    let leases = scene.cluster.lab.etcd()?.leases()?;
    ensure!(leases.len() == lease, "{leases:#?}");
    swap(new, old)?;
    scene.wait_whole()
}

/// Without it the daemon cannot tell the uplink; what works goes on.
fn default_route(scene: &Scene) -> Result<()> {
    let a = &scene.nodes[0];
    a.host
        .sh("ip -4 route delete default && ip -6 route delete default")?;
    a.daemon.wait_log("the uplink cannot be used")?;
    scene.pods_talk()?;
    a.host
        .sh("ip route add default via 192.0.2.1 && ip route add default via 2001:db8::1")?;
    scene.wait_whole()
}
