//! The hosts of a chaos test and what can be done to them as a whole.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use netns_tests::{Cluster, Endpoint, Lease, NetConf, Node, Pod, Traffic, eventually};

use crate::expected::{Backend, for_peers, part};
use crate::mischief;
use crate::random::Random;

/// Fewer hosts never are, and more neither.
const LEAST: usize = 2;
const MOST: usize = 5;
/// At first.
const FIRST: usize = 4;
/// The underlay has addresses for so many in all.
const JOINS: usize = 200;

/// What is put right more than 30 times within a minute counts as contested, and is mended later and later. That is another test's.
const BAD_LUCK: usize = 20;

/// How long the hosts may take to settle: etcd may have been away, and the tries to reach it come at growing intervals.
const SETTLED: Duration = Duration::from_secs(40);

struct Member {
    node: Node,
    pod: Pod,
    /// Everything in its kernel that is not about peers, when its daemon had made it.
    own: BTreeSet<String>,
    /// Its lease at that time.
    lease: Lease,
    runs: bool,
    connected: bool,
    /// How often something of its kernel's was harmed since its daemon started.
    harmed: usize,
}

pub(crate) struct Arena {
    cluster: Cluster,
    backend: Backend,
    members: Vec<Member>,
    joined: usize,
    etcd_runs: bool,
    /// What was done since the hosts were last settled.
    history: Vec<String>,
}

impl Member {
    /// Does what a service manager does: starts the daemon again that could not do its work. One that starts while the uplink is
    /// just being flapped ends so.
    fn supervise(&mut self) -> Result<()> {
        let daemon = &mut self.node.daemon;
        if daemon.is_running()? {
            return Ok(());
        }
        let (name, status) = (self.node.host.name(), daemon.wait_end()?);
        ensure!(
            status.code() == Some(1),
            "the daemon of {name} ended with {status}, which is no reason to start it again"
        );
        println!("  the daemon of {name} is started again");
        daemon.restart()?;
        bail!("the daemon of {name} has just been started again")
    }

    /// What was its own at first, with the VTEP's MACs that it tells its peers now. A daemon that starts takes over the device it finds
    /// with the MAC it finds.
    fn own_under(&self, lease: &Lease) -> BTreeSet<String> {
        let (before, v4, v6) = (&self.lease, lease.vtep_mac(), lease.ipv6_vtep_mac());
        let line = |line: &String| match line {
            line if v4.is_empty() || !line.starts_with("link flannel") => line.clone(),
            line => line
                .replace(before.vtep_mac(), v4)
                .replace(before.ipv6_vtep_mac(), v6),
        };
        self.own.iter().map(line).collect()
    }
}

impl Arena {
    pub(crate) fn new(conf: NetConf, backend: Backend) -> Result<Self> {
        let mut arena = Self {
            cluster: Cluster::new(conf)?,
            backend,
            members: Vec::new(),
            joined: 0,
            etcd_runs: true,
            history: Vec::new(),
        };
        for _ in 0..FIRST {
            arena.join()?;
        }
        arena.settle()?;
        Ok(arena)
    }

    /// Does one thing.
    pub(crate) fn act(&mut self, random: &mut Random) -> Result<()> {
        let chosen = random.below(self.members.len());
        match random.below(20) {
            0 | 1 => self.kill(chosen),
            2 | 3 => self.start(chosen),
            4 => self.stop_etcd(),
            5 | 6 => self.start_etcd(),
            7 => self.compact(),
            8 if self.members.len() < MOST && self.etcd_runs && self.joined < JOINS => self.join(),
            9 if self.members.len() > LEAST && self.etcd_runs => self.leave(chosen),
            10 => self.cut(chosen),
            11 => self.mend(chosen),
            _ => self.harm(chosen, random),
        }
    }

    fn done(&mut self, what: String) {
        println!("  {what}");
        self.history.push(what);
    }

    fn join(&mut self) -> Result<()> {
        self.joined += 1;
        let name = format!("host{}", self.joined);
        self.done(format!("{name} joins"));
        let node = self.cluster.node(&name)?;
        let pod = node.host.pod("pod")?;
        let (_, own) = part(&node.host.snapshot()?.kernel());
        let lease = self.cluster.lab.etcd()?.lease_of(&node.host)?;
        self.members.push(Member {
            node,
            pod,
            own,
            lease,
            runs: true,
            connected: true,
            harmed: 0,
        });
        Ok(())
    }

    fn leave(&mut self, index: usize) -> Result<()> {
        let mut member = self.members.remove(index);
        self.done(format!("{} leaves", member.node.host.name()));
        let etcd = self.cluster.lab.etcd()?;
        let lease = etcd.lease_of(&member.node.host)?;
        member.node.daemon.kill()?;
        self.cluster.lab.unplug(&member.node.host)?;
        ensure!(etcd.delete(&lease.key)?, "{} had no lease", lease.name);
        Ok(())
    }

    fn kill(&mut self, index: usize) -> Result<()> {
        let member = &mut self.members[index];
        let what = format!("the daemon of {} is killed", member.node.host.name());
        member.node.daemon.kill()?;
        member.runs = false;
        self.done(what);
        Ok(())
    }

    /// Starts the daemon, again if it runs.
    fn start(&mut self, index: usize) -> Result<()> {
        let member = &mut self.members[index];
        let what = format!("the daemon of {} is started", member.node.host.name());
        member.node.daemon.restart()?;
        member.runs = true;
        member.harmed = 0;
        self.done(what);
        Ok(())
    }

    fn stop_etcd(&mut self) -> Result<()> {
        self.done("etcd is killed".to_owned());
        self.etcd_runs = false;
        self.cluster.lab.etcd_mut()?.stop()
    }

    fn start_etcd(&mut self) -> Result<()> {
        if self.etcd_runs {
            return Ok(());
        }
        self.done("etcd is started".to_owned());
        self.etcd_runs = true;
        self.cluster.lab.etcd_mut()?.restart()
    }

    fn compact(&mut self) -> Result<()> {
        if !self.etcd_runs {
            return Ok(());
        }
        self.done("etcd forgets its history".to_owned());
        let etcd = self.cluster.lab.etcd()?;
        // A revision can be compacted once only.
        etcd.put("/unrelated", &self.history.len().to_string())?;
        etcd.compact()
    }

    fn cut(&mut self, index: usize) -> Result<()> {
        let what = format!(
            "the cable of {} is cut",
            self.members[index].node.host.name()
        );
        self.done(what);
        self.members[index].connected = false;
        self.cluster.lab.cut(&self.members[index].node.host)
    }

    fn mend(&mut self, index: usize) -> Result<()> {
        if self.members[index].connected {
            return Ok(());
        }
        let what = format!(
            "the cable of {} is mended",
            self.members[index].node.host.name()
        );
        self.done(what);
        self.members[index].connected = true;
        self.cluster.lab.mend(&self.members[index].node.host)
    }

    fn harm(&mut self, index: usize, random: &mut Random) -> Result<()> {
        let line = mischief::line(random, self.backend == Backend::Vxlan);
        if self.members[index].harmed == BAD_LUCK && self.members[index].runs {
            self.start(index)?;
        }
        self.members[index].harmed += 1;
        let host = self.members[index].node.host.clone();
        self.done(format!("on {}: {line}", host.name()));
        host.sh(&line).map(drop)
    }

    /// Lets everything run again and waits until the hosts are as they should be.
    pub(crate) fn settle(&mut self) -> Result<()> {
        self.start_etcd()?;
        for index in 0..self.members.len() {
            self.mend(index)?;
            if !self.members[index].runs {
                self.start(index)?;
            }
        }
        let settled = eventually("every host holds what the leases ask for", SETTLED, || {
            self.is_settled()
        });
        settled.with_context(|| self.tale())?;
        // The first packets over a cable just mended may be lost.
        let talk = eventually("every pair of pods talks", SETTLED, || {
            self.everybody_talks()
        });
        talk.with_context(|| self.tale())?;
        self.history.clear();
        Ok(())
    }

    fn is_settled(&mut self) -> Result<()> {
        let leases = self.cluster.lab.etcd()?.leases()?;
        ensure!(
            leases.len() == self.members.len(),
            "{} leases for {} hosts: {leases:#?}",
            leases.len(),
            self.members.len()
        );
        for member in &mut self.members {
            let name = member.node.host.name().to_owned();
            member.supervise()?;
            let address = member.node.host.ipv4().to_string();
            let of_others = leases.iter().filter(|lease| lease.public_ip() != address);
            let wanted = for_peers(self.backend, of_others);
            let (peers, own) = part(&member.node.host.snapshot()?.kernel());
            same(&name, &peers, &wanted)?;
            let lease = leases.iter().find(|lease| lease.public_ip() == address);
            let lease = lease.with_context(|| format!("{name} has no lease"))?;
            ensure!(
                lease.name == member.lease.name,
                "{name} has another subnet now: {}",
                lease.name
            );
            same(&name, &own, &member.own_under(lease))?;
        }
        Ok(())
    }

    fn everybody_talks(&self) -> Result<()> {
        for from in &self.members {
            for to in &self.members {
                for address in to.pod.addresses() {
                    from.pod.ping(&address)?;
                }
            }
        }
        Ok(())
    }

    /// What happened, for whoever has to find out why.
    fn tale(&self) -> String {
        let logs = self.members.iter().map(|member| {
            let (name, log) = (member.node.host.name(), member.node.daemon.log_tail());
            format!("--- log of {name}:\n{log}\n")
        });
        format!(
            "what was done:\n  {}\n{}",
            self.history.join("\n  "),
            logs.collect::<String>()
        )
    }
}

fn same(name: &str, found: &BTreeSet<String>, wanted: &BTreeSet<String>) -> Result<()> {
    let missing: Vec<&String> = wanted.difference(found).collect();
    let surplus: Vec<&String> = found.difference(wanted).collect();
    ensure!(
        missing.is_empty() && surplus.is_empty(),
        "on {name} is missing {missing:#?} and too much {surplus:#?}"
    );
    Ok(())
}
