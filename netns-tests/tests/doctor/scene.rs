//! Nodes as an installation leaves them, asking the doctor, and typing what it says.

use anyhow::{Context, Result, ensure};
use netns_tests::doctor::furnish;
pub(crate) use netns_tests::doctor::{
    Diagnosis, FOLLOW, PROGRAMS, ask as doctor, text, wait_cause, wait_cured,
};
use netns_tests::{Endpoint, Host, Lab, Node, programs};

/// Two nodes that know each other, with conflist and programs installed.
pub(crate) struct Scene {
    pub(crate) lab: Lab,
    pub(crate) a: Node,
    pub(crate) b: Node,
}

impl Scene {
    pub(crate) fn new() -> Result<Self> {
        Self::with_conf(r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}"#)
    }

    pub(crate) fn with_conf(conf: &str) -> Result<Self> {
        let mut lab = Lab::new()?;
        lab.start_etcd()?;
        lab.put_net_conf(conf)?;
        let (a, b) = (node(lab.host("a")?)?, node(lab.host("b")?)?);
        Self::of(lab, a, b)
    }

    /// The same on hosts that have IPv6 alone.
    pub(crate) fn on_ipv6_hosts(conf: &str) -> Result<Self> {
        let mut lab = Lab::new()?;
        lab.start_etcd()?;
        lab.put_net_conf(conf)?;
        let (a, b) = (node(lab.ipv6_host("a")?)?, node(lab.ipv6_host("b")?)?);
        Self::of(lab, a, b)
    }

    fn of(lab: Lab, a: Node, b: Node) -> Result<Self> {
        a.host.wait_peers([&b.host])?;
        b.host.wait_peers([&a.host])?;
        Ok(Self { lab, a, b })
    }

    /// Waits until the doctor on `a` names this check as the cause of all.
    pub(crate) fn wait_cause(&self, check: &str) -> Result<Diagnosis> {
        wait_cause(&self.a.host, check)
    }

    /// Types what the doctor says to do, on the hosts that it names, and waits until it finds nothing broken any more.
    pub(crate) fn cure(&mut self, diagnosis: &Diagnosis) -> Result<()> {
        self.type_remedy(diagnosis)?;
        wait_cured(&self.a.host)
    }

    /// Types what the doctor says to do, on the hosts that it names.
    pub(crate) fn type_remedy(&mut self, diagnosis: &Diagnosis) -> Result<()> {
        let commands = diagnosis.commands();
        ensure!(!commands.is_empty(), "nothing to type in {:#}", diagnosis.0);
        for (on, command) in commands {
            let there = [address_of(&self.b.host), self.b.host.ipv6().to_string()];
            let node = match on.as_deref() {
                None => &mut self.a,
                Some(on) if there.iter().any(|address| address == on) => &mut self.b,
                Some(other) => {
                    anyhow::bail!("{command} is to be typed on {other}, which is nobody")
                }
            };
            if command == "systemctl restart flanneld" {
                // There is no service manager in the lab, so its part is played.
                if node.daemon.is_running()? {
                    node.daemon.kill()?;
                }
                node.daemon.restart()?;
                node.daemon.wait_ready()?;
                continue;
            }
            let program = programs::find("flanneld")?;
            let command = match command.strip_prefix("flanneld ") {
                Some(words) => format!("{} {words}", program.display()),
                None => command,
            };
            // Its exit status tells how the host does, which is seen after.
            let command = match command.contains("flanneld doctor") {
                true => format!("{command} || true"),
                false => command,
            };
            node.host
                .sh(&command)
                .with_context(|| format!("`{command}` as the doctor says"))?;
        }
        Ok(())
    }
}

fn node(host: Host) -> Result<Node> {
    furnish(&host)?;
    let daemon = host.flanneld(&["--ip-masq"])?;
    Ok(Node { host, daemon })
}

/// What the doctor calls a host.
pub(crate) fn address_of(host: &Host) -> String {
    match host.has_ipv4() {
        true => host.ipv4().to_string(),
        false => host.ipv6().to_string(),
    }
}
