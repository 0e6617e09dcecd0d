//! `flanneld doctor`: says why pods cannot talk.
//!
//! `gather` looks at the kernel, the files, the daemon and the peers; [`checks`] judges what was seen, without looking at anything
//! itself; [`finding`] tells causes from consequences; [`text`] shows it.

pub mod checks;
mod clash;
pub mod facts;
pub mod finding;
mod fix;
pub mod foreign;
mod gather;
pub mod text;

use std::io::Write;
use std::path::PathBuf;

use clap::Parser;
use jiff::Timestamp;
use serde::Serialize;

use self::finding::{Finding, Verdict, cause};
use self::gather::{GatherError, Scope, gather};
use crate::http::socket::DEFAULT_PATH;
use crate::status::command::Form;
use crate::status::screen::Paper;

/// `flanneld doctor`
#[derive(Clone, Debug, Parser)]
#[command(
    bin_name = "flanneld doctor",
    about = "Says what is wrong with this node's pod network, why, and what to type",
    disable_version_flag = true,
    after_help = "Exit status: 0 all is well, 1 warnings, 2 something is broken, or wrong flags, 3 nothing could be looked at."
)]
pub struct Doctor {
    /// Ask only this peer: an address of it or of a pod there, its subnet, or a name that leads to its address
    #[arg(long, value_name = "HOST")]
    peer: Option<String>,
    /// Do what is safe to do: forwarding, rules that accept the overlay's packets, reservations of pods that are gone
    #[arg(long)]
    fix: bool,
    /// Form of the answer; the JSON is described in docs/doctor.md
    #[arg(long, short, value_enum, default_value_t)]
    output: Form,
    /// How many peers to ask at most; 0 asks none
    #[arg(long, value_name = "COUNT", default_value_t = 16)]
    probe: usize,
    /// The daemon's socket
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    socket: PathBuf,
    /// File that tells the CNI program the subnet
    #[arg(long, value_name = "FILE", default_value = crate::args::SUBNET_FILE)]
    subnet_file: PathBuf,
    /// Where the runtime looks for conflists
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    cni_conf_dir: PathBuf,
    /// Where the runtime looks for CNI programs
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    cni_bin_dir: PathBuf,
}

/// What [`Diagnosis::api_version`] says.
pub const API_VERSION: &str = "loden.doctor/v1";

/// Nothing could be looked at.
const BLIND: u8 = 3;

/// Everything that the doctor has to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diagnosis {
    /// [`API_VERSION`].
    pub api_version: &'static str,
    /// When it was looked.
    pub at: Timestamp,
    /// The host's name.
    pub node: String,
    /// The worst of the findings.
    pub verdict: Verdict,
    /// What is most likely behind all that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Finding>,
    /// How many peers were asked, and how many there are.
    pub peers_asked: usize,
    /// How many peers there are.
    pub peers: usize,
    /// What every check says, in the order of a packet's path.
    pub findings: Vec<Finding>,
    /// What `--fix` did.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fixed: Vec<String>,
}

impl Doctor {
    /// Does it; the exit status.
    pub fn run(&self) -> u8 {
        let diagnosis = match self.diagnose() {
            Ok(diagnosis) => diagnosis,
            Err(error) => {
                eprintln!("{error}");
                return BLIND;
            }
        };
        let mut out = std::io::stdout();
        let shown = match self.output {
            Form::Json => serde_json::to_string_pretty(&diagnosis).unwrap_or_default() + "\n",
            Form::Text => text::of(&diagnosis, Paper::stdout()),
        };
        // Nobody is there to be told when the terminal is gone.
        let _ = out.write_all(shown.as_bytes());
        match diagnosis.verdict {
            Verdict::Ok | Verdict::NotSeen => 0,
            Verdict::Warn => 1,
            Verdict::Fail => 2,
        }
    }

    fn diagnose(&self) -> Result<Diagnosis, GatherError> {
        let scope = Scope {
            socket: self.socket.clone(),
            subnet_file: self.subnet_file.clone(),
            conflists: self.cni_conf_dir.clone(),
            programs: self.cni_bin_dir.clone(),
            peer: self.peer.clone(),
            ask: self.probe,
        };
        let look = || gather(&scope).map(|facts| (checks::all(&facts), facts));
        let (mut findings, mut facts) = look()?;
        let mut fixed = Vec::new();
        if self.fix {
            fixed = fix::apply(&findings);
            if !fixed.is_empty() {
                (findings, facts) = look()?;
            }
        }
        let verdicts = findings.iter().map(|finding| finding.verdict);
        Ok(Diagnosis {
            api_version: API_VERSION,
            at: Timestamp::now(),
            node: hostnet::sysctl::read("kernel/hostname").unwrap_or_default(),
            verdict: verdicts
                .filter(|verdict| *verdict != Verdict::NotSeen)
                .max()
                .unwrap_or(Verdict::NotSeen),
            cause: cause(&findings).cloned(),
            peers_asked: facts.probes.as_ref().map_or(0, Vec::len),
            peers: facts.peers.len(),
            findings,
            fixed,
        })
    }
}
