//! More daemons than subnets, all at once.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_tests::{Daemon, Endpoint, Host, Lab, eventually};

use crate::scene::lab;

/// Thirty subnets, and no more to program than the lease: the contest is about that.
const THIRTY: &str = r#"{"Network": "10.244.0.0/16", "SubnetMin": "10.244.10.0", "SubnetMax": "10.244.39.0",
    "Backend": {"Type": "alloc"}}"#;
const SUBNETS: usize = 30;

/// How long forty daemons on a slow machine may take, all together.
const PATIENCE: Duration = Duration::from_secs(60);

struct Contest {
    lab: Lab,
    daemons: Vec<(Host, Daemon)>,
}

impl Contest {
    /// Starts so many daemons at once.
    fn start(count: usize) -> Result<Self> {
        let lab = lab()?;
        lab.put_net_conf(THIRTY)?;
        let hosts = (0..count).map(|number| lab.host(&format!("h{number}")));
        let hosts: Vec<Host> = hosts.collect::<Result<_>>()?;
        let daemons = hosts
            .into_iter()
            .map(|host| {
                let daemon = host.start_flanneld(&[])?;
                Ok((host, daemon))
            })
            .collect::<Result<_>>()?;
        Ok(Self { lab, daemons })
    }

    /// Waits until all subnets are leased; no two hosts may have the same at any time that is looked at.
    fn wait_full(&self) -> Result<()> {
        eventually("all subnets are leased", PATIENCE, || {
            let leased = self.check_leases()?;
            ensure!(leased == SUBNETS, "{leased} are");
            Ok(())
        })
    }

    /// The number of leases; each has a subnet and a host of its own. All have the same length, so different ones do not overlap.
    fn check_leases(&self) -> Result<usize> {
        let leases = self.lab.etcd()?.leases()?;
        let subnets: BTreeSet<String> = leases.iter().map(|lease| lease.subnet()).collect();
        let hosts: BTreeSet<&str> = leases.iter().map(|lease| lease.public_ip()).collect();
        ensure!(
            subnets.len() == leases.len() && hosts.len() == leases.len(),
            "{leases:?}"
        );
        ensure!(
            subnets.iter().all(|subnet| subnet.ends_with(".0/24")),
            "{subnets:?}"
        );
        Ok(leases.len())
    }

    /// Those whose subnet file says that they have won; each says what etcd says.
    fn winners(&self) -> Result<Vec<usize>> {
        let mut winners = Vec::new();
        for (number, (host, _)) in self.daemons.iter().enumerate() {
            let Ok(file) = std::fs::read_to_string(host.path("/run/flannel/subnet.env")) else {
                continue;
            };
            let subnet = self.lab.etcd()?.lease_of(host)?.subnet();
            let first = subnet.replace(".0/24", ".1/24");
            ensure!(
                file.contains(&format!("FLANNEL_SUBNET={first}\n")),
                "{} has {subnet} in etcd, and on disk:\n{file}",
                host.name()
            );
            winners.push(number);
        }
        Ok(winners)
    }

    fn wait_winners(&self, count: usize) -> Result<Vec<usize>> {
        eventually("the winners know", PATIENCE, || {
            let winners = self.winners()?;
            ensure!(winners.len() == count, "{} know", winners.len());
            Ok(winners)
        })
    }
}

pub(crate) fn thirty_daemons_share_thirty_subnets() -> Result<()> {
    let mut contest = Contest::start(SUBNETS)?;
    contest.wait_full()?;
    contest.wait_winners(SUBNETS)?;
    for (_, daemon) in &mut contest.daemons {
        ensure!(daemon.is_running()?, "a daemon ended");
    }
    Ok(())
}

pub(crate) fn forty_daemons_fight_for_thirty_subnets() -> Result<()> {
    let mut contest = Contest::start(SUBNETS + 10)?;
    contest.wait_full()?;
    let winners = contest.wait_winners(SUBNETS)?;
    let losers: Vec<usize> = (0..contest.daemons.len())
        .filter(|number| !winners.contains(number))
        .collect();
    for number in &losers {
        let (_, daemon) = &contest.daemons[*number];
        daemon.wait_log("no subnet of 10.244.0.0/16 is free, 30 leases exist")?;
    }

    // One host leaves, one of those that wait gets its subnet.
    let leaving = *winners.first().context("nobody won")?;
    let (host, daemon) = &mut contest.daemons[leaving];
    daemon.terminate()?;
    let freed = contest.lab.etcd()?.lease_of(host)?;
    std::fs::remove_file(host.path("/run/flannel/subnet.env"))?;
    contest.lab.etcd()?.delete(&freed.key)?;
    let now = contest.wait_winners(SUBNETS)?;
    contest.wait_full()?;
    let late = now.iter().find(|number| !winners.contains(number));
    let (late, daemon) = &mut contest.daemons[*late.context("nobody won late")?];
    ensure!(
        contest.lab.etcd()?.lease_of(late)?.subnet() == freed.subnet(),
        "another subnet than the one that was freed"
    );
    daemon.wait_ready()?;
    for (host, daemon) in &mut contest.daemons {
        let left = host.path("/run/flannel/subnet.env").exists();
        ensure!(
            daemon.is_running()? || !left,
            "the daemon of {} ended",
            host.name()
        );
    }
    Ok(())
}
