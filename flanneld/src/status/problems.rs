//! What of a report is wrong, in sentences: the first thing that a person reads, and what the exit status of `flanneld status` says.

use super::report::{DaemonState, PeerInKernel, Report};

/// The sentences, the most serious first.
pub(super) fn of(report: &Report) -> Vec<String> {
    let mut problems = Vec::new();
    let daemon = &report.daemon;
    match daemon.state {
        DaemonState::NotRunning => {
            problems.push(
                "flanneld is not running: what is there goes on working, changes stop".to_owned(),
            );
        }
        DaemonState::Running if !daemon.ready => problems.extend(daemon.reason.clone()),
        DaemonState::Running | DaemonState::Unknown => {}
    }
    if let Some(store) = &report.node.store
        && store.healthy == Some(false)
    {
        let trouble = store.trouble.as_deref().unwrap_or("it does not answer");
        // What nothing can be done without is the reason for not being ready, too.
        if !problems.iter().any(|problem| problem.contains(trouble)) {
            problems.push(format!("the store is in trouble: {trouble}"));
        }
    }
    if let Some(trouble) = report
        .node
        .lease
        .as_ref()
        .and_then(|lease| lease.trouble.as_ref())
    {
        problems.push(format!("the lease is not being kept: {trouble}"));
    }
    peers(report, &mut problems);
    for contested in &report.contested {
        problems.push(format!(
            "somebody keeps undoing this: {} (put right {} times)",
            contested.object, contested.repairs
        ));
    }
    let gone = report.pods.iter().filter(|pod| pod.linked == Some(false));
    for pod in gone {
        problems.push(format!(
            "the link of container {} is gone",
            pod.container_id
        ));
    }
    let full = report
        .addresses
        .iter()
        .filter(|range| range.free + range.cooling == 0);
    for range in full {
        problems.push(format!(
            "all {} addresses from {} to {} are in use",
            range.total, range.range.0, range.range.1
        ));
    }
    problems
}

fn peers(report: &Report, problems: &mut Vec<String>) {
    let count = |state| {
        report
            .peers
            .iter()
            .filter(|peer| peer.kernel == state)
            .count()
    };
    let (wrong, left_out) = (count(PeerInKernel::Wrong), count(PeerInKernel::LeftOut));
    if wrong > 0 {
        problems.push(format!(
            "the kernel does not hold what leads to {wrong} of {}",
            peers_in_words(report.peers.len())
        ));
    }
    if left_out > 0 {
        problems.push(format!(
            "the leases of {left_out} of {} cannot be used",
            peers_in_words(report.peers.len())
        ));
    }
}

fn peers_in_words(number: usize) -> String {
    if number == 1 {
        "1 peer".to_owned()
    } else {
        format!("{number} peers")
    }
}
