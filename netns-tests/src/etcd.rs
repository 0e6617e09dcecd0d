//! A real etcd on a host of its own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::daemon::Daemon;
use crate::endpoint::{Address, Endpoint};
use crate::host::Host;
use crate::lab::has_ipv6;
use crate::wait::eventually;

/// flannel's default prefix in etcd.
pub const PREFIX: &str = "/coreos.com/network";

/// How long etcd may take to answer after its start.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// The etcd of a lab.
#[derive(Debug)]
pub struct Etcd {
    host: Host,
    daemon: Daemon,
}

/// One lease as it stands in etcd.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The whole key.
    pub key: String,
    /// The part after `subnets/`, such as `10.244.7.0-24`.
    pub name: String,
    /// The record; null when it is not JSON.
    pub record: Value,
}

impl Lease {
    /// The IPv4 subnet in the usual notation; `0.0.0.0/0` when the lease has none.
    pub fn subnet(&self) -> String {
        self.name
            .split('&')
            .next()
            .unwrap_or_default()
            .replace('-', "/")
    }

    /// The IPv6 subnet in the usual notation; empty when the lease has none.
    pub fn ipv6_subnet(&self) -> String {
        self.name
            .split('&')
            .nth(1)
            .unwrap_or_default()
            .replace('-', "/")
    }

    /// Member `PublicIP` of the record.
    pub fn public_ip(&self) -> &str {
        self.record["PublicIP"].as_str().unwrap_or_default()
    }

    /// Member `PublicIPv6` of the record.
    pub fn public_ipv6(&self) -> &str {
        self.record["PublicIPv6"].as_str().unwrap_or_default()
    }

    /// Member `VtepMAC` of the backend data.
    pub fn vtep_mac(&self) -> &str {
        self.record["BackendData"]["VtepMAC"]
            .as_str()
            .unwrap_or_default()
    }

    /// Member `VtepMAC` of the backend data for IPv6.
    pub fn ipv6_vtep_mac(&self) -> &str {
        self.record["BackendV6Data"]["VtepMAC"]
            .as_str()
            .unwrap_or_default()
    }
}

impl Etcd {
    pub(crate) fn start(host: &Host) -> Result<Self> {
        let url = format!("http://{}:2379", host.ipv4());
        let data = host.scratch("etcd", "data").display().to_string();
        // For hosts without IPv4; a kernel without IPv6 has no such address to listen on.
        let ipv6 = has_ipv6().then(|| format!(",http://[{}]:2379", host.ipv6()));
        let local = format!(
            "{url},http://127.0.0.1:2379{}",
            ipv6.as_deref().unwrap_or_default()
        );
        let arguments = [
            "--data-dir",
            &data,
            "--listen-client-urls",
            &local,
            "--advertise-client-urls",
            &url,
            "--election-timeout",
            "100",
            "--heartbeat-interval",
            "10",
            "--listen-peer-urls",
            "http://127.0.0.1:2380",
        ];
        let daemon = host.start("etcd", &arguments)?;
        let mut etcd = Self {
            host: host.clone(),
            daemon,
        };
        etcd.wait_healthy()?;
        Ok(etcd)
    }

    /// The host it runs on.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Kills it; what it stored stays.
    pub fn stop(&mut self) -> Result<()> {
        self.daemon.kill()
    }

    /// Starts it again on the same data and waits until it answers.
    pub fn restart(&mut self) -> Result<()> {
        self.daemon.restart()?;
        self.wait_healthy()
    }

    /// Freezes it: connections stay, answers do not come. [`thaw`](Self::thaw) ends that.
    pub fn freeze(&self) -> Result<()> {
        self.daemon.signal(nix::sys::signal::Signal::SIGSTOP)
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<()> {
        self.daemon.signal(nix::sys::signal::Signal::SIGCONT)
    }

    /// Writes a key.
    pub fn put(&self, key: &str, value: &str) -> Result<()> {
        self.control(&["put", "--", key, value]).map(drop)
    }

    /// The value of a key.
    pub fn value(&self, key: &str) -> Result<Option<String>> {
        let value = self.control(&["get", "--print-value-only", "--", key])?;
        Ok((!value.is_empty()).then(|| value.strip_suffix('\n').unwrap_or(&value).to_owned()))
    }

    /// Deletes a key; whether there was one.
    pub fn delete(&self, key: &str) -> Result<bool> {
        Ok(self.control(&["del", "--", key])?.trim() != "0")
    }

    /// The keys below a prefix with their values.
    pub fn list(&self, prefix: &str) -> Result<Vec<(String, String)>> {
        // This format quotes what a key or value may hold; the plain one cannot tell their lines apart.
        let fields = self.control(&["get", "--prefix", "--write-out=fields", "--", prefix])?;
        let strings = |name: &str| -> Result<Vec<String>> {
            let quoted = fields
                .lines()
                .filter_map(|line| line.strip_prefix(name)?.strip_prefix(" : "));
            quoted
                .map(|text| {
                    serde_json::from_str(text).with_context(|| format!("etcdctl printed {text}"))
                })
                .collect()
        };
        Ok(strings("\"Key\"")?
            .into_iter()
            .zip(strings("\"Value\"")?)
            .collect())
    }

    /// The leases below flannel's default prefix, in the order of their keys.
    pub fn leases(&self) -> Result<Vec<Lease>> {
        let prefix = format!("{PREFIX}/subnets/");
        let lease = |(key, value): (String, String)| Lease {
            name: key.strip_prefix(&prefix).unwrap_or(&key).to_owned(),
            key,
            record: serde_json::from_str(&value).unwrap_or_default(),
        };
        Ok(self.list(&prefix)?.into_iter().map(lease).collect())
    }

    /// The lease that names this host as its public address.
    pub fn lease_of(&self, host: &Host) -> Result<Lease> {
        let address = host.address().to_string();
        let lease = self
            .leases()?
            .into_iter()
            .find(|lease| [lease.public_ip(), lease.public_ipv6()].contains(&address.as_str()));
        lease.with_context(|| format!("{} ({address}) has no lease", host.name()))
    }

    /// Drops the history before the present revision, so that watches from older ones break.
    pub fn compact(&self) -> Result<()> {
        let status: Value =
            serde_json::from_str(&self.control(&["endpoint", "status", "-w", "json"])?)?;
        let revision = status[0]["Status"]["header"]["revision"]
            .as_u64()
            .context("etcd tells no revision")?;
        self.control(&["compaction", "--physical", &revision.to_string()])
            .map(drop)
    }

    /// Runs `etcdctl`.
    pub fn control(&self, arguments: &[&str]) -> Result<String> {
        self.host
            .exec(["env", "ETCDCTL_API=3", "etcdctl"].iter().chain(arguments))
    }

    fn wait_healthy(&mut self) -> Result<()> {
        eventually("etcd answers", START_DEADLINE, || {
            ensure!(
                self.daemon.is_running()?,
                "etcd ended:\n{}",
                self.daemon.log()
            );
            let answer = self.host.run(health)??;
            ensure!(answer.contains("\"true\""), "it answers {answer}");
            Ok(())
        })
    }
}

/// Asks etcd's own health page, without starting a program.
fn health() -> Result<String> {
    let mut connection = TcpStream::connect("127.0.0.1:2379")?;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    connection.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}
