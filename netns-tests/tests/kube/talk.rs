//! Pods of hosts that take their subnets from Kubernetes talk.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use netns_tests::{Daemon, Endpoint, OUTSIDE, OUTSIDE_V6, Traffic, eventually, programs};

use crate::scene::{DEADLINE, DUAL, Member, Scene, V4, all_talk, meet};

/// Outside the cluster, with a kubeconfig file and the configuration in any place.
pub(crate) fn pods_talk_across_hosts_in_ipv4() -> Result<()> {
    let scene = Scene::new(V4)?;
    let member = |name: &str, number| -> Result<Member> {
        let host = scene.lab.host(name)?;
        scene.create_node(name, number)?;
        let token_file = scene.server.path(&format!("{name}.token"));
        std::fs::write(&token_file, scene.token()?)?;
        let kubeconfig = format!("{name}.kubeconfig");
        let kubeconfig = scene.server.write_kubeconfig(&kubeconfig, &token_file)?;
        let net_conf: PathBuf = scene.server.path(&format!("{name}.json"));
        std::fs::write(&net_conf, V4)?;
        let arguments = [
            "--kube-subnet-mgr".to_owned(),
            "--ip-masq".to_owned(),
            format!("--kubeconfig-file={}", kubeconfig.display()),
            format!("--net-config-path={}", net_conf.display()),
        ];
        let program = programs::find("flanneld")?;
        let mut daemon = Daemon::start(&host, &program, arguments, &[("NODE_NAME", name)])?;
        daemon.wait_ready()?;
        Ok(Member { host, daemon })
    };
    let members = [member("a", 1)?, member("b", 2)?, member("c", 3)?];
    meet(&members)?;
    talk(&scene, &members)
}

/// In a pod, as the manifest has it, with the API server behind the address of its Service.
pub(crate) fn pods_talk_across_hosts_in_both_families() -> Result<()> {
    let scene = Scene::new(DUAL)?;
    let members = scene.members()?;
    talk(&scene, &members)
}

fn talk(scene: &Scene, members: &[Member; 3]) -> Result<()> {
    let pods = [
        members[0].host.pod("a1")?,
        members[1].host.pod("b1")?,
        members[2].host.pod("c1")?,
    ];
    let families = scene.cidrs(1).len();
    ensure!(
        pods.iter().all(|pod| pod.addresses().len() == families),
        "pods lack addresses"
    );
    all_talk(&pods)?;
    pods[0].ping(&OUTSIDE)?;
    if families == 2 {
        pods[0].ping(&OUTSIDE_V6)?;
    }
    // The network works, so the scheduler is told.
    eventually("NetworkUnavailable is False on each Node", DEADLINE, || {
        for member in members {
            let name = member.host.name();
            let node = scene.admin(|cluster| async move { cluster.node(name).await })?;
            let conditions = node["status"]["conditions"].to_string();
            ensure!(conditions.contains("FlannelIsUp"), "{name}: {conditions}");
        }
        Ok(())
    })
}
