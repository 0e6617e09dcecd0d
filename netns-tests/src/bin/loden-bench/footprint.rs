//! What a daemon takes while nothing happens, how large the programs are and how fast they start.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use netns_tests::{Daemon, Lab, programs};
use serde::{Deserialize, Serialize};

use crate::api_server::{self, ApiServer};
use crate::call::{Call, milliseconds};
use crate::converge::wait_quiet;
use crate::daemons::{Contender, FLANNEL, LODEN, cpu};
use crate::figure::{Figure, Figures, Name};
use crate::leases::{NET_CONF, Store, Writer};
use crate::peers;
use crate::progress::Teller;
use crate::statistics::median;

const MIB: f64 = 1024.0 * 1024.0;

/// A daemon with so many peers and nothing to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Scene {
    pub(crate) peers: u32,
    /// How long it is watched.
    pub(crate) seconds: u64,
}

impl Scene {
    pub(crate) fn title(&self) -> String {
        format!("{} peers, quiet", self.peers)
    }

    pub(crate) fn run(&self, tell: &Teller) -> Result<Vec<Figure>> {
        tell.say("writing leases");
        let mut lab = Lab::new()?;
        lab.start_etcd()?;
        lab.put_net_conf(NET_CONF)?;
        Writer::connect(&lab, Store::Etcd)?.put_all(self.peers)?;
        let mut contenders: Vec<_> = Contender::all(&lab)?
            .into_iter()
            .map(|contender| (Store::Etcd, contender))
            .collect();
        let server = if api_server::find()?.is_some() {
            let mut writer = Writer::connect(&lab, Store::Kubernetes)?;
            writer.put_all(self.peers)?;
            let server = ApiServer::start(&lab)?;
            let nodes = Contender::all_nodes(&lab, &server, &mut writer)?;
            contenders.extend(nodes.into_iter().map(|node| (Store::Kubernetes, node)));
            Some(server)
        } else {
            None
        };
        let mut daemons: Vec<(Store, Name, Daemon)> = Vec::new();
        // All at once: what one does while it is quiet does not disturb the others.
        for (store, contender) in contenders {
            tell.say(&format!("{}{}", contender.name.text, store.suffix()));
            let (daemon, _) = contender.converge(self.peers)?;
            daemons.push((store, contender.name, daemon));
        }
        for (_, _, daemon) in &daemons {
            wait_quiet(daemon)?;
        }
        tell.advance(0.2);
        let spent = || -> Result<Vec<Duration>> {
            daemons
                .iter()
                .map(|(_, _, daemon)| cpu(daemon.pid()))
                .collect()
        };
        let (before, start) = (spent()?, Instant::now());
        for second in 0..self.seconds {
            tell.say(&format!("watching them do nothing, second {second}"));
            thread::sleep(Duration::from_secs(1));
            tell.advance(0.8 / self.seconds as f64);
        }
        let minutes = start.elapsed().as_secs_f64() / 60.0;
        let mut figures = Figures::default();
        for (((store, name, daemon), before), after) in daemons.iter().zip(before).zip(spent()?) {
            let scene = format!("{}{}", self.title(), store.suffix());
            let spent = milliseconds(after.saturating_sub(before)) / minutes;
            figures.note(
                &scene,
                "resident memory",
                "MiB",
                *name,
                resident(daemon.pid())?,
            );
            figures.note(&scene, "CPU per minute", "ms", *name, spent);
        }
        drop(server);
        Ok(figures.finish())
    }
}

fn resident(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.context("no resident memory")? / 1024.0)
}

/// The programs themselves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Programs {
    pub(crate) rounds: usize,
    /// Starts in a round.
    pub(crate) starts: usize,
}

impl Programs {
    pub(crate) fn run(&self, tell: &Teller) -> Result<Vec<Figure>> {
        let ours = programs::directory()?;
        let mut all = vec![
            ("flanneld", LODEN, daemon(ours.join("flanneld"))),
            ("flannel", LODEN, plugin(ours.join("flannel"))),
        ];
        all.extend(peers::flanneld()?.map(|path| ("flanneld", FLANNEL, daemon(path))));
        all.extend(peers::plugin("flannel")?.map(|path| ("flannel", FLANNEL, plugin(path))));
        let mut figures = Figures::default();
        for round in 0..self.rounds {
            tell.say(&format!("round {round}"));
            for (program, name, call) in &all {
                let times = (0..self.starts).map(|_| call.run().map(milliseconds));
                let times = times.collect::<Result<Vec<f64>>>()?;
                let measure = format!("start of {program}");
                figures.note(
                    "programs",
                    &measure,
                    "ms",
                    *name,
                    median(&times).context("no start")?,
                );
            }
            tell.advance(1.0 / self.rounds as f64);
        }
        for (program, name, call) in &all {
            let measure = format!("size of {program}");
            figures.note("programs", &measure, "MiB", *name, size(&call.program)?);
        }
        Ok(figures.finish())
    }
}

fn size(program: &Path) -> Result<f64> {
    Ok(fs::metadata(program)?.len() as f64 / MIB)
}

fn daemon(program: PathBuf) -> Call {
    Call {
        program,
        arguments: vec!["--version".into()],
        environment: Vec::new(),
        input: String::new(),
    }
}

fn plugin(program: PathBuf) -> Call {
    Call {
        program,
        arguments: Vec::new(),
        environment: vec![("CNI_COMMAND", "VERSION".into())],
        input: r#"{"cniVersion": "1.0.0"}"#.to_owned(),
    }
}
