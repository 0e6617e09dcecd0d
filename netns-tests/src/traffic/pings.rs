//! Pings a hundred times a second until told to stop, to see whether a single packet is lost.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use crate::daemon::Daemon;
use crate::pod::Pod;

/// Running pings.
#[derive(Debug)]
pub struct Pings(Vec<Daemon>);

impl Pings {
    /// Between two pods: in both directions, in each family, once the first answers have come.
    pub fn between(one: &Pod, other: &Pod) -> Result<Self> {
        let mut pings = Vec::new();
        for (from, to) in [(one, other), (other, one)] {
            let netns = format!("--net={}", from.netns().display());
            for target in to.addresses() {
                let target = target.to_string();
                let words = [
                    netns.as_str(),
                    "ping",
                    "-n",
                    "-i",
                    "0.01",
                    "-W",
                    "2",
                    &target,
                ];
                let ping = from.host().start("nsenter", &words)?;
                ping.wait_log("icmp_seq=5 ")?;
                pings.push(ping);
            }
        }
        Ok(Self(pings))
    }

    /// Ends them; an error if one packet was lost, or came twice.
    pub fn finish(self) -> Result<()> {
        for mut ping in self.0 {
            ping.signal(Signal::SIGINT)?;
            ping.wait_end()?;
            let log = ping.log();
            ensure!(log.contains(" 0% packet loss"), "{}", ping.log_tail());
            ensure!(!log.contains("DUP!"), "{}", ping.log_tail());
        }
        Ok(())
    }
}
