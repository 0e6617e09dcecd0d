//! What new pods need is broken.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};
use netns_tests::eventually;

use crate::scene::{FOLLOW, PROGRAMS, Scene, doctor};

pub(crate) fn a_pool_full_of_what_is_gone_is_emptied_by_fix() -> Result<()> {
    let mut scene = Scene::with_conf(
        r#"{"Network": "10.244.0.0/16", "SubnetLen": 29, "Backend": {"Type": "vxlan"}}"#,
    )?;
    let host = scene.a.host.clone();
    // While the daemon runs, it takes them away itself.
    scene.a.daemon.kill()?;
    let mut pods = 0;
    for number in 0..16 {
        match host.pod(&format!("a{number}")) {
            Ok(mut pod) => {
                pod.lose_netns()?;
                pods += 1;
            }
            Err(_) => break,
        }
    }
    ensure!(pods == 5, "{pods} pods");
    // The kernel takes namespaces down one after the other.
    let diagnosis = eventually("all of them are gone", FOLLOW, || {
        let diagnosis = scene.wait_cause("pods")?;
        let all = "5 of 5 reservations are of pods that are gone";
        ensure!(diagnosis.evidence().starts_with(all), "{:#}", diagnosis.0);
        Ok(diagnosis)
    })?;
    let full = diagnosis.finding("addresses")?;
    ensure!(
        full["verdict"] == "fail" && full["followsFrom"] == "pods",
        "{full:#}"
    );
    scene.cure(&diagnosis)?;
    host.pod("after").map(drop)
}

pub(crate) fn a_conflist_that_comes_first_is_taken_out_of_the_way() -> Result<()> {
    let mut scene = Scene::new()?;
    fs::write(
        scene.a.host.path("/etc/cni/net.d/05-cilium.conflist"),
        r#"{"name":"cilium","plugins":[{"type":"cilium-cni"}]}"#,
    )?;
    let diagnosis = scene.wait_cause("conflist")?;
    ensure!(
        diagnosis
            .evidence()
            .contains("05-cilium.conflist (cilium-cni) before 10-flannel.conflist"),
        "{:#}",
        diagnosis.0
    );
    scene.cure(&diagnosis)
}

pub(crate) fn a_program_of_another_version_is_replaced() -> Result<()> {
    let mut scene = Scene::new()?;
    let path = scene.a.host.path(PROGRAMS).join("flannel");
    fs::remove_file(&path)?;
    fs::write(
        &path,
        "#!/bin/sh\necho 'CNI flannel plugin v0.0.7 (Loden)' >&2\n",
    )?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    let diagnosis = scene.wait_cause("cni-programs")?;
    ensure!(
        diagnosis.1 == 1 && diagnosis.evidence().contains("is of version 0.0.7"),
        "{:#}",
        diagnosis.0
    );
    scene.cure(&diagnosis)?;
    fs::remove_file(&path)?;
    let diagnosis = doctor(&scene.a.host, &[])?;
    ensure!(
        diagnosis.cause() == Some("cni-programs") && diagnosis.1 == 2,
        "{:#}",
        diagnosis.0
    );
    scene.cure(&diagnosis)
}
