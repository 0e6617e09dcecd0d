//! Packets between pods, beside the limit that the hosts set and beside the set-up that flannel makes, built by hand.

mod meters;
mod paths;

use std::time::Duration;

use anyhow::{Context, Result};
use netns_tests::Lab;
use serde::{Deserialize, Serialize};

use self::meters::Processors;
use self::paths::{Path, Paths};
use crate::figure::{Figure, Figures};
use crate::progress::Teller;
use crate::statistics::{median, percentile};

/// How many streams at a time, beside one.
const STREAMS: u32 = 4;

/// The circumstances.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Scene {
    /// Of the underlay.
    pub(crate) mtu: u32,
    pub(crate) services: u32,
    pub(crate) rounds: usize,
    /// Of each stream.
    pub(crate) seconds: u32,
    /// Of requests and of connections.
    pub(crate) milliseconds: u64,
}

impl Scene {
    pub(crate) fn title(&self) -> String {
        format!("underlay of MTU {}", self.mtu)
    }

    pub(crate) fn run(&self, tell: &Teller) -> Result<Vec<Figure>> {
        tell.say("building hosts");
        let mut lab = Lab::new()?;
        lab.start_etcd()?;
        let paths = Paths::build(&lab, self.mtu, self.services)?;
        let paths = &paths.all;
        let mut figures = Figures::default();
        for round in 0..self.rounds {
            for turn in 0..paths.len() {
                let path = &paths[(round + turn) % paths.len()];
                tell.say(path.name.text);
                self.measure(path, &mut figures)
                    .with_context(|| path.name.text.to_owned())?;
            }
            tell.advance(1.0 / self.rounds as f64);
        }
        Ok(figures.finish())
    }

    fn measure(&self, path: &Path, figures: &mut Figures) -> Result<()> {
        let Path {
            name,
            from,
            to,
            address,
        } = path;
        let scene = self.title();
        let mut note = |measure: &str, unit: &str, value: f64| {
            figures.note(&scene, measure, unit, *name, value);
        };
        let time = Duration::from_millis(self.milliseconds);
        let one = meters::stream(from, to, *address, 1, self.seconds)?;
        note("TCP, one stream", "Gbit/s", one.gigabits_per_second);
        note("segments sent again", "", one.retransmits);
        note("CPU per gigabyte", "s", one.cpu_seconds_per_gigabyte);
        let several = meters::stream(from, to, *address, STREAMS, self.seconds)?;
        note("TCP, 4 streams", "Gbit/s", several.gigabits_per_second);
        note("segments sent again, 4 streams", "", several.retransmits);
        let datagrams = meters::datagrams(from, to, *address, self.seconds)?;
        note("UDP of 64 bytes", "1/s", datagrams);
        for (measure, processors) in [
            ("request and response", Processors::Any),
            ("request and response on one processor", Processors::One),
        ] {
            let times = meters::requests(from, to, *address, time, processors)?;
            let p50 = median(&times).context("no answer")?;
            note(&format!("{measure}, p50"), "µs", p50);
            let p99 = percentile(&times, 99.0).context("no answer")?;
            note(&format!("{measure}, p99"), "µs", p99);
        }
        let connections = meters::connections(from, to, *address, time)?;
        note("connections", "1/s", connections);
        Ok(())
    }
}
