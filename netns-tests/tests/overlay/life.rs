//! Hosts and daemons come, go and die while pods talk.

use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_tests::{Daemon, Endpoint, Lab, Lease, OUTSIDE, Traffic, eventually, programs};

use crate::scene::{FOLLOW, Node, lab, talk, two_hosts};

pub(crate) fn a_host_joins_and_leaves_while_others_talk() -> Result<()> {
    let lab = lab()?;
    let (a, b) = two_hosts(&lab)?;
    let (a1, b1) = (a.host.pod("a1")?, b.host.pod("b1")?);
    let (before_a, before_b) = (a.host.snapshot()?, b.host.snapshot()?);
    let stream = a1.stream(&b1)?;
    stream.wait_progress()?;

    let mut c = Node::start(&lab, "c")?;
    a.host.wait_peers([&c.host])?;
    c.host.wait_peers([&a.host, &b.host])?;
    let c1 = c.host.pod("c1")?;
    a1.tcp_echo(&c1)?;
    c1.tcp_echo(&b1)?;
    stream.wait_progress()?;

    let lease = lab.etcd()?.lease_of(&c.host)?;
    c.daemon.kill()?;
    lab.unplug(&c.host)?;
    ensure!(lab.etcd()?.delete(&lease.key)?, "there was no lease");
    for (node, before) in [(&a, &before_a), (&b, &before_b)] {
        eventually("the others forget c, and only c", FOLLOW, || {
            node.host.snapshot()?.same_as(before)
        })?;
    }
    stream.wait_progress()?;
    stream.finish()?;
    a1.cannot_ping(&c1)
}

pub(crate) fn a_killed_daemon_costs_no_packet_and_no_lease() -> Result<()> {
    let lab = lab()?;
    let (mut a, b) = two_hosts(&lab)?;
    let (a1, b1) = (a.host.pod("a1")?, b.host.pod("b1")?);
    let (before, lease) = (a.host.snapshot()?, lab.etcd()?.lease_of(&a.host)?);
    let stream = a1.stream(&b1)?;
    stream.wait_progress()?;

    a.daemon.kill()?;
    stream.wait_progress()?;
    a.host
        .snapshot()?
        .same_as(&before)
        .context("the daemon's death changed the kernel")?;
    // Attaching and detaching need no daemon.
    let late = a.host.pod("late")?;
    late.ping(&b1)?;
    late.delete()?;
    let before = before.kernel();

    a.daemon.restart()?;
    a.daemon.wait_ready()?;
    a.host.wait_peers([&b.host])?;
    stream.wait_progress()?;
    let report = stream.finish()?;
    ensure!(
        report.longest_pause < Duration::from_secs(2),
        "the stream stood still: {report:?}"
    );
    let again = lab.etcd()?.lease_of(&a.host)?;
    ensure!(
        again.name == lease.name && again.record == lease.record,
        "{lease:?} became {again:?}"
    );
    ensure!(lab.etcd()?.leases()?.len() == 2, "a second lease was taken");
    a.host
        .snapshot()?
        .kernel()
        .same_as(&before)
        .context("the restart changed the kernel")
}

pub(crate) fn a_stopped_daemon_leaves_the_data_path() -> Result<()> {
    let lab = lab()?;
    let (mut a, mut b) = two_hosts(&lab)?;
    let (a1, b1) = (a.host.pod("a1")?, b.host.pod("b1")?);
    let before = a.host.snapshot()?;
    for node in [&mut a, &mut b] {
        let status = node.daemon.terminate()?;
        ensure!(status.success(), "SIGTERM ended it with {status}");
    }
    let mut difference = a.host.snapshot()?.diff(&before);
    for lines in [&mut difference.gone, &mut difference.new] {
        // There it notes when it stopped.
        lines.retain(|line| !line.contains("/flanneld.sock.lock"));
    }
    ensure!(difference.is_empty(), "the host changed:\n{difference}");
    talk(&a1, &b1)?;
    a1.ping(&OUTSIDE)?;
    ensure!(
        lab.etcd()?.leases()?.len() == 2,
        "stopping gave a lease away"
    );
    Ok(())
}

pub(crate) fn a_deleted_device_comes_back_with_everything_on_it() -> Result<()> {
    let lab = lab()?;
    let (a, b) = two_hosts(&lab)?;
    let (a1, b1) = (a.host.pod("a1")?, b.host.pod("b1")?);
    let before = a.host.snapshot()?;
    let stream = a1.stream(&b1)?;
    stream.wait_progress()?;
    for _ in 0..3 {
        a.host.sh("ip link delete dev flannel.1")?;
        eventually("everything is back", FOLLOW, || {
            a.host.snapshot()?.same_as(&before)
        })?;
    }
    stream.wait_progress()?;
    stream.finish()?;
    talk(&b1, &a1)
}

pub(crate) fn a_cut_cable_heals() -> Result<()> {
    let lab = lab()?;
    let (mut a, b) = two_hosts(&lab)?;
    let (a1, b1) = (a.host.pod("a1")?, b.host.pod("b1")?);
    let stream = a1.stream(&b1)?;
    stream.wait_progress()?;
    lab.cut(&a.host)?;
    a1.cannot_ping(&b1)?;
    ensure!(a.daemon.is_running()?, "the daemon ended with its uplink");

    lab.mend(&a.host)?;
    eventually("pods reach each other again", FOLLOW, || a1.ping(&b1))?;
    stream.wait_progress()?;
    stream.finish()?;
    talk(&b1, &a1)
}

pub(crate) fn hosts_that_start_at_once_get_different_subnets() -> Result<()> {
    let lab = lab()?;
    let hosts = lab.hosts(["a", "b", "c", "d", "e", "f"])?;
    let mut daemons = Vec::new();
    for host in &hosts {
        daemons.push(host.start_flanneld(&["--ip-masq"])?);
    }
    daemons.iter_mut().try_for_each(Daemon::wait_ready)?;
    let mut subnets: Vec<String> = lab.etcd()?.leases()?.iter().map(Lease::subnet).collect();
    subnets.dedup();
    ensure!(subnets.len() == hosts.len(), "{subnets:?}");
    for host in &hosts {
        host.wait_peers(hosts.iter().filter(|peer| peer.name() != host.name()))?;
    }
    let [first, .., last] = &hosts;
    talk(&first.pod("first")?, &last.pod("last")?)
}

/// `kill` has a daemon's look after every possible kill; here a real daemon looks.
pub(crate) fn what_a_killed_add_left_goes_when_the_daemon_starts() -> Result<()> {
    let lab = lab()?;
    let mut a = Node::start(&lab, "a")?;
    let whole = a.host.pod("whole")?;
    let before = a.host.snapshot()?;
    let cut = a.host.pod("cut")?;
    // A record that can be written to is that of an ADD whose runtime was told nothing.
    a.host
        .sh("chmod u+w \"$(ls -t -d /run/loden/ipam/*/attachments/* | head -n 1)\"")?;
    a.daemon.restart()?;
    a.daemon.wait_ready()?;
    a.daemon
        .wait_log("is detached: the ADD that made it was killed")?;
    eventually("the host is as before that ADD", FOLLOW, || {
        let mut difference = a.host.snapshot()?.diff(&before);
        for lines in [&mut difference.gone, &mut difference.new] {
            // The namespace is the runtime's; the rest says which addresses were ever in use.
            lines.retain(|line| {
                !["/run/netns/", "/slots-", "last_reserved_ip"]
                    .iter()
                    .any(|part| line.contains(part))
            });
        }
        ensure!(difference.is_empty(), "the host changed:\n{difference}");
        Ok(())
    })?;
    a.host.ping(&whole)?;
    // Its runtime has it detached all the same.
    cut.delete()?;
    whole.delete()
}

/// As in a container without privileges: there is nothing to be done about it from inside, and the host has set it up.
pub(crate) fn settings_that_cannot_be_changed_are_lived_with() -> Result<()> {
    let lab = lab()?;
    let b = Node::start(&lab, "b")?;
    let host = lab.host("a")?;
    host.exec([
        "sh",
        "-c",
        "echo 1 >/proc/sys/net/ipv4/ip_forward && mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys",
    ])?;
    // That it matters to nobody is why it is told only there.
    let daemon = host.flanneld(&["--ip-masq", "-v=1"])?;
    daemon.wait_log("accept_ra")?;
    let log = daemon.log();
    let told = log.matches("going on without it").count();
    ensure!(told == 1, "told {told} times:\n{log}");
    host.exec(["umount", "/proc/sys"])?;
    b.host.wait_peers([&host])?;
    host.wait_peers([&b.host])?;
    talk(&host.pod("a1")?, &b.host.pod("b1")?)
}

pub(crate) fn a_blackhole_catches_what_is_for_no_pod() -> Result<()> {
    let lab = lab()?;
    let a = lab.host("a")?;
    let _daemon = a.flanneld(&["--ip-masq", "--ip-blackhole-route"])?;
    let b = Node::start(&lab, "b")?;
    a.wait_peers([&b.host])?;
    b.host.wait_peers([&a])?;
    let (a1, b1) = (a.pod("a1")?, b.host.pod("b1")?);
    talk(&a1, &b1)?;

    let subnet = lab.etcd()?.lease_of(&a)?.subnet();
    let caught = || {
        let routes = a.exec(["ip", "-4", "route", "show", "type", "blackhole"])?;
        ensure!(routes.contains(&subnet), "only: {routes}");
        Ok(())
    };
    caught()?;
    a.sh(&format!("ip route delete blackhole {subnet} metric 9999"))?;
    eventually("the blackhole is back", FOLLOW, caught)?;
    talk(&b1, &a1)
}

pub(crate) fn a_changed_uplink_is_followed() -> Result<()> {
    let lab = lab()?;
    let (a, b) = two_hosts(&lab)?;
    let (a1, b1) = (a.host.pod("a1")?, b.host.pod("b1")?);
    let lease = lab.etcd()?.lease_of(&a.host)?;

    a.host.sh("ip link set dev eth0 mtu 1400")?;
    eventually("device and subnet file follow the MTU", FOLLOW, || {
        let device = a.host.exec(["ip", "link", "show", "flannel.1"])?;
        ensure!(device.contains("mtu 1350 "), "{device}");
        let file = a.host.exec(["cat", "/run/flannel/subnet.env"])?;
        ensure!(file.contains("FLANNEL_MTU=1350\n"), "{file}");
        Ok(())
    })?;
    a.daemon
        .wait_log("get an MTU of 1350 bytes; those that are there keep 1450")?;

    a.host.sh("ip address del 192.0.2.11/24 dev eth0 && ip address add 192.0.2.77/24 dev eth0 && ip route replace default via 192.0.2.1")?;
    eventually("the peer follows the address", FOLLOW, || {
        let fdb = b.host.exec(["bridge", "fdb", "show", "dev", "flannel.1"])?;
        ensure!(fdb.contains("dst 192.0.2.77 "), "{fdb}");
        a1.ping(&b1)
    })?;
    let again = lab.etcd()?.leases()?;
    let same = |now: &&Lease| now.name == lease.name;
    ensure!(
        again.iter().any(|now| same(&now)),
        "{lease:?} became {again:?}"
    );
    b1.ping(&a1)?;
    Ok(())
}

pub(crate) fn host_gw_needs_no_tunnel() -> Result<()> {
    plain_routes_carry(r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "host-gw"}}"#)
}

pub(crate) fn direct_routing_needs_no_tunnel_to_neighbours() -> Result<()> {
    plain_routes_carry(
        r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan", "DirectRouting": true}}"#,
    )
}

fn plain_routes_carry(net_conf: &str) -> Result<()> {
    let lab = lab()?;
    lab.put_net_conf(net_conf)?;
    let (a, b) = (Node::start(&lab, "a")?, Node::start(&lab, "b")?);
    let (a1, b1) = (a.host.pod("a1")?, b.host.pod("b1")?);
    eventually("pods reach each other", FOLLOW, || a1.ping(&b1))?;
    let routes = a.host.exec(["ip", "-4", "route"])?;
    let way = format!("via {} dev eth0", b.host.ipv4());
    ensure!(routes.contains(&way), "{routes}");
    b1.tcp_echo(&a1)?;

    // The kernel drops plain routes with the link and does not bring them back.
    a.host.sh(
        "ip link set dev eth0 down && ip link set dev eth0 up && ip route replace default via 192.0.2.1",
    )?;
    eventually("the routes are back after a flap", FOLLOW, || a1.ping(&b1))?;
    Ok(())
}

pub(crate) fn a_taken_udp_port_is_named_and_waited_for() -> Result<()> {
    let lab = lab()?;
    let a = lab.host("a")?;
    let other = a.run(|| UdpSocket::bind(("0.0.0.0", 8472)))??;
    let mut daemon = a.start_flanneld(&["--ip-masq"])?;
    daemon.wait_log("another program or VXLAN device has UDP port 8472")?;
    let program = programs::find("flanneld")?;
    let program = program.to_str().context("no text")?;
    eventually("flanneld status says so, too", FOLLOW, || {
        let screen = a.attempt([program, "status"])?.stdout;
        let words: Vec<&str> = screen.split_whitespace().collect();
        let said = words
            .join(" ")
            .contains("another program or VXLAN device has UDP port 8472");
        ensure!(said, "{screen}");
        Ok(())
    })?;
    drop(other);
    daemon.wait_ready()
}

pub(crate) fn wrong_flags_are_refused_at_once() -> Result<()> {
    let lab = Lab::new()?;
    let a = lab.host("a")?;
    let mut daemon = a.start_flanneld(&["--no-such-flag"])?;
    let status = daemon.wait_end()?;
    ensure!(status.code() == Some(2), "{status}");
    ensure!(daemon.log().contains("--no-such-flag"), "{}", daemon.log());
    Ok(())
}
