//! The command line. Every option can be given as a variable too, because `make cluster-test` passes them so.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// How results are told at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Lines, on stdout.
    Text,
    /// One JSON document on stdout; the lines go to stderr.
    Json,
}

/// Tries Loden on a Kubernetes cluster
#[derive(Clone, Debug, Parser)]
#[command(
    bin_name = "cluster-test",
    disable_version_flag = true,
    after_help = "Commands are split at blanks; {node} and the like stand for what they say. Each command for a node is followed by what \
                  to run there, as separate words: ssh joins them with blanks, so give it a shell that takes them apart.\n\
                  Exit status: 0 nothing failed; 1 a check failed; 2 the run could not be made; 130 interrupted, and cleaned up."
)]
pub(crate) struct Args {
    /// The cluster. It should have nothing else on it that matters
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The program kubectl, perhaps with words before it
    #[arg(
        long,
        env = "KUBECTL",
        value_name = "COMMAND",
        default_value = "kubectl"
    )]
    pub(crate) kubectl: String,
    /// The image to install, which the nodes have or can pull [default: the manifest's]
    #[arg(long, env = "IMAGE", value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    /// The same under another name, for the image upgrade
    #[arg(long, env = "IMAGE2", value_name = "IMAGE")]
    pub(crate) image2: Option<String>,
    /// The manifest
    #[arg(
        long,
        env = "MANIFEST",
        value_name = "FILE",
        default_value = "manifests/kube-flannel.yml"
    )]
    pub(crate) manifest: PathBuf,
    /// The pod network, of one or both families
    #[arg(
        long,
        env = "POD_NETWORK",
        value_name = "NET[,NET]",
        value_delimiter = ',',
        default_value = "10.244.0.0/16,fd00:10:244::/56"
    )]
    pub(crate) pod_network: Vec<String>,
    /// Image of the test server
    #[arg(
        long,
        env = "AGNHOST",
        value_name = "IMAGE",
        default_value = "registry.k8s.io/e2e-test-images/agnhost:2.53"
    )]
    pub(crate) agnhost: String,
    /// Image with a shell, curl, dig, ping, nc, ip, bridge and nft
    #[arg(
        long,
        env = "SHELL_IMAGE",
        value_name = "IMAGE",
        default_value = "docker.io/nicolaka/netshoot:v0.13"
    )]
    pub(crate) shell: String,
    /// The nodes to use [default: all that run Linux]
    #[arg(long, env = "NODES", value_name = "NAME[,NAME]", value_delimiter = ',')]
    pub(crate) nodes: Vec<String>,
    /// The node that NODE_JOIN makes
    #[arg(
        long,
        env = "NEW_NODE",
        value_name = "NAME",
        default_value = "loden-cluster-test-new"
    )]
    pub(crate) new_node: String,
    /// Only these scenarios
    #[arg(long, env = "ONLY", value_name = "NAME[,NAME]", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// All but these scenarios
    #[arg(long, env = "SKIP", value_name = "NAME[,NAME]", value_delimiter = ',')]
    pub(crate) skip: Vec<String>,
    /// Only say what there is
    #[arg(long)]
    pub(crate) list: bool,
    /// Leave the pod network installed
    #[arg(long, env = "KEEP", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) keep: bool,
    /// Pods of each round of churn
    #[arg(long, env = "PODS", value_name = "N", default_value_t = 200)]
    pub(crate) pods: usize,
    /// Where containerd tells its metrics to programs on its node; none is needed
    #[arg(
        long,
        env = "CONTAINERD_METRICS",
        value_name = "URL",
        default_value = "http://127.0.0.1:1338/v1/metrics"
    )]
    pub(crate) containerd_metrics: String,
    /// Deadlines are so many times as long, for slow machines
    #[arg(long, env = "PATIENCE", value_name = "N", default_value_t = 1)]
    pub(crate) patience: u32,
    /// The result at the end
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) hooks: Hooks,
}

/// Commands of the user's that do to this cluster's machines what Kubernetes cannot.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Hooks {
    /// Runs the words that follow on {node}, as root: `docker exec {node}`
    #[arg(long, env = "NODE_EXEC", value_name = "COMMAND")]
    pub(crate) node_exec: Option<String>,
    /// Stops or starts ({verb}) kubelet or containerd ({service}) on {node}: `docker exec {node} systemctl {verb} {service}`
    #[arg(long, env = "NODE_SERVICE", value_name = "COMMAND")]
    pub(crate) node_service: Option<String>,
    /// Reboots {node}: `docker restart {node}`
    #[arg(long, env = "NODE_REBOOT", value_name = "COMMAND")]
    pub(crate) node_reboot: Option<String>,
    /// Makes a new {node} and joins it, or takes it away again ({verb}: join or remove)
    #[arg(long, env = "NODE_JOIN", value_name = "COMMAND")]
    pub(crate) node_join: Option<String>,
    /// Stops or starts ({verb}) apiserver or controller-manager ({service})
    #[arg(long, env = "CONTROL_SERVICE", value_name = "COMMAND")]
    pub(crate) control_service: Option<String>,
    /// Prints containerd's log on {node}: `docker exec {node} journalctl -u containerd --no-pager`
    #[arg(long, env = "CONTAINERD_LOG", value_name = "COMMAND")]
    pub(crate) containerd_log: Option<String>,
    /// Runs the words that follow on a machine that reaches the nodes and is none
    #[arg(long, env = "OUTSIDE_EXEC", value_name = "COMMAND")]
    pub(crate) outside_exec: Option<String>,
}
