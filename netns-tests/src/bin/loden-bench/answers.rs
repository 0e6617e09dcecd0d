//! How long the operator's commands take on a host with many peers.

use std::time::Instant;

use anyhow::{Result, ensure};
use netns_tests::{Endpoint, Lab, programs};
use serde::{Deserialize, Serialize};

use crate::call::milliseconds;
use crate::converge::wait_quiet;
use crate::daemons::{Contender, LODEN};
use crate::figure::{Figure, Figures};
use crate::leases::{NET_CONF, Store, Writer};
use crate::progress::Teller;

/// What is asked. Doctor also without the packets that it sends to peers: none of them exists here, and it waits for their answers.
const COMMANDS: [(&str, &[&str]); 5] = [
    ("flanneld status", &["status"]),
    ("flanneld status -o json", &["status", "-o", "json"]),
    ("flanneld plan", &["plan"]),
    ("flanneld doctor", &["doctor"]),
    ("flanneld doctor --probe=0", &["doctor", "--probe=0"]),
];

/// A host with so many peers that is asked so often.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Scene {
    pub(crate) peers: u32,
    pub(crate) rounds: usize,
}

impl Scene {
    pub(crate) fn title(&self) -> String {
        format!("{} peers, asked", self.peers)
    }

    pub(crate) fn run(&self, tell: &Teller) -> Result<Vec<Figure>> {
        tell.say("writing leases");
        let mut lab = Lab::new()?;
        lab.start_etcd()?;
        lab.put_net_conf(NET_CONF)?;
        Writer::connect(&lab, Store::Etcd)?.put_all(self.peers)?;
        let program = programs::find("flanneld")?;
        let mut figures = Figures::default();
        for contender in Contender::all(&lab)? {
            if contender.name != LODEN {
                continue;
            }
            tell.say("programming them");
            let (daemon, _) = contender.converge(self.peers)?;
            wait_quiet(&daemon)?;
            for round in 0..self.rounds {
                tell.say(&format!("asking, round {round}"));
                for (name, words) in COMMANDS {
                    let start = Instant::now();
                    let said = contender.host.attempt(
                        std::iter::once(program.as_os_str()).chain(words.iter().map(AsRef::as_ref)),
                    )?;
                    let took = milliseconds(start.elapsed());
                    ensure!(!said.stdout.is_empty(), "{name} says nothing: {said:?}");
                    figures.note(&self.title(), name, "ms", LODEN, took);
                }
                tell.advance(1.0 / self.rounds as f64);
            }
        }
        Ok(figures.finish())
    }
}
