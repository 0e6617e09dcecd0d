//! The overlay as its users see it: pods, hosts and the world talking, while hosts come and go and daemons die.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_tests::{
    Address, Daemon, Endpoint, FLANNEL_CONFLIST, Host, Lab, OUTSIDE, Pod, ROUTED_CONFLIST, Traffic,
    eventually,
};

const NET_CONF: &str = r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}"#;

/// How long the daemons may take to follow a change.
const FOLLOW: Duration = Duration::from_secs(10);

/// A host and its daemon.
struct Node {
    host: Host,
    daemon: Daemon,
}

impl Node {
    fn start(lab: &Lab, name: &str) -> Result<Self> {
        let host = lab.host(name)?;
        let daemon = host.flanneld(&["--ip-masq"])?;
        Ok(Self { host, daemon })
    }
}

/// A lab with etcd and a network config, no hosts yet.
fn lab() -> Result<Lab> {
    let mut lab = Lab::new()?;
    lab.start_etcd()?;
    lab.put_net_conf(NET_CONF)?;
    Ok(lab)
}

/// Two hosts that know each other.
fn two_hosts(lab: &Lab) -> Result<(Node, Node)> {
    let (a, b) = (Node::start(lab, "a")?, Node::start(lab, "b")?);
    a.host.wait_peers([&b.host])?;
    b.host.wait_peers([&a.host])?;
    Ok((a, b))
}

/// Everything that two pods can send each other, unmasqueraded and up to the full size.
fn talk(from: &Pod, to: &Pod) -> Result<()> {
    from.ping(to)?;
    let mtu = from.mtu()?;
    ensure!(mtu == 1450, "{} has MTU {mtu}", from.name());
    from.ping_unfragmented(to, mtu)?;
    ensure!(
        from.ping_unfragmented(to, mtu + 1).is_err(),
        "a packet above the MTU crossed"
    );
    for source in [from.tcp_echo(to)?, from.udp_echo(to)?] {
        ensure!(
            source.ip() == from.address(),
            "{} saw {source} instead of {}",
            to.name(),
            from.address()
        );
    }
    Ok(())
}

fn pods_talk(first: &str, second: &str) -> Result<()> {
    let lab = lab()?;
    let (a, b) = two_hosts(&lab)?;
    let pods = [
        a.host.pod_spec("a1").conflist(first).attach()?,
        a.host.pod_spec("a2").conflist(second).attach()?,
        b.host.pod_spec("b1").conflist(first).attach()?,
        b.host.pod_spec("b2").conflist(second).attach()?,
    ];
    for from in &pods {
        for to in pods.iter().filter(|to| to.address() != from.address()) {
            talk(from, to).with_context(|| format!("from {} to {}", from.name(), to.name()))?;
        }
    }
    Ok(())
}

fn pods_on_bridges_talk() -> Result<()> {
    pods_talk(FLANNEL_CONFLIST, FLANNEL_CONFLIST)
}

fn routed_pods_talk() -> Result<()> {
    pods_talk(ROUTED_CONFLIST, ROUTED_CONFLIST)
}

fn pods_on_bridges_and_routed_pods_talk() -> Result<()> {
    pods_talk(FLANNEL_CONFLIST, ROUTED_CONFLIST)
}

fn hosts_and_pods_talk(conflist: &str) -> Result<()> {
    let lab = lab()?;
    lab.set_conflist(conflist);
    let (a, b) = two_hosts(&lab)?;
    let (a1, b1) = (a.host.pod("a1")?, b.host.pod("b1")?);

    a1.ping(&a.host)?;
    a1.tcp_echo(&a.host)?;
    a.host.ping(&a1)?;
    a.host.tcp_echo(&a1)?;

    // A host is outside the pod network: it sees the other host, and answers on the underlay.
    a1.ping(&b.host)?;
    let source = a1.tcp_echo(&b.host)?.ip();
    ensure!(source == a.host.address(), "host b saw {source}");
    // To a pod elsewhere a host sends from its own address in the pod network, the first of its subnet.
    a.host.ping(&b1)?;
    let source = a.host.tcp_echo(&b1)?.ip();
    let subnet = lab.etcd()?.lease_of(&a.host)?.subnet();
    ensure!(
        format!("{source}/24") == subnet,
        "the pod saw {source}, host a has {subnet}"
    );
    Ok(())
}

fn hosts_and_pods_on_bridges_talk() -> Result<()> {
    hosts_and_pods_talk(FLANNEL_CONFLIST)
}

fn hosts_and_routed_pods_talk() -> Result<()> {
    hosts_and_pods_talk(ROUTED_CONFLIST)
}

fn the_world_sees_the_host_instead_of_the_pod() -> Result<()> {
    let lab = lab()?;
    let (a, _b) = two_hosts(&lab)?;
    for conflist in [FLANNEL_CONFLIST, ROUTED_CONFLIST] {
        let pod = a.host.pod_spec("web").conflist(conflist).attach()?;
        pod.ping(&OUTSIDE)?;
        for source in [
            pod.tcp_echo_at(lab.world(), OUTSIDE.into())?,
            pod.udp_echo_at(lab.world(), OUTSIDE.into())?,
        ] {
            ensure!(source.ip() == a.host.address(), "the world saw {source}");
        }
    }
    Ok(())
}

fn without_ip_masq_nothing_is_masqueraded() -> Result<()> {
    let lab = lab()?;
    lab.set_conflist(ROUTED_CONFLIST);
    let a = lab.host("a")?;
    let _daemon = a.flanneld(&[])?;
    let pod = a.pod("web")?;
    let env = fs::read_to_string(a.path("/run/flannel/subnet.env"))?;
    ensure!(env.contains("FLANNEL_IPMASQ=false"), "{env}");
    // flannel's plugin then has its delegate masquerade; the routed attachment does the same through the node's rules or
    // not at all, but never is a pod's address translated towards another pod.
    let other = a.pod("other")?;
    let source = pod.tcp_echo(&other)?.ip();
    ensure!(
        source == pod.address(),
        "pod to pod was masqueraded as {source}"
    );
    Ok(())
}

fn a_host_joins_and_leaves_while_others_talk() -> Result<()> {
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

fn a_killed_daemon_costs_no_packet_and_no_lease() -> Result<()> {
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

fn a_stopped_daemon_leaves_the_data_path() -> Result<()> {
    let lab = lab()?;
    let (mut a, mut b) = two_hosts(&lab)?;
    let (a1, b1) = (a.host.pod("a1")?, b.host.pod("b1")?);
    let before = a.host.snapshot()?;
    for node in [&mut a, &mut b] {
        let status = node.daemon.terminate()?;
        ensure!(status.success(), "SIGTERM ended it with {status}");
    }
    a.host.snapshot()?.same_as(&before)?;
    talk(&a1, &b1)?;
    a1.ping(&OUTSIDE)?;
    ensure!(
        lab.etcd()?.leases()?.len() == 2,
        "stopping gave a lease away"
    );
    Ok(())
}

fn a_deleted_device_comes_back_with_everything_on_it() -> Result<()> {
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

fn a_daemon_waits_for_etcd_and_says_so_once() -> Result<()> {
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

fn an_outage_of_etcd_stops_nothing_but_changes() -> Result<()> {
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

fn a_compacted_history_hides_no_host() -> Result<()> {
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

fn foreign_leases_disturb_nobody() -> Result<()> {
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

fn a_wrong_net_conf_is_named_and_can_be_mended() -> Result<()> {
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

fn wrong_flags_are_refused_at_once() -> Result<()> {
    let lab = Lab::new()?;
    let a = lab.host("a")?;
    let mut daemon = a.start_flanneld(&["--no-such-flag"])?;
    let status = daemon.wait_end()?;
    ensure!(status.code() == Some(2), "{status}");
    ensure!(daemon.log().contains("--no-such-flag"), "{}", daemon.log());
    Ok(())
}

fn hosts_that_start_at_once_get_different_subnets() -> Result<()> {
    let lab = lab()?;
    let hosts = lab.hosts(["a", "b", "c", "d", "e", "f"])?;
    let mut daemons = Vec::new();
    for host in &hosts {
        daemons.push(host.start_flanneld(&["--ip-masq"])?);
    }
    daemons.iter_mut().try_for_each(Daemon::wait_ready)?;
    let mut subnets: Vec<String> = lab
        .etcd()?
        .leases()?
        .iter()
        .map(netns_tests::Lease::subnet)
        .collect();
    subnets.dedup();
    ensure!(subnets.len() == hosts.len(), "{subnets:?}");
    for host in &hosts {
        host.wait_peers(hosts.iter().filter(|peer| peer.name() != host.name()))?;
    }
    let [first, .., last] = &hosts;
    talk(&first.pod("first")?, &last.pod("last")?)
}

fn a_lease_has_the_wire_form_of_flannel() -> Result<()> {
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
    let subnet = lease.subnet();
    let first: IpAddr = subnet
        .trim_end_matches("0/24")
        .to_owned()
        .as_str()
        .parse::<IpAddr>()
        .or_else(|_| format!("{}1", subnet.trim_end_matches("0/24")).parse())?;
    let env = fs::read_to_string(a.host.path("/run/flannel/subnet.env"))?;
    let wanted = format!(
        "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET={first}/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
    );
    ensure!(env == wanted, "{env}");
    Ok(())
}

netns_tests::tests![
    pods_on_bridges_talk,
    routed_pods_talk,
    pods_on_bridges_and_routed_pods_talk,
    hosts_and_pods_on_bridges_talk,
    hosts_and_routed_pods_talk,
    the_world_sees_the_host_instead_of_the_pod,
    without_ip_masq_nothing_is_masqueraded,
    a_host_joins_and_leaves_while_others_talk,
    a_killed_daemon_costs_no_packet_and_no_lease,
    a_stopped_daemon_leaves_the_data_path,
    a_deleted_device_comes_back_with_everything_on_it,
    a_daemon_waits_for_etcd_and_says_so_once,
    an_outage_of_etcd_stops_nothing_but_changes,
    a_compacted_history_hides_no_host,
    foreign_leases_disturb_nobody,
    a_wrong_net_conf_is_named_and_can_be_mended,
    wrong_flags_are_refused_at_once,
    hosts_that_start_at_once_get_different_subnets,
    a_lease_has_the_wire_form_of_flannel,
];
