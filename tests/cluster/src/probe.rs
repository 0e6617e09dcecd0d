//! Many small attempts from one place, in one script: starting `kubectl exec` for each would take longer than all of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};

use crate::bench::Bench;
use crate::command;

/// One attempt: a shell command, and a shell pattern that what it prints must match.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    /// What sort of traffic it is; attempts of one sort are one check.
    kind: String,
    command: String,
    expected: String,
}

/// Where attempts are made from.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// The tools of a pod of ours.
    Pod(String),
    /// A machine outside the cluster.
    Outside,
}

/// Of each kind how many attempts there were, and what went wrong.
#[derive(Debug, Default)]
pub(crate) struct Results(BTreeMap<String, (usize, Vec<String>)>);

/// How often an attempt is repeated, a second apart: kube-proxy and DNS need a while to know of a new Service.
const TRIES: u32 = 10;

impl Probe {
    pub(crate) fn new(kind: &str, command: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            command: command.into(),
            expected: expected.into(),
        }
    }

    /// An HTTP request to the test server.
    pub(crate) fn http(
        kind: &str,
        address: &str,
        port: u16,
        path: &str,
        expected: impl Into<String>,
    ) -> Self {
        let url = format!("curl -gsS -m 5 http://{address}:{port}/{path}");
        Self::new(kind, url, expected)
    }

    /// The same by UDP; addresses in brackets are taken out of them.
    pub(crate) fn udp(kind: &str, address: &str, port: u16, expected: impl Into<String>) -> Self {
        let address = address.trim_matches(['[', ']']);
        Self::new(
            kind,
            format!("echo hostname | nc -u -w 2 {address} {port}"),
            expected,
        )
    }

    /// Whether it is by UDP.
    pub(crate) fn is_datagram(&self) -> bool {
        self.command.contains("nc -u")
    }
}

fn script(probes: &[Probe], tries: u32) -> String {
    let mut script = format!(
        "probe() {{ t=0; while :; do out=$(eval \"$2\" 2>&1); case \"$out\" in $3) echo \"@ $1 ok\"; return;; esac
  t=$((t+1)); [ $t -lt {tries} ] || break; sleep 1; done
  echo \"@ $1 no $(printf '%s' \"$out\" | tr '\\n' ' ' | cut -c1-160)\"; }}\n"
    );
    for (i, probe) in probes.iter().enumerate() {
        // Side by side: each waits mostly for others.
        let quoted = [&probe.command, &probe.expected].map(|text| text.replace('\'', r"'\''"));
        let _ = writeln!(script, "probe {i} '{}' '{}' &", quoted[0], quoted[1]);
        if i % 8 == 7 {
            script += "wait\n";
        }
    }
    script + "wait\n"
}

impl Bench {
    /// Makes the attempts from a place, with patience.
    pub(crate) fn probe(
        &self,
        place: &Place,
        probes: &[Probe],
        results: &mut Results,
    ) -> Result<()> {
        self.tried(place, probes, TRIES, results)
    }

    /// Whether they all succeed now, at the first try.
    pub(crate) fn answers(&self, place: &Place, probes: &[Probe]) -> Result<bool> {
        let mut results = Results::default();
        self.tried(place, probes, 1, &mut results)?;
        Ok(results.good())
    }

    fn tried(
        &self,
        place: &Place,
        probes: &[Probe],
        tries: u32,
        results: &mut Results,
    ) -> Result<()> {
        let script = script(probes, tries);
        let (from, said) = match place {
            Place::Pod(pod) => (pod.as_str(), self.in_pod(pod, &script)?),
            Place::Outside => ("outside", self.outside(&script)?.ok("outside")?),
        };
        results.read(from, probes, &said);
        Ok(())
    }

    /// Runs a script on a machine outside the cluster.
    pub(crate) fn outside(&self, script: &str) -> Result<command::Output> {
        let template = self.args.hooks.outside_exec.as_deref();
        let mut words = command::fill(template.context("no OUTSIDE_EXEC")?, &[]);
        words.extend(["sh", "-c", script].map(str::to_owned));
        command::run(&words, None, self.limit(120))
    }

    /// Tells each kind as a check.
    pub(crate) fn tell(&mut self, results: Results) {
        self.tell_as(results, "");
    }

    /// The same where there are several occasions.
    pub(crate) fn tell_as(&mut self, results: Results, occasion: &str) {
        for (kind, (count, failures)) in results.0 {
            let colon = if occasion.is_empty() { "" } else { ": " };
            let name = format!("{occasion}{colon}{kind} ({count})");
            self.check(&name, failures.is_empty(), || {
                let shown: Vec<_> = failures.iter().take(3).map(String::as_str).collect();
                format!("{} of {count} failed: {}", failures.len(), shown.join("; "))
            });
        }
    }
}

impl Results {
    /// Whether nothing failed.
    fn good(&self) -> bool {
        self.0.values().all(|(_, failures)| failures.is_empty())
    }

    fn read(&mut self, from: &str, probes: &[Probe], said: &str) {
        for (i, probe) in probes.iter().enumerate() {
            let mark = format!("@ {i} ");
            let line = said.lines().find_map(|line| line.strip_prefix(&mark));
            let (count, failures) = self.0.entry(probe.kind.clone()).or_default();
            *count += 1;
            if line != Some("ok") {
                let got = line.map_or("nothing", |line| line.trim_start_matches("no").trim());
                failures.push(format!(
                    "from {from}, `{}`: {got:?} instead of {}",
                    probe.command, probe.expected
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_script_tells_which_attempts_failed() {
        let probes = [
            Probe::new("good", "echo \"it's\" 10.1.0.2:4711", "*10.1.0.2:*"),
            Probe::new("good", "echo pod-a", "pod-*"),
            Probe::new("bad", "echo no such host >&2", "pod-*"),
        ];
        let words = ["sh".to_owned(), "-c".to_owned(), script(&probes, 1)];
        let output = command::run(&words, None, Duration::from_secs(60)).expect("sh runs");
        let mut results = Results::default();
        results.read("here", &probes, &output.stdout);
        assert_eq!(results.0["good"].0, 2);
        assert!(results.0["good"].1.is_empty(), "{results:?}");
        assert!(
            results.0["bad"].1[0].contains("no such host"),
            "{results:?}"
        );
    }
}
