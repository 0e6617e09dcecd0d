//! The stage: hosts whose daemons keep the firewall in one of three ways, and all rules of a host as text.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use netns_tests::{Daemon, Endpoint, Host, Lab, Pod, programs, skip};
use serde_json::json;

/// How long a daemon may take to follow a change.
pub(crate) const FOLLOW: Duration = Duration::from_secs(10);

pub(crate) const NETWORK: &str = "10.244.0.0/16";
pub(crate) const NETWORK_V6: &str = "fd00:10:244::/56";

/// Where links to the programs of the old iptables are, under the names of the usual ones.
const OLD_PROGRAMS: &str = "/run/old-iptables";

/// How the rules are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    NfTables,
    Iptables,
    OldIptables,
}

impl Way {
    /// Both families, VXLAN.
    pub(crate) fn conf(self) -> String {
        self.conf_with(json!({"Type": "vxlan"}))
    }

    pub(crate) fn conf_with(self, backend: serde_json::Value) -> String {
        json!({
            "Network": NETWORK, "EnableIPv6": true, "IPv6Network": NETWORK_V6,
            "EnableNFTables": self == Self::NfTables, "Backend": backend,
        })
        .to_string()
    }

    /// Starts a daemon that finds the programs of this way under the name `iptables`.
    pub(crate) fn start(self, lab: &Lab, host: &Host, arguments: &[&str]) -> Result<Daemon> {
        let first = (self == Self::OldIptables).then_some(OLD_PROGRAMS);
        start(lab, host, first, arguments)
    }

    /// The suffix of this way's programs.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::NfTables | Self::Iptables => "nft",
            Self::OldIptables => "legacy",
        }
    }
}

/// Starts a daemon that looks for programs in `first` before the usual places.
pub(crate) fn start(
    lab: &Lab,
    host: &Host,
    first: Option<&str>,
    arguments: &[&str],
) -> Result<Daemon> {
    let usual = std::env::var("PATH").context("there is no PATH")?;
    let path = first.map_or(usual.clone(), |first| format!("{first}:{usual}"));
    let endpoints = format!("--etcd-endpoints={}", lab.etcd_endpoint());
    // Every repair is to be counted, the same one too.
    let arguments = [endpoints.as_str(), "--iptables-resync=1", "-v=1"]
        .into_iter()
        .chain(arguments.iter().copied());
    let program = programs::find("flanneld")?;
    let mut daemon = Daemon::start(host, &program, arguments, &[("PATH", &path)])?;
    daemon.wait_ready()?;
    Ok(daemon)
}

/// Two hosts that know each other, each with a pod.
pub(crate) struct Scene {
    pub(crate) lab: Lab,
    pub(crate) a: Host,
    pub(crate) b: Host,
    pub(crate) daemon_a: Daemon,
    _daemon_b: Daemon,
    pub(crate) a1: Pod,
    pub(crate) b1: Pod,
}

impl Scene {
    pub(crate) fn new(way: Way) -> Result<Self> {
        Self::with(way, &way.conf(), &["--ip-masq"])
    }

    pub(crate) fn with(way: Way, conf: &str, arguments: &[&str]) -> Result<Self> {
        let mut lab = Lab::new()?;
        lab.start_etcd()?;
        lab.put_net_conf(conf)?;
        let [a, b] = lab.hosts(["a", "b"])?;
        for host in [&a, &b] {
            furnish(host)?;
        }
        let daemon_a = way.start(&lab, &a, arguments)?;
        let daemon_b = way.start(&lab, &b, arguments)?;
        a.wait_peers([&b])?;
        b.wait_peers([&a])?;
        let (a1, b1) = (a.pod("a1")?, b.pod("b1")?);
        Ok(Self {
            lab,
            a,
            b,
            daemon_a,
            _daemon_b: daemon_b,
            a1,
            b1,
        })
    }
}

/// Gives the host the programs of the old iptables under the usual names.
pub(crate) fn furnish(host: &Host) -> Result<()> {
    if !host
        .attempt(["iptables-legacy", "--version"])?
        .status
        .success()
    {
        return skip("there is no iptables-legacy here");
    }
    host.sh(&format!(
        "mkdir -p {OLD_PROGRAMS}
         for program in iptables ip6tables; do
             for verb in '' -save -restore; do
                 ln -sf \"$(command -v $program-legacy$verb)\" {OLD_PROGRAMS}/$program$verb
             done
         done"
    ))?;
    Ok(())
}

/// The pod's addresses, IPv4 first.
pub(crate) fn addresses(pod: &Pod) -> Result<[IpAddr; 2]> {
    let mut addresses = pod.addresses();
    addresses.sort();
    addresses
        .try_into()
        .map_err(|found| anyhow::anyhow!("{} has {found:?}", pod.name()))
}

/// Every firewall rule of the host, of whatever kind, without counters.
pub(crate) fn rules(host: &Host) -> Result<String> {
    host.sh("nft -s list ruleset 2>/dev/null
         for program in iptables ip6tables; do
             for variant in nft legacy; do
                 echo \"# $program-$variant\"
                 $program-$variant-save 2>/dev/null | sed -e '/^#/d' -e 's/ \\[.*\\]$//'
             done
         done")
}

/// What iptables of one variant keeps for IPv4.
pub(crate) fn saved(host: &Host, suffix: &str) -> Result<String> {
    host.sh(&format!(
        "iptables-{suffix}-save 2>/dev/null | sed -e '/^#/d' -e 's/ \\[.*\\]$//'"
    ))
}
