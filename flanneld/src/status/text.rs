//! A report as people read it.

mod peers;

use jiff::Timestamp;

use super::report::{Addresses, DaemonState, Lease, Plan, Pod, Report, Store};
use super::screen::{Cell, Paper, Row, Screen, Tone};

/// So many peers and pods are shown unless all are asked for.
const ROWS: usize = 20;
/// So many repairs, and things that somebody keeps undoing.
const REPAIRS: usize = 5;
/// So many sentences on what is wrong: the first ones are the most serious.
const PROBLEMS: usize = 8;
/// So much of a container ID tells it from others.
const SHORT_ID: usize = 12;

/// The report in words. Of long lists the beginning, unless `all` is wanted.
pub fn report(report: &Report, all: bool, paper: Paper) -> String {
    let mut view = View {
        report,
        rows: if all { usize::MAX } else { ROWS },
        repairs: if all { usize::MAX } else { REPAIRS },
        problems: if all { usize::MAX } else { PROBLEMS },
        screen: Screen::new(paper),
    };
    view.head();
    view.node();
    view.network();
    view.peers();
    view.pods();
    view.repairs();
    view.unseen();
    view.screen.into_text()
}

/// The plan in words. Of a long one the beginning, unless `all` is wanted.
pub fn plan(plan: &Plan, all: bool, paper: Paper) -> String {
    let mut screen = Screen::new(paper);
    let bad = Cell::new("!", Tone::Bad);
    if let Some(trouble) = &plan.trouble {
        screen.heading("it cannot be told what would be changed:", "");
        screen.item(&bad, trouble);
        return screen.into_text();
    }
    if plan.steps.is_empty() {
        screen.heading(
            "nothing is to be changed:",
            "the kernel holds what it should",
        );
    } else {
        let number = counted(plan.steps.len(), "change");
        screen.heading(&number, "due now");
    }
    let rows = if all { usize::MAX } else { ROWS };
    for step in plan.steps.iter().take(rows) {
        let sentence = format!("{}: {} ({})", step.object, step.reason, step.action);
        match step.held_until {
            None => screen.item(&Cell::new("~", Tone::Doubtful), &sentence),
            Some(until) => {
                screen.item(&bad, &sentence);
                let wait = span(seconds(plan.at, until));
                screen.remark(&format!(
                    "somebody keeps undoing it: left as it is for {wait}"
                ));
            }
        }
    }
    more(&mut screen, plan.steps.len(), rows);
    if plan.unfinished {
        screen.remark("more follows when this is done");
    }
    if !plan.complete {
        screen.remark("the other nodes' leases are not known yet, so nothing is taken away");
    }
    screen.into_text()
}

struct View<'a> {
    report: &'a Report,
    rows: usize,
    repairs: usize,
    problems: usize,
    screen: Screen,
}

impl View<'_> {
    fn head(&mut self) {
        let report = self.report;
        let daemon = &report.daemon;
        let version = daemon.version.as_deref().unwrap_or_default();
        let state = match (daemon.state, daemon.since) {
            (DaemonState::Running, Some(since)) => {
                format!(
                    "flanneld {version} has been running for {}",
                    self.age(since)
                )
            }
            (DaemonState::Running, None) => format!("flanneld {version} is running"),
            (DaemonState::NotRunning, Some(since)) => {
                format!("flanneld was stopped {} ago", self.age(since))
            }
            (DaemonState::NotRunning, None) => "flanneld is not running".to_owned(),
            (DaemonState::Unknown, _) => "flanneld cannot be asked".to_owned(),
        };
        let name = format!("node {}:", report.node.name);
        self.screen.heading(&name, &state);
        if report.problems.is_empty() {
            let (sign, words) = match daemon.state {
                DaemonState::Running => (Cell::new("✓", Tone::Good), "all is well"),
                DaemonState::NotRunning | DaemonState::Unknown => {
                    (Cell::new("?", Tone::Doubtful), "nothing wrong was found")
                }
            };
            self.screen.item(&sign, words);
        }
        for problem in report.problems.iter().take(self.problems) {
            self.screen.item(&Cell::new("!", Tone::Bad), problem);
        }
        self.more(report.problems.len(), self.problems);
    }

    fn node(&mut self) {
        let node = &self.report.node;
        if let Some(uplink) = &node.uplink {
            let public: Vec<String> = uplink.public.iter().map(ToString::to_string).collect();
            let text = format!(
                "{}, {}, MTU {}",
                uplink.name,
                public.join(" and "),
                uplink.mtu
            );
            self.screen.field("uplink", &text);
        }
        let mtu = node.mtu.map(|mtu| format!("MTU for pods {mtu}"));
        let subnets = Some(node.subnets.join(" and ")).filter(|text| !text.is_empty());
        match (subnets, mtu) {
            (Some(subnets), Some(mtu)) => self.screen.field("subnet", &format!("{subnets}, {mtu}")),
            (Some(subnets), None) => self.screen.field("subnet", &subnets),
            (None, _) => self.screen.field_in("subnet", "none", Tone::Bad),
        }
        if let Some(lease) = &node.lease {
            let (text, tone) = self.lease(lease);
            self.screen.field_in("lease", &text, tone);
        }
        if let Some(store) = &node.store {
            let (text, tone) = self.store(store);
            self.screen.field_in("store", &text, tone);
        }
    }

    fn lease(&self, lease: &Lease) -> (String, Tone) {
        if let Some(reason) = &lease.lost {
            return (format!("lost: {reason}"), Tone::Bad);
        }
        let mut text = match lease.expires {
            None => "does not end".to_owned(),
            Some(end) if end > self.report.at => {
                format!("ends in {}", span(seconds(self.report.at, end)))
            }
            Some(end) => format!("ended {} ago", self.age(end)),
        };
        if let Some(renewed) = lease.renewed {
            text = format!("{text}, made sure of {} ago", self.age(renewed));
        }
        text = format!(
            "{text}, held for {} ({})",
            self.age(lease.since),
            lease.origin
        );
        let ended = lease.expires.is_some_and(|end| end <= self.report.at);
        (text, if ended { Tone::Bad } else { Tone::Plain })
    }

    fn store(&self, store: &Store) -> (String, Tone) {
        let place = format!("{} {}", store.kind, store.endpoints.join(", "));
        let answered = match store.answered {
            Some(at) => format!("answered {} ago", self.age(at)),
            None => "has not answered yet".to_owned(),
        };
        match store.healthy {
            Some(true) => (format!("{place}, {answered}"), Tone::Plain),
            Some(false) => (format!("{place} does not answer; {answered}"), Tone::Bad),
            None => (format!("{place} has not been asked yet"), Tone::Doubtful),
        }
    }

    fn network(&mut self) {
        let network = &self.report.network;
        let networks = network.networks.join(" and ");
        if networks.is_empty() && network.backend.is_none() {
            return self.screen.heading("network", "not known");
        }
        self.screen.heading("network", &networks);
        let mut backend = network.backend.clone().unwrap_or_default();
        if let Some(vni) = network.vni {
            backend = format!("{backend}, VNI {vni}");
        }
        if let Some(port) = network.port {
            backend = format!("{backend}, UDP port {port}");
        }
        if network.direct_routing {
            backend = format!("{backend}, direct routing");
        }
        for device in &network.devices {
            backend = match &device.mac {
                Some(mac) => format!("{backend}, {} ({mac})", device.name),
                None => format!("{backend}, {}", device.name),
            };
        }
        self.screen.field("backend", &backend);
        if let Some(firewall) = &network.firewall {
            let masquerade = match network.masquerade {
                Some(true) => ", pods are masqueraded on their way out",
                Some(false) => ", nothing is masqueraded",
                None => "",
            };
            self.screen
                .field("firewall", &format!("{firewall}{masquerade}"));
        }
    }

    fn pods(&mut self) {
        let report = self.report;
        let title = counted(report.pods.len(), "pod");
        let ranges: Vec<String> = report.addresses.iter().map(range).collect();
        if ranges.is_empty() {
            self.screen.heading(&title, "");
        } else {
            self.screen
                .heading(&format!("{title};"), &ranges.join("; "));
        }
        if report.pods.is_empty() {
            return;
        }
        let mut pods: Vec<&Pod> = report.pods.iter().collect();
        pods.sort_by_key(|pod| pod.linked != Some(false));
        let names = ["ADDRESS", "POD", "CONTAINER", "INTERFACE", "KIND", "AGE"];
        let mut rows = vec![Row::names(names)];
        for pod in pods.iter().take(self.rows) {
            rows.extend(self.pod(pod));
        }
        self.screen.table(&rows, 1);
        self.more(pods.len(), self.rows);
    }

    fn pod(&self, pod: &Pod) -> Vec<Row> {
        let name = match (&pod.namespace, &pod.name) {
            (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
            (None, Some(name)) => name.clone(),
            (_, None) => "-".to_owned(),
        };
        let interface = pod.interface.clone().unwrap_or_else(|| "-".to_owned());
        let interface = match pod.linked {
            Some(false) => Cell::new(format!("{interface} gone"), Tone::Bad),
            _ => interface.into(),
        };
        let id: String = pod.container_id.chars().take(SHORT_ID).collect();
        let mut addresses = pod.addresses.iter().map(ToString::to_string);
        let first = addresses.next().unwrap_or_else(|| "-".to_owned());
        let age = pod.since.map(|since| self.age(since)).unwrap_or_default();
        let kind = pod.kind.clone();
        let cells = vec![
            first.into(),
            name.into(),
            id.into(),
            interface,
            kind.into(),
            age.into(),
        ];
        let others = addresses.map(|address| Row::new(vec![address.into()]));
        std::iter::once(Row::new(cells)).chain(others).collect()
    }

    fn repairs(&mut self) {
        let report = self.report;
        if !report.repairs.is_empty() {
            let times: u64 = report.repairs.iter().map(|repair| repair.times).sum();
            let title = counted(usize::try_from(times).unwrap_or(usize::MAX), "repair");
            self.screen
                .heading(&title, "of what somebody else changed, the last ones first");
            for repair in report.repairs.iter().rev().take(self.repairs) {
                let mut sentence =
                    format!("{}: {} ({})", repair.object, repair.reason, repair.action);
                if repair.times > 1 {
                    let since = self.age(repair.first.unwrap_or(repair.at));
                    sentence = format!("{sentence}, {} times in {since}", repair.times);
                }
                let when = format!("{:>4} ago", self.age(repair.at));
                self.screen.item(&Cell::new(when, Tone::Faint), &sentence);
            }
            self.more(report.repairs.len(), self.repairs);
        }
        if report.contested.is_empty() {
            return;
        }
        let title = counted(report.contested.len(), "thing");
        self.screen.heading(
            &title,
            "somebody keeps undoing; put right less often from now on",
        );
        for contested in report.contested.iter().take(self.repairs) {
            let next = span(seconds(report.at, contested.next_attempt));
            let sentence = format!(
                "{}: put right {} times in {}, again in {next}",
                contested.object,
                contested.repairs,
                self.age(contested.since)
            );
            self.screen.item(&Cell::new("!", Tone::Bad), &sentence);
        }
        self.more(report.contested.len(), self.repairs);
    }

    fn unseen(&mut self) {
        if self.report.unseen.is_empty() {
            return;
        }
        self.screen.heading("not seen", "");
        for sentence in &self.report.unseen {
            self.screen.item(&Cell::new("?", Tone::Doubtful), sentence);
        }
    }

    fn more(&mut self, there: usize, shown: usize) {
        more(&mut self.screen, there, shown);
    }

    fn age(&self, since: Timestamp) -> String {
        span(seconds(since, self.report.at))
    }
}

fn more(screen: &mut Screen, there: usize, shown: usize) {
    if there > shown {
        let more = there - shown;
        screen.remark(&format!("… and {more} more, --all shows them"));
    }
}

fn range(range: &Addresses) -> String {
    format!(
        "of {} addresses from {} on {} are used, {} free, {} cooling down",
        range.total, range.range.0, range.used, range.free, range.cooling
    )
}

fn counted(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

fn seconds(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.as_second() - from.as_second()).unwrap_or(0)
}

/// A length of time with two digits or so.
fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{minutes}m"),
        7200..172_800 => format!("{hours}h"),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests;
