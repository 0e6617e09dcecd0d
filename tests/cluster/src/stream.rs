//! A hundred packets a second of each family and a TCP connection, from a pod of the first node to one of the second, and what became of
//! them. They run in the pods by themselves, so that they can be watched while the API server is away.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::bench::Bench;
use crate::{interrupt, workload};

const FROM: &str = "stream-from";
const TO: &str = "stream-to";

/// A stream that flows.
#[derive(Debug)]
pub(crate) struct Stream {
    addresses: Vec<String>,
}

/// Between two packets, in seconds.
const INTERVAL: &str = "0.01";
/// Packets that may be under way on a busy machine, half a second of them.
const UNDER_WAY: u64 = 50;

impl Stream {
    /// Starts pods and the TCP connection.
    pub(crate) fn begin(bench: &mut Bench) -> Result<Self> {
        let pods = [(FROM, 0), (TO, 1)].map(|(name, node)| {
            workload::pod(
                &bench.args,
                name,
                &bench.nodes[node].name,
                json!({"app": "stream"}),
            )
        });
        bench.kubectl.apply(pods.to_vec())?;
        bench.undo("pods of the stream", |bench| {
            bench.delete(&["pods", "-l", "app=stream"])
        });
        let pods = bench.ready(&[FROM, TO].map(str::to_owned), 180)?;
        let addresses: Vec<String> = workload::addresses(&pods[1])
            .iter()
            .map(|address| address.trim_matches(['[', ']']).to_owned())
            .collect();
        let first = addresses.first().context("stream-to has no address")?;
        bench.in_pod(
            TO,
            "cd /tmp; nc -l -p 7000 </dev/null >tcp 2>tcp.said & sleep 0.5",
        )?;
        let send = format!(
            "cd /tmp; {{ i=0; while echo $i; do i=$((i+1)); sleep 0.1; done | nc {first} 7000; }} </dev/null >/dev/null 2>&1 &"
        );
        bench.in_pod(FROM, &send)?;
        let stream = Self { addresses };
        bench.wait("TCP flows", Duration::from_secs(20), |bench| {
            Ok(match last(bench)? {
                Some(number) if number > 3 => Ok(()),
                seen => Err(format!("{seen:?}")),
            })
        })?;
        Ok(stream)
    }

    /// The packets flow from now on.
    pub(crate) fn start(&self, bench: &Bench) -> Result<()> {
        let mut script = "cd /tmp; rm -f ping.*;".to_owned();
        for (i, address) in self.addresses.iter().enumerate() {
            script += &format!(" ping -i {INTERVAL} {address} </dev/null >ping.{i} 2>&1 &");
        }
        bench.in_pod(FROM, &(script + " sleep 0.5")).map(drop)
    }

    /// Ends the packets, and tells how many of how many were lost on their way.
    pub(crate) fn stop(&self, bench: &Bench) -> Result<(u64, u64)> {
        let mut script = "cd /tmp; pkill -INT ping; sleep 1;".to_owned();
        for i in 0..self.addresses.len() {
            script += &format!(
                " {{ sed -n 's/.*bytes from.*seq=\\([0-9]*\\).*/\\1/p' ping.{i} | sort -un | awk '{{ n++; l = $1 }} END {{ print n + 0, l + 0 }}'; sed -n 's/^\\([0-9]*\\) packets transmitted.*/\\1/p' ping.{i}; }} | tr '\\n' ' '; echo;"
            );
        }
        let said = bench.in_pod(FROM, &script)?;
        let (mut lost, mut sent) = (0, 0);
        for line in said.lines() {
            let numbers: Vec<u64> = line
                .split(' ')
                .filter_map(|word| word.parse().ok())
                .collect();
            let [came, last, all] = numbers[..] else {
                anyhow::bail!("no figures: {said}");
            };
            ensure!(came > 50, "only {came} packets came");
            let (counted, gone) = losses(came, last, all);
            sent += counted;
            lost += gone;
        }
        Ok((lost, sent))
    }

    /// Whether the TCP connection is the one from the beginning, and flows.
    pub(crate) fn tcp(&self, bench: &mut Bench) -> Result<()> {
        let before = last(bench)?;
        bench.wait("TCP flows", Duration::from_secs(20), |bench| {
            let now = last(bench)?;
            Ok(if now > before {
                Ok(())
            } else {
                Err(format!("stands at {now:?}"))
            })
        })?;
        let gaps = "awk '$1 != NR - 1 { print \"line\", NR, \"is\", $0; exit }' /tmp/tcp";
        let gap = bench.in_pod(TO, gaps)?;
        ensure!(gap.is_empty(), "bytes are missing: {gap}");
        Ok(())
    }
}

/// How many packets count, and how many of them were lost, when `came` of them came, the last with the number `last`, and
/// `all` were sent. What was under way at the end is not lost, so the last that came counts; but a stream that broke off has
/// lost the rest.
fn losses(came: u64, last: u64, all: u64) -> (u64, u64) {
    let counted = if all.saturating_sub(last) > UNDER_WAY {
        all
    } else {
        last
    };
    (counted, counted.saturating_sub(came))
}

fn last(bench: &Bench) -> Result<Option<u64>> {
    interrupt::check()?;
    let said = bench.in_pod(TO, "tail -n 2 /tmp/tcp | head -n 1")?;
    Ok(said.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_is_not_lost_but_a_broken_stream_is() {
        assert_eq!(losses(100, 100, 103), (100, 0));
        assert_eq!(losses(97, 100, 103), (100, 3));
        assert_eq!(losses(60, 60, 1000), (1000, 940));
    }
}
