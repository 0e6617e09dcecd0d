//! Kills flanneld on every node each two seconds, whatever else goes on: beside the scenario, by a loop on the node itself,
//! since what a busy API server says of a container is seconds old.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::bench::Bench;
use crate::command;

/// How many times a loop on a node looks before it ends and another takes its place: so long it may outlive the runner.
const LOOKS: usize = 5;

/// What a node may take for such a loop beyond the time it sleeps.
const PATIENCE: Duration = Duration::from_secs(60);

/// A thread for each node, until it is told to stop.
pub(crate) struct Killer {
    stop: Arc<AtomicBool>,
    begun: Instant,
    nodes: Vec<JoinHandle<Result<usize>>>,
}

/// What it did.
pub(crate) struct Killed {
    times: usize,
    nodes: usize,
    during: Duration,
}

/// A process is the node's if it is in the network namespace of the node, as a pod with `hostNetwork` is: several nodes may
/// show each other's processes. An init container of the same program counts, too. Prints how many were killed.
fn script() -> String {
    format!(
        r#"killed=0; looks=0
while [ $looks -lt {LOOKS} ]; do
  for comm in /proc/[0-9]*/comm; do
    name=; {{ read -r name <"$comm"; }} 2>/dev/null
    [ "$name" = flanneld ] || continue
    process=${{comm%/comm}}
    [ "$process/ns/net" -ef /proc/self/ns/net ] || continue
    kill -9 "${{process#/proc/}}" 2>/dev/null && killed=$((killed + 1))
  done
  looks=$((looks + 1)); sleep 2
done
echo $killed"#
    )
}

impl Killer {
    /// Begins on the nodes that take part.
    pub(crate) fn start(bench: &Bench) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let template = bench.args.hooks.node_exec.clone().context("no NODE_EXEC")?;
        let limit = PATIENCE * bench.args.patience;
        let node = |name: &str| {
            let mut words = command::fill(&template, &[("node", name)]);
            words.extend(["sh".to_owned(), "-c".to_owned(), script()]);
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut killed = 0;
                while !stop.load(Ordering::Relaxed) {
                    let said = command::run(&words, None, limit)?.ok("NODE_EXEC")?;
                    killed += said
                        .trim()
                        .parse::<usize>()
                        .with_context(|| format!("NODE_EXEC said {said:?}"))?;
                }
                Ok(killed)
            })
        };
        let nodes = bench.nodes.iter().map(|of| node(&of.name)).collect();
        Ok(Self {
            stop,
            begun: Instant::now(),
            nodes,
        })
    }

    /// Ends it, and tells what it did.
    pub(crate) fn stop(mut self) -> Result<Killed> {
        self.stop.store(true, Ordering::Relaxed);
        let nodes = std::mem::take(&mut self.nodes);
        let mut killed = Killed {
            times: 0,
            nodes: nodes.len(),
            during: Duration::ZERO,
        };
        for node in nodes {
            let times = node.join().map_err(|_| anyhow!("the killer panicked"))?;
            killed.times += times.context("flanneld could not be killed")?;
        }
        killed.during = self.begun.elapsed();
        Ok(killed)
    }
}

impl Drop for Killer {
    /// A scenario that fails ends the kills as well, before anything is put back.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for node in self.nodes.drain(..) {
            drop(node.join());
        }
    }
}

impl Killed {
    /// For the report.
    pub(crate) fn told(&self) -> String {
        let seconds = self.during.as_secs_f64();
        let each = seconds * self.nodes as f64 / self.times.max(1) as f64;
        format!(
            "{} times on {} nodes in {seconds:.0} s, on each every {each:.1} s",
            self.times, self.nodes
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::{Child, Command};

    use super::*;

    /// Sleeps under the daemon's name.
    fn stand_in() -> (Child, std::path::PathBuf) {
        let directory = std::env::temp_dir().join(format!("loden-killer-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let program = directory.join("flanneld");
        fs::copy("/bin/sleep", &program).unwrap();
        (
            Command::new(&program).arg("1000").spawn().unwrap(),
            directory,
        )
    }

    /// Only the search: others of this name on the machine are not this test's to kill.
    #[test]
    fn the_daemon_of_this_network_is_found_by_its_name() {
        let (mut child, directory) = stand_in();
        let looks = script()
            .replace(&format!("-lt {LOOKS}"), "-lt 1")
            .replace("kill -9", "echo found")
            .replace("sleep 2", ":");
        let found = || {
            let said = Command::new("sh").args(["-c", &looks]).output().unwrap();
            let said = String::from_utf8(said.stdout).unwrap();
            said.contains(&format!("found {}\n", child.id()))
        };
        // The new program has its name a little after the fork.
        let end = Instant::now() + Duration::from_secs(10);
        let mut seen = found();
        while !seen && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
            seen = found();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        fs::remove_dir_all(directory).unwrap();
        assert!(seen);
    }

    #[test]
    fn what_was_done_is_told_for_each_node() {
        let killed = Killed {
            times: 90,
            nodes: 2,
            during: Duration::from_secs(99),
        };
        assert_eq!(
            killed.told(),
            "90 times on 2 nodes in 99 s, on each every 2.2 s"
        );
    }
}
