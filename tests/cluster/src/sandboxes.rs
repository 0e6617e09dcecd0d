//! How long the runtime took to make pods' sandboxes, from its own log: the time of `RunPodSandbox` is mostly that of the network.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::bench::Bench;
use crate::command;
use crate::report::percentile;

mod network;

pub(crate) use network::Times;

/// Seconds that each sandbox took whose making is in this part of a log of containerd's.
fn durations(log: &str, prefix: &str) -> Vec<f64> {
    let mut begun: BTreeMap<&str, f64> = BTreeMap::new();
    let mut all = Vec::new();
    let names = [format!("Name:{prefix}"), format!("name:\\\"{prefix}")];
    for line in log
        .lines()
        .filter(|line| line.contains("RunPodSandbox for"))
    {
        let (Some(time), Some(pod)) = (seconds(line), sandbox(line)) else {
            continue;
        };
        if !names.iter().any(|name| pod.contains(name)) {
            continue;
        }
        if line.contains("returns sandbox id") {
            if let Some(start) = begun.remove(pod) {
                // A log that passes midnight.
                all.push((time - start).rem_euclid(86400.0));
            }
        } else {
            begun.insert(pod, time);
        }
    }
    all
}

/// What tells a sandbox from others in a line of the log, in the forms of containerd 1 and 2.
fn sandbox(line: &str) -> Option<&str> {
    let rest = line.split_once("RunPodSandbox for ")?.1;
    let pod = rest
        .split_once(" returns sandbox id")
        .map_or(rest, |(pod, _)| pod);
    Some(
        pod.trim_end()
            .strip_suffix('"')
            .filter(|_| pod == rest)
            .unwrap_or(pod),
    )
}

/// Seconds of the day, from `time="2026-01-02T03:04:05.678Z"`.
fn seconds(line: &str) -> Option<f64> {
    let time = line.split_once("time=\"")?.1.split_once('T')?.1;
    let end =
        time.find(|letter: char| !(letter.is_ascii_digit() || matches!(letter, ':' | '.')))?;
    time[..end].split(':').try_fold(0.0, |sum, part| {
        Some(sum * 60.0 + part.parse::<f64>().ok()?)
    })
}

impl Bench {
    /// Where a node's log of containerd's ends now, for [`Bench::sandboxes`].
    pub(crate) fn log_ends(&self) -> Result<Vec<usize>> {
        let nodes = self.nodes.iter();
        nodes
            .map(|node| Ok(self.runtime_log(&node.name)?.len()))
            .collect()
    }

    /// Sandbox times of pods whose names begin so, made since then, in seconds.
    pub(crate) fn sandboxes(&self, since: &[usize], prefix: &str) -> Result<Vec<f64>> {
        let mut all = Vec::new();
        for (node, since) in self.nodes.iter().zip(since) {
            let log = self.runtime_log(&node.name)?;
            all.extend(durations(log.get(*since..).unwrap_or(&log), prefix));
        }
        Ok(all)
    }

    fn runtime_log(&self, node: &str) -> Result<String> {
        let template = self.args.hooks.containerd_log.as_deref();
        let words = command::fill(template.context("no CONTAINERD_LOG")?, &[("node", node)]);
        command::run(&words, None, self.limit(60))?.ok(&words.join(" "))
    }
}

/// The usual way to tell them.
pub(crate) fn told(times: &[f64]) -> String {
    match (percentile(times, 0.5), percentile(times, 0.99)) {
        (Some(half), Some(most)) => format!(
            "p50 {:.0} ms, p99 {:.0} ms, of {}",
            half * 1000.0,
            most * 1000.0,
            times.len()
        ),
        _ => "none in the log".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first pod in the words of containerd 1, the third in those of containerd 2.
    const LOG: &str = r#"
time="2026-11-21T23:59:59.900000000Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:churn-1,Uid:u1,Namespace:n,Attempt:0,}"
time="2026-11-21T23:59:59.950000000Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:other,Uid:u2,Namespace:n,Attempt:0,}"
time="2026-11-22T00:00:00.100000000Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:churn-1,Uid:u1,Namespace:n,Attempt:0,} returns sandbox id \"abc\""
time="2026-11-22T00:00:00.200000000Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:other,Uid:u2,Namespace:n,Attempt:0,} returns sandbox id \"def\""
time="2026-11-22T00:00:01.100Z" level=info msg="RunPodSandbox for name:\"churn-2\" uid:\"u3\" namespace:\"n\""
time="2026-11-22T00:00:01.500Z" level=info msg="RunPodSandbox for name:\"churn-2\" uid:\"u3\" namespace:\"n\" returns sandbox id \"ghi\""
"#;

    #[test]
    fn beginning_and_end_of_each_sandbox_are_found() {
        let times = durations(LOG, "churn-");
        assert_eq!(times.len(), 2);
        assert!((times[0] - 0.2).abs() < 1e-6, "{times:?}");
        assert_eq!(told(&times), "p50 200 ms, p99 400 ms, of 2");
        assert_eq!(told(&durations("", "churn-")), "none in the log");
    }
}
