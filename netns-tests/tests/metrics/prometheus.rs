//! A real Prometheus on a host of the lab.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use netns_tests::{Daemon, Endpoint, Host, eventually};
use serde_json::Value;

use crate::FOLLOW;

/// The files for Prometheus that the project gives its users.
pub(crate) const MONITORING: [(&str, &str); 2] = [
    (
        "alerts.yml",
        include_str!("../../../manifests/monitoring/alerts.yml"),
    ),
    (
        "alerts-test.yml",
        include_str!("../../../manifests/monitoring/alerts-test.yml"),
    ),
];
const DASHBOARD: &str = include_str!("../../../manifests/monitoring/dashboard.json");

/// Where it answers on its host.
const PORT: u16 = 9090;

/// A Prometheus that scrapes every second.
pub(crate) struct Prometheus {
    host: Host,
    daemon: Daemon,
}

impl Prometheus {
    /// Starts it, with the project's alerts, and waits until it is ready.
    pub(crate) fn start(host: &Host, targets: &[(&str, Ipv4Addr)], port: u16) -> Result<Self> {
        let directory = host.path("/run/prometheus");
        fs::create_dir(&directory)?;
        for (name, text) in MONITORING {
            fs::write(directory.join(name), text)?;
        }
        let mut config = "global: {scrape_interval: 1s, evaluation_interval: 1s}\n\
            rule_files: [alerts.yml]\nscrape_configs:\n- job_name: loden\n  static_configs:\n"
            .to_owned();
        for (name, address) in targets {
            config +=
                &format!("  - {{targets: ['{address}:{port}'], labels: {{instance: {name}}}}}\n");
        }
        fs::write(directory.join("prometheus.yml"), config)?;
        let listen = format!("--web.listen-address=127.0.0.1:{PORT}");
        let daemon = host.start(
            "prometheus",
            &[
                "--config.file=/run/prometheus/prometheus.yml",
                "--storage.tsdb.path=/run/prometheus/data",
                &listen,
            ],
        )?;
        let this = Self {
            host: host.clone(),
            daemon,
        };
        eventually("prometheus answers", Duration::from_secs(60), || {
            let (head, _) = this.get("/-/ready")?;
            ensure!(head.contains(" 200 "), "{head}");
            Ok(())
        })
        .with_context(|| this.daemon.log_tail())?;
        Ok(this)
    }

    fn get(&self, path: &str) -> Result<(String, String)> {
        get(&self.host, ([127, 0, 0, 1], PORT).into(), path)
    }

    /// The values that a query has now.
    fn query(&self, query: &str) -> Result<Vec<f64>> {
        let (head, body) = self.get(&format!("/api/v1/query?query={}", encoded(query)))?;
        let answer: Value = serde_json::from_str(&body).with_context(|| head.clone())?;
        ensure!(answer["status"] == "success", "{query}: {answer}");
        let samples = answer["data"]["result"].as_array().context("no result")?;
        samples
            .iter()
            .map(|sample| Ok(sample["value"][1].as_str().context("no value")?.parse()?))
            .collect()
    }

    /// Waits until a query has one value, this one.
    pub(crate) fn wait(&self, query: &str, value: f64) -> Result<()> {
        self.wait_for(query, value, FOLLOW)
    }

    /// The same with more patience.
    pub(crate) fn wait_for(&self, query: &str, value: f64, patience: Duration) -> Result<()> {
        eventually(&format!("{query} is {value}"), patience, || {
            let values = self.query(query)?;
            match values[..] {
                [one] if (one - value).abs() < f64::EPSILON => Ok(()),
                _ => bail!("it is {values:?}"),
            }
        })
    }

    /// Every query of the dashboard is one, and finds something: hosts of the lab have all that it shows.
    pub(crate) fn dashboard_is_understood(&self) -> Result<()> {
        let dashboard: Value = serde_json::from_str(DASHBOARD)?;
        let panels = dashboard["panels"].as_array().context("no panels")?;
        let targets = panels
            .iter()
            .filter_map(|panel| panel["targets"].as_array())
            .flatten();
        let mut asked = 0;
        for target in targets {
            let query = target["expr"].as_str().context("no query")?;
            let query = query
                .replace("$job", "loden")
                .replace("$instance", ".*")
                .replace("$__rate_interval", "1m");
            ensure!(!self.query(&query)?.is_empty(), "{query} finds nothing");
            asked += 1;
        }
        ensure!(asked > 20, "only {asked} queries");
        Ok(())
    }
}

/// Asks for a page from within a host; its head and its body.
pub(crate) fn get(host: &Host, at: SocketAddr, path: &str) -> Result<(String, String)> {
    let answer = host.run(|| -> Result<String> {
        let mut connection = TcpStream::connect(at)?;
        connection.set_read_timeout(Some(Duration::from_secs(10)))?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: lab\r\n\r\n");
        connection.write_all(request.as_bytes())?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer)
    })??;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    Ok((head.to_owned(), body.to_owned()))
}

fn encoded(query: &str) -> String {
    query.bytes().fold(String::new(), |text, byte| {
        if byte.is_ascii_alphanumeric() {
            text + &char::from(byte).to_string()
        } else {
            text + &format!("%{byte:02X}")
        }
    })
}
