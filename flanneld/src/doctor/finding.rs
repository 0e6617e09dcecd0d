//! What a check says, and which of the things that are wrong is the cause of the others.

use serde::Serialize;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// All is well.
    Ok,
    /// It could not be looked at.
    NotSeen,
    /// Nothing is broken by it now, but it will be, or may be.
    Warn,
    /// Packets, or new pods, suffer from it.
    Fail,
}

/// The checks, in the order of a packet's path: from what everything stands on to what only new pods need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// What the kernel can do.
    Kernel,
    /// The interface between hosts.
    Uplink,
    /// Our devices.
    Device,
    /// The MACs of our devices.
    Mac,
    /// Programs that manage links of ours.
    LinkManagers,
    /// The host's clock.
    Clock,
    /// Where leases are kept.
    Store,
    /// This node's lease.
    Lease,
    /// Leases in each other's way.
    Duplicates,
    /// podCIDR and annotations.
    Kubernetes,
    /// Routes of others into the pod network.
    Overlap,
    /// Forwarding.
    Sysctls,
    /// Filters of packets that come in by another link than answers leave by.
    RpFilter,
    /// Firewalls and the tunnel's port.
    FirewallPort,
    /// Firewalls and forwarded packets.
    FirewallForward,
    /// What leads to the peers in the kernel.
    Peers,
    /// Whether the peers answer.
    Reach,
    /// How large packets get through.
    Mtu,
    /// Checksums.
    Checksum,
    /// The daemon.
    Daemon,
    /// The conflist.
    Conflist,
    /// The CNI programs.
    CniPrograms,
    /// What is left of pods that are gone, and pods whose link is.
    Pods,
    /// Addresses for pods.
    Addresses,
}

impl Check {
    /// What is looked at, for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Kernel => "kernel features",
            Self::Uplink => "uplink",
            Self::Device => "overlay device",
            Self::Mac => "VTEP MAC",
            Self::LinkManagers => "link managers",
            Self::Clock => "clock",
            Self::Store => "store",
            Self::Lease => "lease",
            Self::Duplicates => "leases apart",
            Self::Kubernetes => "Kubernetes",
            Self::Overlap => "overlaps",
            Self::Sysctls => "forwarding",
            Self::RpFilter => "rp_filter",
            Self::FirewallPort => "firewall, port",
            Self::FirewallForward => "firewall, pods",
            Self::Peers => "way to peers",
            Self::Reach => "peers answer",
            Self::Mtu => "path MTU",
            Self::Checksum => "checksums",
            Self::Daemon => "daemon",
            Self::Conflist => "CNI conflist",
            Self::CniPrograms => "CNI programs",
            Self::Pods => "pods",
            Self::Addresses => "pod addresses",
        }
    }

    /// What is wrong as well when this is.
    const fn consequences(self) -> &'static [Self] {
        match self {
            Self::Kernel => &[
                Self::Device,
                Self::Mac,
                Self::Peers,
                Self::Reach,
                Self::Mtu,
                Self::Checksum,
                Self::Daemon,
            ],
            Self::Uplink => &[
                Self::Device,
                Self::Store,
                Self::Lease,
                Self::Peers,
                Self::Reach,
                Self::Mtu,
                Self::Daemon,
            ],
            Self::Device => &[Self::Mac, Self::Peers, Self::Reach, Self::Mtu, Self::Daemon],
            Self::Mac => &[Self::Peers, Self::Reach, Self::Daemon],
            Self::Clock => &[Self::Store, Self::Lease, Self::Daemon],
            Self::Store => &[Self::Lease, Self::Daemon],
            Self::Lease => &[Self::Peers, Self::Daemon, Self::Reach],
            Self::Duplicates => &[Self::Reach, Self::Peers, Self::Kubernetes],
            Self::Overlap => &[Self::Peers, Self::Reach],
            Self::RpFilter | Self::FirewallPort | Self::Peers => &[Self::Reach],
            Self::LinkManagers => &[Self::Device, Self::Mac, Self::Peers],
            Self::Mtu => &[Self::Checksum],
            Self::Pods => &[Self::Addresses],
            Self::Sysctls
            | Self::Kubernetes
            | Self::FirewallForward
            | Self::Reach
            | Self::Checksum
            | Self::Daemon
            | Self::Conflist
            | Self::CniPrograms
            | Self::Addresses => &[],
        }
    }
}

/// What a check says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Which one.
    pub check: Check,
    /// How it came out.
    pub verdict: Verdict,
    /// What was seen, a sentence or less each; the most telling first.
    pub evidence: Vec<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<Remedy>,
    /// The check whose failure explains this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub follows_from: Option<Check>,
}

/// What to do about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Remedy {
    /// For people.
    pub say: String,
    /// What to type.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<Step>,
    /// What `--fix` does; it does nothing where this is empty.
    #[serde(skip)]
    pub fixes: Vec<Fix>,
    /// Whether `--fix` does it.
    pub safe: bool,
}

/// A command to type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// On which host, if not on this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// The command, for a shell of root's.
    pub run: String,
}

/// What `--fix` can do by itself: nothing that cuts a connection, and nothing that starts or stops a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fix {
    /// Set a kernel setting.
    Sysctl {
        /// Its path below /proc/sys.
        setting: String,
        /// What it should say.
        value: &'static str,
    },
    /// Run a program with these words, which accepts packets in a firewall of somebody else's.
    Run(Vec<String>),
    /// Take away what is left of pods that are gone.
    Collect,
}

impl Remedy {
    /// Words only.
    pub fn say(say: impl Into<String>) -> Self {
        Self {
            say: say.into(),
            ..Self::default()
        }
    }

    /// With a command for this host.
    pub fn run(mut self, command: impl Into<String>) -> Self {
        self.commands.push(Step {
            on: None,
            run: command.into(),
        });
        self
    }

    /// With a command for another host.
    pub fn run_on(mut self, host: impl Into<String>, command: impl Into<String>) -> Self {
        self.commands.push(Step {
            on: Some(host.into()),
            run: command.into(),
        });
        self
    }

    /// That `--fix` does, too.
    pub fn fix(mut self, fix: Fix) -> Self {
        self.fixes.push(fix);
        self.safe = true;
        self
    }
}

impl Finding {
    /// All is well, and this was seen.
    pub fn ok(check: Check, evidence: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, evidence)
    }

    /// It could not be looked at, for this reason.
    pub fn not_seen(check: Check, reason: impl Into<String>) -> Self {
        Self::new(check, Verdict::NotSeen, reason)
    }

    /// Something may go wrong.
    pub fn warn(check: Check, evidence: impl Into<String>, remedy: Remedy) -> Self {
        Self {
            remedy: Some(remedy),
            ..Self::new(check, Verdict::Warn, evidence)
        }
    }

    /// Something is wrong.
    pub fn fail(check: Check, evidence: impl Into<String>, remedy: Remedy) -> Self {
        Self {
            remedy: Some(remedy),
            ..Self::new(check, Verdict::Fail, evidence)
        }
    }

    /// With more that was seen.
    pub fn also(mut self, evidence: impl IntoIterator<Item = String>) -> Self {
        self.evidence.extend(evidence);
        self
    }

    fn new(check: Check, verdict: Verdict, evidence: impl Into<String>) -> Self {
        Self {
            check,
            verdict,
            evidence: vec![evidence.into()],
            remedy: None,
            follows_from: None,
        }
    }
}

/// Says of each finding whether another explains it. Nothing that only may go wrong explains something that is wrong.
pub fn relate(findings: &mut [Finding]) {
    let wrong: Vec<(Check, Verdict)> = findings
        .iter()
        .filter(|finding| finding.verdict >= Verdict::Warn)
        .map(|finding| (finding.check, finding.verdict))
        .collect();
    for finding in findings {
        let verdict = finding.verdict;
        if verdict < Verdict::Warn {
            continue;
        }
        finding.follows_from = wrong
            .iter()
            .find(|(check, how)| *how >= verdict && check.consequences().contains(&finding.check))
            .map(|(check, _)| *check);
    }
}

/// What is most likely behind all that is wrong: of the worst findings that no other explains the first on a packet's path.
pub fn cause(findings: &[Finding]) -> Option<&Finding> {
    let by_itself = |verdict| {
        let mut wrong = findings.iter();
        wrong.find(move |finding| finding.verdict == verdict && finding.follows_from.is_none())
    };
    by_itself(Verdict::Fail).or_else(|| by_itself(Verdict::Warn))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(check: Check, verdict: Verdict) -> Finding {
        Finding {
            verdict,
            ..Finding::fail(check, "seen", Remedy::say("do"))
        }
    }

    fn cause_of(mut findings: Vec<Finding>) -> Option<Check> {
        relate(&mut findings);
        cause(&findings).map(|finding| finding.check)
    }

    #[test]
    fn what_others_follow_from_is_named() {
        use Verdict::{Fail, Warn};
        let cases = [
            (vec![], None),
            (vec![(Check::Daemon, Warn)], Some(Check::Daemon)),
            (
                vec![(Check::Reach, Fail), (Check::Daemon, Warn)],
                Some(Check::Reach),
            ),
            (
                vec![(Check::Overlap, Fail), (Check::Reach, Fail)],
                Some(Check::Overlap),
            ),
            // That the store is away is no reason for silence, since everything stays as it is.
            (
                vec![(Check::Store, Warn), (Check::Reach, Fail)],
                Some(Check::Reach),
            ),
            (
                vec![(Check::Pods, Fail), (Check::Addresses, Fail)],
                Some(Check::Pods),
            ),
        ];
        for (given, expected) in cases {
            let findings = given
                .iter()
                .map(|(check, verdict)| wrong(*check, *verdict))
                .collect();
            assert_eq!(cause_of(findings), expected, "{given:?}");
        }
    }

    #[test]
    fn no_check_explains_one_that_explains_it() {
        let all = [
            Check::Kernel,
            Check::Uplink,
            Check::Device,
            Check::Mac,
            Check::LinkManagers,
            Check::Clock,
            Check::Store,
            Check::Lease,
            Check::Duplicates,
            Check::Overlap,
            Check::RpFilter,
            Check::FirewallPort,
            Check::Peers,
            Check::Mtu,
            Check::Pods,
        ];
        for one in all {
            assert!(!one.consequences().contains(&one), "{one:?}");
            for other in one.consequences() {
                assert!(!other.consequences().contains(&one), "{one:?} {other:?}");
            }
        }
    }
}
