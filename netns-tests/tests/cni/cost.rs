//! What an ADD costs, counted by `strace`.

use anyhow::{Context, Result, ensure};
use netns_tests::skip;
use serde_json::Value;

use crate::scene::{Call, bridge, host, routed};

/// System calls of a whole ADD, start of the program included.
const CALLS: usize = 100;
const START: usize = 31;
const SOCKETS: usize = 2;

pub(crate) fn an_add_is_cheap() -> Result<()> {
    let (_lab, host) = host()?;
    if std::process::Command::new("strace")
        .arg("-V")
        .output()
        .is_err()
    {
        return skip("there is no strace");
    }
    // A bridge has to be looked at first, and its port waited for.
    for (plugin, sends) in [(routed(), 3), (bridge(), 6)] {
        // The first pod makes directories and a bridge.
        attach(&host, &plugin, "first", &[])?;
        let trace = host.path("/run/trace");
        attach(&host, &plugin, "web", &["strace", "-f", "-o", "/run/trace"])?;
        let trace = std::fs::read_to_string(trace)?;
        let calls: Vec<_> = trace
            .lines()
            .filter_map(|line| line.split_once(' ').map(|(_, call)| call.trim_start()))
            .filter(|call| call.starts_with(|first: char| first.is_ascii_lowercase()))
            // The standard library looks at every descriptor it closes, but not in a release.
            .filter(|call| !call.contains("F_GETFD"))
            .collect();
        let count = |start: &str, word: &str| {
            let counted = |call: &&&str| call.starts_with(start) && call.contains(word);
            calls.iter().filter(counted).count()
        };
        // Before the program reads its config the loader and the standard library are at work: 31 calls when linked
        // statically, as it is released.
        let start = calls.iter().position(|call| call.starts_with("read(0, "));
        let ours = START + calls.len() - start.context("stdin was not read")?;
        ensure!(ours <= CALLS, "{ours} system calls:\n{trace}");
        let sockets = count("socket(", "AF_NETLINK");
        ensure!(sockets <= SOCKETS, "{sockets} netlink sockets:\n{trace}");
        let sent = count("sendto(", "nlmsg_len") + count("sendmsg(", "nlmsg_len");
        ensure!(sent <= sends, "{sent} sends:\n{trace}");
        ensure!(
            count("execve(", "") == 1 && count("clone", "") == 0,
            "another program or thread:\n{trace}"
        );
    }
    Ok(())
}

fn attach(host: &netns_tests::Host, plugin: &Value, name: &str, wrapper: &[&str]) -> Result<()> {
    let pod = host.pod_spec(name).create()?;
    let add = Call::new("ADD", &pod.netns().display().to_string(), plugin);
    add.run_by(host, wrapper)?.result()?;
    Call::new("DEL", "", plugin).run(host)?.silent()?;
    pod.delete()
}
