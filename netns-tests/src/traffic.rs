//! Packets between endpoints: pings, echoes over TCP and UDP, a stream and pings that must not break, and throughput.
//!
//! The far side of an echo is a thread of the lab in the other endpoint's namespace; it reports the source address it saw,
//! which tells whether an address was translated on the way.

mod echo;
mod pings;
mod stream;
mod throughput;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::endpoint::{Address, Endpoint};

pub use pings::Pings;
pub use stream::{Stream, StreamReport};

/// What an endpoint can send; implemented for every [`Endpoint`].
pub trait Traffic: Endpoint + Sized {
    /// One echo request; the round-trip time.
    fn ping(&self, to: &impl Address) -> Result<Duration> {
        ping(self, to.address(), &[])
    }

    /// One echo request in an IP packet of exactly `size` bytes that nobody may fragment.
    fn ping_unfragmented(&self, to: &impl Address, size: u32) -> Result<Duration> {
        let to = to.address();
        let header = if to.is_ipv4() { 20 + 8 } else { 40 + 8 };
        ping(
            self,
            to,
            &["-M", "do", "-s", &size.saturating_sub(header).to_string()],
        )
    }

    /// Fails when an echo request is answered.
    fn cannot_ping(&self, to: &impl Address) -> Result<()> {
        let to = to.address();
        match self
            .attempt(["ping", "-n", "-c", "1", "-W", "1", &to.to_string()])?
            .status
            .success()
        {
            true => bail!("{} reaches {to}, which it should not", self.name()),
            false => Ok(()),
        }
    }

    /// Sends some kilobytes over TCP and gets them back; the source address that the other side saw.
    fn tcp_echo(&self, to: &impl Endpoint) -> Result<SocketAddr> {
        self.tcp_echo_at(to, to.address())
    }

    /// Like [`tcp_echo`](Self::tcp_echo), to this address of the other side.
    fn tcp_echo_at(&self, to: &impl Endpoint, address: IpAddr) -> Result<SocketAddr> {
        echo::tcp(self, to, address)
            .with_context(|| format!("TCP from {} to {} ({address})", self.name(), to.name()))
    }

    /// Sends datagrams of several sizes, the largest above every MTU, and gets them back; the source address that the
    /// other side saw.
    fn udp_echo(&self, to: &impl Endpoint) -> Result<SocketAddr> {
        self.udp_echo_at(to, to.address())
    }

    /// Like [`udp_echo`](Self::udp_echo), to this address of the other side.
    fn udp_echo_at(&self, to: &impl Endpoint, address: IpAddr) -> Result<SocketAddr> {
        echo::udp(self, to, address)
            .with_context(|| format!("UDP from {} to {} ({address})", self.name(), to.name()))
    }

    /// Opens a TCP connection and keeps exchanging messages on it in the background.
    fn stream(&self, to: &impl Endpoint) -> Result<Stream> {
        Stream::open(self, to)
            .with_context(|| format!("a stream from {} to {}", self.name(), to.name()))
    }

    /// TCP throughput measured by iperf3 for so long, in bits per second.
    fn throughput(&self, to: &impl Endpoint, time: Duration) -> Result<f64> {
        throughput::measure(self, to, time)
            .with_context(|| format!("throughput from {} to {}", self.name(), to.name()))
    }

    /// What iperf3 reports when its client, with these options, is sent to `address`, behind which `to` is.
    fn iperf3(&self, to: &impl Endpoint, address: IpAddr, options: &[&str]) -> Result<Value> {
        throughput::report(self, to, address, options)
            .with_context(|| format!("iperf3 from {} to {}", self.name(), to.name()))
    }
}

impl<E: Endpoint> Traffic for E {}

fn ping(from: &impl Endpoint, to: IpAddr, options: &[&str]) -> Result<Duration> {
    let to = to.to_string();
    let arguments = ["ping", "-n", "-c", "1", "-W", "3"]
        .iter()
        .chain(options)
        .copied()
        .chain([to.as_str()]);
    let finished = from.attempt(arguments)?;
    let said = finished
        .success()
        .with_context(|| format!("ping from {} to {to}", from.name()))?;
    let time = said
        .split("time=")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    let milliseconds = time.with_context(|| format!("ping told no time:\n{said}"))?;
    Ok(Duration::from_secs_f64(milliseconds / 1000.0))
}
