//! Throughput measured by iperf3.

use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::command;
use crate::endpoint::Endpoint;

/// A server that must not outlive the measurement.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

pub(super) fn measure(from: &impl Endpoint, to: &impl Endpoint, time: Duration) -> Result<f64> {
    let seconds = time.as_secs().max(1).to_string();
    let report = report(from, to, to.address(), &["--time", &seconds])?;
    let received = report["end"]["sum_received"]["bits_per_second"].as_f64();
    received.with_context(|| format!("iperf3 measured nothing: {}", report["error"]))
}

/// All that iperf3 tells of one measurement.
pub(super) fn report(
    from: &impl Endpoint,
    to: &impl Endpoint,
    address: IpAddr,
    options: &[&str],
) -> Result<Value> {
    let _server = serve(to, &to.address().to_string())?;
    let address = address.to_string();
    let client = ["iperf3", "--client", &address, "--json"];
    let report = from.exec(client.iter().chain(options))?;
    serde_json::from_str(&report).context("iperf3 printed no JSON")
}

fn serve(on: &impl Endpoint, address: &str) -> Result<Server> {
    let mut command = command::command([
        "iperf3",
        "--server",
        "--one-off",
        "--forceflush",
        "--bind",
        address,
    ])?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let mut server = Server(command::start(on.namespaces(), &mut command)?);
    let output = server.0.stdout.take().context("iperf3 has no output")?;
    let listening = BufReader::new(output)
        .lines()
        .map_while(Result::ok)
        .any(|line| line.contains("listening"));
    ensure!(listening, "the iperf3 server ended at once");
    Ok(server)
}
