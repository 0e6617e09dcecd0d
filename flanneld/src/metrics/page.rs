//! Putting the page together.

use std::io;
use std::time::{Duration, Instant, SystemTime};

use ipam::operations::{BUCKETS, Counted, Operations};
use ipam::pool::{Occupancy, Options, Usage};
use ipam::{Cidr, Pool, PoolError};
use tracing::warn;

use super::catalogue as m;
use super::exposition::{Page, real};
use super::histogram::SECONDS;
use super::kernel::KINDS;
use super::process::{self, seconds};
use crate::kernel::Examination;
use crate::pods::{self, Places};
use crate::status::board::{Board, Facts, KernelFacts, Moment, Own};
use crate::status::{programmed, verdict};
use crate::store::{Health, Origin};

/// How long the kernel's thread may take to say what is left to do.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is read from the files of the CNI program.
#[derive(Debug, Default)]
struct Files {
    pools: Vec<(String, Vec<Occupancy>)>,
    operations: Vec<Counted>,
}

/// Everything as it is now.
pub async fn page(board: &Board) -> String {
    // Where the kernel is as it should be, nobody has to look which peers are not.
    let examiner = {
        let facts = board.facts();
        let behind = facts.kernel.as_ref().filter(|kernel| !kernel.state.in_line);
        behind.map(|kernel| kernel.examiner.clone())
    };
    let examination = match examiner {
        Some(examiner) => examiner.examine(PATIENCE).await,
        None => None,
    };
    let files = tokio::task::spawn_blocking(Files::read).await;
    render(
        &board.facts(),
        examination.as_ref(),
        &files.unwrap_or_default(),
    )
}

impl Files {
    fn read() -> Self {
        let pools = Places::default().pools;
        let occupancies = |network: &String| -> Result<Vec<Occupancy>, PoolError> {
            Pool::open(&pools, network, Options::default())?.occupancies()
        };
        let networks = pods::networks(&pools).into_iter();
        let pools = networks.filter_map(|network| match occupancies(&network) {
            Ok(found) => Some((network, found)),
            Err(error) => {
                warn!("the addresses of {network} cannot be counted: {error}");
                None
            }
        });
        Self {
            pools: pools.collect(),
            operations: Operations::default().read().unwrap_or_else(not_counted),
        }
    }
}

fn not_counted(error: io::Error) -> Vec<Counted> {
    warn!("the calls of the CNI program cannot be counted: {error}");
    Vec::new()
}

fn render(facts: &Facts, examination: Option<&Examination>, files: &Files) -> String {
    let mut page = Page::default();
    page.metric(&m::BUILD)
        .value(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    let ready = verdict::ready(facts, Instant::now()).is_ok();
    page.metric(&m::READY).value(&[], truth(ready));
    lease(&mut page, facts.own.as_ref());
    peers(&mut page, facts, examination);
    kernel(&mut page, facts.kernel.as_ref());
    store(&mut page, &facts.store);
    page.metric(&m::WATCH_EVENTS)
        .value(&[], real(facts.told.events));
    page.metric(&m::WATCH_EVENT)
        .known(&[], facts.told.last.and_then(seconds));
    cni(&mut page, files);
    process::write(&mut page, facts.started.system());
    page.into_text()
}

fn truth(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}

fn lease(page: &mut Page, own: Option<&Own>) {
    let held = own.filter(|own| own.lost.is_none());
    page.metric(&m::LEASE_HELD)
        .value(&[], truth(held.is_some()));
    let mut info = page.metric(&m::LEASE_INFO);
    if let Some(own) = own {
        let origin = match own.lease.origin {
            Origin::Assigned => "assigned",
            Origin::Reused => "reused",
            Origin::Previous => "previous",
            Origin::Chosen => "chosen",
        };
        for subnet in own.lease.key.subnets().each::<Cidr>() {
            info.value(&[("subnet", &subnet.to_string()), ("origin", origin)], 1.0);
        }
    }
    let now = Moment::now();
    let expires = held.and_then(|own| own.lease.expires);
    let expires = expires.map(|at| now.date(at.into_std()));
    page.metric(&m::LEASE_EXPIRY)
        .known(&[], expires.and_then(seconds));
    let renewed: Option<SystemTime> = own.and_then(|own| own.renewed);
    page.metric(&m::LEASE_RENEWED)
        .known(&[], renewed.and_then(seconds));
}

fn peers(page: &mut Page, facts: &Facts, examination: Option<&Examination>) {
    let left_out = facts.skipped.len();
    let wanted = facts.leases.peers().count().saturating_sub(left_out);
    let in_line = facts
        .kernel
        .as_ref()
        .is_some_and(|kernel| kernel.state.in_line);
    let programmed = if in_line {
        wanted
    } else {
        programmed(facts, examination)
    };
    page.metric(&m::PEERS_WANTED)
        .value(&[], real(wanted as u64));
    page.metric(&m::PEERS_PROGRAMMED)
        .value(&[], real(programmed as u64));
    page.metric(&m::PEERS_LEFT_OUT)
        .value(&[], real(left_out as u64));
    page.metric(&m::PEERS_PROBED)
        .value(&[], real(facts.probes.len() as u64));
    let probes = facts.probes.iter();
    let probes: Vec<(String, Option<Duration>)> = probes
        .map(|(key, outcome)| (key.to_string(), outcome.after))
        .collect();
    let mut success = page.metric(&m::PROBE_SUCCESS);
    for (peer, after) in &probes {
        success.value(&[("peer", peer)], truth(after.is_some()));
    }
    let mut duration = page.metric(&m::PROBE_DURATION);
    for (peer, after) in &probes {
        duration.known(&[("peer", peer)], after.map(|after| after.as_secs_f64()));
    }
}

fn kernel(page: &mut Page, kernel: Option<&KernelFacts>) {
    let counts = kernel
        .map(|kernel| kernel.meter.counts())
        .unwrap_or_default();
    let in_line = kernel.is_some_and(|kernel| kernel.state.in_line);
    let contested = kernel.map_or(0, |kernel| kernel.state.contested.len());
    page.metric(&m::KERNEL_IN_LINE).value(&[], truth(in_line));
    let lag = kernel.map(|kernel| kernel.lag.clone()).unwrap_or_default();
    page.metric(&m::KERNEL_LAG)
        .histogram(&[], SECONDS, lag.classes(), lag.sum().as_secs_f64());
    page.metric(&m::RECONCILE_DURATION).histogram(
        &[],
        SECONDS,
        counts.durations.classes(),
        counts.durations.sum().as_secs_f64(),
    );
    page.metric(&m::RECONCILE_PASSES)
        .value(&[], real(counts.passes));
    let mut repairs = page.metric(&m::REPAIRS);
    for (kind, count) in KINDS.into_iter().zip(counts.repairs) {
        repairs.value(&[("object", kind)], real(count));
    }
    page.metric(&m::CONTESTED)
        .value(&[], real(contested as u64));
    for (metric, count) in [
        (&m::NETLINK_CHANGES, counts.traffic.changes),
        (&m::NETLINK_BATCHES, counts.traffic.batches),
        (&m::NETLINK_DUMPS, counts.traffic.lists),
        (&m::NETLINK_LOOKUPS, counts.traffic.lookups),
        (&m::NETLINK_ERRORS, counts.errors),
    ] {
        page.metric(metric).value(&[], real(count));
    }
}

fn store(page: &mut Page, health: &Health) {
    let answers = health.answers();
    let asked = answers.answered.is_some() || answers.failed.is_some();
    let store = ("store", health.kind());
    page.metric(&m::STORE_UP)
        .known(&[store], asked.then(|| truth(!answers.failing)));
    let mut durations = page.metric(&m::STORE_DURATION);
    for ((operation, well), histogram) in &answers.requests {
        let result = if *well { "ok" } else { "error" };
        durations.histogram(
            &[store, ("operation", operation), ("result", result)],
            SECONDS,
            histogram.classes(),
            histogram.sum().as_secs_f64(),
        );
    }
    page.metric(&m::STORE_ANSWER)
        .known(&[store], answers.answered.and_then(seconds));
}

fn cni(page: &mut Page, files: &Files) {
    let mut addresses = page.metric(&m::IPAM);
    for (network, ranges) in &files.pools {
        for Occupancy { first, last, usage } in ranges {
            let range = format!("{first}-{last}");
            for (state, count) in states(usage) {
                let labels = [
                    ("network", network.as_str()),
                    ("range", &range),
                    ("state", state),
                ];
                addresses.value(&labels, real(count));
            }
        }
    }
    let mut durations = page.metric(&m::CNI_DURATION);
    for counted in &files.operations {
        let ends = BUCKETS.map(|micros| Duration::from_micros(micros).as_secs_f64());
        durations.histogram(
            &[
                ("verb", &counted.verb.to_string()),
                ("code", &counted.code.to_string()),
            ],
            ends,
            &counted.tally.classes,
            counted.tally.duration().as_secs_f64(),
        );
    }
}

fn states(usage: &Usage) -> [(&'static str, u64); 4] {
    [
        ("used", usage.used),
        ("free", usage.free),
        ("cooling", usage.cooling),
        ("foreign", usage.foreign),
    ]
}

#[cfg(test)]
mod tests;
