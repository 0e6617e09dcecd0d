//! The three hosts that demo and lab have in common: etcd, a daemon on each host, two pods on each.

use anyhow::{Context, Result};
use netns_tests::{Address, Daemon, Endpoint, Host, Lab, Lease, Pod};

use crate::screen::Screen;

/// The network of the demo.
const NET_CONF: &str = r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}"#;

/// A host with its daemon and the pods on it.
pub(crate) struct Node {
    pub(crate) host: Host,
    pub(crate) daemon: Daemon,
    pub(crate) pods: Vec<Pod>,
}

impl Node {
    pub(crate) fn name(&self) -> &str {
        self.host.name()
    }
}

/// The whole set-up.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    // After the nodes: daemons and pods go before the lab they stand in.
    pub(crate) lab: Lab,
}

impl Cluster {
    /// Starts etcd, the hosts and their daemons, telling what happens.
    pub(crate) fn start(screen: &Screen) -> Result<Self> {
        screen.chapter(
            "Three hosts",
            "Each host is a network namespace with an uplink of its own. A flanneld on each takes a subnet for the \
             host's pods: it writes a lease into etcd and reads those of the others.",
        );
        let mut lab = screen.step("an underlay network", || {
            Ok((Lab::new()?, "192.0.2.0/24".to_owned()))
        })?;
        screen.step("etcd", || {
            lab.start_etcd()?;
            Ok(((), lab.etcd_endpoint()))
        })?;
        screen.step("the network config, in etcd", || {
            lab.put_net_conf(NET_CONF)?;
            Ok(((), "pods 10.244.0.0/16, by VXLAN".to_owned()))
        })?;
        let mut nodes = Vec::new();
        for name in ["a", "b", "c"] {
            nodes.push(screen.step(&format!("host {name} with flanneld"), || {
                start_node(&lab, name)
            })?);
        }
        screen.step("hosts know each other", || {
            for node in &nodes {
                node.host.wait_peers(
                    nodes
                        .iter()
                        .filter(|peer| peer.name() != node.name())
                        .map(|peer| &peer.host),
                )?;
            }
            Ok(((), "routes and FDB entries are there".to_owned()))
        })?;
        Ok(Self { nodes, lab })
    }

    /// Attaches two pods a host, telling what happens.
    pub(crate) fn attach_pods(&mut self, screen: &Screen) -> Result<()> {
        screen.chapter(
            "Two pods on each",
            "A pod is a network namespace too. The program flannel is run as a container runtime runs it: the \
             conflist's plugins in order, environment and standard input by the CNI specification.",
        );
        for node in &mut self.nodes {
            for number in 1..=2 {
                let name = format!("{}{number}", node.host.name());
                let pod =
                    screen.step(&format!("pod {name} on host {}", node.host.name()), || {
                        let pod = node.host.pod(&name)?;
                        let address = pod.address().to_string();
                        Ok((pod, address))
                    })?;
                node.pods.push(pod);
            }
        }
        Ok(())
    }

    /// Every pod, host by host.
    pub(crate) fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.nodes.iter().flat_map(|node| &node.pods)
    }

    /// The node of this name.
    pub(crate) fn node(&self, name: &str) -> Result<&Node> {
        self.nodes
            .iter()
            .find(|node| node.name() == name)
            .with_context(|| format!("there is no host {name}"))
    }

    /// The lease of a node, from etcd.
    pub(crate) fn lease(&self, node: &Node) -> Result<Lease> {
        self.lab.etcd()?.lease_of(&node.host)
    }
}

fn start_node(lab: &Lab, name: &str) -> Result<(Node, String)> {
    let host = lab.host(name)?;
    let daemon = host.flanneld(&["--ip-masq"])?;
    let lease = lab.etcd()?.lease_of(&host)?;
    let result = format!("{}  leased {}", host.ipv4(), lease.subnet());
    Ok((
        Node {
            host,
            daemon,
            pods: Vec::new(),
        },
        result,
    ))
}
