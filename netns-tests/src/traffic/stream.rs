//! A TCP connection on which messages go back and forth until told to stop, to see whether anything breaks it.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::echo::{accept, connect, listen};
use crate::endpoint::Endpoint;
use crate::wait::eventually;

/// Between two messages.
const PAUSE: Duration = Duration::from_millis(5);

/// How long the stream may stand still before it counts as broken.
const STANDSTILL: Duration = Duration::from_secs(20);

/// A running stream.
#[derive(Debug)]
pub struct Stream {
    shared: Arc<Shared>,
    client: JoinHandle<Result<Result<Duration>>>,
    server: JoinHandle<Result<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    exchanges: AtomicU64,
}

/// What a stream did in its life.
#[derive(Clone, Copy, Debug)]
pub struct StreamReport {
    /// Messages sent and answered.
    pub exchanges: u64,
    /// The longest time between sending a message and its answer.
    pub longest_pause: Duration,
}

impl Stream {
    pub(super) fn open(from: &impl Endpoint, to: &impl Endpoint) -> Result<Self> {
        let listener = listen(to, to.address())?;
        let target = listener.local_addr()?;
        let server = thread::spawn(move || answer(accept(&listener)?.0));
        let connection = from.run(|| connect(target))??;
        let shared = Arc::new(Shared::default());
        let counters = Arc::clone(&shared);
        let client = from
            .namespaces()
            .start(move || exchange(connection, &counters));
        Ok(Self {
            shared,
            client,
            server,
        })
    }

    /// Messages exchanged so far.
    pub fn exchanges(&self) -> u64 {
        self.shared.exchanges.load(Ordering::Relaxed)
    }

    /// Waits until some more messages have crossed, all of them sent after this call.
    pub fn wait_progress(&self) -> Result<()> {
        let before = self.exchanges();
        eventually("the stream goes on", STANDSTILL, || {
            let now = self.exchanges();
            // One message may have been under way before.
            ensure!(
                now > before + 5,
                "{now} messages, {before} before; ended: {}",
                self.client.is_finished()
            );
            Ok(())
        })
    }

    /// Ends the stream; an error when it broke.
    pub fn finish(self) -> Result<StreamReport> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let longest_pause = self
            .client
            .join()
            .map_err(|_| anyhow!("the stream panicked"))???;
        self.server
            .join()
            .map_err(|_| anyhow!("the stream's server panicked"))??;
        Ok(StreamReport {
            exchanges: self.shared.exchanges.load(Ordering::Relaxed),
            longest_pause,
        })
    }
}

fn exchange(mut connection: TcpStream, shared: &Shared) -> Result<Duration> {
    connection.set_read_timeout(Some(STANDSTILL))?;
    let mut longest = Duration::ZERO;
    while !shared.stop.load(Ordering::Relaxed) {
        let number = shared.exchanges.load(Ordering::Relaxed).to_be_bytes();
        let start = Instant::now();
        let mut answer = [0; 8];
        connection
            .write_all(&number)
            .context("the stream broke while sending")?;
        connection
            .read_exact(&mut answer)
            .context("the stream broke while receiving")?;
        ensure!(
            answer == number,
            "the stream answered {answer:?} to {number:?}"
        );
        longest = longest.max(start.elapsed());
        shared.exchanges.fetch_add(1, Ordering::Relaxed);
        thread::sleep(PAUSE);
    }
    Ok(longest)
}

/// The far side: answers every message until the connection ends.
fn answer(mut connection: TcpStream) -> Result<()> {
    connection.set_read_timeout(Some(STANDSTILL))?;
    let mut message = [0; 8];
    loop {
        match connection.read_exact(&mut message) {
            Ok(()) => connection
                .write_all(&message)
                .context("the stream broke while answering")?,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error).context("the stream broke on the far side"),
        }
    }
}
