//! What stands in etcd: written as flannel does, read with care, missed without harm.

use std::fs;

use anyhow::{Context, Result, ensure};
use netns_tests::{Endpoint, OUTSIDE, Traffic, eventually};

use crate::scene::{FOLLOW, NET_CONF, Node, lab, talk, two_hosts};

pub(crate) fn a_lease_has_the_wire_form_of_flannel() -> Result<()> {
    let lab = lab()?;
    let a = Node::start(&lab, "a")?;
    let lease = lab.etcd()?.lease_of(&a.host)?;
    let link = a.host.sh("ip -j link show dev flannel.1")?;
    let link: serde_json::Value = serde_json::from_str(&link)?;
    let mac = link[0]["address"]
        .as_str()
        .context("flannel.1 has no MAC")?;
    let value = lab
        .etcd()?
        .value(&lease.key)?
        .context("the lease is gone")?;
    let expected = format!(
        r#"{{"PublicIP":"{}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{mac}"}}}}"#,
        a.host.ipv4()
    );
    ensure!(value == expected, "{value}\ninstead of\n{expected}");
    let first = lease.subnet().replace(".0/24", ".1/24");
    let env = fs::read_to_string(a.host.path("/run/flannel/subnet.env"))?;
    let wanted = format!(
        "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET={first}\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
    );
    ensure!(env == wanted, "{env}");
    Ok(())
}

pub(crate) fn a_daemon_waits_for_etcd_and_says_so_once() -> Result<()> {
    let mut lab = lab()?;
    lab.etcd_mut()?.stop()?;
    let a = lab.host("a")?;
    let mut daemon = a.start_flanneld(&["--ip-masq"])?;
    daemon.wait_log("etcd")?;
    ensure!(
        !a.path("/run/flannel/subnet.env").exists(),
        "subnet.env without a lease"
    );
    lab.etcd_mut()?.restart()?;
    daemon.wait_ready()?;
    let complaints = daemon
        .log()
        .lines()
        .filter(|line| line.contains("WARN") || line.contains("ERROR"))
        .count();
    ensure!(
        complaints <= 1,
        "{complaints} complaints:\n{}",
        daemon.log()
    );
    let pod = a.pod("web")?;
    pod.ping(&OUTSIDE)?;
    Ok(())
}

pub(crate) fn an_outage_of_etcd_stops_nothing_but_changes() -> Result<()> {
    let mut lab = lab()?;
    let (mut a, mut b) = two_hosts(&lab)?;
    let (a1, b1) = (a.host.pod("a1")?, b.host.pod("b1")?);
    let before = a.host.snapshot()?;
    let stream = a1.stream(&b1)?;
    lab.etcd_mut()?.stop()?;
    stream.wait_progress()?;
    a.host.snapshot()?.same_as(&before)?;
    lab.etcd_mut()?.restart()?;

    // The watch goes on: a host that joins now is seen by those that lived through it.
    let c = Node::start(&lab, "c")?;
    for host in [&a.host, &b.host] {
        host.wait_peers([&c.host])?;
    }
    let c1 = c.host.pod("c1")?;
    c1.tcp_echo(&a1)?;
    stream.wait_progress()?;
    stream.finish()?;
    ensure!(
        a.daemon.is_running()? && b.daemon.is_running()?,
        "a daemon ended"
    );
    Ok(())
}

pub(crate) fn an_etcd_that_hangs_stops_nothing_but_changes() -> Result<()> {
    let lab = lab()?;
    let (a, b) = two_hosts(&lab)?;
    let (a1, b1) = (a.host.pod("a1")?, b.host.pod("b1")?);
    lab.etcd()?.freeze()?;
    let c = lab.host("c")?;
    let mut late = c.start_flanneld(&["--ip-masq"])?;
    a.host.pod("a2")?.tcp_echo(&b1)?;
    talk(&a1, &b1)?;
    ensure!(
        !c.path("/run/flannel/subnet.env").exists(),
        "a lease from a frozen etcd"
    );

    lab.etcd()?.thaw()?;
    late.wait_ready()?;
    a.host.wait_peers([&b.host, &c])?;
    talk(&c.pod("c1")?, &a1)
}

pub(crate) fn a_compacted_history_hides_no_host() -> Result<()> {
    let mut lab = lab()?;
    let (a, b) = two_hosts(&lab)?;
    lab.etcd_mut()?.stop()?;
    lab.etcd_mut()?.restart()?;
    for number in 0..20 {
        lab.etcd()?.put("/unrelated", &number.to_string())?;
    }
    lab.etcd()?.compact()?;
    let c = Node::start(&lab, "c")?;
    a.host.wait_peers([&b.host, &c.host])?;
    b.host.wait_peers([&a.host, &c.host])
}

pub(crate) fn foreign_leases_disturb_nobody() -> Result<()> {
    let lab = lab()?;
    let mut a = Node::start(&lab, "a")?;
    let etcd = lab.etcd()?;
    let own = etcd.lease_of(&a.host)?;
    let before = a.host.snapshot()?;
    let subnets = "/coreos.com/network/subnets";
    let overlapping = own.subnet().replace(".0/24", ".128-25");
    let vxlan = r#"{"PublicIP":"192.0.2.77","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:77"}}"#;
    etcd.put(&format!("{subnets}/10.244.201.0-24"), "no JSON at all")?;
    etcd.put(
        &format!("{subnets}/10.244.202.0-24"),
        r#"{"PublicIP":"192.0.2.78","BackendType":"quantum"}"#,
    )?;
    etcd.put(&format!("{subnets}/{overlapping}"), vxlan)?;
    etcd.put(&format!("{subnets}/172.31.0.0-24"), vxlan)?;
    etcd.put(&format!("{subnets}/elsewhere"), vxlan)?;

    for bad in [
        "10.244.201.0",
        "10.244.202.0",
        &overlapping.replace('-', "/"),
    ] {
        a.daemon.wait_log(bad)?;
    }
    // Which of two others' leases is right, b could not tell; a knows which is its own.
    a.host.snapshot()?.same_as(&before)?;
    etcd.delete(&format!("{subnets}/{overlapping}"))?;

    let b = Node::start(&lab, "b")?;
    a.host.wait_peers([&b.host])?;
    b.host.wait_peers([&a.host])?;
    let new = a.host.snapshot()?.diff(&before).new;
    let b_subnet = etcd.lease_of(&b.host)?.subnet();
    let b_network = b_subnet.trim_end_matches("/24");
    let strange: Vec<&String> = new
        .iter()
        .filter(|line| !line.contains(b_network) && !line.contains(&b.host.ipv4().to_string()))
        .collect();
    ensure!(strange.is_empty(), "{strange:#?}");
    ensure!(a.daemon.is_running()?, "the daemon ended");
    talk(&a.host.pod("a1")?, &b.host.pod("b1")?)
}

pub(crate) fn a_wrong_net_conf_is_named_and_can_be_mended() -> Result<()> {
    let lab = lab()?;
    for (name, conf, reason) in [
        ("no-json", "{", "JSON"),
        ("small", r#"{"Network": "10.244.0.0/30"}"#, "10.244.0.0/30"),
        (
            "outside",
            r#"{"Network": "10.244.0.0/16", "SubnetLen": 12}"#,
            "SubnetLen",
        ),
        (
            "unknown",
            r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "pigeon"}}"#,
            "pigeon",
        ),
        (
            "not-done",
            r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "udp"}}"#,
            "vxlan",
        ),
    ] {
        lab.put_net_conf(conf)?;
        let a = lab.host(name)?;
        let mut daemon = a.start_flanneld(&["--ip-masq"])?;
        daemon
            .wait_log(reason)
            .with_context(|| format!("given {conf}"))?;
        ensure!(
            !a.path("/run/flannel/subnet.env").exists(),
            "subnet.env in spite of {conf}"
        );
        lab.put_net_conf(NET_CONF)?;
        daemon
            .wait_ready()
            .with_context(|| format!("after {conf} was mended"))?;
    }
    Ok(())
}

pub(crate) fn a_deleted_lease_is_won_back_while_pods_talk() -> Result<()> {
    let lab = lab()?;
    let (mut a, b) = two_hosts(&lab)?;
    let (a1, b1) = (a.host.pod("a1")?, b.host.pod("b1")?);
    let before = a.host.snapshot()?;
    let file = fs::read_to_string(a.host.path("/run/flannel/subnet.env"))?;
    let lease = lab.etcd()?.lease_of(&a.host)?;
    let stream = a1.stream(&b1)?;
    lab.etcd()?.delete(&lease.key)?;
    a.daemon.wait_log(&lease.key)?;
    let again = eventually("the lease is back", FOLLOW, || {
        lab.etcd()?.lease_of(&a.host)
    })?;
    ensure!(again.key == lease.key, "another subnet: {}", again.key);
    stream.wait_progress()?;
    b.host.wait_peers([&a.host])?;
    a.host.snapshot()?.same_as(&before)?;
    let now = fs::read_to_string(a.host.path("/run/flannel/subnet.env"))?;
    ensure!(now == file, "{now}");
    ensure!(a.daemon.is_running()?, "the daemon ended");
    stream.finish()?;
    talk(&b1, &a1)
}
