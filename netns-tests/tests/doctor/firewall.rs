//! Firewalls of the kinds of iptables that drop what is forwarded for pods.

use anyhow::{Result, ensure};
use netns_tests::Endpoint;
use netns_tests::{Traffic, skip};

use crate::scene::{Scene, doctor};

/// Rules of nf_tables, so that nothing of ours stands in iptables' chains.
const CONF: &str =
    r#"{"Network": "10.244.0.0/16", "EnableNFTables": true, "Backend": {"Type": "vxlan"}}"#;

/// What Docker does, and many administrators: everything forwarded is dropped unless a rule accepts it.
fn drops_by_policy(suffix: &str, evidence: &str, program: &str) -> Result<()> {
    let mut scene = Scene::with_conf(CONF)?;
    let iptables = format!("iptables-{suffix}");
    let there = scene.a.host.attempt([iptables.as_str(), "--version"])?;
    if !there.status.success() {
        return skip(format!("there is no {iptables} here"));
    }
    let (a1, b1) = (scene.a.host.pod("a1")?, scene.b.host.pod("b1")?);
    a1.ping(&b1)?;
    // While the daemon runs, it accepts the pods' packets there by itself.
    scene.a.daemon.kill()?;
    scene.a.host.sh(&format!(
        "{iptables} -P FORWARD DROP && {iptables} -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"
    ))?;
    ensure!(a1.ping(&b1).is_err(), "nothing is broken");
    let diagnosis = scene.wait_cause("firewall-forward")?;
    ensure!(
        diagnosis.1 == 2 && diagnosis.evidence().starts_with(evidence),
        "{:#}",
        diagnosis.0
    );
    let commands: Vec<String> = diagnosis
        .commands()
        .into_iter()
        .map(|(_, command)| command)
        .collect();
    let expected = ["s", "d"]
        .map(|direction| format!("{program} -I FORWARD -{direction} 10.244.0.0/16 -j ACCEPT"));
    ensure!(commands == expected, "{commands:#?}");
    scene.cure(&diagnosis)?;
    a1.ping(&b1)?;
    b1.ping(&a1).map(drop)
}

pub(crate) fn a_forward_policy_of_iptables_is_named() -> Result<()> {
    drops_by_policy(
        "nft",
        "the chain FORWARD of the table ip filter drops packets between pods",
        "iptables",
    )
}

pub(crate) fn a_forward_policy_of_the_old_iptables_is_named() -> Result<()> {
    drops_by_policy(
        "legacy",
        "the chain FORWARD of iptables-legacy drops IPv4 packets of pods by its policy",
        "iptables-legacy",
    )
}

/// A rule in a chain that is called from FORWARD, in front of whatever accepts: as ufw and firewalls made by hand have it.
pub(crate) fn a_rule_behind_a_jump_is_named_by_its_place() -> Result<()> {
    let mut scene = Scene::with_conf(CONF)?;
    if !scene
        .a
        .host
        .attempt(["iptables-nft", "--version"])?
        .status
        .success()
    {
        return skip("there is no iptables-nft here");
    }
    let (a1, b1) = (scene.a.host.pod("a1")?, scene.b.host.pod("b1")?);
    scene.a.host.sh(
        "iptables-nft -N OFFICE && iptables-nft -A OFFICE -p icmp -j RETURN\n\
         iptables-nft -A OFFICE -d 10.244.0.0/16 -j DROP && iptables-nft -A FORWARD -j OFFICE",
    )?;
    ensure!(a1.tcp_echo(&b1).is_err(), "nothing is broken");
    let diagnosis = scene.wait_cause("firewall-forward")?;
    ensure!(
        diagnosis
            .evidence()
            .contains("rule 2 in the chain OFFICE of the table ip filter drops"),
        "{:#}",
        diagnosis.0
    );
    scene.cure(&diagnosis)?;
    a1.tcp_echo(&b1)?;
    // What --fix would have done is done.
    ensure!(
        doctor(&scene.a.host, &["--fix"])?.0["fixed"].is_null(),
        "there is something left to fix"
    );
    Ok(())
}
