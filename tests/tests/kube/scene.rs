//! What the tests stand on: the shared API server, and daemons' stores on it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use flanneld::store::kube::{KubeAccess, KubeConfig, KubeStore, NodeName};
use flanneld::store::{LeaseStore, OwnEvent, OwnLease, PeerEvent, wait_for_lease};
use ipam::{LeaseBackend, LeaseRecord, Mac, NetConf, PerFamily, Vni, VxlanLease};
use loden_tests::kube::{ACCOUNT, ApiServer, Cluster, NAMESPACE};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub(crate) const DUAL: &str = r#"{"Network":"10.244.0.0/16","IPv6Network":"fd00:10::/48","EnableIPv6":true,"Backend":{"Type":"vxlan"}}"#;
pub(crate) const MANIFEST: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/kube-flannel.yml");
pub(crate) const CHART_ROLE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../manifests/chart/templates/rbac.yaml"
);

/// The user that the daemon is to the API server.
pub(crate) fn user() -> String {
    format!("system:serviceaccount:{NAMESPACE}:{ACCOUNT}")
}

/// A server, and who may do everything there.
pub(crate) struct Scene {
    pub(crate) server: ApiServer,
    pub(crate) cluster: Cluster,
}

impl Scene {
    pub(crate) async fn start(program: &Path) -> Result<Self> {
        let server = ApiServer::start(program).await?;
        let cluster = server.admin().await?;
        cluster.grant(Path::new(MANIFEST)).await?;
        Ok(Self { server, cluster })
    }
}

/// The server that all share who do not kill it, with an administrator of one's own: a client lives in its test's runtime.
pub(crate) async fn shared(program: &Path) -> Result<(&'static ApiServer, Cluster)> {
    static SHARED: OnceLock<Result<ApiServer, String>> = OnceLock::new();
    let program = program.to_path_buf();
    let server = tokio::task::spawn_blocking(move || {
        SHARED.get_or_init(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let started = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
                runtime.block_on(async { Ok(Scene::start(&program).await?.server) })
            });
            started.map_err(|error| format!("{error:#}"))
        })
    })
    .await?;
    let server = server
        .as_ref()
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok((server, server.admin().await?))
}

/// A prefix that no other test has, so that other tests' Nodes are none of ours.
pub(crate) fn prefix() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("test{}.example.com", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A daemon to be.
pub(crate) struct Member {
    pub(crate) node: String,
    pub(crate) prefix: String,
    pub(crate) conf: NetConf,
    pub(crate) config: KubeConfig,
    pub(crate) token_file: PathBuf,
}

impl Member {
    /// The daemon of `node` with the service account of the manifest.
    pub(crate) async fn new(
        server: &ApiServer,
        cluster: &Cluster,
        node: &str,
        prefix: &str,
        conf: &str,
    ) -> Result<Self> {
        let token_file = server.path(&format!("{node}.token"));
        std::fs::write(&token_file, cluster.token().await?)?;
        let net_conf = server.path(&format!("{node}.json"));
        std::fs::write(&net_conf, conf)?;
        Ok(Self {
            node: node.to_owned(),
            prefix: prefix.to_owned(),
            conf: NetConf::parse(conf.as_bytes())?,
            config: KubeConfig {
                access: KubeAccess {
                    api_url: None,
                    kubeconfig: Some(
                        server.write_kubeconfig(&format!("{node}.kubeconfig"), &token_file)?,
                    ),
                    node: NodeName::Given(node.to_owned()),
                },
                net_conf,
                prefix: prefix.to_owned(),
                set_condition: true,
            },
            token_file,
        })
    }

    pub(crate) fn store(&self) -> Result<KubeStore> {
        Ok(KubeStore::new(self.config.clone())?)
    }

    /// Leases, and keeps it until dropped.
    pub(crate) async fn run(&self, record: LeaseRecord) -> Result<Daemon> {
        let store = self.store()?;
        let conf = store.net_conf().await?;
        let own = wait_for_lease(&store, &conf, &record, None).await?;
        Ok(Daemon::keep(store, own))
    }

    /// The whole key of an annotation.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }

    /// The Node's annotations of this network, without their prefix.
    pub(crate) async fn annotations(&self, cluster: &Cluster) -> Result<BTreeMap<String, String>> {
        let prefix = self.key("");
        let all = cluster.annotations(&self.node, &prefix).await?;
        Ok(all
            .into_iter()
            .map(|(key, text)| (key.trim_start_matches(&prefix).to_owned(), text))
            .collect())
    }
}

/// A store at work.
pub(crate) struct Daemon {
    pub(crate) lease: OwnLease,
    pub(crate) own: mpsc::Receiver<OwnEvent>,
    pub(crate) peers: mpsc::Receiver<PeerEvent>,
    pub(crate) record: watch::Sender<LeaseRecord>,
    pub(crate) works: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Daemon {
    fn keep(store: KubeStore, lease: OwnLease) -> Self {
        let (own_out, own) = mpsc::channel(64);
        let (peers_out, peers) = mpsc::channel(64);
        let (record, record_in) = watch::channel(lease.record.clone());
        let (works, works_in) = watch::channel(false);
        let kept = lease.clone();
        let task = tokio::spawn(async move {
            tokio::join!(
                store.keep(kept, record_in, own_out),
                store.watch_peers(peers_out),
                store.announce(works_in)
            );
        });
        Self {
            lease,
            own,
            peers,
            record,
            works,
            task,
        }
    }

    /// The peers of the first snapshot, by their subnets.
    pub(crate) async fn snapshot(&mut self) -> Result<Vec<String>> {
        let event = loden_tests::next(&mut self.peers).await?;
        let PeerEvent::Snapshot { peers, .. } = event else {
            anyhow::bail!("no snapshot but {event:?}")
        };
        Ok(peers
            .iter()
            .map(|peer| peer.key.subnets().to_string())
            .collect())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A vxlan record whose addresses and MACs end in this number.
pub(crate) fn record(number: u8) -> LeaseRecord {
    let data = |first: u8| VxlanLease {
        vni: Vni::new(1),
        mac: Mac([first, 0, 0, 0, 0, number]),
    };
    LeaseRecord {
        public: PerFamily::both(
            [192, 0, 2, number].into(),
            [0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(number)].into(),
        ),
        backend: LeaseBackend::Vxlan(PerFamily::both(data(0x12), data(0x16))),
    }
}

/// The pod CIDRs with this number.
pub(crate) fn cidrs(number: u8) -> [String; 2] {
    [
        format!("10.244.{number}.0/24"),
        format!("fd00:10:0:{number}::/64"),
    ]
}

/// A Node of this number with its daemon at work.
pub(crate) async fn member(
    server: &ApiServer,
    cluster: &Cluster,
    name: &str,
    prefix: &str,
    number: u8,
) -> Result<(Member, Daemon)> {
    let cidrs = cidrs(number);
    cluster.create_node(name, &[&cidrs[0], &cidrs[1]]).await?;
    let member = Member::new(server, cluster, name, prefix, DUAL).await?;
    let daemon = member.run(record(number)).await.context("leasing")?;
    Ok((member, daemon))
}
