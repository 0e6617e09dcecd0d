//! What one node has is broken.

use anyhow::{Context, Result, ensure};
use netns_tests::{Endpoint, Traffic, eventually};

use crate::scene::{FOLLOW, Scene, doctor, wait_cured};

pub(crate) fn a_stolen_mac_is_given_back() -> Result<()> {
    let mut scene = Scene::new()?;
    // While the daemon runs, it gives it back itself.
    scene.a.daemon.kill()?;
    scene
        .a
        .host
        .sh("ip link set dev flannel.1 address 02:00:00:00:00:99")?;
    let diagnosis = scene.wait_cause("mac")?;
    ensure!(
        diagnosis
            .evidence()
            .starts_with("flannel.1 has the MAC 02:00:00:00:00:99"),
        "{:#}",
        diagnosis.0
    );
    scene.cure(&diagnosis)
}

pub(crate) fn forwarding_switched_off_is_mended_by_fix() -> Result<()> {
    let mut scene = Scene::new()?;
    scene.a.daemon.kill()?;
    scene.a.host.sh("echo 0 > /proc/sys/net/ipv4/ip_forward")?;
    let diagnosis = scene.wait_cause("sysctls")?;
    ensure!(diagnosis.1 == 2, "{:#}", diagnosis.0);
    let fixed = doctor(&scene.a.host, &["--fix"])?;
    ensure!(fixed.verdict("sysctls")? == "ok", "{:#}", fixed.0);
    ensure!(
        fixed.0["fixed"][0]
            .as_str()
            .is_some_and(|done| done.contains("net/ipv4/ip_forward is 1 now")),
        "{:#}",
        fixed.0
    );
    Ok(())
}

pub(crate) fn a_device_that_is_down_is_named() -> Result<()> {
    let mut scene = Scene::new()?;
    scene.a.daemon.kill()?;
    scene.a.host.sh("ip link set dev flannel.1 down")?;
    let diagnosis = scene.wait_cause("device")?;
    ensure!(
        diagnosis.evidence() == "flannel.1 is down",
        "{:#}",
        diagnosis.0
    );
    scene.type_remedy(&diagnosis)?;
    scene.a.daemon.restart()?;
    scene.a.daemon.wait_ready()?;
    wait_cured(&scene.a.host)
}

pub(crate) fn an_etcd_that_is_away_is_a_warning() -> Result<()> {
    let mut scene = Scene::new()?;
    scene.lab.etcd_mut()?.stop()?;
    let diagnosis = scene.wait_cause("store")?;
    ensure!(diagnosis.1 == 1, "{:#}", diagnosis.0);
    ensure!(
        diagnosis
            .evidence()
            .contains("etcd at http://192.0.2.2:2379 does not answer"),
        "{:#}",
        diagnosis.0
    );
    ensure!(
        diagnosis.commands()
            == [(
                None,
                "curl -sk --max-time 3 http://192.0.2.2:2379/health".to_owned()
            )],
        "{:#}",
        diagnosis.0
    );
    scene.lab.etcd_mut()?.restart()?;
    wait_cured(&scene.a.host)
}

pub(crate) fn a_lease_twice_is_named_by_its_key() -> Result<()> {
    let mut scene = Scene::new()?;
    // A copy of b's machine, which was left over.
    let etcd = scene.lab.etcd()?;
    let copied = etcd.lease_of(&scene.b.host)?;
    let value = format!(
        r#"{{"PublicIP":"192.0.2.77","BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{}"}}}}"#,
        copied.vtep_mac()
    );
    etcd.put("/coreos.com/network/subnets/10.244.200.0-24", &value)?;
    let diagnosis = scene.wait_cause("duplicates")?;
    ensure!(diagnosis.evidence().contains("claims"), "{:#}", diagnosis.0);
    // Being the younger, it has the daemon leave out the lease of b, which runs: the key to go is the other one's.
    let key = "/coreos.com/network/subnets/10.244.200.0-24";
    let named = diagnosis.commands();
    ensure!(
        named
            .iter()
            .any(|(_, command)| command.ends_with(&format!("del '{key}'"))),
        "{named:?}"
    );
    scene.cure(&diagnosis)?;
    let etcd = scene.lab.etcd()?;
    ensure!(etcd.value(key)?.is_none(), "the lease is still there");
    ensure!(etcd.value(&copied.key)?.is_some(), "b lost its lease");
    Ok(())
}

pub(crate) fn a_lease_made_short_is_kept_by_the_daemon() -> Result<()> {
    let scene = Scene::new()?;
    let etcd = scene.lab.etcd()?;
    let own = etcd.lease_of(&scene.a.host)?;
    let key = format!(
        "/coreos.com/network/subnets/{}",
        own.subnet().replace('/', "-")
    );
    let value = etcd.value(&key)?.context("the lease is gone")?;
    let granted: serde_json::Value =
        serde_json::from_str(&etcd.control(&["lease", "grant", "120", "-w", "json"])?)?;
    let id = granted["ID"].as_u64().context("no lease")?;
    etcd.control(&["put", &key, &value, &format!("--lease={id:x}")])?;
    // Either it is told, or it is put right before anybody looks.
    eventually("the lease has an end far off", FOLLOW, || {
        let diagnosis = doctor(&scene.a.host, &[])?;
        let lease = diagnosis.finding("lease")?;
        let far = lease["evidence"][0]
            .as_str()
            .is_some_and(|evidence| evidence.ends_with("h unless renewed"));
        ensure!(lease["verdict"] == "ok" && far, "{lease:#}");
        ensure!(diagnosis.1 == 0, "{:#}", diagnosis.0);
        Ok(())
    })
}

pub(crate) fn a_clock_that_went_back_is_named() -> Result<()> {
    let scene = Scene::new()?;
    scene
        .a
        .host
        .sh("touch -d '2 hours' /run/flannel/subnet.env")?;
    let diagnosis = scene.wait_cause("clock")?;
    ensure!(
        diagnosis
            .evidence()
            .ends_with("min in the future: the clock went back"),
        "{:#}",
        diagnosis.0
    );
    scene.a.host.sh("touch /run/flannel/subnet.env")?;
    wait_cured(&scene.a.host)
}

pub(crate) fn a_link_manager_is_named() -> Result<()> {
    let scene = Scene::new()?;
    let index = scene.a.host.sh("cat /sys/class/net/flannel.1/ifindex")?;
    let index = index.trim();
    scene.a.host.sh(&format!(
        "mkdir -p /run/systemd/netif/links && echo ADMIN_STATE=configured > /run/systemd/netif/links/{index}"
    ))?;
    let diagnosis = scene.wait_cause("link-managers")?;
    ensure!(
        diagnosis.1 == 1
            && diagnosis
                .evidence()
                .starts_with("systemd-networkd manages flannel.1"),
        "{:#}",
        diagnosis.0
    );
    // networkd itself is not here, so what it writes after the remedy is.
    scene.a.host.sh(&format!(
        "echo ADMIN_STATE=unmanaged > /run/systemd/netif/links/{index}"
    ))?;
    eventually("nobody manages it", FOLLOW, || wait_cured(&scene.a.host))
}

pub(crate) fn a_strict_filter_of_the_way_back_is_loosened() -> Result<()> {
    let mut scene = Scene::new()?;
    let (a1, b1) = (scene.a.host.pod("a1")?, scene.b.host.pod("b1")?);
    // A second card, by which packets to the peer leave; it answers to the first.
    let (here, there) = (scene.a.host.ipv4(), scene.b.host.ipv4());
    scene.lab.underlay().sh(&format!(
        "ip link add name second type veth peer name eth1 netns {}
         ip link set dev second master underlay addrgenmode none up",
        scene.a.host.namespaces().net_path().display()
    ))?;
    let mac = scene.a.host.sh("cat /sys/class/net/eth0/address")?;
    scene.b.host.sh(&format!(
        "ip neighbour replace {here} lladdr {} dev eth0 nud permanent",
        mac.trim()
    ))?;
    scene.a.host.sh(&format!(
        "sysctl -qw net/ipv4/conf/all/rp_filter=0 net/ipv4/conf/eth0/rp_filter=2
         ip link set dev eth1 up && ip route add {there}/32 dev eth1 src {here}"
    ))?;
    a1.ping(&b1)?;
    scene
        .a
        .host
        .sh("sysctl -qw net/ipv4/conf/eth0/rp_filter=1")?;
    ensure!(a1.ping(&b1).is_err(), "nothing is broken");
    let diagnosis = scene.wait_cause("rp-filter")?;
    ensure!(
        diagnosis.1 == 2
            && diagnosis.evidence()
                == format!(
                    "rp_filter is strict on eth0, and the way to {there} leads over eth1: what comes from there by eth0 is dropped"
                ),
        "{:#}",
        diagnosis.0
    );
    let follows = diagnosis.finding("reach")?;
    ensure!(follows["followsFrom"] == "rp-filter", "{follows:#}");
    scene.cure(&diagnosis)?;
    a1.ping(&b1).map(drop)
}

pub(crate) fn a_clock_apart_from_the_stores_is_named() -> Result<()> {
    let scene = Scene::new()?;
    let together = doctor(&scene.a.host, &[])?;
    ensure!(
        together.finding("clock")?["evidence"][0] == "the same as the store's",
        "{:#}",
        together.0
    );
    let (ahead, behind) = (
        netns_tests::clock::apart(600)?,
        netns_tests::clock::apart(-7260)?,
    );
    for (clock, expected) in [
        (ahead, "this host's clock is 10 min ahead of that of etcd"),
        (behind, "this host's clock is 2 h behind that of etcd"),
    ] {
        let diagnosis = netns_tests::doctor::ask_under(&scene.a.host, &clock, &[])?;
        ensure!(
            diagnosis.cause() == Some("clock")
                && diagnosis.1 == 1
                && diagnosis.evidence().starts_with(expected),
            "{:#}",
            diagnosis.0
        );
        ensure!(
            diagnosis.commands() == [(None, "timedatectl set-ntp true".to_owned())],
            "{:#}",
            diagnosis.0
        );
    }
    Ok(())
}
