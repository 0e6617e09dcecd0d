//! Who reaches whom, and under which address: pods on bridges, routed pods, hosts, the world.

use std::fs;

use anyhow::{Context, Result, ensure};
use netns_tests::{Address, Endpoint, FLANNEL_CONFLIST, OUTSIDE, ROUTED_CONFLIST, Traffic};

use crate::scene::{lab, talk, two_hosts};

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

pub(crate) fn pods_on_bridges_talk() -> Result<()> {
    pods_talk(FLANNEL_CONFLIST, FLANNEL_CONFLIST)
}

pub(crate) fn routed_pods_talk() -> Result<()> {
    pods_talk(ROUTED_CONFLIST, ROUTED_CONFLIST)
}

pub(crate) fn pods_on_bridges_and_routed_pods_talk() -> Result<()> {
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

pub(crate) fn hosts_and_pods_on_bridges_talk() -> Result<()> {
    hosts_and_pods_talk(FLANNEL_CONFLIST)
}

pub(crate) fn hosts_and_routed_pods_talk() -> Result<()> {
    hosts_and_pods_talk(ROUTED_CONFLIST)
}

pub(crate) fn the_world_sees_the_host_instead_of_the_pod() -> Result<()> {
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

pub(crate) fn without_ip_masq_the_plugin_masquerades() -> Result<()> {
    let lab = lab()?;
    let [a, b] = lab.hosts(["a", "b"])?;
    let _daemons = [a.flanneld(&[])?, b.flanneld(&[])?];
    a.wait_peers([&b])?;
    b.wait_peers([&a])?;
    let env = fs::read_to_string(a.path("/run/flannel/subnet.env"))?;
    ensure!(env.contains("FLANNEL_IPMASQ=false"), "{env}");
    let far = b.pod("far")?;
    for conflist in [FLANNEL_CONFLIST, ROUTED_CONFLIST] {
        let pod = a.pod_spec("web").conflist(conflist).attach()?;
        let source = pod.tcp_echo_at(lab.world(), OUTSIDE.into())?.ip();
        ensure!(source == a.address(), "the world saw {source}");
        talk(&pod, &far)?;
    }
    Ok(())
}
