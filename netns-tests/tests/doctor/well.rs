//! Nothing is broken.

use anyhow::{Result, ensure};
use netns_tests::{Endpoint, Traffic};

use crate::scene::{Scene, doctor, text, wait_cause};

pub(crate) fn a_node_that_is_well_is_told_so() -> Result<()> {
    let scene = Scene::new()?;
    let (a1, b1) = (scene.a.host.pod("a1")?, scene.b.host.pod("b1")?);
    a1.ping(&b1)?;
    let diagnosis = doctor(&scene.a.host, &[])?;
    ensure!(
        diagnosis.1 == 0 && diagnosis.cause().is_none(),
        "{:#}",
        diagnosis.0
    );
    let findings = diagnosis.0["findings"].as_array().into_iter().flatten();
    for finding in findings {
        ensure!(finding["verdict"] == "ok", "{finding:#}");
    }
    ensure!(
        diagnosis.0["apiVersion"] == "loden.doctor/v1" && diagnosis.0["peersAsked"] == 1,
        "{:#}",
        diagnosis.0
    );
    let mtu = diagnosis.finding("mtu")?;
    ensure!(
        mtu["evidence"][0] == "packets of 1450 bytes get through",
        "{mtu:#}"
    );
    // The peer by each of its names, and somebody who is none.
    let there = scene.b.host.subnets()?.remove(0);
    for name in [
        scene.b.host.ipv4().to_string(),
        there,
        b1.addresses()[0].to_string(),
    ] {
        let diagnosis = doctor(&scene.a.host, &["--peer", &name])?;
        ensure!(diagnosis.0["peersAsked"] == 1, "{name}: {:#}", diagnosis.0);
    }
    ensure!(
        doctor(&scene.a.host, &["--peer", "192.0.2.99"]).is_err(),
        "nobody is a peer"
    );
    let unasked = doctor(&scene.a.host, &["--probe", "0"])?;
    ensure!(
        unasked.verdict("reach")? == "notSeen" && unasked.1 == 0,
        "{:#}",
        unasked.0
    );
    let shown = text(&scene.a.host, &[])?;
    ensure!(shown.contains("all is well"), "{shown}");
    for line in shown.lines() {
        ensure!(
            line.chars().count() <= 80,
            "{line:?} is too wide in\n{shown}"
        );
    }
    Ok(())
}

pub(crate) fn without_a_daemon_what_works_is_told_to_work() -> Result<()> {
    let mut scene = Scene::new()?;
    scene.a.daemon.kill()?;
    let diagnosis = wait_cause(&scene.a.host, "daemon")?;
    ensure!(diagnosis.1 == 1, "{:#}", diagnosis.0);
    for check in [
        "device",
        "mac",
        "overlap",
        "firewall-forward",
        "peers",
        "reach",
        "mtu",
        "checksum",
    ] {
        ensure!(
            diagnosis.verdict(check)? == "ok",
            "{check}: {:#}",
            diagnosis.0
        );
    }
    for check in ["store", "lease"] {
        ensure!(
            diagnosis.verdict(check)? == "notSeen",
            "{check}: {:#}",
            diagnosis.0
        );
    }
    let shown = text(&scene.a.host, &[])?;
    ensure!(shown.contains("systemctl restart flanneld"), "{shown}");
    scene.cure(&diagnosis)?;
    ensure!(doctor(&scene.a.host, &[])?.1 == 0, "the daemon runs again");
    Ok(())
}

pub(crate) fn a_user_is_told_what_could_not_be_seen() -> Result<()> {
    let scene = Scene::new()?;
    let program = netns_tests::programs::find("flanneld")?;
    let program = program.to_string_lossy().into_owned();
    // Root without any capability may not do more than a user.
    let words = [
        "setpriv",
        "--bounding-set=-all",
        "--inh-caps=-all",
        "--reuid=65534",
        "--clear-groups",
        &program,
        "doctor",
        "-o",
        "json",
    ];
    let finished = scene.a.host.attempt(words)?;
    let diagnosis: serde_json::Value = serde_json::from_str(&finished.stdout)?;
    let verdict = |check: &str| {
        let mut findings = diagnosis["findings"].as_array().into_iter().flatten();
        let found = findings.find(|finding| finding["check"] == check);
        found.map(|finding| finding["verdict"].clone())
    };
    for check in ["daemon", "lease", "firewall-forward"] {
        ensure!(
            verdict(check) == Some("notSeen".into()),
            "{check} in {diagnosis:#}"
        );
    }
    for check in ["kernel", "uplink", "device", "overlap", "sysctls"] {
        ensure!(
            verdict(check) == Some("ok".into()),
            "{check} in {diagnosis:#}"
        );
    }
    Ok(())
}
