//! A cluster: a lab with etcd and a network configuration, and hosts that run our daemon.

use anyhow::Result;

use crate::daemon::Daemon;
use crate::endpoint::Endpoint;
use crate::host::Host;
use crate::lab::Lab;
use crate::net_conf::NetConf;

/// A lab whose hosts form one pod network.
#[derive(Debug)]
pub struct Cluster {
    /// The lab.
    pub lab: Lab,
    conf: NetConf,
}

/// A host and its daemon.
#[derive(Debug)]
pub struct Node {
    /// The host.
    pub host: Host,
    /// Its flanneld.
    pub daemon: Daemon,
}

impl Cluster {
    /// A lab with etcd and this configuration, no hosts yet.
    pub fn new(conf: NetConf) -> Result<Self> {
        let mut lab = Lab::new()?;
        lab.start_etcd()?;
        lab.put_net_conf(&conf.to_string())?;
        Ok(Self { lab, conf })
    }

    /// A new host as the configuration needs it, without a daemon.
    pub fn host(&self, name: &str) -> Result<Host> {
        if self.conf.families().has_ipv4() {
            self.lab.host(name)
        } else {
            self.lab.ipv6_host(name)
        }
    }

    /// A new host whose daemon is ready. That it knows the others is for [`meet`] to see to.
    pub fn node(&self, name: &str) -> Result<Node> {
        let host = self.host(name)?;
        // What it says again is to be read again, not summed up.
        let daemon = host.flanneld(&["--ip-masq", "-v=1"])?;
        Ok(Node { host, daemon })
    }

    /// Several of them that know each other.
    pub fn nodes(&self, names: &[&str]) -> Result<Vec<Node>> {
        let nodes: Vec<Node> = names
            .iter()
            .map(|name| self.node(name))
            .collect::<Result<_>>()?;
        meet(&nodes)?;
        Ok(nodes)
    }
}

/// Waits until each of these knows all others.
pub fn meet(nodes: &[Node]) -> Result<()> {
    for node in nodes {
        let others = nodes.iter().map(|other| &other.host);
        let others = others.filter(|other| other.name() != node.host.name());
        node.host.wait_peers(others)?;
    }
    Ok(())
}
