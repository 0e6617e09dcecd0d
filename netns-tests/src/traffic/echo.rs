//! One exchange over TCP or UDP with a thread in the other endpoint's namespace.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::endpoint::Endpoint;

/// How long either side waits for the other.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes sent over TCP: several full segments of any usual MTU.
const TCP_LENGTH: usize = 64 << 10;

/// Payload bytes of the datagrams: small, nearly full, and fragmented on the way.
const UDP_LENGTHS: [usize; 3] = [1, 1200, 6000];

pub(super) fn tcp(from: &impl Endpoint, to: &impl Endpoint, address: IpAddr) -> Result<SocketAddr> {
    let listener = listen(to, address)?;
    let target = listener.local_addr()?;
    let server = thread::spawn(move || -> Result<SocketAddr> {
        let (mut connection, source) = accept(&listener)?;
        let mut payload = vec![0; TCP_LENGTH];
        connection
            .read_exact(&mut payload)
            .context("the server did not get everything")?;
        connection
            .write_all(&payload)
            .context("the server cannot answer")?;
        Ok(source)
    });
    from.run(|| -> Result<()> {
        let mut connection = connect(target)?;
        let payload = pattern(TCP_LENGTH);
        connection
            .write_all(&payload)
            .context("not everything could be sent")?;
        let mut answer = vec![0; TCP_LENGTH];
        connection
            .read_exact(&mut answer)
            .context("not everything came back")?;
        ensure!(answer == payload, "the answer differs from what was sent");
        Ok(())
    })??;
    server.join().map_err(|_| anyhow!("the server panicked"))?
}

pub(super) fn udp(from: &impl Endpoint, to: &impl Endpoint, address: IpAddr) -> Result<SocketAddr> {
    let bind =
        || UdpSocket::bind((address, 0)).with_context(|| format!("no UDP socket on {address}"));
    let socket = to.run(bind)??;
    socket.set_read_timeout(Some(PATIENCE))?;
    let target = socket.local_addr()?;
    let server = thread::spawn(move || -> Result<SocketAddr> {
        let mut datagram = vec![0; 0x1_0000];
        let mut seen = None;
        for _ in UDP_LENGTHS {
            let (length, source) = socket
                .recv_from(&mut datagram)
                .context("no datagram came")?;
            socket
                .send_to(&datagram[..length], source)
                .context("the server cannot answer")?;
            seen = Some(source);
        }
        seen.context("no datagram came")
    });
    from.run(|| -> Result<()> {
        let any: IpAddr = if target.is_ipv4() {
            [0; 4].into()
        } else {
            [0; 16].into()
        };
        let socket = UdpSocket::bind((any, 0)).context("no UDP socket")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(target).context("no route")?;
        for length in UDP_LENGTHS {
            let (payload, mut answer) = (pattern(length), vec![0; 0x1_0000]);
            socket
                .send(&payload)
                .with_context(|| format!("{length} bytes cannot be sent"))?;
            let got = socket
                .recv(&mut answer)
                .with_context(|| format!("no answer to {length} bytes"))?;
            ensure!(
                answer[..got] == payload,
                "the answer differs from what was sent"
            );
        }
        Ok(())
    })??;
    server.join().map_err(|_| anyhow!("the server panicked"))?
}

pub(super) fn listen(on: &impl Endpoint, address: IpAddr) -> Result<TcpListener> {
    let listener = on.run(|| TcpListener::bind((address, 0)))?;
    listener.with_context(|| format!("{} cannot listen on {address}", on.name()))
}

pub(super) fn connect(target: SocketAddr) -> Result<TcpStream> {
    let connection = TcpStream::connect_timeout(&target, PATIENCE).context("no connection")?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_nodelay(true)?;
    Ok(connection)
}

/// Waits for one connection, but not for ever, so that no thread outlives a client that failed.
pub(super) fn accept(listener: &TcpListener) -> Result<(TcpStream, SocketAddr)> {
    listener.set_nonblocking(true)?;
    let start = Instant::now();
    loop {
        match listener.accept() {
            Ok((connection, source)) => {
                connection.set_nonblocking(false)?;
                connection.set_read_timeout(Some(PATIENCE))?;
                connection.set_nodelay(true)?;
                return Ok((connection, source));
            }
            Err(error)
                if error.kind() == ErrorKind::WouldBlock && start.elapsed() < 2 * PATIENCE =>
            {
                thread::sleep(Duration::from_millis(2));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => bail!("nobody connected"),
            Err(error) => return Err(error).context("no connection could be accepted"),
        }
    }
}

/// Bytes that repeat only after a length no packet has.
fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| (index * 31 + index / 251) as u8)
        .collect()
}
