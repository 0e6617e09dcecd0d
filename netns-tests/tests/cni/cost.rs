//! What an ADD costs, counted by `strace`.

use anyhow::{Context, Result, ensure};
use netns_tests::{Host, skip};
use serde_json::Value;

use crate::scene::{Call, both};

/// System calls of a whole ADD, start of the program included.
const CALLS: usize = 100;
const START: usize = 31;
const SOCKETS: usize = 2;

/// The system calls of one run.
struct Trace {
    text: String,
    calls: Vec<String>,
}

impl Trace {
    /// Attaches a pod, and detaches it again.
    fn of_add(host: &Host, plugin: &Value, name: &str) -> Result<Self> {
        let strace = ["strace", "-f", "-o", "/run/trace"];
        let pod = host.pod_spec(name).create()?;
        let add = Call::new("ADD", &pod.netns().display().to_string(), plugin);
        add.run_by(host, &strace)?.result()?;
        Call::new("DEL", "", plugin).run(host)?.silent()?;
        pod.delete()?;
        let text = std::fs::read_to_string(host.path("/run/trace"))?;
        let calls = text
            .lines()
            .filter_map(|line| line.split_once(' ').map(|(_, call)| call.trim_start()))
            .filter(|call| call.starts_with(|first: char| first.is_ascii_lowercase()))
            // The standard library looks at every descriptor it closes, but not in a release.
            .filter(|call| !call.contains("F_GETFD"))
            // A write to a setting that finds the kernel's lock taken is begun again by the kernel, over and over; it is one call.
            .filter(|call| !call.contains("ERESTART"))
            .map(str::to_owned)
            .collect();
        Ok(Self { text, calls })
    }

    /// How many calls of this name have this word in their arguments.
    fn count(&self, start: &str, word: &str) -> usize {
        let counted = |call: &&String| call.starts_with(start) && call.contains(word);
        self.calls.iter().filter(counted).count()
    }

    /// All, as the program is released. Before it reads its config the loader and the standard library are at work: 31
    /// calls when linked statically.
    fn total(&self) -> Result<usize> {
        let start = self
            .calls
            .iter()
            .position(|call| call.starts_with("read(0, "));
        Ok(START + self.calls.len() - start.context("stdin was not read")?)
    }
}

pub(crate) fn an_add_is_cheap() -> Result<()> {
    if std::process::Command::new("strace")
        .arg("-V")
        .output()
        .is_err()
    {
        return skip("there is no strace");
    }
    // A bridge has to be looked at first, and its port waited for. The first pod makes directories, the pool's index and the
    // bridge, and switches forwarding on; with IPv4 alone.
    let (_lab, hosts) = both()?;
    for ((host, plugin), (first, sends)) in hosts.into_iter().zip([(148, 3), (188, 6)]) {
        let trace = Trace::of_add(&host, &plugin, "first")?;
        let total = trace.total()?;
        ensure!(total <= first, "{total} system calls:\n{}", trace.text);

        let trace = Trace::of_add(&host, &plugin, "web")?;
        let total = trace.total()?;
        ensure!(total <= CALLS, "{total} system calls:\n{}", trace.text);
        let sockets = trace.count("socket(", "AF_NETLINK");
        ensure!(sockets <= SOCKETS, "{sockets} sockets:\n{}", trace.text);
        let sent = trace.count("sendto(", "nlmsg_len") + trace.count("sendmsg(", "nlmsg_len");
        ensure!(sent <= sends, "{sent} sends:\n{}", trace.text);
        ensure!(
            trace.count("execve(", "") == 1 && trace.count("clone", "") == 0,
            "another program or thread:\n{}",
            trace.text
        );
    }
    Ok(())
}
