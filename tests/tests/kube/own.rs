//! Our own Node: what is written into it, when, and with which permissions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use flanneld::store::kube::NodeName;
use flanneld::store::{LeaseStore, OwnEvent, StoreError};
use ipam::PerFamily;
use loden_tests::kube::{Audited, NAMESPACE};
use loden_tests::{eventually, next_that};
use serde_json::json;

use crate::scene::{
    CHART_ROLE, DUAL, MANIFEST, Member, Scene, cidrs, member, prefix, record, shared, user,
};

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, text)| ((*key).to_owned(), (*text).to_owned()))
        .collect()
}

fn written() -> BTreeMap<String, String> {
    texts(&[
        ("backend-data", r#"{"VNI":1,"VtepMAC":"12:00:00:00:00:01"}"#),
        ("backend-type", "vxlan"),
        (
            "backend-v6-data",
            r#"{"VNI":1,"VtepMAC":"16:00:00:00:00:01"}"#,
        ),
        ("kube-subnet-manager", "true"),
        ("public-ip", "192.0.2.1"),
        ("public-ipv6", "2001:db8::1"),
    ])
}

pub(crate) async fn annotations_are_flannels_to_the_byte(program: PathBuf) -> Result<()> {
    let (server, cluster) = shared(&program).await?;
    let (member, daemon) = member(server, &cluster, "byte", &prefix(), 1).await?;
    assert_eq!(member.annotations(&cluster).await?, written());
    assert_eq!(
        daemon.lease.key.to_string(),
        "10.244.1.0-24&fd00:10:0:1::-64"
    );
    assert_eq!(daemon.lease.expires, None);
    Ok(())
}

/// flannel crashes on such a Node (its defect D21).
pub(crate) async fn a_node_without_annotations_is_no_trouble(program: PathBuf) -> Result<()> {
    let (server, cluster) = shared(&program).await?;
    cluster.create_node("bare", &["10.244.1.0/24"]).await?;
    let node = cluster.node("bare").await?;
    ensure!(
        node["metadata"].get("annotations").is_none(),
        "it has some: {node}"
    );
    // Without slash, with slash, and with a name behind it: the three kinds of prefixes.
    for (given, whole) in [
        ("bare.example.com/", "bare.example.com/"),
        ("bare.example.com/9", "bare.example.com/9-"),
    ] {
        let conf = r#"{"Network":"10.244.0.0/16","Backend":{"Type":"host-gw"}}"#;
        let member = Member::new(server, &cluster, "bare", given, conf).await?;
        let mut record = record(1);
        record.public.v6 = None;
        record.backend = ipam::LeaseBackend::HostGw;
        let _daemon = member.run(record).await?;
        let found = cluster.annotations("bare", whole).await?;
        let found: BTreeMap<String, String> = found
            .into_iter()
            .filter(|(key, _)| given.contains('9') || !key.contains("/9-"))
            .map(|(key, text)| (key.trim_start_matches(whole).to_owned(), text))
            .collect();
        assert_eq!(
            found,
            texts(&[
                ("backend-data", "null"),
                ("backend-type", "host-gw"),
                ("kube-subnet-manager", "true"),
                ("public-ip", "192.0.2.1"),
            ])
        );
    }
    Ok(())
}

pub(crate) async fn a_pod_cidr_may_come_late(program: PathBuf) -> Result<()> {
    let (server, cluster) = shared(&program).await?;
    let member = Member::new(server, &cluster, "late", &prefix(), DUAL).await?;
    let running = tokio::spawn({
        let store = member.store()?;
        let conf = member.conf.clone();
        async move { flanneld::store::wait_for_lease(&store, &conf, &record(1), None).await }
    });
    cluster.create_node("late", &[]).await?;
    // The store must have seen the Node without them; what it does is the same at each moment, so no moment has to be hit.
    let other = member.store()?;
    let error = other
        .acquire(&member.conf, &record(1), None)
        .await
        .unwrap_err();
    ensure!(matches!(error, StoreError::NotAssigned { .. }), "{error:?}");
    ensure!(
        error.to_string().contains("--allocate-node-cidrs"),
        "{error}"
    );
    ensure!(member.annotations(&cluster).await?.is_empty(), "too early");
    let cidrs = cidrs(1);
    cluster
        .give_pod_cidrs("late", &[&cidrs[0], &cidrs[1]])
        .await?;
    let lease = running.await??;
    assert_eq!(lease.key.to_string(), "10.244.1.0-24&fd00:10:0:1::-64");
    assert_eq!(member.annotations(&cluster).await?, written());
    Ok(())
}

pub(crate) async fn a_pod_cidr_outside_the_network_is_told_and_waited_out(
    program: PathBuf,
) -> Result<()> {
    let (server, cluster) = shared(&program).await?;
    cluster.create_node("outside", &["10.99.1.0/24"]).await?;
    let member = Member::new(server, &cluster, "outside", &prefix(), DUAL).await?;
    let store = member.store()?;
    let error = store
        .acquire(&member.conf, &record(1), None)
        .await
        .unwrap_err();
    ensure!(error.may_pass(), "{error:?}");
    let text = error.to_string();
    ensure!(
        text.contains("10.99.1.0/24") && text.contains("outside") && text.contains("10.244.0.0/16"),
        "{text}"
    );
    ensure!(
        member.annotations(&cluster).await?.is_empty(),
        "written all the same"
    );
    cluster.delete_node("outside").await?;
    cluster.create_node("outside", &["10.244.1.0/24"]).await?;
    let lease = flanneld::store::wait_for_lease(&store, &member.conf, &record(1), None).await?;
    assert_eq!(lease.key.to_string(), "10.244.1.0-24");
    Ok(())
}

/// flannel restores nothing until it is restarted (its defect D3).
pub(crate) async fn what_is_stripped_is_put_back(program: PathBuf) -> Result<()> {
    let (server, cluster) = shared(&program).await?;
    let (member, daemon) = member(server, &cluster, "stripped", &prefix(), 1).await?;
    let all: Vec<(String, Option<&str>)> = written()
        .into_keys()
        .map(|key| (member.key(&key), None))
        .collect();
    for change in [
        all,
        vec![(member.key("public-ip"), Some("192.0.2.66"))],
        vec![(member.key("kube-subnet-manager"), Some("false"))],
    ] {
        cluster.annotate("stripped", &change).await?;
        eventually("the annotations are back", async || {
            (member.annotations(&cluster).await.ok()? == written()).then_some(())
        })
        .await?;
    }
    // What the daemon wants anew is written, too.
    daemon.record.send_replace(record(2));
    eventually("the new record stands there", async || {
        let found = member.annotations(&cluster).await.ok()?;
        (found.get("public-ip").map(String::as_str) == Some("192.0.2.2")).then_some(())
    })
    .await
}

pub(crate) async fn people_overwrite_the_public_address(program: PathBuf) -> Result<()> {
    let (server, cluster) = shared(&program).await?;
    let (member, _daemon) = member(server, &cluster, "overwritten", &prefix(), 1).await?;
    let public = async |expected: &str| {
        eventually(&format!("the public address is {expected}"), async || {
            let found = member.annotations(&cluster).await.ok()?;
            (found.get("public-ip").map(String::as_str) == Some(expected)).then_some(())
        })
        .await
    };
    let overwrite = |text| [(member.key("public-ip-overwrite"), text)];
    cluster
        .annotate("overwritten", &overwrite(Some("203.0.113.5")))
        .await?;
    public("203.0.113.5").await?;
    cluster.annotate("overwritten", &overwrite(None)).await?;
    public("192.0.2.1").await
}

pub(crate) async fn people_wish_a_public_address_and_macs_are_kept(program: PathBuf) -> Result<()> {
    let (server, cluster) = shared(&program).await?;
    let prefix = prefix();
    let (first, _) = member(server, &cluster, "wished", &prefix, 1).await?;
    cluster
        .annotate(
            "wished",
            &[(first.key("node-public-ip"), Some("192.0.2.200"))],
        )
        .await?;
    let known = first.store()?.this_node(&first.conf).await?;
    assert_eq!(known.public, PerFamily::v4([192, 0, 2, 200].into()));
    assert_eq!(known.macs.v4, Some(ipam::Mac([0x12, 0, 0, 0, 0, 1])));
    assert_eq!(known.macs.v6, Some(ipam::Mac([0x16, 0, 0, 0, 0, 1])));
    Ok(())
}

/// flannel goes on with the former one (its defect D2).
pub(crate) async fn another_pod_cidr_moves_the_node(program: PathBuf) -> Result<()> {
    let (server, cluster) = shared(&program).await?;
    let (member, mut daemon) = member(server, &cluster, "moved", &prefix(), 1).await?;
    cluster.delete_node("moved").await?;
    let reason = next_that(&mut daemon.own, |event| match event {
        OwnEvent::Lost { reason } => Some(reason),
        _ => None,
    })
    .await?;
    ensure!(reason.contains("no Node moved"), "{reason}");
    let cidrs = cidrs(7);
    cluster
        .create_node("moved", &[&cidrs[0], &cidrs[1]])
        .await?;
    let lease = next_that(&mut daemon.own, |event| match event {
        OwnEvent::Moved(lease) => Some(lease),
        _ => None,
    })
    .await?;
    assert_eq!(lease.key.to_string(), "10.244.7.0-24&fd00:10:0:7::-64");
    assert_eq!(member.annotations(&cluster).await?, written());
    // The same subnets again after a deletion are no move.
    cluster.delete_node("moved").await?;
    next_that(&mut daemon.own, |event| {
        matches!(event, OwnEvent::Lost { .. }).then_some(())
    })
    .await?;
    cluster
        .create_node("moved", &[&cidrs[0], &cidrs[1]])
        .await?;
    next_that(&mut daemon.own, |event| match event {
        OwnEvent::Reacquired(_) => Some(()),
        OwnEvent::Moved(lease) => panic!("moved to {lease:?}"),
        _ => None,
    })
    .await
}

/// flannel tries once (its defect D14).
pub(crate) async fn the_condition_is_set_and_kept(program: PathBuf) -> Result<()> {
    let (server, cluster) = shared(&program).await?;
    let (_member, daemon) = member(server, &cluster, "condition", &prefix(), 1).await?;
    let condition = async || {
        let node = cluster.node("condition").await.ok()?;
        let conditions = node["status"]["conditions"].as_array()?.clone();
        conditions
            .into_iter()
            .find(|condition| condition["type"] == "NetworkUnavailable")
    };
    cluster
        .set_condition("condition", "NetworkUnavailable", "True", "NoRouteCreated")
        .await?;
    ensure!(
        condition().await.unwrap()["status"] == "True",
        "before the network works"
    );
    daemon.works.send_replace(true);
    let is_up = async || condition().await.filter(|c| c["status"] == "False");
    let up = eventually("the condition is False", is_up).await?;
    assert_eq!(
        (&up["reason"], &up["message"]),
        (
            &json!("FlannelIsUp"),
            &json!("Flannel is running on this node")
        )
    );
    cluster
        .set_condition("condition", "NetworkUnavailable", "True", "Mistaken")
        .await?;
    eventually("the condition is False again", is_up)
        .await
        .map(drop)
}

pub(crate) async fn the_pod_tells_the_node(program: PathBuf) -> Result<()> {
    let (server, cluster) = shared(&program).await?;
    cluster.create_node("hosting", &["10.244.1.0/24"]).await?;
    let post = async |path: String, body: serde_json::Value| {
        let request = http::Request::post(path).body(body.to_string().into_bytes())?;
        anyhow::Ok(
            cluster
                .client()
                .request::<serde_json::Value>(request)
                .await?,
        )
    };
    post(
        format!("/api/v1/namespaces/{NAMESPACE}/pods"),
        json!({"metadata": {"name": "daemon"}, "spec": {"nodeName": "hosting", "serviceAccountName": "flannel",
               "containers": [{"name": "c", "image": "i"}]}}),
    )
    .await?;
    let mut member = Member::new(server, &cluster, "hosting", &prefix(), DUAL).await?;
    member.config.access.node = NodeName::OfPod {
        namespace: NAMESPACE.to_owned(),
        name: "daemon".to_owned(),
    };
    // The role of the manifest names the Node by a variable and so does without this permission, which flannel's own has.
    let leasing = tokio::spawn({
        let (store, conf) = (member.store()?, member.conf.clone());
        async move { flanneld::store::wait_for_lease(&store, &conf, &record(1), None).await }
    });
    post(
        "/apis/rbac.authorization.k8s.io/v1/clusterroles".to_owned(),
        json!({"metadata": {"name": "pods"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}),
    )
    .await?;
    post(
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings".to_owned(),
        json!({"metadata": {"name": "pods"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "pods"},
               "subjects": [{"kind": "ServiceAccount", "name": "flannel", "namespace": NAMESPACE}]}),
    )
    .await?;
    let lease = leasing.await??;
    assert_eq!(lease.key.to_string(), "10.244.1.0-24");
    Ok(())
}

/// A whole life on a server of its own: start, peers, repair, condition. The role allows nothing that was not used.
pub(crate) async fn only_permissions_of_the_manifest_are_used_and_all_are(
    program: PathBuf,
) -> Result<()> {
    let scene = Scene::start(&program).await?;
    let (server, cluster) = (&scene.server, &scene.cluster);
    let prefix = prefix();
    let (a, mut daemon) = member(server, cluster, "a", &prefix, 1).await?;
    let (_b, _other) = member(server, cluster, "b", &prefix, 2).await?;
    loden_tests::next_that(&mut daemon.peers, |event| match event {
        flanneld::store::PeerEvent::Changed(_) => Some(()),
        flanneld::store::PeerEvent::Snapshot { peers, .. } => (!peers.is_empty()).then_some(()),
        _ => None,
    })
    .await?;
    daemon.works.send_replace(true);
    cluster.annotate("a", &[(a.key("public-ip"), None)]).await?;
    eventually("everything is as it should be", async || {
        let node = cluster.node("a").await.ok()?;
        let conditions = node["status"]["conditions"].to_string();
        (conditions.contains("FlannelIsUp") && a.annotations(cluster).await.ok()? == written())
            .then_some(())
    })
    .await?;
    // The chart's role has no variable in its rules.
    let of_chart = granted(Path::new(CHART_ROLE))?;
    let granted = granted(Path::new(MANIFEST))?;
    assert_eq!(of_chart, granted);
    // A watch is logged when it ends, unless it is logged at its start, too; which it is.
    eventually("the audit log has every permission", async || {
        let used = server.audited(&user()).ok()?;
        (used == granted).then_some(())
    })
    .await
    .map_err(|error| {
        anyhow::anyhow!(
            "{error}: granted {granted:#?}, used {:#?}",
            server.audited(&user())
        )
    })
}

/// What the manifest's ClusterRole grants, each verb for each resource.
fn granted(manifest: &Path) -> Result<BTreeSet<Audited>> {
    let text = std::fs::read_to_string(manifest)?;
    let role = text
        .split("\n---\n")
        .find(|document| document.contains("\nkind: ClusterRole\n"));
    let words = |line: &str| -> Vec<String> {
        let list = line.split_once('[').map_or("", |(_, list)| list);
        list.trim_end_matches(']')
            .split(',')
            .map(|word| word.trim().to_owned())
            .collect()
    };
    let mut granted = BTreeSet::new();
    let mut resources = Vec::new();
    for line in role.unwrap_or_default().lines().map(str::trim) {
        if line.starts_with("resources:") {
            resources = words(line);
        } else if line.starts_with("verbs:") {
            for verb in words(line) {
                granted.extend(resources.iter().map(|resource| Audited {
                    verb: verb.clone(),
                    resource: resource.clone(),
                    allowed: true,
                }));
            }
        }
    }
    ensure!(granted.len() >= 4, "the manifest grants only {granted:?}");
    Ok(granted)
}
