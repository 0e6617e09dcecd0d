//! Making the report of a running daemon: its facts, what the kernel's thread finds when asked, and what the CNI program has recorded.

mod entries;
mod peers;

use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use ipam::{Backend, Cidr, PerFamily};
use jiff::Timestamp;

use super::board::{Board, Facts, KernelFacts, Moment, Own};
use super::report::{self, API_VERSION, PeerInKernel, Report};
use super::{cni, problems, verdict};
use crate::firewall::mode::Mode;
use crate::iptables::Variant;
use crate::kernel::Examination;
use crate::network::vxlan::device_names;
use crate::pods::Places;
use crate::reconcile::DEFAULT_PORT;
use crate::store;

/// How long the kernel's thread may take to compare everything; with 5,000 peers it is a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(5);

/// Everything that the daemon with this board knows now.
pub async fn report_of(board: &Board) -> Report {
    let examiner = {
        let facts = board.facts();
        facts.kernel.as_ref().map(|kernel| kernel.examiner.clone())
    };
    let examination = match examiner {
        Some(examiner) => examiner.examine(PATIENCE).await,
        None => None,
    };
    // Files and a netlink connection of its own: nothing that the daemon's thread should wait for.
    let cni = tokio::task::spawn_blocking(|| cni::look(&Places::default())).await;
    let mut report = of_facts(&board.facts(), examination.as_ref());
    match cni {
        Ok(cni) => cni.add_to(&mut report),
        Err(error) => report.unseen.push(format!("pods: {error}")),
    }
    report.problems = problems::of(&report);
    report
}

/// What would be changed now, as the kernel's thread of the daemon with this board says.
pub async fn plan_of(board: &Board) -> report::Plan {
    let examiner = {
        let facts = board.facts();
        facts.kernel.as_ref().map(|kernel| kernel.examiner.clone())
    };
    let mut plan = report::Plan {
        api_version: API_VERSION.to_owned(),
        at: timestamp(SystemTime::now()),
        complete: false,
        steps: Vec::new(),
        unfinished: false,
        trouble: None,
    };
    let Some(examiner) = examiner else {
        plan.trouble =
            Some("the daemon still waits for the network configuration and the uplink".to_owned());
        return plan;
    };
    let Some(found) = examiner.examine(PATIENCE).await else {
        plan.trouble = Some(silence());
        return plan;
    };
    let now = Moment::now();
    plan.complete = found.complete;
    plan.unfinished = found.unfinished;
    plan.trouble = found.trouble;
    let steps = found.due.into_iter().map(|due| report::PlanStep {
        object: due.object.to_string(),
        action: due.action,
        reason: due.reason,
        held_until: due.held_until.map(|until| rounded_up(now.date(until))),
    });
    plan.steps = steps.collect();
    plan
}

fn silence() -> String {
    format!(
        "the thread that keeps the kernel does not answer within {} s; it is busy or stuck",
        PATIENCE.as_secs()
    )
}

fn of_facts(facts: &Facts, examination: Option<&Examination>) -> Report {
    let now = Moment::now();
    let ready = verdict::ready(facts, Instant::now());
    let kernel = facts.kernel.as_ref();
    let mut unseen = Vec::new();
    if kernel.is_some() {
        let trouble = match examination {
            None => Some(silence()),
            Some(found) => found.trouble.clone(),
        };
        unseen.extend(trouble.map(|trouble| format!("what the kernel holds: {trouble}")));
    }
    Report {
        api_version: API_VERSION.to_owned(),
        at: timestamp(now.system()),
        daemon: report::Daemon {
            state: report::DaemonState::Running,
            since: Some(timestamp(facts.started.system())),
            pid: Some(std::process::id()),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            ready: ready.is_ok(),
            reason: ready.err(),
        },
        node: node(facts, now),
        network: network(facts),
        peers: peers::peers(facts, examination),
        unreadable: facts.unreadable.values().map(entries::unreadable).collect(),
        pods: Vec::new(),
        addresses: Vec::new(),
        repairs: kernel.map(repairs).unwrap_or_default(),
        contested: kernel
            .map(|kernel| contested(kernel, now))
            .unwrap_or_default(),
        problems: Vec::new(),
        unseen,
    }
}

fn node(facts: &Facts, now: Moment) -> report::Node {
    let subnets = |own: &Own| texts(own.lease.key.subnets());
    report::Node {
        name: cni::host_name(),
        uplink: facts.uplink.as_ref().map(|uplink| report::Uplink {
            name: uplink.name.clone(),
            mtu: uplink.mtu,
            public: addresses(uplink.public),
            trouble: facts.uplink_trouble.clone(),
        }),
        subnets: facts.own.as_ref().map(subnets).unwrap_or_default(),
        mtu: facts.pod_mtu,
        lease: facts.own.as_ref().map(|own| lease(own, now)),
        store: Some(store(&facts.store)),
    }
}

fn lease(own: &Own, now: Moment) -> report::Lease {
    let expires = own.lease.expires.map(|at| now.date(at.into_std()));
    report::Lease {
        origin: own.lease.origin.to_string(),
        since: timestamp(own.since),
        renewed: own.renewed.map(timestamp),
        expires: expires.map(timestamp),
        lost: own.lost.clone(),
        trouble: own.trouble.clone(),
    }
}

fn store(health: &store::Health) -> report::Store {
    let answers = health.answers();
    let asked = answers.answered.is_some() || answers.failed.is_some();
    let clock_ahead = answers.clock_ahead();
    let (failed, trouble) = answers.failed.unzip();
    report::Store {
        kind: health.kind().to_owned(),
        endpoints: health.endpoints().to_vec(),
        prefix: health.subnets().map(str::to_owned),
        healthy: asked.then_some(!answers.failing),
        answered: answers.answered.map(timestamp),
        failed: failed.map(timestamp),
        trouble,
        clock_ahead,
    }
}

fn network(facts: &Facts) -> report::Network {
    let Some(conf) = &facts.conf else {
        return report::Network::default();
    };
    let macs = facts.kernel.as_ref().map(|kernel| &kernel.state.macs);
    let mut network = report::Network {
        networks: texts(conf.networks),
        firewall: facts.firewall.map(|mode| mode_name(mode).to_owned()),
        masquerade: Some(facts.masquerade),
        ..report::Network::default()
    };
    let backend = match &conf.backend {
        Backend::Alloc => "alloc",
        Backend::HostGw => "host-gw",
        Backend::Vxlan(vxlan) => {
            network.vni = Some(vxlan.vni.number());
            network.port = Some(if vxlan.port == 0 {
                DEFAULT_PORT
            } else {
                vxlan.port
            });
            network.direct_routing = vxlan.direct_routing;
            let names = device_names(vxlan.vni);
            let v4 = names.v4.filter(|_| conf.networks.v4.is_some());
            let v6 = names.v6.filter(|_| conf.networks.v6.is_some());
            let device = |name: String| report::Device {
                mac: macs
                    .and_then(|macs| macs.get(&name))
                    .map(ToString::to_string),
                name,
            };
            network.devices = v4.into_iter().chain(v6).map(device).collect();
            "vxlan"
        }
    };
    network.backend = Some(backend.to_owned());
    network
}

/// The name of a firewall mode in reports.
pub(super) fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Nftables => "nftables",
        Mode::Iptables(Variant::Nft) => "iptables-nft",
        Mode::Iptables(Variant::Legacy) => "iptables-legacy",
    }
}

/// For how many peers the kernel holds what it should, by what its thread found; none if it could not look.
pub(crate) fn programmed(facts: &Facts, examination: Option<&Examination>) -> usize {
    let peers = peers::peers(facts, examination).into_iter();
    peers
        .filter(|peer| peer.kernel == PeerInKernel::Right)
        .count()
}

fn repairs(kernel: &KernelFacts) -> Vec<report::Repair> {
    let repairs = kernel.journal.repairs().into_iter();
    let repairs = repairs.map(|repair| report::Repair {
        at: timestamp(repair.at),
        first: (repair.times > 1).then(|| timestamp(repair.first)),
        times: repair.times,
        object: repair.object.to_string(),
        action: repair.action,
        reason: repair.reason,
    });
    repairs.collect()
}

fn contested(kernel: &KernelFacts, now: Moment) -> Vec<report::Contested> {
    let contested = kernel.state.contested.iter();
    let contested = contested.map(|contested| report::Contested {
        object: contested.object.to_string(),
        repairs: contested.repairs,
        since: timestamp(now.date(contested.since)),
        next_attempt: rounded_up(now.date(contested.next_attempt)),
    });
    contested.collect()
}

fn texts<A, B>(subnets: PerFamily<A, B>) -> Vec<String>
where
    A: Into<Cidr>,
    B: Into<Cidr>,
{
    subnets
        .each()
        .map(|subnet: Cidr| subnet.to_string())
        .collect()
}

fn addresses<A, B>(public: PerFamily<A, B>) -> Vec<IpAddr>
where
    A: Into<IpAddr>,
    B: Into<IpAddr>,
{
    public.each().collect()
}

/// In whole seconds, which is what people read.
pub(super) fn timestamp(at: SystemTime) -> Timestamp {
    let at = Timestamp::try_from(at).unwrap_or(Timestamp::UNIX_EPOCH);
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// The same for what is still to come.
fn rounded_up(at: SystemTime) -> Timestamp {
    timestamp(at + Duration::from_millis(999))
}
