//! The command line of `flanneld trace`, and what it prints.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Parser;

use super::kernel::Here;
use super::walk::{named, walk};
use super::{API_VERSION, By, EndKind, Trace};
use crate::http::socket::DEFAULT_PATH;
use crate::status::command::{Form, json, look, show};
use crate::status::report::Pod;
use crate::status::screen::{Cell, Paper, Screen, Tone};

/// It cannot be told where the packet ends.
const UNKNOWN: u8 = 2;

/// `flanneld trace`
#[derive(Clone, Debug, Parser)]
#[command(
    bin_name = "flanneld trace",
    about = "Follows a packet of a pod of this host through this host's tables, and tells each decision and where the packet ends",
    disable_version_flag = true,
    after_help = "Exit status: 0 it arrives or leaves this host on its way, 1 it is dropped or goes astray, 2 it cannot be told, no such pod, or \
                  wrong flags."
)]
pub struct TraceCommand {
    /// The pod that sends: its name, NAMESPACE/NAME, the beginning of its container's ID, or its address
    #[arg(value_name = "SRC-POD")]
    pod: String,
    /// The address that it sends to
    #[arg(value_name = "DST-IP")]
    to: IpAddr,
    /// Form of the answer; the JSON is described in docs/status.md
    #[arg(long, short, value_enum, default_value_t)]
    output: Form,
    /// The daemon's socket
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    socket: PathBuf,
    /// File that tells the CNI program the subnet; read when the daemon cannot be asked
    #[arg(long, value_name = "FILE", default_value = crate::args::SUBNET_FILE)]
    subnet_file: PathBuf,
}

impl TraceCommand {
    /// Does it; the exit status.
    pub fn run(&self) -> u8 {
        match self.trace() {
            Ok(trace) => {
                let shown = match self.output {
                    Form::Json => json(&trace),
                    Form::Text => text(&trace, Paper::stdout()),
                };
                show(&shown);
                match trace.end.kind {
                    EndKind::Pod | EndKind::Host | EndKind::Peer | EndKind::Outside => 0,
                    EndKind::Astray | EndKind::Dropped => 1,
                    EndKind::Unknown => UNKNOWN,
                }
            }
            Err(sentence) => {
                eprintln!("{sentence}");
                UNKNOWN
            }
        }
    }

    fn trace(&self) -> Result<Trace, String> {
        let report = look(&self.socket, &self.subnet_file);
        let mut here = Here::new(report).map_err(|error| error.to_string())?;
        let pod = find(&here.report().pods, &self.pod)?.clone();
        let (source, decisions, end) = walk(&mut here, &pod, self.to);
        Ok(Trace {
            api_version: API_VERSION.to_owned(),
            at: here.report().at,
            pod: named(&pod),
            source,
            destination: self.to,
            decisions,
            end,
        })
    }
}

/// The pod that is meant.
fn find<'a>(pods: &'a [Pod], wanted: &str) -> Result<&'a Pod, String> {
    let by_address = |pod: &Pod, address: IpAddr| pod.addresses.contains(&address);
    let fits = |pod: &&Pod| match wanted.parse() {
        Ok(address) => by_address(pod, address),
        Err(_) => is_named(pod, wanted) || pod.container_id.starts_with(wanted),
    };
    let found: Vec<&Pod> = pods.iter().filter(fits).collect();
    match found[..] {
        [pod] => Ok(pod),
        [] => Err(format!(
            "no pod of this host is {wanted:?}; its {} pods are listed by flanneld status --all",
            pods.len()
        )),
        _ => Err(format!(
            "{} pods of this host are {wanted:?}; give NAMESPACE/NAME, more of the container's ID, or the address",
            found.len()
        )),
    }
}

fn is_named(pod: &Pod, wanted: &str) -> bool {
    let name = pod.name.as_deref();
    match wanted.split_once('/') {
        Some((namespace, of_it)) => {
            pod.namespace.as_deref() == Some(namespace) && name == Some(of_it)
        }
        None => name == Some(wanted),
    }
}

fn text(trace: &Trace, paper: Paper) -> String {
    let mut screen = Screen::new(paper);
    let source = trace.source.map(|source| format!(" ({source})"));
    let way = format!(
        "{}{} to {}",
        trace.pod,
        source.unwrap_or_default(),
        trace.destination
    );
    screen.heading("from", &way);
    for decision in &trace.decisions {
        let (sign, tone) = match decision.passes {
            Some(true) => ("✓", Tone::Good),
            Some(false) => ("✗", Tone::Bad),
            None => ("?", Tone::Doubtful),
        };
        let by = match decision.by {
            By::PodRoute => "pod",
            By::Link => "link",
            By::Service => "service",
            By::Forwarding => "forwarding",
            By::HostRoute => "route",
            By::Filter => "firewall",
            By::Masquerade => "masquerade",
            By::Neighbour => "neighbour",
            By::Fdb => "FDB",
            By::Outer => "outer",
            By::Mtu => "MTU",
        };
        let sign = Cell::new(format!("{sign} {by:<10}"), tone);
        screen.item(&sign, &decision.says);
    }
    let (sign, tone) = match trace.end.kind {
        EndKind::Dropped => ("✗ dropped:", Tone::Bad),
        EndKind::Astray => ("✗ astray:", Tone::Bad),
        EndKind::Unknown => ("? not known:", Tone::Doubtful),
        EndKind::Pod | EndKind::Host | EndKind::Peer | EndKind::Outside => ("✓ end:", Tone::Good),
    };
    screen.item(&Cell::new(sign, tone), &trace.end.says);
    screen.into_text()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, id: &str, address: &str) -> Pod {
        Pod {
            addresses: vec![address.parse().unwrap()],
            network: "cbr0".to_owned(),
            container_id: id.to_owned(),
            ifname: "eth0".to_owned(),
            namespace: Some("shop".to_owned()),
            name: Some(name.to_owned()),
            netns: None,
            interface: None,
            kind: "routed".to_owned(),
            since: None,
            linked: None,
        }
    }

    #[test]
    fn a_pod_is_found_by_all_that_it_is_called() {
        let pods = [
            pod("web-0", "0abc1", "10.244.1.2"),
            pod("web-1", "0abc2", "10.244.1.3"),
        ];
        for name in ["web-0", "shop/web-0", "0abc1", "10.244.1.2"] {
            assert_eq!(find(&pods, name), Ok(&pods[0]), "{name}");
        }
        for name in ["web", "lab/web-0", "10.244.1.4", "1"] {
            assert!(
                find(&pods, name).unwrap_err().starts_with("no pod"),
                "{name}"
            );
        }
        assert!(find(&pods, "0abc").unwrap_err().starts_with("2 pods"));
    }
}
