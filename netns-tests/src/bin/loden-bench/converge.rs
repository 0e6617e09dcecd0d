//! How fast leases become routes, neighbours and FDB entries: all at the start, and one afterwards; and what renewals cost.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hostnet::Netlink;
use netns_tests::{Daemon, Endpoint, Host, Lab};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::api_server::ApiServer;
use crate::call::{Call, cpu_of_children, milliseconds};
use crate::daemons::{Contender, LODEN, cpu};
use crate::figure::{Figure, Figures, Name};
use crate::leases::{NET_CONF, Peer, Store, Writer};
use crate::progress::Teller;
use crate::statistics::{median, percentile};

const FLOOR: Name = Name {
    text: "floor: ip -batch, bridge -batch",
    beside: Some(LODEN.text),
};

const ALL: &str = "start to all peers programmed";

/// How long one changed lease may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often the kernel is asked whether it is there.
const LOOK: Duration = Duration::from_micros(100);
/// A daemon that used no processor for so long has nothing left to do.
const QUIET: Duration = Duration::from_millis(400);

/// The circumstances.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Scene {
    pub(crate) store: Store,
    pub(crate) leases: u32,
    pub(crate) rounds: usize,
    /// How many times in a round one more lease comes.
    pub(crate) changes: u32,
    /// Whether all are renewed once in a round.
    pub(crate) renewals: bool,
}

impl Scene {
    pub(crate) fn title(&self) -> String {
        format!("{} leases{}", self.leases, self.store.suffix())
    }

    pub(crate) fn run(&self, tell: &Teller) -> Result<Vec<Figure>> {
        tell.say("writing leases");
        let mut lab = Lab::new()?;
        lab.start_etcd()?;
        lab.put_net_conf(NET_CONF)?;
        let mut writer = Writer::connect(&lab, self.store)?;
        writer.put_all(self.leases)?;
        let server = match self.store {
            Store::Etcd => None,
            Store::Kubernetes => Some(ApiServer::start(&lab)?),
        };
        let contenders = match &server {
            None => Contender::all(&lab)?,
            Some(server) => Contender::all_nodes(&lab, server, &mut writer)?,
        };
        if server.is_some() {
            tell.say("warming the API server up");
            self.warm_up(&contenders)?;
        }
        let floor = Floor::build(&lab, self.leases)?;
        let mut figures = Figures::default();
        for round in 0..self.rounds {
            for turn in 0..=contenders.len() {
                let place = (round + turn) % (contenders.len() + 1);
                let Some(contender) = contenders.get(place) else {
                    tell.say(FLOOR.text);
                    floor.round(&self.title(), &mut figures)?;
                    continue;
                };
                tell.say(contender.name.text);
                let last = round + 1 == self.rounds;
                self.round(contender, &mut writer, last, &mut figures)?;
            }
            tell.advance(1.0 / self.rounds as f64);
        }
        Ok(figures.finish())
    }

    /// An API server that has just begun to listen has much to do yet.
    fn warm_up(&self, contenders: &[Contender]) -> Result<()> {
        for contender in contenders {
            let (daemon, _) = contender.converge(self.leases)?;
            wait_quiet(&daemon)?;
            contender.clear(daemon)?;
        }
        Ok(())
    }

    fn round(
        &self,
        contender: &Contender,
        writer: &mut Writer,
        last: bool,
        figures: &mut Figures,
    ) -> Result<()> {
        let scene = self.title();
        let (daemon, time) = contender.converge(self.leases)?;
        let spent = cpu(daemon.pid())?;
        let name = contender.name;
        figures.note(&scene, ALL, "ms", name, milliseconds(time));
        figures.note(&scene, "CPU of that", "ms", name, milliseconds(spent));
        wait_quiet(&daemon)?;
        let times = self.one_by_one(contender, writer)?;
        if let (Some(middle), Some(late)) = (median(&times), percentile(&times, 99.0)) {
            figures.note(&scene, "one lease to the kernel, p50", "ms", name, middle);
            figures.note(&scene, "one lease to the kernel, p99", "ms", name, late);
        }
        if self.renewals {
            wait_quiet(&daemon)?;
            let before = cpu(daemon.pid())?;
            writer.put_all(self.leases)?;
            wait_quiet(&daemon)?;
            let spent = cpu(daemon.pid())?.saturating_sub(before);
            figures.note(
                &scene,
                "CPU for all renewals",
                "ms",
                name,
                milliseconds(spent),
            );
            if last {
                let messages = sends(contender, &daemon, || writer.put_all(self.leases))?;
                figures.note(&scene, "netlink sends for all renewals", "", name, messages);
            }
        }
        contender.clear(daemon)
    }

    /// Milliseconds from before a lease is written until the kernel would send packets there.
    fn one_by_one(&self, contender: &Contender, writer: &mut Writer) -> Result<Vec<f64>> {
        let mut netlink = contender.host.run(Netlink::open)??;
        let mut times = Vec::new();
        for change in 0..self.changes {
            let peer = Peer(self.leases + change);
            let start = Instant::now();
            writer.put(peer)?;
            await_route(&mut netlink, peer, true, start)?;
            times.push(milliseconds(start.elapsed()));
            writer.delete(peer)?;
            await_route(&mut netlink, peer, false, Instant::now())?;
        }
        Ok(times)
    }
}

fn await_route(netlink: &mut Netlink, peer: Peer, there: bool, start: Instant) -> Result<()> {
    loop {
        let route = netlink.route_to(peer.pod())?;
        let found = route.is_some_and(|route| route.gateway == Some(peer.vtep()));
        if found == there {
            return Ok(());
        }
        ensure!(
            start.elapsed() < DEADLINE,
            "the route to {} is {} after {DEADLINE:?}",
            peer.vtep(),
            if there { "not there" } else { "still there" }
        );
        thread::sleep(LOOK);
    }
}

/// Waits until a daemon has nothing to do.
pub(crate) fn wait_quiet(daemon: &Daemon) -> Result<()> {
    let start = Instant::now();
    let mut before = cpu(daemon.pid())?;
    loop {
        thread::sleep(QUIET);
        let now = cpu(daemon.pid())?;
        // A runtime's clock ticks on.
        if now.saturating_sub(before) < QUIET / 100 {
            return Ok(());
        }
        ensure!(start.elapsed() < 6 * DEADLINE, "a daemon never rests");
        before = now;
    }
}

/// How many times a daemon speaks to the kernel about its network during `work`, counted by `strace`.
fn sends(contender: &Contender, daemon: &Daemon, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let file = std::env::temp_dir().join("loden-bench.sends");
    let pid = daemon.pid().to_string();
    let trace = file.display().to_string();
    let arguments = [
        "-f",
        "-qq",
        "-e",
        "trace=sendto,sendmsg",
        "-o",
        &trace,
        "-p",
        &pid,
    ];
    let mut strace = contender.host.start("strace", &arguments)?;
    let status = format!("/proc/{pid}/status");
    let traced = |status: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("TracerPid:"));
        line.is_some_and(|pid| pid.trim() != "0")
    };
    netns_tests::eventually("strace is attached", DEADLINE, || {
        ensure!(
            traced(&fs::read_to_string(&status)?),
            "{}",
            strace.log_tail()
        );
        Ok(())
    })?;
    work()?;
    wait_quiet(daemon)?;
    kill(Pid::from_raw(strace.pid().cast_signed()), Signal::SIGINT)?;
    strace.wait_end()?;
    let trace = fs::read_to_string(&file).unwrap_or_default();
    Ok(trace
        .lines()
        .filter(|line| line.contains("nlmsg_len"))
        .count() as f64)
}

/// The same entries written by the programs that everybody has, from files that are there already.
struct Floor {
    host: Host,
    leases: u32,
    calls: [Call; 2],
}

impl Floor {
    fn build(lab: &Lab, leases: u32) -> Result<Self> {
        let host = lab.host("floor")?;
        let directory = std::env::temp_dir();
        let peers = || (0..leases).map(Peer);
        let fdb: String = peers()
            .map(|peer| {
                let (mac, public) = (peer.mac(), peer.public());
                format!("fdb replace {mac} dev flannel.1 dst {public} self permanent\n")
            })
            .collect();
        let neighbours = peers().map(|peer| {
            let (vtep, mac) = (peer.vtep(), peer.mac());
            format!("neigh replace {vtep} dev flannel.1 lladdr {mac} nud permanent\n")
        });
        let routes = peers().map(|peer| {
            let vtep = peer.vtep();
            format!("route replace {vtep}/24 via {vtep} dev flannel.1 onlink\n")
        });
        let call = |program: &str, text: String| -> Result<Call> {
            let path = directory.join(format!("{program}.batch"));
            fs::write(&path, text)?;
            Ok(Call {
                program: program.into(),
                arguments: vec!["-batch".into(), path.into()],
                environment: Vec::new(),
                input: String::new(),
            })
        };
        Ok(Self {
            host,
            leases,
            calls: [
                call("bridge", fdb)?,
                call("ip", neighbours.chain(routes).collect())?,
            ],
        })
    }

    fn round(&self, scene: &str, figures: &mut Figures) -> Result<()> {
        let uplink = self.host.ipv4();
        self.host.ip_batch(&format!(
            "link add flannel.1 type vxlan id 1 dev eth0 local {uplink} dstport 8472 nolearning\n\
             addr add 10.99.0.0/32 dev flannel.1\nlink set flannel.1 up\n"
        ))?;
        let before = cpu_of_children()?;
        let time = self.host.run(|| -> Result<Duration> {
            let times = self.calls.iter().map(Call::run);
            Ok(times.collect::<Result<Vec<_>>>()?.iter().sum())
        })??;
        let spent = cpu_of_children()?.saturating_sub(before);
        figures.note(scene, ALL, "ms", FLOOR, milliseconds(time));
        figures.note(scene, "CPU of that", "ms", FLOOR, milliseconds(spent));
        let routes = self
            .host
            .sh("ip route show dev flannel.1 | grep -c onlink")?;
        let routes: u32 = routes.trim().parse().context("no number of routes")?;
        ensure!(routes == self.leases, "{routes} routes of the floor");
        self.host.sh("ip link delete dev flannel.1").map(drop)
    }
}
