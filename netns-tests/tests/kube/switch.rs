//! A Node goes over from flannel to Loden, in a cluster where one other still has flannel and one has Loden already.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use netns_tests::flannel::{self, NOTES, Node, RESERVATIONS, Rules, indices, is_taken_over};
use netns_tests::traffic::Pings;
use netns_tests::{
    Endpoint, FLANNEL_CONFLIST, Families, Host, NetConf, OUTSIDE, Pod, Traffic, eventually,
};

use crate::scene::{DEADLINE, DUAL, Scene, V4};

pub(crate) fn a_node_is_switched_from_flannel() -> Result<()> {
    let conf = NetConf::new("vxlan", Families::Ipv4);
    switch(V4, &conf, Rules::Iptables(flannel::V0_28))
}

pub(crate) fn a_node_of_both_families_is_switched_from_flannel() -> Result<()> {
    let conf = NetConf::new("vxlan", Families::Dual);
    switch(DUAL, &conf, Rules::NfTables)
}

fn switch(text: &'static str, conf: &NetConf, rules: Rules) -> Result<()> {
    let scene = Scene::new(text)?;
    let hosts = ["a", "b", "c", "gone"].map(|name| scene.host(name));
    let [a, b, c, gone] = hosts;
    let (a, b, c, gone) = (a?, b?, c?, gone?);
    let node = |host, number| Node { host, number };
    let (a, b, c, gone) = (node(&a, 3), node(&b, 5), node(&c, 7), node(&gone, 9));
    for node in [&a, &b, &c] {
        scene.create_node(node.host.name(), node.number)?;
        let annotations = node.annotations(conf);
        let annotations: Vec<(&str, Option<&str>)> = annotations
            .iter()
            .map(|(name, text)| (name.as_str(), Some(text.as_str())))
            .collect();
        scene.annotate(node.host.name(), &annotations)?;
    }
    a.furnish(conf, &[&b, &c, &gone], rules)?;
    b.furnish(conf, &[&a, &c], rules)?;
    scene.lab.unplug(gone.host)?;
    // It was flannel's once, and has been rebooted since.
    let mut neighbour = scene.start(c.host, &[])?;
    neighbour.wait_ready()?;
    let mut old = [a.attach(conf, "old")?, a.attach(conf, "stays")?];
    let others = [b.attach(conf, "b1")?, c.host.pod("c1")?];
    eventually("the neighbour knows the others", DEADLINE, || {
        let targets = others[1].addresses();
        targets.iter().try_for_each(|to| old[0].ping(to).map(drop))
    })?;

    let before = a.host.snapshot()?.kernel();
    let index = indices(a.host)?;
    let pings = [
        Pings::between(&old[0], &others[0])?,
        Pings::between(&old[0], &others[1])?,
        Pings::between(&old[0], &old[1])?,
    ];
    let mut daemon = scene.start(a.host, &[])?;
    daemon.wait_ready()?;
    eventually("what is stale is gone", DEADLINE, || {
        is_taken_over(&a, &gone, &before).with_context(|| daemon.log_tail())
    })?;
    ensure!(indices(a.host)? == index, "a device was made anew: {index}");
    for node in [&a, &b, &c] {
        let (now, wanted) = (scene.annotations(node.host.name())?, node.annotations(conf));
        ensure!(now == wanted, "{wanted:#?} became {now:#?}");
    }

    // Pods from now on have addresses of their own and reach everybody.
    let routed = a.host.pod("routed")?;
    let bridged = a.host.pod_spec("bridged").conflist(FLANNEL_CONFLIST);
    let new = [routed, bridged.attach()?];
    let pods: Vec<&Pod> = old.iter().chain(&new).collect();
    let addresses: Vec<IpAddr> = pods.iter().flat_map(|pod| pod.addresses()).collect();
    let different: BTreeSet<&IpAddr> = addresses.iter().collect();
    ensure!(different.len() == addresses.len(), "{addresses:?}");
    for from in pods.iter().copied().chain(&others) {
        for to in &addresses {
            from.ping(to)?;
        }
        from.ping(&OUTSIDE)?;
    }

    // A pod of before goes as if flannel's plugin had been asked.
    old[1].hand_over(FLANNEL_CONFLIST)?;
    let [old, leaves] = old;
    pings.into_iter().try_for_each(Pings::finish)?;
    let released = leaves.addresses();
    let (id, links) = (leaves.container_id().to_owned(), links(a.host)?);
    leaves.delete()?;
    ensure!(
        self::links(a.host)? + 1 == links,
        "its link is there: {links}"
    );
    let reserved = |address: &IpAddr| a.host.path(RESERVATIONS).join(address.to_string()).exists();
    ensure!(!released.iter().any(reserved), "{released:?} is reserved");
    ensure!(old.addresses().iter().all(reserved), "released too much");
    let note = a.host.path(NOTES).join(id);
    ensure!(!note.exists(), "{} is there", note.display());
    ensure!(fs::read_dir(a.host.path(NOTES))?.count() > 0);
    old.ping(&others[0])?;
    Ok(())
}

/// How many links there are.
fn links(host: &Host) -> Result<usize> {
    Ok(host.exec(["ip", "-br", "link"])?.lines().count())
}
