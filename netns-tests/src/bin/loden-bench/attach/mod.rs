//! Attaching and detaching pods: the whole program, as a runtime starts it.
//!
//! The namespaces are made beforehand and used again and again; containers are always new ones.

mod contender;

use std::path::PathBuf;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use netns_tests::{Endpoint, Families, Lab, Pod};
use serde::{Deserialize, Serialize};

use self::contender::{Contender, Target};
use crate::call::{Call, cpu_of_children, milliseconds};
use crate::figure::{Figure, Figures};
use crate::progress::Teller;
use crate::statistics::{median, percentile};

/// A bridge has room for so many ports, the kernel's limit being 1,023.
const PORTS: usize = 900;

/// So many of them are made at a time.
const FILLERS: usize = 8;

/// For what the kernel does in its own time after a link was deleted.
const PAUSE: Duration = Duration::from_millis(50);

/// The circumstances.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Scene {
    /// Both families instead of IPv4 alone.
    pub(crate) dual: bool,
    /// How many attachments are on the host already.
    pub(crate) existing: usize,
    /// How many pods are attached at a time, and how many in a round.
    pub(crate) levels: Vec<(usize, usize)>,
    pub(crate) rounds: usize,
}

impl Scene {
    pub(crate) fn title(&self) -> String {
        format!("{}, {} pods before", self.families_text(), self.existing)
    }

    fn families_text(&self) -> &'static str {
        if self.dual { "dual-stack" } else { "IPv4" }
    }

    fn text(&self, parallel: usize) -> String {
        format!(
            "{}, {parallel} at a time, {} before",
            self.families_text(),
            self.existing
        )
    }

    pub(crate) fn run(&self, tell: &Teller) -> Result<Vec<Figure>> {
        let lab = Lab::new()?;
        let families = if self.dual {
            Families::Dual
        } else {
            Families::Ipv4
        };
        let contenders = Contender::all(&lab, families, self.existing <= PORTS)?;
        let pods = self.levels.iter().map(|&(_, pods)| pods).max();
        let mut arenas = Vec::new();
        for (number, contender) in contenders.into_iter().enumerate() {
            tell.say(&format!("getting ready: {}", contender.name.text));
            let filler = arenas.first().map(|first: &Arena| &first.contender);
            let arena = Arena::build(contender, pods.unwrap_or(1), self.existing, filler);
            arenas.push(arena.with_context(|| format!("contender {number}"))?);
        }
        let mut figures = Figures::default();
        self.count_calls(&mut arenas, &mut figures)?;
        for &(parallel, pods) in &self.levels {
            for round in 0..self.rounds {
                // Another one begins each time.
                let first = round % arenas.len();
                for turn in 0..arenas.len() {
                    let place = (first + turn) % arenas.len();
                    let arena = &mut arenas[place];
                    tell.say(&format!(
                        "{parallel} at a time: {}",
                        arena.contender.name.text
                    ));
                    arena.round(&self.text(parallel), parallel, pods, &mut figures)?;
                }
                tell.advance(1.0 / (self.rounds * self.levels.len()) as f64);
            }
        }
        Ok(figures.finish())
    }

    /// Once: the number is the same every time, or nearly so.
    fn count_calls(&self, arenas: &mut [Arena], figures: &mut Figures) -> Result<()> {
        for arena in arenas {
            let (add, delete) = arena.next_calls(0);
            let (name, scene) = (arena.contender.name, self.text(1));
            let counted: [(&str, Result<f64>); 2] = arena.contender.host.run(|| {
                [
                    ("ADD system calls", add.system_calls()),
                    ("DEL system calls", delete.system_calls()),
                ]
            })?;
            for (measure, number) in counted {
                figures.note(&scene, measure, "", name, number?);
            }
        }
        Ok(())
    }
}

/// A contender with the namespaces of pods to be.
struct Arena {
    contender: Contender,
    netns: Vec<PathBuf>,
    /// They live as long as these.
    _pods: Vec<Pod>,
    attached: u32,
}

impl Arena {
    /// `filler` makes what is there already where the contender keeps no records of its own.
    fn build(
        contender: Contender,
        pods: usize,
        existing: usize,
        filler: Option<&Contender>,
    ) -> Result<Self> {
        let create = || contender.host.pod_spec("web").create();
        let pods: Vec<Pod> = (0..pods + existing)
            .map(|_| create())
            .collect::<Result<_>>()?;
        let mut netns: Vec<PathBuf> = pods.iter().map(|pod| pod.netns().to_path_buf()).collect();
        let full = netns.split_off(netns.len() - existing);
        let mut arena = Self {
            contender,
            netns,
            _pods: pods,
            attached: 0,
        };
        // Bridges and directories come with the first pod.
        let (add, delete) = arena.next_calls(0);
        arena.contender.host.run(|| add.run().and(delete.run()))??;
        arena.fill(existing, &full, filler)?;
        Ok(arena)
    }

    fn fill(&mut self, number: usize, full: &[PathBuf], filler: Option<&Contender>) -> Result<()> {
        let by = filler
            .filter(|_| self.contender.is_floor())
            .unwrap_or(&self.contender);
        let first = self.attached;
        let calls: Vec<Call> = (0..number)
            .map(|place| {
                by.add(Target {
                    netns: &full[place],
                    interface: "eth0",
                    number: first + place as u32,
                })
            })
            .collect();
        at_once(&self.contender, &calls, FILLERS)?;
        self.attached += number as u32;
        Ok(())
    }

    /// A new container in this namespace: how it is attached and how detached.
    fn next_calls(&mut self, place: usize) -> (Call, Call) {
        self.attached += 1;
        let target = Target {
            netns: &self.netns[place],
            interface: "eth0",
            number: self.attached,
        };
        (self.contender.add(target), self.contender.delete(target))
    }

    fn round(
        &mut self,
        scene: &str,
        parallel: usize,
        pods: usize,
        figures: &mut Figures,
    ) -> Result<()> {
        let (adds, deletes): (Vec<Call>, Vec<Call>) =
            (0..pods).map(|place| self.next_calls(place)).unzip();
        for (verb, calls) in [("ADD", adds), ("DEL", deletes)] {
            let batch = at_once(&self.contender, &calls, parallel)
                .with_context(|| format!("{verb} of {}", self.contender.name.text))?;
            let mut note = |what: &str, unit: &str, value: f64| {
                let measure = format!("{verb} {what}");
                figures.note(scene, &measure, unit, self.contender.name, value);
            };
            note("p50", "ms", median(&batch.times).context("no times")?);
            note(
                "p99",
                "ms",
                percentile(&batch.times, 99.0).context("no times")?,
            );
            note(
                "pods per second",
                "1/s",
                pods as f64 / batch.whole.as_secs_f64(),
            );
            note("CPU per pod", "ms", milliseconds(batch.cpu) / pods as f64);
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// What came of some calls.
struct Batch {
    /// Each call's time in milliseconds.
    times: Vec<f64>,
    whole: Duration,
    cpu: Duration,
}

/// Makes the calls, so many at a time, each thread one after the other.
fn at_once(contender: &Contender, calls: &[Call], parallel: usize) -> Result<Batch> {
    let (next, barrier) = (AtomicUsize::new(0), Barrier::new(parallel + 1));
    let cpu = cpu_of_children()?;
    let work = || -> Result<Vec<f64>> {
        barrier.wait();
        let mut times = Vec::new();
        while let Some(call) = calls.get(next.fetch_add(1, Ordering::Relaxed)) {
            times.push(milliseconds(call.run()?));
        }
        Ok(times)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..parallel)
            .map(|_| scope.spawn(|| contender.host.run(work)))
            .collect();
        barrier.wait();
        let start = Instant::now();
        let mut times = Vec::with_capacity(calls.len());
        for thread in threads {
            times.extend(
                thread
                    .join()
                    .map_err(|_| anyhow!("a thread panicked"))???,
            );
        }
        Ok(Batch {
            times,
            whole: start.elapsed(),
            cpu: cpu_of_children()?.saturating_sub(cpu),
        })
    })
}
