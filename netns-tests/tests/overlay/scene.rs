//! The stage: a lab with etcd, hosts with their daemons, and what two pods say to each other.

use std::time::Duration;

use anyhow::{Result, ensure};
use netns_tests::{Address, Daemon, Endpoint, Host, Lab, Pod, Traffic};

pub(crate) const NET_CONF: &str = r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}"#;

/// How long the daemons may take to follow a change.
pub(crate) const FOLLOW: Duration = Duration::from_secs(10);

/// A host and its daemon.
pub(crate) struct Node {
    pub(crate) host: Host,
    pub(crate) daemon: Daemon,
}

impl Node {
    pub(crate) fn start(lab: &Lab, name: &str) -> Result<Self> {
        let host = lab.host(name)?;
        let daemon = host.flanneld(&["--ip-masq"])?;
        Ok(Self { host, daemon })
    }
}

/// A lab with etcd and a network config, no hosts yet.
pub(crate) fn lab() -> Result<Lab> {
    let mut lab = Lab::new()?;
    lab.start_etcd()?;
    lab.put_net_conf(NET_CONF)?;
    Ok(lab)
}

/// Two hosts that know each other.
pub(crate) fn two_hosts(lab: &Lab) -> Result<(Node, Node)> {
    let (a, b) = (Node::start(lab, "a")?, Node::start(lab, "b")?);
    a.host.wait_peers([&b.host])?;
    b.host.wait_peers([&a.host])?;
    Ok((a, b))
}

/// Everything that two pods can send each other, unmasqueraded and up to the full size.
pub(crate) fn talk(from: &Pod, to: &Pod) -> Result<()> {
    from.ping(to)?;
    let mtu = from.mtu()?;
    ensure!(mtu == 1450, "{} has MTU {mtu}", from.name());
    from.ping_unfragmented(to, mtu)?;
    ensure!(
        from.ping_unfragmented(to, mtu + 1).is_err(),
        "a packet above the MTU crossed"
    );
    for source in [from.tcp_echo(to)?, from.udp_echo(to)?] {
        ensure!(
            source.ip() == from.address(),
            "{} saw {source} instead of {}",
            to.name(),
            from.address()
        );
    }
    Ok(())
}
