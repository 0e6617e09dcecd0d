//! What the doctor says of Nodes and of the API server's clock.

use anyhow::{Result, ensure};
use netns_tests::clock::apart;
use netns_tests::doctor::{Diagnosis, ask, furnish, wait_cause, wait_cured};

use crate::scene::{Scene, V4, all_talk, wait_tunnel};

/// A Node's name, its subnet, its annotations; what the doctor says then, and its exit status.
type Wrong<'a> = (
    &'a str,
    &'a str,
    &'a [(&'a str, Option<&'a str>)],
    &'a str,
    i32,
);

const OURS: (&str, Option<&str>) = ("kube-subnet-manager", Some("true"));
const VXLAN: (&str, Option<&str>) = ("backend-type", Some("vxlan"));
const DATA: &str = r#"{"VNI":1,"VtepMAC":"02:00:00:00:00:11"}"#;

const WRONG: [Wrong<'static>; 4] = [
    (
        "bare",
        "10.244.40.0/24",
        &[],
        "Node bare has a podCIDR and is not in this network: it has no annotations of this network",
        1,
    ),
    (
        "broken",
        "10.244.41.0/24",
        &[
            OURS,
            VXLAN,
            ("backend-data", Some(r#"{"VtepMAC":"#)),
            ("public-ip", Some("192.0.2.41")),
        ],
        "nothing is sent to Node broken: annotation backend-data",
        2,
    ),
    (
        "other",
        "10.244.42.0/24",
        &[
            OURS,
            ("backend-type", Some("host-gw")),
            ("backend-data", Some("null")),
            ("public-ip", Some("192.0.2.42")),
        ],
        "nothing is sent to the Node of 10.244.42.0/24 at 192.0.2.42: it is a lease of backend host-gw",
        2,
    ),
    (
        "outside",
        "198.18.43.0/24",
        &[
            OURS,
            VXLAN,
            ("backend-data", Some(DATA)),
            ("public-ip", Some("192.0.2.43")),
        ],
        "podCIDR 198.18.43.0/24 lies outside Network 10.244.0.0/16",
        2,
    ),
];

fn says(diagnosis: &Diagnosis, expected: &str, status: i32) -> Result<()> {
    ensure!(
        diagnosis.evidence().starts_with(expected) && diagnosis.1 == status,
        "not {expected:?}: {:#}",
        diagnosis.0
    );
    ensure!(!diagnosis.commands().is_empty(), "{:#}", diagnosis.0);
    Ok(())
}

pub(crate) fn annotations_that_cannot_be_used_are_named() -> Result<()> {
    let scene = Scene::new(V4)?;
    let mut members = scene.members()?;
    let host = members[0].host.clone();
    furnish(&host)?;
    wait_cured(&host)?;
    let well = ask(&host, &[])?;
    ensure!(
        well.finding("kubernetes")?["evidence"][0]
            == "the podCIDRs of 3 Nodes lie in Network, their annotations can be used",
        "{:#}",
        well.0
    );
    for (name, subnet, annotations, expected, status) in WRONG {
        scene.admin(|cluster| async move { cluster.create_node(name, &[subnet]).await })?;
        scene.annotate(name, annotations)?;
        let diagnosis = netns_tests::eventually(
            &format!("the doctor tells of {name}"),
            crate::scene::DEADLINE,
            || {
                let diagnosis = wait_cause(&host, "kubernetes")?;
                says(&diagnosis, expected, status)?;
                Ok(diagnosis)
            },
        )?;
        let names_it = diagnosis
            .commands()
            .iter()
            .any(|(_, command)| command.starts_with("kubectl "));
        ensure!(names_it, "{:#}", diagnosis.0);
        scene.admin(|cluster| async move { cluster.delete_node(name).await })?;
        wait_cured(&host)?;
    }

    // Stripped while its daemon does not look on; the remedy starts one.
    members[2].daemon.kill()?;
    let written = scene.annotations("c")?;
    let strip: Vec<(&str, Option<&str>)> =
        written.keys().map(|name| (name.as_str(), None)).collect();
    scene.annotate("c", &strip)?;
    let diagnosis = wait_cause(&host, "kubernetes")?;
    says(
        &diagnosis,
        "used in part: Node c: its annotations are gone",
        1,
    )?;
    ensure!(
        diagnosis.commands()[0].1
            == "kubectl -n kube-flannel delete pod -l app=flannel --field-selector spec.nodeName=c",
        "{:#}",
        diagnosis.0
    );
    members[2].daemon.restart()?;
    members[2].daemon.wait_ready()?;
    wait_cured(&host)
}

/// Of two Nodes with one podCIDR the older one is sent to; that the other is to go is told on every host, on its own, too.
pub(crate) fn two_nodes_with_one_pod_cidr_are_told_apart() -> Result<()> {
    let scene = Scene::new(V4)?;
    let members = scene.members()?;
    let d = scene.host("d")?;
    scene.create_node("d", 2)?;
    let mut daemon = scene.start(&d, &[])?;
    daemon.wait_ready()?;
    let a = &members[0].host;
    for (host, expected) in [
        (
            a,
            "Node d is left out: it has 10.244.2.0/24, as has Node b, which came first",
        ),
        (
            &d,
            "Node b is left out: it has 10.244.2.0/24, as has this Node (d), and came first: other nodes send there",
        ),
    ] {
        furnish(host)?;
        let diagnosis = wait_cause(host, "duplicates")?;
        says(&diagnosis, expected, 2)?;
        ensure!(
            diagnosis.commands()[0].1 == "kubectl delete node d",
            "{:#}",
            diagnosis.0
        );
    }
    members[0].daemon.wait_log("Node d is left out: it has")?;
    wait_tunnel(&members[0], 4, &["10.244.2.0/24", &members[1].mac(4)?], &[])?;

    scene.admin(|cluster| async move { cluster.delete_node("d").await })?;
    daemon.wait_log("there is no Node d")?;
    scene.create_node("d", 4)?;
    wait_cured(a)?;
    wait_cured(&d)?;
    d.wait_peers(members.iter().map(|member| &member.host))?;
    for member in &members {
        member.host.wait_peers([&d])?;
    }
    all_talk(&[d.pod("d1")?, members[1].host.pod("b1")?, a.pod("a1")?])
}

pub(crate) fn a_clock_apart_from_the_api_servers_is_named() -> Result<()> {
    let ahead = apart(600)?;
    let scene = Scene::new(V4)?;
    let members = scene.members()?;
    let host = members[0].host.clone();
    furnish(&host)?;
    wait_cured(&host)?;
    let well = ask(&host, &[])?;
    ensure!(
        well.finding("clock")?["evidence"][0] == "the same as the store's",
        "{:#}",
        well.0
    );
    let late = scene.host("d")?;
    furnish(&late)?;
    scene.create_node("d", 4)?;
    let mut daemon = scene.start_under(&late, &[], &ahead)?;
    daemon.wait_ready()?;
    let diagnosis = wait_cause(&late, "clock")?;
    says(
        &diagnosis,
        "this host's clock is 10 min ahead of that of kubernetes",
        1,
    )
}
