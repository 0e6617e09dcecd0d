//! How the API server is reached: from a pod, with a file, with a file and an address; and what listing a large cluster costs.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use futures::stream;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::child::{Job, in_a_pod, printed, tell};
use crate::scene::{DUAL, Member, Scene, prefix, record, shared};

/// In the file stands a server that does not answer.
pub(crate) async fn an_address_goes_before_that_of_the_file(program: PathBuf) -> Result<()> {
    let (server, cluster) = shared(&program).await?;
    cluster.create_node("addressed", &["10.244.1.0/24"]).await?;
    let mut member = Member::new(server, &cluster, "addressed", &prefix(), DUAL).await?;
    let file = member.config.access.kubeconfig.clone().context("no file")?;
    let text = std::fs::read_to_string(&file)?;
    let elsewhere = text.replace(&server.url(), "https://127.0.0.1:1");
    ensure!(elsewhere != text, "the file has another server: {text}");
    std::fs::write(&file, elsewhere)?;
    member.config.access.api_url = Some(server.url());
    let daemon = member.run(record(1)).await?;
    assert_eq!(daemon.lease.key.to_string(), "10.244.1.0-24");
    Ok(())
}

/// The files of the service account, and the two variables that the kubelet sets in every container.
pub(crate) async fn a_pod_needs_no_settings(program: PathBuf) -> Result<()> {
    let (server, cluster) = shared(&program).await?;
    cluster.create_node("in-a-pod", &["10.244.1.0/24"]).await?;
    let mut member = Member::new(server, &cluster, "in-a-pod", &prefix(), DUAL).await?;
    member.config.access.kubeconfig = None;
    let files = server.path("in-a-pod");
    std::fs::create_dir(&files)?;
    std::fs::copy(&member.token_file, files.join("token"))?;
    std::fs::copy(server.path("certs/apiserver.crt"), files.join("ca.crt"))?;
    std::fs::write(files.join("namespace"), "kube-flannel")?;
    let mut command = in_a_pod(&files)?;
    tell(&mut command, Job::Lease, &member.config)?;
    command
        .env("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        .env("KUBERNETES_SERVICE_PORT", server.port().to_string());
    assert_eq!(printed(command).await?, "10.244.1.0-24");
    let found = member.annotations(&cluster).await?;
    assert_eq!(
        found.get("public-ip").map(String::as_str),
        Some("192.0.2.1")
    );
    Ok(())
}

/// A Node as large as those of busy clusters: most of it are the images that it has.
fn large(number: usize, prefix: &str) -> Result<Node> {
    let images: Vec<serde_json::Value> = (0..50)
        .map(|image| {
            let name = format!("registry.example.org/team-{image}/some-service-{number}");
            let digest = format!("{:064x}", number * 1000 + image);
            json!({"names": [format!("{name}@sha256:{digest}"), format!("{name}:v1.{image}.{number}")], "sizeBytes": 123_456_789})
        })
        .collect();
    let (high, low) = (number / 256, number % 256);
    let cidr = format!("10.{}.{low}.0/24", 100 + high);
    Ok(serde_json::from_value(json!({
        "metadata": {"name": format!("large-{number}"), "annotations": {
            format!("{prefix}/kube-subnet-manager"): "true",
            format!("{prefix}/backend-type"): "vxlan",
            format!("{prefix}/backend-data"): format!(r#"{{"VNI":1,"VtepMAC":"0a:00:00:00:{high:02x}:{low:02x}"}}"#),
            format!("{prefix}/public-ip"): format!("172.16.{high}.{low}"),
        }},
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
        "status": {"images": images, "conditions": [{"type": "Ready", "status": "True"}]},
    }))?)
}

/// Nodes come in pages, and of each only what matters is kept. `LODEN_NODES=5000` makes as many.
pub(crate) async fn a_large_cluster_costs_little_memory(program: PathBuf) -> Result<()> {
    let count: usize = match std::env::var("LODEN_NODES") {
        Ok(text) => text.parse().context("LODEN_NODES")?,
        Err(_) => 500,
    };
    let scene = Scene::start(&program).await?;
    let (server, cluster) = (&scene.server, &scene.cluster);
    let prefix = prefix();
    let nodes: Api<Node> = Api::all(cluster.client());
    let mut made = stream::iter(0..count)
        .map(|number| {
            let (nodes, prefix) = (&nodes, &prefix);
            async move {
                let node = large(number, prefix)?;
                nodes.create(&PostParams::default(), &node).await?;
                anyhow::Ok(())
            }
        })
        .buffer_unordered(8);
    while let Some(result) = made.next().await {
        result?;
    }
    let first = serde_json::to_string(&nodes.get("large-0").await?)?.len();
    ensure!(first > 10_000, "a Node has only {first} bytes");
    cluster.create_node("own", &["10.99.0.0/24"]).await?;
    let conf = r#"{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan"}}"#;
    let member = Member::new(server, cluster, "own", &prefix, conf).await?;
    let mut command = Command::new(std::env::current_exe()?);
    tell(&mut command, Job::Measure, &member.config)?;
    let printed = printed(command).await?;
    println!("{printed}: peers, KiB more at the most; {first} bytes each");
    let (peers, grown) = printed.split_once(' ').context("two numbers")?;
    assert_eq!(peers.parse::<usize>()?, count);
    ensure!(grown.parse::<u64>()? < 32 * 1024, "{grown} KiB");
    Ok(())
}
