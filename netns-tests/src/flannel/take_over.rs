//! Whether a host has gone over to Loden, and nothing else has happened to it.

use anyhow::{Result, ensure};

use super::Node;
use crate::endpoint::Endpoint;
use crate::host::Host;
use crate::snapshot::Snapshot;

/// What was for the node that is gone is gone, and nothing else of flannel's in the kernel but rules.
pub fn is_taken_over(a: &Node<'_>, gone: &Node<'_>, before: &Snapshot) -> Result<()> {
    let now = a.host.snapshot()?.kernel();
    let about = |line: &&String| {
        [true, false]
            .iter()
            .any(|&ipv4| line.contains(&gone.vtep(ipv4)) || line.contains(&gone.mac(ipv4)))
    };
    let stale: Vec<&str> = now
        .lines()
        .filter(|line| about(&&(*line).to_owned()))
        .collect();
    ensure!(stale.is_empty(), "{stale:#?}");
    let difference = now.diff(before);
    let ruled = |line: &&String| line.starts_with("nft ") || line.starts_with("sysctl ");
    let lost: Vec<&String> = difference
        .gone
        .iter()
        .filter(|line| !about(line) && !ruled(line))
        .collect();
    let new: Vec<&String> = difference.new.iter().filter(|line| !ruled(line)).collect();
    ensure!(
        lost.is_empty() && new.is_empty(),
        "{lost:#?} became {new:#?}"
    );
    Ok(())
}

/// The numbers of the links: a link that was made anew has another.
pub fn indices(host: &Host) -> Result<String> {
    host.sh("cd /sys/class/net && grep . */ifindex")
}
