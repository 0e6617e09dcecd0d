//! How the API server is reached: from inside a pod, by a kubeconfig file or by an address, as flannel takes them; and what its errors
//! mean.

use std::fmt;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::Pod;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use super::connect;
use crate::store::{Health, StoreError};

/// What errors call it.
pub(super) const SERVER: &str = "the Kubernetes API server";
/// How the API server is reached and which Node is this one.
#[derive(Clone, Debug)]
pub struct KubeAccess {
    /// Address of the API server; goes before that in the kubeconfig file.
    pub api_url: Option<String>,
    /// A kubeconfig file. With neither of the two this process is in a pod and uses its service account.
    pub kubeconfig: Option<PathBuf>,
    /// Which Node this is.
    pub node: NodeName,
}

/// How this process knows on which Node it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeName {
    /// It is told.
    Given(String),
    /// The Pod that it runs in says so.
    OfPod {
        /// The Pod's namespace.
        namespace: String,
        /// The Pod's name.
        name: String,
    },
}

impl NodeName {
    /// Takes it from the variables NODE_NAME, or POD_NAME and POD_NAMESPACE.
    ///
    /// # Errors
    /// [`StoreError::Settings`] if they are not set.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, StoreError> {
        let set = |name: &str| variable(name).filter(|text| !text.is_empty());
        if let Some(name) = set("NODE_NAME") {
            return Ok(Self::Given(name));
        }
        match (set("POD_NAMESPACE"), set("POD_NAME")) {
            (Some(namespace), Some(name)) => Ok(Self::OfPod { namespace, name }),
            _ => Err(StoreError::Settings {
                setting: "--kube-subnet-mgr".to_owned(),
                reason: "the variable NODE_NAME must name the Node that this is, or POD_NAME and POD_NAMESPACE the Pod that this runs in"
                    .to_owned(),
            }),
        }
    }

    /// The Node's name; asks the API server for the Pod if need be.
    pub(super) async fn resolve(&self, client: &Client) -> Result<String, StoreError> {
        let (namespace, name) = match self {
            Self::Given(name) => return Ok(name.clone()),
            Self::OfPod { namespace, name } => (namespace, name),
        };
        let object = format!("Pod {namespace}/{name}");
        let pods = Api::<Pod>::namespaced(client.clone(), namespace);
        let pod = pods.get(name).await;
        let pod = pod.map_err(|error| store_error("read", &object, &error))?;
        let node = pod.spec.and_then(|spec| spec.node_name);
        node.filter(|node| !node.is_empty())
            .ok_or_else(|| StoreError::NotAssigned {
                reason: format!("{object} names no Node"),
            })
    }
}

/// Names the API server as far as the settings tell.
impl fmt::Display for KubeAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.api_url, &self.kubeconfig) {
            (Some(url), _) => f.write_str(url),
            (None, Some(path)) => write!(f, "as {} says", path.display()),
            (None, None) => f.write_str("of this pod's service account"),
        }
    }
}

impl KubeAccess {
    /// A client, whose requests are counted. Connects only when something is asked.
    ///
    /// # Errors
    /// [`StoreError::Settings`] for files or addresses that cannot be used.
    pub(super) async fn client(&self, health: &Health) -> Result<Client, StoreError> {
        let config = self.config().await?;
        connect::client(&config, health).map_err(|error| bad(self.setting(), chain(error.as_ref())))
    }

    async fn config(&self) -> Result<Config, StoreError> {
        let url = self.api_url.as_deref();
        let uri = |url: &str| {
            url.parse()
                .map_err(|error| bad("--kube-api-url", format!("{url:?} is no address: {error}")))
        };
        let Some(path) = &self.kubeconfig else {
            return match url {
                Some(url) => Ok(Config::new(uri(url)?)),
                None => Config::incluster().map_err(|error| {
                    bad(
                        "--kube-subnet-mgr",
                        format!(
                            "this is no pod with a service account ({}); outside a cluster give --kubeconfig-file or --kube-api-url",
                            chain(&error)
                        ),
                    )
                }),
            };
        };
        let shown = path.display();
        let wrong = |error: kube::config::KubeconfigError| {
            let reason = chain(&error);
            bad(
                "--kubeconfig-file",
                format!("{shown} cannot be used: {reason}"),
            )
        };
        let file = Kubeconfig::read_from(path).map_err(wrong)?;
        let options = KubeConfigOptions::default();
        let mut config = Config::from_custom_kubeconfig(file, &options)
            .await
            .map_err(wrong)?;
        if let Some(url) = url {
            config.cluster_url = uri(url)?;
        }
        Ok(config)
    }

    fn setting(&self) -> &'static str {
        match (&self.kubeconfig, &self.api_url) {
            (Some(_), _) => "--kubeconfig-file",
            (None, Some(_)) => "--kube-api-url",
            (None, None) => "--kube-subnet-mgr",
        }
    }
}

fn bad(setting: &str, reason: String) -> StoreError {
    StoreError::Settings {
        setting: setting.to_owned(),
        reason,
    }
}

/// What an error of the client means for doing `action` to `object`.
pub(super) fn store_error(action: &'static str, object: &str, error: &kube::Error) -> StoreError {
    let object = object.to_owned();
    let kube::Error::Api(status) = error else {
        return StoreError::Unreachable {
            store: SERVER,
            action,
            object,
            reasons: chain(error),
        };
    };
    let hint = match status.code {
        401 => ": it does not accept the service account's token; it may have expired",
        403 => ": the ClusterRole of flanneld must allow it",
        _ => "",
    };
    let said = match status.message.trim() {
        "" => status.reason.as_str(),
        message => message,
    };
    StoreError::Refused {
        store: SERVER.to_owned(),
        action,
        object,
        reason: format!("{said} (status {}){hint}", status.code),
    }
}

/// The error with its causes, each said once.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(variables: &[(&str, &str)]) -> Result<NodeName, StoreError> {
        NodeName::from_variables(|name| {
            let found = variables.iter().find(|(n, _)| *n == name);
            found.map(|(_, text)| (*text).to_owned())
        })
    }

    #[test]
    fn the_node_is_named_or_asked_of_the_pod() {
        let pod = [("POD_NAME", "p"), ("POD_NAMESPACE", "n")];
        assert_eq!(
            name(&[("NODE_NAME", "a"), pod[0], pod[1]]),
            Ok(NodeName::Given("a".to_owned()))
        );
        assert_eq!(
            name(&[("NODE_NAME", ""), pod[0], pod[1]]),
            Ok(NodeName::OfPod {
                namespace: "n".to_owned(),
                name: "p".to_owned()
            })
        );
        let error = name(&pod[..1]).unwrap_err();
        assert!(error.to_string().contains("POD_NAMESPACE"), "{error}");
        assert!(!error.may_pass());
    }

    #[tokio::test]
    async fn settings_that_cannot_work_are_told_by_their_flag() {
        let access = |api_url: Option<&str>, kubeconfig: Option<&str>| KubeAccess {
            api_url: api_url.map(str::to_owned),
            kubeconfig: kubeconfig.map(PathBuf::from),
            node: NodeName::Given("a".to_owned()),
        };
        let health = Health::new("kubernetes", Vec::new());
        for (access, flag) in [
            (access(Some("::"), None), "--kube-api-url"),
            (access(None, Some("/nonexistent")), "--kubeconfig-file"),
            (access(None, None), "--kube-subnet-mgr"),
        ] {
            let error = access.client(&health).await.map(drop).unwrap_err();
            assert!(error.to_string().starts_with(flag), "{error}");
            assert!(!error.may_pass());
        }
        assert!(
            access(Some("http://127.0.0.1:1"), None)
                .client(&health)
                .await
                .is_ok()
        );
    }
}
