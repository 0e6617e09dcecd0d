//! Rules that somebody takes away, changes, doubles or puts beside ours.

use anyhow::{Context, Result, ensure};
use netns_tests::{Endpoint, Host, Lab, OUTSIDE, Traffic, eventually};
use nix::sys::signal::Signal;

use crate::scene::{FOLLOW, Scene, Way, rules, saved, start};

pub(crate) fn changed_tables_are_put_right() -> Result<()> {
    let scene = Scene::new(Way::NfTables)?;
    let changes = [
        "nft flush ruleset",
        "nft delete table ip flannel-ipv4",
        "nft delete table ip6 flannel-ipv6",
        "nft flush chain ip flannel-ipv4 postrtg",
        "nft flush chain ip6 flannel-ipv6 forward",
        "nft flush chain ip flannel-ipv4 rawpre; nft delete chain ip flannel-ipv4 rawpre",
        "nft delete rule ip flannel-ipv4 rawout handle $(nft -a list chain ip flannel-ipv4 rawout | sed -n 's/.*notrack.* handle //p')",
        "nft insert rule ip flannel-ipv4 postrtg ip saddr 10.244.0.0/16 return",
        "nft add rule ip flannel-ipv4 forward ip saddr 10.244.0.0/16 accept",
        "nft add chain ip6 flannel-ipv6 guest",
    ];
    put_right(&scene, &changes, || rules(&scene.a))
}

pub(crate) fn changed_rules_of_iptables_are_put_right() -> Result<()> {
    let scene = Scene::new(Way::Iptables)?;
    let mut changes = iptables_changes("nft");
    changes.push("nft flush ruleset".to_owned());
    changes.push("nft delete table ip nat".to_owned());
    put_right(&scene, &changes, || both(&scene.a, "nft"))
}

pub(crate) fn changed_rules_of_old_iptables_are_put_right() -> Result<()> {
    let scene = Scene::new(Way::OldIptables)?;
    let changes = iptables_changes("legacy");
    put_right(&scene, &changes, || both(&scene.a, "legacy"))
}

fn iptables_changes(suffix: &str) -> Vec<String> {
    let masq = "-m comment --comment 'flanneld masq'";
    let forward = "-m comment --comment 'flanneld forward'";
    [
        // Deleted: a rule, the way there, everything.
        "iptables -t nat -D FLANNEL-POSTRTG 5".to_owned(),
        format!("iptables -t nat -D POSTROUTING {masq} -j FLANNEL-POSTRTG"),
        format!("ip6tables -D FORWARD {forward} -j FLANNEL-FWD"),
        "iptables -t raw -F".to_owned(),
        "ip6tables -t raw -D OUTPUT 1".to_owned(),
        "iptables -t nat -F && iptables -t nat -X FLANNEL-POSTRTG".to_owned(),
        // Altered: order and content.
        "iptables -t nat -D FLANNEL-POSTRTG 1 && iptables -t nat -A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment 'flanneld masq' -j RETURN".to_owned(),
        "ip6tables -t nat -R FLANNEL-POSTRTG 6 -j RETURN".to_owned(),
        // Added: twice the same, and one of somebody's in our chain.
        format!("iptables -t nat -A POSTROUTING {masq} -j FLANNEL-POSTRTG"),
        format!("iptables -I FORWARD {forward} -j FLANNEL-FWD && iptables -I FORWARD {forward} -j FLANNEL-FWD"),
        "iptables -I FLANNEL-FWD -j DROP".to_owned(),
    ]
    .map(|change| {
        change
            .replace("ip6tables ", &format!("ip6tables-{suffix} "))
            .replace("iptables ", &format!("iptables-{suffix} "))
    })
    .into()
}

/// Each change is undone, and told of in a line for each run of a program, or for the transaction.
fn put_right(
    scene: &Scene,
    changes: &[impl AsRef<str>],
    look: impl Fn() -> Result<String>,
) -> Result<()> {
    let before = look()?;
    for change in changes.iter().map(AsRef::as_ref) {
        let told = repairs(scene);
        // Held still: a chain that it has put to use again after one step is not deleted by the next.
        scene.daemon_a.signal(Signal::SIGSTOP)?;
        let done = scene.a.sh(change);
        scene.daemon_a.signal(Signal::SIGCONT)?;
        done?;
        eventually("the rules are as before", FOLLOW, || {
            let now = look()?;
            ensure!(same(&now, &before), "now:\n{now}\nbefore:\n{before}");
            ensure!(repairs(scene) > told, "nothing was said");
            Ok(())
        })
        .with_context(|| format!("after `{change}`"))?;
        // One for each family.
        let lines = repairs(scene) - told;
        ensure!(
            lines <= 2,
            "{lines} lines after `{change}`:\n{}",
            scene.daemon_a.log()
        );
    }
    scene.a1.ping(&scene.b1)?;
    scene.a1.ping(&OUTSIDE)?;
    Ok(())
}

/// The same lines; where in the kernel's chains ours stand among others', and the order in which tables came into being, may differ.
fn same(now: &str, before: &str) -> bool {
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    sorted(now) == sorted(before)
}

fn repairs(scene: &Scene) -> usize {
    let log = scene.daemon_a.log();
    let objects = ["repaired: firewall:", "repaired: rules of"];
    objects
        .map(|object| log.matches(object).count())
        .iter()
        .sum()
}

/// What iptables of one variant keeps for both families. (Its programs leave empty chains in nf_tables, which mean nothing.)
fn both(host: &Host, suffix: &str) -> Result<String> {
    let ipv6 = host.sh(&format!(
        "ip6tables-{suffix}-save 2>/dev/null | sed -e '/^#/d' -e 's/ \\[.*\\]$//' -e 's/^/6 /'"
    ))?;
    Ok(saved(host, suffix)? + &ipv6)
}

/// kube-proxy changes rules all the time; a daemon that read all of them each time would be busy with that.
pub(crate) fn changes_of_others_cost_nothing() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_etcd()?;
    lab.put_net_conf(&Way::Iptables.conf())?;
    let a = lab.host("a")?;
    a.sh(
        "mkdir /run/counting
         printf '#!/bin/sh\\necho >> /run/count\\nexec %s\\n' \"$(command -v iptables-nft-save)\" > /run/counting/iptables-save
         chmod +x /run/counting/iptables-save
         iptables-nft -t nat -N KUBE-SERVICES
         iptables-nft -t nat -A POSTROUTING -j KUBE-SERVICES",
    )?;
    let arguments = ["--ip-masq", "--iptables-resync=3600"];
    let daemon = start(&lab, &a, Some("/run/counting"), &arguments)?;
    let count = || Ok::<_, anyhow::Error>(a.exec(["cat", "/run/count"])?.lines().count());
    let repair = |after: &str| -> Result<usize> {
        let told = daemon.log().matches("repaired: ").count();
        a.sh(after)?;
        eventually("it is put right", FOLLOW, || {
            ensure!(
                daemon.log().matches("repaired: ").count() > told,
                "{}",
                daemon.log_tail()
            );
            Ok(())
        })?;
        let mut last = count()?;
        // After a repair it looks once more.
        eventually("the daemon has come to rest", FOLLOW, || {
            let before = std::mem::replace(&mut last, count()?);
            ensure!(before == last, "it looks");
            Ok(last)
        })
    };
    let ours = "iptables-nft -t nat -D FLANNEL-POSTRTG 1";
    let rest = repair(ours)?;
    for number in 0..20 {
        a.sh(&format!(
            "iptables-nft -t nat -A KUBE-SERVICES -d 10.96.0.{number} -j RETURN"
        ))?;
    }
    a.sh("iptables-nft -t nat -F KUBE-SERVICES")?;
    // Notifications come in order, so the others have been heard by the time this one is.
    let then = repair(ours)?;
    ensure!(then < rest + 10, "read {rest} times, then {then} times");
    Ok(())
}
