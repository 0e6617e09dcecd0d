//! Choosing an address while more and more are taken: Loden's pool, and host-local under both names.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ipam::pool::{Details, Options, Owner, RangeSet, RangeSpec};
use ipam::{Cidr, Pool};
use netns_tests::{Endpoint, Host, Lab, programs};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::call::{Call, milliseconds};
use crate::figure::{Figure, Figures, Name};
use crate::peers;
use crate::progress::Teller;
use crate::statistics::median;

const POOL: Name = Name {
    text: "Loden's pool, in process",
    beside: None,
};
const OURS: Name = Name {
    text: "Loden as host-local, whole program",
    beside: None,
};
const PEER: Name = Name {
    text: "host-local, whole program",
    beside: Some(OURS.text),
};

const SUBNET: &str = "10.244.0.0/16";

/// The circumstances.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Scene {
    /// How many addresses are taken already.
    pub(crate) taken: u32,
    pub(crate) rounds: usize,
    /// Addresses taken and given back in a round.
    pub(crate) calls: u32,
}

impl Scene {
    pub(crate) fn title(&self) -> String {
        format!("{} addresses taken", self.taken)
    }

    pub(crate) fn run(&self, tell: &Teller) -> Result<Vec<Figure>> {
        let lab = Lab::new()?;
        let host = lab.host("node")?;
        tell.say("taking addresses");
        let pool = OurPool::fill(host.path("/run/loden/ipam"), self.taken)?;
        let mut programs = Vec::new();
        let ours = programs::by_all_names()?.join("host-local");
        programs.push(HostLocal::fill(OURS, &host, ours, self.taken)?);
        if let Some(peer) = peers::plugin("host-local")? {
            programs.push(HostLocal::fill(PEER, &host, peer, self.taken)?);
        }
        let mut figures = Figures::default();
        let scene = self.title();
        for round in 0..self.rounds {
            tell.say(&format!("round {round}"));
            let times = pool.times(self.calls)?;
            note(&mut figures, &scene, POOL, &times)?;
            let first = round % programs.len();
            for turn in 0..programs.len() {
                let program = &programs[(first + turn) % programs.len()];
                let times = program.times(&host, self.calls)?;
                note(&mut figures, &scene, program.name, &times)?;
            }
            tell.advance(1.0 / self.rounds as f64);
        }
        Ok(figures.finish())
    }
}

/// Taking and giving back, of each call.
type Times = (Vec<f64>, Vec<f64>);

fn note(figures: &mut Figures, scene: &str, name: Name, (take, give): &Times) -> Result<()> {
    for (measure, times) in [("take an address, p50", take), ("give it back, p50", give)] {
        figures.note(
            scene,
            measure,
            "ms",
            name,
            median(times).context("no times")?,
        );
    }
    Ok(())
}

/// The CNI program's own way, each call with the pool opened anew.
struct OurPool {
    directory: PathBuf,
    sets: Vec<RangeSet>,
}

impl OurPool {
    fn fill(directory: PathBuf, taken: u32) -> Result<Self> {
        let subnet: Cidr = SUBNET.parse()?;
        let range = RangeSpec::whole(subnet).shared_link()?;
        let pool = Self {
            directory,
            sets: vec![vec![range]],
        };
        for number in 0..taken {
            pool.take(number)?;
        }
        Ok(pool)
    }

    fn open(&self) -> Result<Pool> {
        Ok(Pool::open(&self.directory, "cbr0", Options::default())?)
    }

    fn take(&self, number: u32) -> Result<()> {
        let details = Details::default();
        self.open()?
            .reserve(&owner(number)?, &self.sets, &[], details)?;
        Ok(())
    }

    fn times(&self, calls: u32) -> Result<Times> {
        let (mut take, mut give) = (Vec::new(), Vec::new());
        for number in (0..calls).map(|call| u32::MAX - call) {
            take.push(milliseconds(timed(|| self.take(number))?));
            give.push(milliseconds(timed(|| {
                self.open()?.release(&owner(number)?)?;
                Ok(())
            })?));
        }
        Ok((take, give))
    }
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

fn owner(number: u32) -> Result<Owner> {
    Ok(Owner::new(&container(number), "eth0")?)
}

fn container(number: u32) -> String {
    format!("{number:064x}")
}

/// A program of that name with a directory of its own.
struct HostLocal {
    name: Name,
    program: PathBuf,
    config: String,
}

impl HostLocal {
    fn fill(name: Name, host: &Host, program: PathBuf, taken: u32) -> Result<Self> {
        let own = name.text.to_lowercase().replace([' ', ','], "-");
        let directory = Path::new("/run").join(own);
        let files = host.path(&directory).join("cbr0");
        fs::create_dir_all(&files)?;
        // The gateway has the first address.
        let address = |number: u32| -> IpAddr {
            Ipv4Addr::from_bits(Ipv4Addr::new(10, 244, 0, 2).to_bits() + number).into()
        };
        for number in 0..taken {
            let owner = format!("{}\r\neth0", container(number));
            fs::write(files.join(address(number).to_string()), owner)?;
        }
        if let Some(last) = taken.checked_sub(1) {
            fs::write(files.join("last_reserved_ip.0"), address(last).to_string())?;
        }
        let config = json!({
            "name": "cbr0", "cniVersion": "1.0.0", "type": "bridge",
            "ipam": {"type": "host-local", "dataDir": directory, "ranges": [[{"subnet": SUBNET}]]},
        });
        Ok(Self {
            name,
            program,
            config: config.to_string(),
        })
    }

    fn call(&self, verb: &str, number: u32) -> Call {
        Call {
            program: self.program.clone(),
            arguments: Vec::new(),
            environment: vec![
                ("CNI_COMMAND", verb.into()),
                ("CNI_CONTAINERID", container(number).into()),
                ("CNI_NETNS", "/proc/self/ns/net".into()),
                ("CNI_IFNAME", "eth0".into()),
                ("CNI_PATH", "/nowhere".into()),
            ],
            input: self.config.clone(),
        }
    }

    fn times(&self, host: &Host, calls: u32) -> Result<Times> {
        host.run(|| {
            let (mut take, mut give) = (Vec::new(), Vec::new());
            for number in (0..calls).map(|call| u32::MAX - call) {
                take.push(milliseconds(self.call("ADD", number).run()?));
                give.push(milliseconds(self.call("DEL", number).run()?));
            }
            Ok((take, give))
        })?
    }
}
