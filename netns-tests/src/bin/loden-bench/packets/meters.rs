//! What is measured between two places: streams, requests, connections, small datagrams.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use netns_tests::{Endpoint, Traffic};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::Value;

use crate::calm::busy;

/// Where the services of requests and connections listen.
pub(super) const PORT: u16 = 7777;

/// Where iperf3 listens unless told.
pub(super) const IPERF_PORT: u16 = 5201;

const PATIENCE: Duration = Duration::from_secs(10);

/// TCP as fast as it goes.
pub(super) struct Streamed {
    pub(super) gigabits_per_second: f64,
    pub(super) retransmits: f64,
    /// Processor seconds of the whole machine, on both sides and in between.
    pub(super) cpu_seconds_per_gigabyte: f64,
}

pub(super) fn stream(
    from: &impl Traffic,
    to: &impl Endpoint,
    address: IpAddr,
    streams: u32,
    seconds: u32,
) -> Result<Streamed> {
    let (streams, seconds) = (streams.to_string(), seconds.to_string());
    let before = busy()?;
    let report = from.iperf3(to, address, &["--parallel", &streams, "--time", &seconds])?;
    let spent = busy()? - before;
    let end = &report["end"];
    let bytes = number(end, &["sum_received", "bytes"])?;
    Ok(Streamed {
        gigabits_per_second: number(end, &["sum_received", "bits_per_second"])? / 1e9,
        retransmits: number(end, &["sum_sent", "retransmits"])?,
        cpu_seconds_per_gigabyte: spent / (bytes / 1e9),
    })
}

/// Datagrams of 64 bytes as fast as one sender can; those that arrive, a second.
pub(super) fn datagrams(
    from: &impl Traffic,
    to: &impl Endpoint,
    address: IpAddr,
    seconds: u32,
) -> Result<f64> {
    let seconds = seconds.to_string();
    let options = [
        "--udp",
        "--bitrate",
        "0",
        "--length",
        "64",
        "--time",
        &seconds,
    ];
    let report = from.iperf3(to, address, &options)?;
    let sum = &report["end"]["sum"];
    let arrived = number(sum, &["packets"])? - number(sum, &["lost_packets"])?;
    Ok(arrived / number(sum, &["seconds"])?)
}

fn number(report: &Value, path: &[&str]) -> Result<f64> {
    let value = path.iter().fold(report, |value, name| &value[name]);
    value
        .as_f64()
        .with_context(|| format!("iperf3 did not tell {path:?}: {report}"))
}

/// Where the two sides of a conversation run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Processors {
    /// Wherever the kernel puts them: most of the time is that of waking the other processor up.
    Any,
    /// Both on one: what is left is the work on the packets.
    One,
}

impl Processors {
    /// Binds this thread, which is to end soon.
    fn take(self) -> Result<()> {
        if self == Self::Any {
            return Ok(());
        }
        let own = Pid::from_raw(0);
        let allowed = sched_getaffinity(own)?;
        let first = (0..CpuSet::count()).find(|&number| allowed.is_set(number) == Ok(true));
        let mut one = CpuSet::new();
        one.set(first.context("no processor")?)?;
        Ok(sched_setaffinity(own, &one)?)
    }
}

/// Round-trip times of one byte over one connection, in microseconds.
pub(super) fn requests(
    from: &impl Endpoint,
    to: &impl Endpoint,
    address: IpAddr,
    time: Duration,
    processors: Processors,
) -> Result<Vec<f64>> {
    serving(to, serve_requests, processors, || {
        from.run(|| {
            processors.take()?;
            let mut connection = connect(address)?;
            let (start, mut times) = (Instant::now(), Vec::new());
            while start.elapsed() < time {
                let asked = Instant::now();
                connection.write_all(b"?")?;
                connection.read_exact(&mut [0])?;
                times.push(asked.elapsed().as_secs_f64() * 1e6);
            }
            Ok(times)
        })?
    })
}

/// Connections a second, one after the other: opened, a byte there and a byte back, closed by the server.
pub(super) fn connections(
    from: &impl Endpoint,
    to: &impl Endpoint,
    address: IpAddr,
    time: Duration,
) -> Result<f64> {
    serving(to, serve_connections, Processors::Any, || {
        from.run(|| {
            let (start, mut number) = (Instant::now(), 0_u32);
            while start.elapsed() < time {
                let mut connection = connect(address)?;
                connection.write_all(b"?")?;
                let mut answer = Vec::new();
                connection.read_to_end(&mut answer)?;
                number += 1;
            }
            Ok(f64::from(number) / start.elapsed().as_secs_f64())
        })?
    })
}

fn connect(address: IpAddr) -> Result<TcpStream> {
    let address = SocketAddr::new(address, PORT);
    let connection = TcpStream::connect_timeout(&address, PATIENCE)
        .with_context(|| format!("no connection to {address}"))?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    Ok(connection)
}

/// Does `work` while a thread serves on `to`.
fn serving<T>(
    to: &impl Endpoint,
    serve: fn(&TcpListener, &AtomicBool) -> io::Result<()>,
    processors: Processors,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let address = SocketAddr::new(to.address(), PORT);
    let listener = to
        .run(|| TcpListener::bind(address))?
        .with_context(|| format!("{address} cannot be listened on"))?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let server = scope.spawn(|| -> Result<()> {
            processors.take()?;
            Ok(serve(&listener, &over)?)
        });
        let outcome = work();
        over.store(true, Ordering::Relaxed);
        // It waits for one more; that end of the world can be reached from its own namespace only.
        let last = to.run(|| TcpStream::connect(address));
        drop(last);
        let served = server.join().map_err(|_| anyhow!("the server panicked"))?;
        let outcome = outcome?;
        served?;
        Ok(outcome)
    })
}

fn serve_requests(listener: &TcpListener, over: &AtomicBool) -> io::Result<()> {
    while let Some(mut connection) = next(listener, over)? {
        while let Ok(1) = connection.read(&mut [0]) {
            connection.write_all(b"!")?;
        }
    }
    Ok(())
}

fn serve_connections(listener: &TcpListener, over: &AtomicBool) -> io::Result<()> {
    while let Some(mut connection) = next(listener, over)? {
        connection.read_exact(&mut [0])?;
        connection.write_all(b"!")?;
    }
    Ok(())
}

fn next(listener: &TcpListener, over: &AtomicBool) -> io::Result<Option<TcpStream>> {
    let (connection, _) = listener.accept()?;
    if over.load(Ordering::Relaxed) {
        return Ok(None);
    }
    connection.set_nodelay(true)?;
    Ok(Some(connection))
}
