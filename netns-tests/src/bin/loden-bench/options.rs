//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};

/// Measures Loden in the lab beside the reference plugins, flannel (where PEER_CNI_PATH and PEER_FLANNELD name it) and the floor.
#[derive(Debug, Parser)]
#[command(name = "loden-bench", version)]
pub(crate) struct Options {
    /// Only these groups
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) only: Vec<Group>,
    /// Only parts with this text in their name ("5000 pods", "MTU 9000")
    #[arg(long, value_name = "TEXT")]
    pub(crate) part: Vec<String>,
    /// The smallest form of everything: whether it works, not how fast
    #[arg(long)]
    pub(crate) quick: bool,
    /// How often everything is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) rounds: u8,
    /// Where results go
    #[arg(long, default_value = "target/bench")]
    pub(crate) out: PathBuf,
}

impl Options {
    pub(crate) fn groups(&self) -> Vec<Group> {
        let wanted = |group: &&Group| self.only.is_empty() || self.only.contains(group);
        Group::value_variants()
            .iter()
            .filter(wanted)
            .copied()
            .collect()
    }

    /// Whether a part is wanted that has this name.
    pub(crate) fn wants(&self, title: &str) -> bool {
        self.part.is_empty() || self.part.iter().any(|text| title.contains(text.as_str()))
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Group {
    /// ADD and DEL of pods
    Attach,
    /// From leases to the kernel
    Converge,
    /// Daemons with nothing to do; the programs themselves
    Footprint,
    /// Choosing addresses while many are taken
    Ipam,
    /// The daemon's pure parts
    Micro,
    /// What the network carries
    Packets,
}

impl Group {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Attach => "attach",
            Self::Converge => "converge",
            Self::Footprint => "footprint",
            Self::Ipam => "ipam",
            Self::Micro => "micro",
            Self::Packets => "packets",
        }
    }

    /// Measures of which there is a plot.
    pub(crate) fn plots(self) -> &'static [&'static str] {
        match self {
            Self::Attach => &["ADD p50", "ADD pods per second", "DEL pods per second"],
            Self::Converge => &[
                "start to all peers programmed",
                "one lease to the kernel, p99",
            ],
            Self::Footprint => &["resident memory"],
            Self::Ipam => &["take an address, p50"],
            Self::Micro => &["one execution"],
            Self::Packets => &[
                "TCP, one stream",
                "request and response, p50",
                "connections",
            ],
        }
    }
}
