//! Asking a node.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_tests::{Daemon, Endpoint, Host, Lab, Pod, eventually, programs};
use serde_json::Value;

pub(crate) const NET_CONF: &str = r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}"#;

/// How long a change may take to be seen.
pub(crate) const FOLLOW: Duration = Duration::from_secs(20);

/// What a command printed, and its exit status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A host and its daemon, with probes.
pub(crate) struct Node {
    pub(crate) host: Host,
    pub(crate) daemon: Daemon,
}

impl Node {
    pub(crate) fn start(lab: &Lab, name: &str) -> Result<Self> {
        let host = lab.host(name)?;
        let daemon = host.flanneld(&["--ip-masq", "--healthz-port=8081"])?;
        Ok(Self { host, daemon })
    }
}

pub(crate) fn lab() -> Result<Lab> {
    let mut lab = Lab::new()?;
    lab.start_etcd()?;
    lab.put_net_conf(NET_CONF)?;
    Ok(lab)
}

pub(crate) fn two_nodes(lab: &Lab) -> Result<(Node, Node)> {
    let (a, b) = (Node::start(lab, "a")?, Node::start(lab, "b")?);
    a.host.wait_peers([&b.host])?;
    b.host.wait_peers([&a.host])?;
    Ok((a, b))
}

/// Runs `flanneld` with these words.
pub(crate) fn flanneld(host: &Host, words: &[&str]) -> Result<Answer> {
    let program = programs::find("flanneld")?;
    let program = program.to_str().context("no text")?;
    let finished = host.attempt([&[program], words].concat())?;
    Ok(Answer {
        status: finished.status.code().context("a signal ended it")?,
        out: finished.stdout,
        err: finished.stderr,
    })
}

/// The report as JSON, and the exit status.
pub(crate) fn report(host: &Host) -> Result<(Value, i32)> {
    let answer = flanneld(host, &["status", "-o", "json"])?;
    let report = serde_json::from_str(&answer.out);
    let report: Value = report.with_context(|| format!("{answer:?}"))?;
    ensure!(report["apiVersion"] == "loden.status/v1", "{report}");
    Ok((report, answer.status))
}

/// Waits until the report is as `look` wants it.
pub(crate) fn eventually_report(
    host: &Host,
    what: &str,
    look: impl Fn(&Value) -> bool,
) -> Result<Value> {
    eventually(what, FOLLOW, || {
        let (report, _) = report(host)?;
        ensure!(look(&report), "{report:#}");
        Ok(report)
    })
}

/// The packet's way as JSON, and the exit status.
pub(crate) fn trace(pod: &Pod, to: &str) -> Result<(Value, i32)> {
    let answer = flanneld(pod.host(), &["trace", pod.name(), to, "-o", "json"])?;
    let trace = serde_json::from_str(&answer.out);
    Ok((trace.with_context(|| format!("{answer:?}"))?, answer.status))
}

/// The list under this name.
pub(crate) fn list<'a>(value: &'a Value, name: &str) -> Result<&'a Vec<Value>> {
    value[name]
        .as_array()
        .with_context(|| format!("no {name} in {value:#}"))
}

/// What a probe is answered.
pub(crate) fn probe(host: &Host, path: &str) -> Result<String> {
    host.run(|| -> Result<String> {
        let mut connection = TcpStream::connect("127.0.0.1:8081")?;
        connection.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(connection, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer)
    })?
}

/// Waits until a probe is answered so.
pub(crate) fn wait_probe(host: &Host, path: &str, expected: &str) -> Result<String> {
    eventually(&format!("{path} says {expected:?}"), FOLLOW, || {
        let answer = probe(host, path)?;
        ensure!(answer.contains(expected), "{answer}");
        Ok(answer)
    })
}

/// No line is wider than a terminal, and there is no colour in a pipe.
pub(crate) fn readable(text: &str) -> Result<()> {
    for line in text.lines() {
        ensure!(
            line.chars().count() <= 80,
            "{line:?} is too wide in\n{text}"
        );
    }
    ensure!(!text.contains('\u{1b}'), "colours in a pipe:\n{text}");
    Ok(())
}
