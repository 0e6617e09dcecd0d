//! Two hosts that flannel left, one of which goes over to Loden while pods talk.

use std::fs;

use anyhow::{Context, Result, ensure};
use netns_tests::flannel::{Node, Rules, indices, is_taken_over};
use netns_tests::traffic::Pings;
use netns_tests::{
    Cluster, Endpoint, FLANNEL_CONFLIST, Host, NetConf, OUTSIDE, OUTSIDE_V6, Pod, Traffic,
    eventually,
};

/// How long Loden may take to put its rules in and what is stale out.
const TAKEOVER: std::time::Duration = std::time::Duration::from_secs(10);

/// The rules of others beside flannel's in iptables.
const OTHERS: [&str; 4] = [
    "-A FORWARD -i br-lan -j ACCEPT",
    "-A FORWARD -i br-wan -j REJECT --reject-with icmp-port-unreachable",
    "-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
    "-A POSTROUTING -s 10.9.0.0/16 -j MASQUERADE",
];

/// Builds the hosts, switches the first, and stops Loden again.
pub(crate) fn switch(conf: NetConf, rules: Rules) -> Result<()> {
    let cluster = Cluster::new(conf.clone())?;
    let (a, b) = (cluster.host("a")?, cluster.host("b")?);
    let gone = cluster.host("gone")?;
    let (a, b) = (
        Node {
            host: &a,
            number: 3,
        },
        Node {
            host: &b,
            number: 5,
        },
    );
    let gone = Node {
        host: &gone,
        number: 9,
    };
    a.furnish(&conf, &[&b, &gone], rules)?;
    b.furnish(&conf, &[&a], rules)?;
    cluster.lab.unplug(gone.host)?;
    for node in [&a, &b] {
        node.publish(cluster.lab.etcd()?, &conf)?;
    }
    let pod = |node: &Node<'_>| {
        node.host
            .pod_spec("pod")
            .conflist(FLANNEL_CONFLIST)
            .attach()
    };
    let pods = [pod(&a)?, pod(&b)?];
    let foreign = foreign(a.host, &conf)?;
    let before = a.host.snapshot()?.kernel();
    let index = indices(a.host)?;

    let talking = Pings::between(&pods[0], &pods[1])?;
    let mut daemon = a.host.flanneld(&["--ip-masq"])?;
    eventually("what is stale is gone", TAKEOVER, || {
        is_taken_over(&a, &gone, &before).with_context(|| daemon.log_tail())
    })?;
    lease_and_file(&cluster, &conf, &a)?;
    ensure!(indices(a.host)? == index, "a device was made anew: {index}");
    untouched(a.host, &foreign, rules)?;
    world(&cluster, &conf, &a, &pods[0])?;
    ensure!(daemon.terminate()?.success(), "{}", daemon.log_tail());
    talking.finish()?;

    untouched(a.host, &foreign, rules)?;
    flannel_could_start(&a, &b, &conf, rules)
}

/// Things of others on the host; the lines they have in a snapshot.
fn foreign(host: &Host, conf: &NetConf) -> Result<Vec<String>> {
    let before = host.snapshot()?.kernel();
    let mut lines = "ip link add name br-lan address 02:00:00:00:00:b0 type bridge\n\
         ip link set dev br-lan addrgenmode none up\n\
         nft add table inet filter\n\
         nft add chain inet filter input '{ type filter hook input priority 0; }'\n\
         nft add rule inet filter input tcp dport 9 drop\n"
        .to_owned();
    if conf.families().has_ipv4() {
        lines += "ip address add 172.17.0.1/16 dev br-lan\n\
             ip route add 10.9.0.0/16 via 192.0.2.1\n\
             ip route add 10.244.200.0/24 via 192.0.2.1 proto static\n";
    }
    if conf.families().has_ipv6() {
        lines += "ip route add fd09::/48 via 2001:db8::1\n";
    }
    host.sh(&lines)?;
    let now = host.snapshot()?.kernel();
    Ok(now.diff(&before).new)
}

/// The same subnet, the same record byte for byte, and a subnet file that differs in nothing but an MTU that was too large.
fn lease_and_file(cluster: &Cluster, conf: &NetConf, a: &Node<'_>) -> Result<()> {
    let value = cluster.lab.etcd()?.value(&a.key(conf))?;
    let wanted = a.lease(conf);
    ensure!(
        value.as_deref() == Some(&wanted),
        "{value:?}\ninstead of\n{wanted}"
    );
    ensure!(
        cluster.lab.etcd()?.leases()?.len() == 2,
        "another lease was taken"
    );
    let mtu = match (conf.backend(), conf.families().has_ipv6()) {
        ("vxlan", false) => 1450,
        ("vxlan", true) => 1430,
        _ => 1500,
    };
    let file = fs::read_to_string(a.host.path("/run/flannel/subnet.env"))?;
    ensure!(file == a.subnet_file(conf, mtu), "{file}");
    Ok(())
}

fn untouched(host: &Host, foreign: &[String], rules: Rules) -> Result<()> {
    let now = host.snapshot()?.kernel();
    for line in foreign {
        ensure!(
            now.lines().any(|present| present == line),
            "gone: {line}\n{now}"
        );
    }
    if matches!(rules, Rules::Iptables(_)) {
        let saved = host.exec(["iptables-nft-save"])?;
        for rule in OTHERS {
            ensure!(saved.matches(rule).count() == 1, "{rule} in\n{saved}");
        }
        // What flannel had in the chains of others, its layout of today has in chains of its own.
        let direct = saved
            .lines()
            .filter(|line| line.contains("10.244.") && !line.starts_with("-A FLANNEL-"));
        ensure!(direct.count() == 0, "{saved}");
    }
    Ok(())
}

/// Pods reach the world under the host's address.
fn world(cluster: &Cluster, conf: &NetConf, a: &Node<'_>, pod: &Pod) -> Result<()> {
    if conf.families().has_ipv4() {
        let source = pod.tcp_echo_at(cluster.lab.world(), OUTSIDE.into())?.ip();
        ensure!(source == a.host.ipv4(), "the world saw {source}");
    }
    if conf.families().has_ipv6() {
        let source = pod
            .tcp_echo_at(cluster.lab.world(), OUTSIDE_V6.into())?
            .ip();
        ensure!(source == a.host.ipv6(), "the world saw {source}");
    }
    Ok(())
}

/// With Loden gone there is nothing that flannel would stumble over: it compares its device with the one that is there, adds chains that may be
/// there already, and replaces or adds routes.
fn flannel_could_start(a: &Node<'_>, b: &Node<'_>, conf: &NetConf, rules: Rules) -> Result<()> {
    a.can_write_rules(conf, rules)
        .context("flannel's rules are refused")?;
    for (ipv4, device) in [(true, "flannel.1"), (false, "flannel-v6.1")] {
        let families = conf.families();
        let wanted = if ipv4 {
            families.has_ipv4()
        } else {
            families.has_ipv6()
        };
        if !wanted || conf.backend() != "vxlan" {
            continue;
        }
        let link = a.host.exec(["ip", "-d", "link", "show", "dev", device])?;
        let mac = a.mac(ipv4);
        ensure!(link.contains(&mac), "no {mac} in {link}");
        let link = link.split(" vxlan ").nth(1).unwrap_or_default();
        for part in ["id 1 ", " dev eth0 ", " dstport 8472 ", " nolearning "] {
            ensure!(link.contains(part), "no {part:?} in {link}");
        }
        for strange in [" proxy ", " l2miss", " l3miss", " rsc ", " group ", " gbp"] {
            ensure!(!link.contains(strange), "{strange:?} in {link}");
        }
        if !conf.routes_directly() {
            let (ip, vtep, subnet) = (if ipv4 { "-4" } else { "-6" }, b.vtep(ipv4), b.subnet(ipv4));
            a.host.exec([
                "ip", ip, "route", "replace", &subnet, "via", &vtep, "dev", device, "onlink",
            ])?;
        }
    }
    Ok(())
}
