//! What is found of the cluster: its nodes, their addresses and pod subnets, their state.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::args::Args;
use crate::kubectl::{Kubectl, holds, text};

/// A node that takes part.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// Its address of IPv4.
    pub(crate) v4: String,
    /// Its address of IPv6, if its pods have one too.
    pub(crate) v6: Option<String>,
}

impl Node {
    fn of(object: &Value) -> Option<Self> {
        let addresses = object["status"]["addresses"].as_array()?;
        let internal = |six: bool| {
            addresses
                .iter()
                .filter(|address| address["type"] == "InternalIP")
                .map(|address| text(address, "/address").to_owned())
                .find(|address| address.contains(':') == six)
        };
        let dual = object["spec"]["podCIDRs"]
            .as_array()
            .is_some_and(|cidrs| cidrs.len() > 1);
        Some(Self {
            name: text(object, "/metadata/name").to_owned(),
            v4: internal(false)?,
            v6: internal(true).filter(|_| dual),
        })
    }

    /// Its addresses, each as it stands in a URL.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let six = self.v6.iter().map(|address| format!("[{address}]"));
        std::iter::once(self.v4.clone()).chain(six).collect()
    }
}

/// The nodes to use.
///
/// # Errors
/// There are fewer than two of them: what is between nodes cannot be tried on one.
pub(crate) fn nodes(kubectl: &Kubectl, args: &Args) -> Result<Vec<Node>> {
    let objects = kubectl.items(&["get", "nodes", "-l", "kubernetes.io/os=linux"])?;
    let mut nodes: Vec<Node> = objects.iter().filter_map(Node::of).collect();
    if !args.nodes.is_empty() {
        for name in &args.nodes {
            if !nodes.iter().any(|node| node.name == *name) {
                bail!("there is no node {name} with an address of IPv4 that runs Linux");
            }
        }
        nodes.retain(|node| args.nodes.contains(&node.name));
    }
    if nodes.len() < 2 {
        bail!("two nodes are needed; there are {}", nodes.len());
    }
    Ok(nodes)
}

/// Names of nodes that are not Ready.
pub(crate) fn not_ready(kubectl: &Kubectl, nodes: &[Node]) -> Result<Vec<String>> {
    let objects = kubectl.items(&["get", "nodes"])?;
    Ok(nodes
        .iter()
        .map(|node| node.name.clone())
        .filter(|name| {
            !objects
                .iter()
                .any(|object| text(object, "/metadata/name") == name && holds(object, "Ready"))
        })
        .collect())
}

/// One line that says what the cluster is.
pub(crate) fn describe(kubectl: &Kubectl, nodes: &[Node], dual: bool) -> Result<String> {
    let objects = kubectl.items(&["get", "nodes"])?;
    let first = objects.first().context("no node")?;
    let info = |key: &str| text(&first["status"]["nodeInfo"], key).to_owned();
    Ok(format!(
        "{} nodes, {}, Kubernetes {}, {}, kernel {}",
        nodes.len(),
        if dual { "IPv4 and IPv6" } else { "IPv4" },
        info("/kubeletVersion"),
        info("/containerRuntimeVersion"),
        info("/kernelVersion"),
    ))
}
