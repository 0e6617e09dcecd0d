//! Nodes as an installation leaves them, asking the doctor, and typing what it says.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_tests::{Endpoint, Host, Lab, Node, eventually, programs};
use serde_json::Value;

/// Where these hosts have their CNI programs: a directory that they do not share.
pub(crate) const PROGRAMS: &str = "/run/cni-bin";

/// How long what is done may take to be seen.
pub(crate) const FOLLOW: Duration = Duration::from_secs(30);

const CONFLIST: &str = include_str!("../../../manifests/10-flannel.conflist");

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
        let (a, b) = (node(&lab, "a")?, node(&lab, "b")?);
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
            let there = self.b.host.ipv4().to_string();
            let node = match on.as_deref() {
                None => &mut self.a,
                Some(on) if on == there => &mut self.b,
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

fn node(lab: &Lab, name: &str) -> Result<Node> {
    let host = lab.host(name)?;
    fs::write(host.path("/etc/cni/net.d/10-flannel.conflist"), CONFLIST)?;
    fs::create_dir_all(host.path("/etc/kube-flannel"))?;
    fs::write(host.path("/etc/kube-flannel/cni-conf.json"), CONFLIST)?;
    fs::create_dir_all(host.path(PROGRAMS))?;
    symlink(
        programs::find("flannel")?,
        host.path(PROGRAMS).join("flannel"),
    )?;
    symlink("/bin/true", host.path(PROGRAMS).join("portmap"))?;
    let daemon = host.flanneld(&["--ip-masq"])?;
    Ok(Node { host, daemon })
}

/// What the doctor said.
#[derive(Debug)]
pub(crate) struct Diagnosis(pub(crate) Value, pub(crate) i32);

impl Diagnosis {
    pub(crate) fn cause(&self) -> Option<&str> {
        self.0["cause"]["check"].as_str()
    }

    /// The first evidence of the cause.
    pub(crate) fn evidence(&self) -> &str {
        self.0["cause"]["evidence"][0].as_str().unwrap_or_default()
    }

    /// Host and command.
    pub(crate) fn commands(&self) -> Vec<(Option<String>, String)> {
        let commands = self.0["cause"]["remedy"]["commands"].as_array();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let steps = commands.into_iter().flatten();
        steps
            .filter_map(|step| Some((text(&step["on"]), text(&step["run"])?)))
            .collect()
    }

    pub(crate) fn finding(&self, check: &str) -> Result<&Value> {
        let mut findings = self.0["findings"].as_array().into_iter().flatten();
        let found = findings.find(|finding| finding["check"] == check);
        found.with_context(|| format!("no {check} in {:#}", self.0))
    }

    /// How a check came out.
    pub(crate) fn verdict(&self, check: &str) -> Result<&str> {
        self.finding(check)?["verdict"]
            .as_str()
            .context("no verdict")
    }
}

/// Asks for JSON.
pub(crate) fn doctor(host: &Host, words: &[&str]) -> Result<Diagnosis> {
    let (out, err, status) = run(host, &[&["-o", "json"], words].concat())?;
    let diagnosis = serde_json::from_str(&out).with_context(|| format!("{out}{err}"))?;
    Ok(Diagnosis(diagnosis, status))
}

/// Asks as people do.
pub(crate) fn text(host: &Host, words: &[&str]) -> Result<String> {
    run(host, words).map(|(out, ..)| out)
}

fn run(host: &Host, words: &[&str]) -> Result<(String, String, i32)> {
    let program = programs::find("flanneld")?;
    let program = program.to_str().context("no text")?;
    let command = [&[program, "doctor", "--cni-bin-dir", PROGRAMS], words].concat();
    let finished = host.attempt(command)?;
    let status = finished.status.code().context("a signal ended it")?;
    Ok((finished.stdout, finished.stderr, status))
}

/// Waits until the doctor names this check first.
pub(crate) fn wait_cause(host: &Host, check: &str) -> Result<Diagnosis> {
    eventually(
        &format!("the doctor on {} names {check}", host.name()),
        FOLLOW,
        || {
            let diagnosis = doctor(host, &[])?;
            ensure!(
                diagnosis.cause() == Some(check),
                "it says {:#}",
                diagnosis.0
            );
            Ok(diagnosis)
        },
    )
}

/// Waits until the doctor finds nothing broken. A daemon that was stopped for the sake of the test is a warning.
pub(crate) fn wait_cured(host: &Host) -> Result<()> {
    eventually(
        &format!("the doctor on {} finds nothing broken", host.name()),
        FOLLOW,
        || {
            let diagnosis = doctor(host, &[])?;
            let cause = diagnosis.cause();
            ensure!(
                cause.is_none() || cause == Some("daemon") && diagnosis.1 == 1,
                "it says {:#}",
                diagnosis.0
            );
            Ok(())
        },
    )
}
