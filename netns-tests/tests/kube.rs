//! Hosts that take their subnets from Kubernetes: a real API server on a host of its own, Nodes as the kubelet and the controller
//! manager make them, `flanneld` with the manifest's service account.

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use loden_tests::kube::{ApiServer, Cluster, api_server};
use netns_tests::{Daemon, Endpoint, Host, Lab, Pod, Traffic, eventually, programs, skip};

fn main() -> ExitCode {
    // Inside, where there is no network, it could not be built.
    if let Err(error) = api_server() {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    netns_tests::harness::main(netns_tests::test_list![
        pods_talk_across_hosts_in_ipv4 within 300,
        pods_talk_across_hosts_in_both_families within 300,
        a_node_made_anew_with_another_subnet_is_followed within 300,
    ])
}

const V4: &str = r#"{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}"#;
const DUAL: &str = r#"{"Network":"10.244.0.0/16","IPv6Network":"fd00:10::/48","EnableIPv6":true,"Backend":{"Type":"vxlan"}}"#;
const MANIFEST: &str = include_str!("../../manifests/kube-flannel.yml");
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);

struct Scene {
    lab: Lab,
    api: Host,
    server: ApiServer,
    conf: &'static str,
}

struct Member {
    host: Host,
    daemon: Daemon,
}

impl Scene {
    fn new(conf: &'static str) -> Result<Self> {
        let program = match api_server()? {
            Ok(program) => program,
            Err(unavailable) => return skip(unavailable.0),
        };
        let lab = Lab::new()?;
        let api = lab.host("api")?;
        let address = api.ipv4();
        let server = api.run(|| block_on(ApiServer::start_at(&program, address)))??;
        let scene = Self {
            lab,
            api,
            server,
            conf,
        };
        let manifest = scene.server.path("manifest.yaml");
        std::fs::write(&manifest, MANIFEST)?;
        scene.admin(|cluster| async move { cluster.grant(&manifest).await })?;
        Ok(scene)
    }

    /// Does something at the API server as one who may do everything.
    fn admin<T: Send, F: Future<Output = Result<T>>>(
        &self,
        work: impl FnOnce(Cluster) -> F + Send,
    ) -> Result<T> {
        let server = &self.server;
        self.api
            .run(|| block_on(async { work(server.admin().await?).await }))?
    }

    fn cidrs(&self, number: u8) -> Vec<String> {
        let mut cidrs = vec![format!("10.244.{number}.0/24")];
        if self.conf == DUAL {
            cidrs.push(format!("fd00:10:0:{number}::/64"));
        }
        cidrs
    }

    fn create_node(&self, name: &str, number: u8) -> Result<()> {
        let cidrs = self.cidrs(number);
        self.admin(|cluster| async move {
            let cidrs: Vec<&str> = cidrs.iter().map(String::as_str).collect();
            cluster.create_node(name, &cidrs).await
        })
    }

    /// A host whose Node has the subnets of this number, with its daemon ready.
    fn member(&self, name: &str, number: u8) -> Result<Member> {
        let host = self.lab.host(name)?;
        self.create_node(name, number)?;
        let token_file = self.server.path(&format!("{name}.token"));
        let token = self.admin(|cluster| async move { cluster.token().await })?;
        std::fs::write(&token_file, token)?;
        let kubeconfig = self
            .server
            .write_kubeconfig(&format!("{name}.kubeconfig"), &token_file)?;
        let net_conf: PathBuf = self.server.path(&format!("{name}.json"));
        std::fs::write(&net_conf, self.conf)?;
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
    }

    fn members(&self) -> Result<[Member; 3]> {
        let members = [
            self.member("a", 1)?,
            self.member("b", 2)?,
            self.member("c", 3)?,
        ];
        meet(&members)?;
        Ok(members)
    }
}

fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

fn meet(members: &[Member; 3]) -> Result<()> {
    for member in members {
        let others = members.iter().map(|other| &other.host);
        let others = others.filter(|other| other.name() != member.host.name());
        member.host.wait_peers(others)?;
    }
    Ok(())
}

fn all_talk(pods: &[Pod]) -> Result<()> {
    for from in pods {
        for to in pods {
            for address in to.addresses() {
                from.ping(&address)?;
            }
        }
    }
    Ok(())
}

fn talk(conf: &'static str) -> Result<()> {
    let scene = Scene::new(conf)?;
    let members = scene.members()?;
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
    // The network works, so the scheduler is told.
    eventually("NetworkUnavailable is False on each Node", DEADLINE, || {
        for name in ["a", "b", "c"] {
            let node = scene.admin(|cluster| async move { cluster.node(name).await })?;
            let conditions = node["status"]["conditions"].to_string();
            ensure!(conditions.contains("FlannelIsUp"), "{name}: {conditions}");
        }
        Ok(())
    })
}

fn pods_talk_across_hosts_in_ipv4() -> Result<()> {
    talk(V4)
}

fn pods_talk_across_hosts_in_both_families() -> Result<()> {
    talk(DUAL)
}

fn a_node_made_anew_with_another_subnet_is_followed() -> Result<()> {
    let scene = Scene::new(DUAL)?;
    let members = scene.members()?;
    let old = members[0].host.pod("old")?;
    scene.admin(|cluster| async move { cluster.delete_node("a").await })?;
    members[0].daemon.wait_log("there is no Node a")?;
    scene.create_node("a", 9)?;
    let moved = scene.cidrs(9);
    eventually("the subnet file has the new subnets", DEADLINE, || {
        let subnets = members[0].host.subnets()?;
        ensure!(subnets == moved, "it has {subnets:?}");
        Ok(())
    })?;
    meet(&members)?;
    let pods = [
        members[0].host.pod("new")?,
        members[1].host.pod("b1")?,
        members[2].host.pod("c1")?,
    ];
    let address = pods[0].addresses().first().copied().context("no address")?;
    ensure!(address.to_string().starts_with("10.244.9."), "{address}");
    all_talk(&pods)?;
    // The pod with an address of the former subnet is still its host's.
    for address in old.addresses() {
        members[0].host.ping(&address)?;
    }
    Ok(())
}
