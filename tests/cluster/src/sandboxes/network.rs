//! How long the network of sandboxes took, from containerd's metrics: of the time of a sandbox this is the share that a CNI program can
//! change, and it does not depend on how many sandboxes wait for each other.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use crate::bench::Bench;

const METRIC: &str = "containerd_cri_network_plugin_operations_duration_seconds_seconds";

/// Calls of the CNI plugins of a pod, the loopback's too.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Times {
    up: Histogram,
    down: Histogram,
}

impl Times {
    fn parse(page: &str) -> Result<Self> {
        Ok(Self {
            up: Histogram::parse(page, "set_up_pod")?,
            down: Histogram::parse(page, "tear_down_pod")?,
        })
    }

    /// What came since then, and what others took.
    fn add_since(&mut self, now: &Self, then: &Self) {
        self.up.add_since(&now.up, &then.up);
        self.down.add_since(&now.down, &then.down);
    }

    /// The usual way to tell them.
    pub(crate) fn told(&self) -> String {
        format!("ADD {}; DEL {}", self.up.told(), self.down.told())
    }
}

/// How many took at most so many microseconds, how many there were, and the seconds of all.
#[derive(Clone, Debug, Default, PartialEq)]
struct Histogram {
    buckets: BTreeMap<u64, u64>,
    count: u64,
    sum: f64,
}

impl Histogram {
    fn parse(page: &str, operation: &str) -> Result<Self> {
        let mut times = Self::default();
        let label = format!("{{operation_type=\"{operation}\"");
        for line in page.lines() {
            let Some((kind, rest)) = line
                .strip_prefix(METRIC)
                .and_then(|line| line.split_once(&label))
            else {
                continue;
            };
            let (more, value) = rest.rsplit_once(' ').context("a line without a value")?;
            let value: f64 = value.parse().with_context(|| line.to_owned())?;
            match kind {
                "_sum" => times.sum = value,
                "_count" => times.count = value as u64,
                _ => {
                    let bound = more.trim_start_matches(",le=\"").trim_end_matches("\"}");
                    if let Some(bound) = bound.parse().ok().filter(|bound: &f64| bound.is_finite())
                    {
                        times.buckets.insert((bound * 1e6) as u64, value as u64);
                    }
                }
            }
        }
        Ok(times)
    }

    /// What came since then, and what others took.
    fn add_since(&mut self, now: &Self, then: &Self) {
        self.count += now.count.saturating_sub(then.count);
        self.sum += now.sum - then.sum;
        for (bound, count) in &now.buckets {
            let before = then.buckets.get(bound).copied().unwrap_or(0);
            *self.buckets.entry(*bound).or_default() += count.saturating_sub(before);
        }
    }

    /// The smallest bound that this share does not exceed.
    fn within(&self, share: f64) -> String {
        let wanted = (self.count as f64 * share).ceil() as u64;
        let found = self.buckets.iter().find(|(_, count)| **count >= wanted);
        match (found, self.buckets.keys().last()) {
            (Some((bound, _)), _) => format!("at most {} ms", bound / 1000),
            (None, Some(last)) => format!("more than {} ms", last / 1000),
            (None, None) => "unknown".to_owned(),
        }
    }

    fn told(&self) -> String {
        if self.count == 0 {
            return "none counted".to_owned();
        }
        format!(
            "mean {:.0} ms, p50 {}, p99 {}, of {}",
            self.sum * 1000.0 / self.count as f64,
            self.within(0.5),
            self.within(0.99),
            self.count
        )
    }
}

impl Bench {
    /// What containerd has counted up to now on each node.
    pub(crate) fn network_times(&self) -> Result<Vec<Times>> {
        let url = &self.args.containerd_metrics;
        let all = self.nodes.iter().map(|node| {
            let page = self.at_host(&node.name, &format!("curl -fsS -m 5 {url}"))?;
            ensure!(
                page.contains("containerd_"),
                "no metrics of containerd's at {url}"
            );
            Times::parse(&page)
        });
        all.collect()
    }

    /// Adds what was counted since then.
    pub(crate) fn add_network_times(&self, to: &mut Times, since: &[Times]) -> Result<()> {
        for (now, then) in self.network_times()?.iter().zip(since) {
            to.add_since(now, then);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(fast: u64, all: u64, sum: f64) -> String {
        let of = |operation: &str| {
            let label = format!("operation_type=\"{operation}\"");
            format!(
                "{METRIC}_bucket{{{label},le=\"0.025\"}} {fast}\n{METRIC}_bucket{{{label},le=\"0.5\"}} {all}\n\
                 {METRIC}_bucket{{{label},le=\"+Inf\"}} {all}\n{METRIC}_sum{{{label}}} {sum}\n{METRIC}_count{{{label}}} {all}\n"
            )
        };
        format!(
            "# TYPE {METRIC} histogram\n{}{}other 1\n",
            of("set_up_pod"),
            of("status")
        )
    }

    #[test]
    fn what_came_since_then_is_told() {
        let then = Times::parse(&page(3, 10, 2.0)).expect("a page");
        let now = Times::parse(&page(63, 110, 12.0)).expect("a page");
        let mut times = Times::default();
        times.add_since(&now, &then);
        assert_eq!(
            times.told(),
            "ADD mean 100 ms, p50 at most 25 ms, p99 at most 500 ms, of 100; DEL none counted"
        );
    }
}
