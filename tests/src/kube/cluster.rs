//! What others do at the API server: the kubelet, the controller manager, people.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use ::kube::{Api, Client};
use anyhow::{Context, Result};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use serde_json::{Value, json};

/// Where the manifest puts the daemon.
pub const NAMESPACE: &str = "kube-flannel";
/// The daemon's service account.
pub const ACCOUNT: &str = "flannel";

/// Someone who may do everything at an API server.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
}

impl Cluster {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// The client, for what is not here.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Whether the server says that it serves.
    pub(super) async fn is_ready(&self) -> Result<()> {
        let request = http::Request::get("/readyz").body(Vec::new())?;
        self.client.request_text(request).await?;
        Ok(())
    }

    /// Applies those documents of the manifest that grant permissions.
    ///
    /// # Errors
    /// When one is refused.
    pub async fn grant(&self, manifest: &Path) -> Result<()> {
        let text = std::fs::read_to_string(manifest)?;
        let paths = BTreeMap::from([
            ("Namespace", "/api/v1/namespaces".to_owned()),
            (
                "ServiceAccount",
                format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts"),
            ),
            (
                "ClusterRole",
                "/apis/rbac.authorization.k8s.io/v1/clusterroles".to_owned(),
            ),
            (
                "ClusterRoleBinding",
                "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings".to_owned(),
            ),
        ]);
        for document in text.split("\n---\n") {
            let kind = document
                .lines()
                .find_map(|line| line.strip_prefix("kind: "));
            let Some(path) = kind.and_then(|kind| paths.get(kind.trim())) else {
                continue;
            };
            let request = http::Request::post(path)
                .header("Content-Type", "application/yaml")
                .body(document.as_bytes().to_vec())?;
            self.client
                .request::<Value>(request)
                .await
                .with_context(|| format!("{kind:?} of the manifest"))?;
        }
        Ok(())
    }

    /// A new token of the daemon's service account.
    ///
    /// # Errors
    /// When there is no such account.
    pub async fn token(&self) -> Result<String> {
        let accounts = Api::<ServiceAccount>::namespaced(self.client(), NAMESPACE);
        let request: TokenRequest = serde_json::from_value(
            json!({"metadata": {}, "spec": {"audiences": [], "expirationSeconds": 3600}}),
        )?;
        let answer = accounts
            .create_token_request(ACCOUNT, &PostParams::default(), &request)
            .await?;
        answer
            .status
            .and_then(|status| status.token)
            .context("no token came")
    }

    /// A token of the daemon's service account that ends after this time.
    ///
    /// # Errors
    /// When there is no such account.
    pub async fn token_for(&self, time: Duration) -> Result<String> {
        let accounts = Api::<ServiceAccount>::namespaced(self.client(), NAMESPACE);
        let account = accounts.get(ACCOUNT).await?;
        // The server goes on accepting a token for that long.
        let leeway = Duration::from_secs(60);
        let now = SystemTime::now().duration_since(UNIX_EPOCH)? - leeway;
        let claims = json!({
            "iss": super::ISSUER,
            "aud": [super::ISSUER],
            "sub": format!("system:serviceaccount:{NAMESPACE}:{ACCOUNT}"),
            "iat": now.as_secs(),
            "nbf": now.as_secs(),
            "exp": (now + time).as_secs(),
            "kubernetes.io": {
                "namespace": NAMESPACE,
                "serviceaccount": {"name": ACCOUNT, "uid": account.metadata.uid},
            },
        });
        super::token::sign(&claims, super::KEY)
    }

    /// Makes the service account anew, which ends all tokens of the former one.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn renew_account(&self) -> Result<()> {
        let accounts = Api::<ServiceAccount>::namespaced(self.client(), NAMESPACE);
        accounts.delete(ACCOUNT, &DeleteParams::default()).await?;
        let account = serde_json::from_value(json!({"metadata": {"name": ACCOUNT}}))?;
        accounts.create(&PostParams::default(), &account).await?;
        Ok(())
    }

    /// A Node as a kubelet makes it. Without pod CIDRs the controller manager has not come to it yet.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn create_node(&self, name: &str, pod_cidrs: &[&str]) -> Result<()> {
        let mut spec = json!({});
        if let Some(first) = pod_cidrs.first() {
            spec = json!({"podCIDR": first, "podCIDRs": pod_cidrs});
        }
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/os": "linux"}},
            "spec": spec,
        }))?;
        self.nodes().create(&PostParams::default(), &node).await?;
        Ok(())
    }

    /// Gives a Node its pod CIDRs, as the controller manager does.
    ///
    /// # Errors
    /// When it is refused: a Node that has some keeps them.
    pub async fn give_pod_cidrs(&self, name: &str, pod_cidrs: &[&str]) -> Result<()> {
        self.patch(
            name,
            json!({"spec": {"podCIDR": pod_cidrs[0], "podCIDRs": pod_cidrs}}),
        )
        .await
    }

    /// Removes a Node.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn delete_node(&self, name: &str) -> Result<()> {
        self.nodes().delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Changes annotations of a Node; `None` takes one away.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn annotate(&self, name: &str, annotations: &[(String, Option<&str>)]) -> Result<()> {
        let annotations: BTreeMap<&String, Option<&str>> =
            annotations.iter().map(|(key, text)| (key, *text)).collect();
        self.patch(name, json!({"metadata": {"annotations": annotations}}))
            .await
    }

    /// Sets a condition of a Node, as a kubelet does with each heartbeat.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn set_condition(
        &self,
        name: &str,
        kind: &str,
        status: &str,
        reason: &str,
    ) -> Result<()> {
        let condition =
            json!({"type": kind, "status": status, "reason": reason, "message": "by the test"});
        let patch = json!({"status": {"conditions": [condition]}});
        self.nodes()
            .patch_status(name, &PatchParams::default(), &Patch::Strategic(patch))
            .await?;
        Ok(())
    }

    /// A Node as JSON.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn node(&self, name: &str) -> Result<Value> {
        Ok(serde_json::to_value(self.nodes().get(name).await?)?)
    }

    /// The annotations of a Node that begin with `prefix`.
    ///
    /// # Errors
    /// When there is no such Node.
    pub async fn annotations(&self, name: &str, prefix: &str) -> Result<BTreeMap<String, String>> {
        let node = self.nodes().get(name).await?;
        let all = node.metadata.annotations.unwrap_or_default();
        Ok(all
            .into_iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .collect())
    }

    async fn patch(&self, name: &str, patch: Value) -> Result<()> {
        self.nodes()
            .patch(name, &PatchParams::default(), &Patch::Strategic(patch))
            .await?;
        Ok(())
    }

    fn nodes(&self) -> Api<Node> {
        Api::all(self.client())
    }
}
