//! The ways of packets, and that they are the real ones: what trace says arrives does arrive.

use anyhow::{Context, Result, ensure};

use netns_tests::{Address, Endpoint, FLANNEL_CONFLIST, OUTSIDE, OUTSIDE_V6, Pod, Traffic};
use serde_json::Value;

use crate::scene::{flanneld, lab, list, readable, trace, two_nodes};

/// Where the packet ends, and the decisions in one text.
fn end(pod: &Pod, to: &str) -> Result<(String, String, i32)> {
    let (found, status) = trace(pod, to)?;
    let kind = found["end"]["kind"].as_str().context("no end")?.to_owned();
    Ok((kind, format!("{found:#}"), status))
}

fn decisions(found: &Value) -> Result<Vec<&str>> {
    let decisions = list(found, "decisions")?.iter();
    decisions
        .map(|decision| decision["by"].as_str().context("no name"))
        .collect()
}

pub(crate) fn packets_are_followed_to_where_they_end() -> Result<()> {
    let lab = lab()?;
    let (a, b) = two_nodes(&lab)?;
    let (one, two, far) = (a.host.pod("one")?, a.host.pod("two")?, b.host.pod("far")?);

    one.ping(&two)?;
    let (kind, text, status) = end(&one, &two.address().to_string())?;
    ensure!(
        kind == "pod" && status == 0 && text.contains("default/two"),
        "{text}"
    );

    one.ping(&far)?;
    let (found, status) = trace(&one, &far.address().to_string())?;
    ensure!(found["end"]["kind"] == "peer" && status == 0, "{found:#}");
    ensure!(
        found["end"]["says"]
            .to_string()
            .contains(&b.host.ipv4().to_string()),
        "{found:#}"
    );
    let by = decisions(&found)?;
    let all = [
        "podRoute",
        "link",
        "hostRoute",
        "filter",
        "masquerade",
        "neighbour",
        "fdb",
        "outer",
        "mtu",
    ];
    ensure!(by == all, "{by:?}");
    for decision in list(&found, "decisions")? {
        ensure!(decision["passes"] == true, "{decision:#}");
    }

    one.ping(&OUTSIDE)?;
    let (kind, text, status) = end(&one, &OUTSIDE.to_string())?;
    ensure!(kind == "outside" && status == 0, "{text}");
    ensure!(
        text.contains(&format!("masqueraded as {}", a.host.ipv4())),
        "{text}"
    );

    one.ping(&a.host)?;
    let (kind, text, _) = end(&one, &a.host.ipv4().to_string())?;
    ensure!(kind == "host", "{text}");
    let (kind, text, status) = end(&one, "10.244.250.1")?;
    ensure!(
        kind == "astray" && status == 1 && text.contains("no node holds"),
        "{text}"
    );
    let (kind, text, status) = end(&one, &OUTSIDE_V6.to_string())?;
    ensure!(
        kind == "dropped" && status == 1 && text.contains("no IPv6 address"),
        "{text}"
    );

    let unknown = flanneld(&a.host, &["trace", "nobody", "10.244.1.2"])?;
    ensure!(
        unknown.status == 2 && unknown.err.contains("no pod of this host"),
        "{unknown:?}"
    );
    let by_id = flanneld(
        &a.host,
        &["trace", one.container_id(), &two.address().to_string()],
    )?;
    ensure!(by_id.status == 0, "{by_id:?}");
    readable(&by_id.out)
}

pub(crate) fn packets_of_both_families_are_followed() -> Result<()> {
    let lab = lab()?;
    lab.put_net_conf(
        r#"{"EnableIPv6": true, "Network": "10.244.0.0/16", "IPv6Network": "fd00:10:244::/48", "Backend": {"Type": "vxlan"}}"#,
    )?;
    let (a, b) = two_nodes(&lab)?;
    let (one, two, far) = (a.host.pod("one")?, a.host.pod("two")?, b.host.pod("far")?);
    let v6 = |pod: &Pod| {
        let found = pod.addresses().into_iter().find(std::net::IpAddr::is_ipv6);
        found.with_context(|| format!("{} has no IPv6 address", pod.name()))
    };
    for (to, expected) in [
        (v6(&two)?, "pod"),
        (v6(&far)?, "peer"),
        (OUTSIDE_V6.into(), "outside"),
        (far.address(), "peer"),
    ] {
        one.ping(&to)?;
        let (kind, text, status) = end(&one, &to.to_string())?;
        ensure!(kind == expected && status == 0, "{text}");
    }
    Ok(())
}

pub(crate) fn packets_of_bridged_pods_are_followed() -> Result<()> {
    let lab = lab()?;
    lab.set_conflist(FLANNEL_CONFLIST);
    let (a, b) = two_nodes(&lab)?;
    let (one, two, far) = (a.host.pod("one")?, a.host.pod("two")?, b.host.pod("far")?);
    one.ping(&two)?;
    let (kind, text, _) = end(&one, &two.address().to_string())?;
    ensure!(kind == "pod" && text.contains("bridge cni0"), "{text}");
    one.ping(&far)?;
    let (kind, text, _) = end(&one, &far.address().to_string())?;
    ensure!(kind == "peer", "{text}");
    Ok(())
}

/// With the daemon stopped, so that nobody mends it.
pub(crate) fn a_broken_way_is_found() -> Result<()> {
    let lab = lab()?;
    let (mut a, b) = two_nodes(&lab)?;
    let (one, far) = (a.host.pod("one")?, b.host.pod("far")?);
    let subnet = b.host.subnets()?.remove(0);
    let gateway = subnet.split('/').next().context("no address")?.to_owned();
    for (damage, by) in [
        ("bridge fdb del $(cat /run/mac) dev flannel.1", "fdb"),
        (
            &format!("ip neigh del {gateway} dev flannel.1") as &str,
            "neighbour",
        ),
        ("ip link set eth0 mtu 1400", "mtu"),
        ("sysctl -qw net.ipv4.ip_forward=0", "forwarding"),
        (&format!("ip route replace blackhole {subnet}"), "hostRoute"),
    ] {
        a.daemon.restart()?;
        a.daemon.wait_ready()?;
        a.host.wait_peers([&b.host])?;
        let (found, _) = trace(&one, &far.address().to_string())?;
        ensure!(found["end"]["kind"] == "peer", "before {damage}: {found:#}");
        a.daemon.terminate()?;
        a.host
            .sh("bridge fdb show dev flannel.1 | cut -d' ' -f1 | head -1 > /run/mac")?;
        a.host.sh(damage)?;
        let (found, status) = trace(&one, &far.address().to_string())?;
        let stopped = list(&found, "decisions")?
            .iter()
            .find(|decision| decision["passes"] == false);
        let stopped = stopped.with_context(|| format!("{damage}: {found:#}"))?;
        ensure!(stopped["by"] == by, "{damage}: {found:#}");
        ensure!(by == "mtu" || status == 1, "{damage}: {found:#}");
        a.host.sh("ip link set eth0 mtu 1500")?;
    }
    Ok(())
}

/// Where the packet ends after this change of the host's rules, which is taken back.
fn end_after(one: &Pod, change: &str, back: &str, to: &str) -> Result<(String, String, i32)> {
    one.host().sh(change)?;
    let found = end(one, to).with_context(|| change.to_owned());
    one.host().sh(back)?;
    found
}

pub(crate) fn rules_of_others_are_followed_as_far_as_they_go() -> Result<()> {
    let lab = lab()?;
    lab.put_net_conf(
        r#"{"EnableIPv6": true, "Network": "10.244.0.0/16", "IPv6Network": "fd00:10:244::/48", "Backend": {"Type": "vxlan"}}"#,
    )?;
    let (a, b) = two_nodes(&lab)?;
    let (one, far) = (a.host.pod("one")?, b.host.pod("far")?);
    let v6 = far.addresses().into_iter().find(std::net::IpAddr::is_ipv6);
    let v6 = v6.context("no IPv6 address")?.to_string();
    let v4 = far.address().to_string();
    let host = a.host.ipv4().to_string();
    let hook = |hook: &str, policy: &str, rule: &str| {
        format!(
            "nft add table inet theirs && nft 'add chain inet theirs c {{ type filter hook {hook} priority 10; policy {policy}; }}' && \
             if [ -n '{rule}' ]; then nft add rule inet theirs c {rule}; fi"
        )
    };
    let gone = "nft delete table inet theirs";
    let policy = hook("forward", "drop", "");
    for to in [&v4, &v6] {
        let (kind, text, status) = end_after(&one, &policy, gone, to)?;
        ensure!(
            kind == "dropped"
                && status == 1
                && text.contains("the policy of chain c in table inet theirs"),
            "{to}: {text}"
        );
    }
    let rule = hook("forward", "accept", "ip6 daddr fd00::/16 drop");
    let (kind, text, _) = end_after(&one, &rule, gone, &v6)?;
    ensure!(
        kind == "dropped" && text.contains("rule 1 of chain c"),
        "{text}"
    );
    let (kind, text, _) = end_after(&one, &rule, gone, &v4)?;
    ensure!(kind == "peer", "{text}");
    let rule = hook(
        "input",
        "accept",
        &format!("ip saddr {} drop", one.address()),
    );
    let (kind, text, _) = end_after(&one, &rule, gone, &host)?;
    ensure!(kind == "dropped", "{text}");
    let rule = hook("forward", "accept", "tcp dport 443 drop");
    let (kind, text, _) = end_after(&one, &rule, gone, &v4)?;
    ensure!(kind == "peer" && text.contains("may drop it"), "{text}");
    let rule = format!("iptables -I FORWARD -s {} -j DROP", one.address());
    let (kind, text, _) = end_after(&one, &rule, "iptables -F FORWARD", &v4)?;
    ensure!(
        kind == "dropped" && text.contains("rule 1 of chain FORWARD in table ip filter"),
        "{text}"
    );
    one.ping(&far)?;
    Ok(())
}

pub(crate) fn what_is_not_followed_is_said_to_be_so() -> Result<()> {
    let lab = lab()?;
    let (a, b) = two_nodes(&lab)?;
    let (one, far) = (a.host.pod("one")?, b.host.pod("far")?);
    let service = "10.96.0.1";
    let dnat = format!(
        "nft add table ip services && nft 'add chain ip services c {{ type nat hook prerouting priority -100; }}' && \
         nft add rule ip services c ip daddr {service} dnat to {}",
        far.address()
    );
    let (kind, text, status) = end_after(&one, &dnat, "nft delete table ip services", service)?;
    ensure!(
        kind == "unknown" && status == 2 && text.contains("another destination"),
        "{text}"
    );
    // As kube-proxy does it by iptables: by the port.
    let dnat = format!(
        "iptables -t nat -N KUBE-SVC && iptables -t nat -A KUBE-SVC -j DNAT -p tcp --to-destination {}:80 && \
         iptables -t nat -A PREROUTING -d {service} -p tcp --dport 443 -j KUBE-SVC",
        far.address()
    );
    let back =
        "iptables -t nat -F PREROUTING; iptables -t nat -F KUBE-SVC; iptables -t nat -X KUBE-SVC";
    let (_, text, _) = end_after(&one, &dnat, back, service)?;
    ensure!(text.contains("may give it another destination"), "{text}");
    let (kind, text, status) = end_after(&one, &dnat, back, &far.address().to_string())?;
    ensure!(
        kind == "peer" && status == 0 && !text.contains("\"service\""),
        "{text}"
    );
    // As kube-proxy does it by IPVS: the address is the host's.
    let link =
        format!("ip link add kube-ipvs0 type bridge && ip address add {service}/32 dev kube-ipvs0");
    let (kind, text, _) = end_after(&one, &link, "ip link delete kube-ipvs0", service)?;
    ensure!(kind == "unknown" && text.contains("IPVS"), "{text}");

    let several = "ip route add 203.0.113.0/24 nexthop via 192.0.2.2 nexthop via 192.0.2.12";
    let back = "ip route delete 203.0.113.0/24";
    let (kind, text, _) = end_after(&one, several, back, "203.0.113.7")?;
    ensure!(
        kind == "outside" && text.contains("one of the route's 2 ways"),
        "{text}"
    );

    for (to, expected) in [
        ("127.0.0.1", "pod"),
        ("224.0.0.251", "unknown"),
        ("169.254.169.254", "unknown"),
    ] {
        let (kind, text, _) = end(&one, to)?;
        ensure!(kind == expected, "{to}: {text}");
    }
    Ok(())
}
