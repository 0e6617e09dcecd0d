//! The daemons that are measured: Loden's `flanneld`, and flannel's where it was named. Each has a host of its own.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netns_tests::{Daemon, Endpoint, Host, Lab, programs};

use crate::api_server::ApiServer;
use crate::figure::Name;
use crate::leases::Writer;
use crate::peers;

pub(crate) const LODEN: Name = Name {
    text: "Loden",
    beside: None,
};
pub(crate) const FLANNEL: Name = Name {
    text: "flannel",
    beside: Some(LODEN.text),
};

/// How long a daemon may take to write what is wanted.
const DEADLINE: Duration = Duration::from_secs(120);

/// After this time is looked whether the daemon still runs.
const SLICE: Duration = Duration::from_secs(1);

/// How often is looked whether everything is there, which costs a little of what is measured.
const LOOK: Duration = Duration::from_millis(1);

/// A daemon to be started on its host.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) name: Name,
    pub(crate) host: Host,
    program: PathBuf,
    arguments: Vec<String>,
}

impl Contender {
    /// Both, as far as they are there, with leases in etcd.
    pub(crate) fn all(lab: &Lab) -> Result<Vec<Self>> {
        let arguments = [format!("--etcd-endpoints={}", lab.etcd_endpoint())];
        let contender = |(name, program): (Name, PathBuf)| {
            let host = lab.host(&name.text.to_lowercase())?;
            Ok(Self::with(name, host, program, &arguments))
        };
        both()?.into_iter().map(contender).collect()
    }

    /// Both, as far as they are there, with a Node each.
    pub(crate) fn all_nodes(
        lab: &Lab,
        server: &ApiServer,
        writer: &mut Writer,
    ) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for (number, (name, program)) in (1..).zip(both()?) {
            let host = lab.host(&format!("{}-node", name.text.to_lowercase()))?;
            writer.put_own_node(host.name(), number)?;
            all.push(Self::with(name, host, program, &server.arguments()));
        }
        Ok(all)
    }

    fn with(name: Name, host: Host, program: PathBuf, arguments: &[String]) -> Self {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--iface=eth0".to_owned(), "--ip-masq".to_owned()]);
        Self {
            name,
            host,
            program,
            arguments,
        }
    }

    pub(crate) fn start(&self) -> Result<Daemon> {
        Daemon::start(
            &self.host,
            &self.program,
            self.arguments.iter().cloned(),
            &[
                ("NODE_NAME", self.host.name()),
                // flannel does not start where there are more Nodes than this, 5,000 unless told.
                ("EVENT_QUEUE_DEPTH", "20000"),
            ],
        )
    }

    /// Starts it and waits until it has written routes to so many peers; how long that took, and that nothing is missing.
    pub(crate) fn converge(&self, peers: u32) -> Result<(Daemon, Duration)> {
        let before = self.host.run(leaves)??;
        let start = Instant::now();
        let mut daemon = self.start()?;
        let wanted = before + u64::from(peers);
        loop {
            let found = self.host.run(|| await_leaves(wanted))??;
            let time = start.elapsed();
            if found >= wanted && self.missing(peers)?.is_none() {
                return Ok((daemon, time));
            }
            let runs = daemon.is_running()?;
            ensure!(
                runs && start.elapsed() < DEADLINE,
                "{} has not written everything: {:?}; its log ends\n{}",
                self.name.text,
                self.missing(peers)?,
                daemon.log_tail()
            );
        }
    }

    /// What is not there yet of routes, neighbours and FDB entries.
    fn missing(&self, peers: u32) -> Result<Option<String>> {
        let counts = self.host.sh(
            "ip -4 route show dev flannel.1 2>/dev/null | grep -c ' onlink' || true; \
             ip -4 neigh show dev flannel.1 2>/dev/null | grep -c PERMANENT || true; \
             bridge fdb show dev flannel.1 2>/dev/null | grep -c ' dst 203' || true",
        )?;
        let enough = |count: &str| count.parse().is_ok_and(|count: u32| count >= peers);
        Ok((!counts.lines().all(enough)).then(|| counts.replace('\n', " ")))
    }

    /// As before the start, but for the lease.
    pub(crate) fn clear(&self, mut daemon: Daemon) -> Result<()> {
        daemon.kill()?;
        self.host.sh("ip link delete dev flannel.1").map(drop)
    }
}

/// Names and programs.
fn both() -> Result<Vec<(Name, PathBuf)>> {
    let mut both = vec![(LODEN, programs::find("flanneld")?)];
    both.extend(peers::flanneld()?.map(|program| (FLANNEL, program)));
    Ok(both)
}

/// Waits until the routing tables have so many leaves, for a second; how many they have.
fn await_leaves(wanted: u64) -> Result<u64> {
    let start = Instant::now();
    loop {
        let found = leaves()?;
        if found >= wanted || start.elapsed() > SLICE {
            return Ok(found);
        }
        thread::sleep(LOOK);
    }
}

/// Leaves of all routing tables for IPv4 of this thread's network namespace: counted by the kernel without listing them.
pub(crate) fn leaves() -> Result<u64> {
    let path = "/proc/thread-self/net/fib_triestat";
    let text = fs::read_to_string(path).with_context(|| format!("{path} cannot be read"))?;
    let numbers = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Leaves:"))
        .map(|number| number.trim().parse::<u64>());
    // Where both tables share one, it is told twice.
    Ok(numbers
        .collect::<Result<Vec<_>, _>>()?
        .first()
        .copied()
        .unwrap_or_default())
}

/// Processor time of all threads of a running process.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end meanwhile.
        let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        let first = text.split_whitespace().next();
        nanoseconds += first.and_then(|number| number.parse().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanoseconds))
}
