//! TCP: whether segments get to a host with a right checksum, as the kernel makes them and as we make them.
//!
//! The kernel may leave the checksum to the device (checksum offload), and some devices get that of a packet inside a tunnel wrong:
//! then ICMP works and TCP does not. A segment with a checksum of our own making that is answered where the kernel's is not is the proof.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use hostnet::probe::{Arrival, Failure, Options, ProbeError, ProbeSocket, Protocol};

use super::Patience;
use super::echo::Reply;
use super::packet::{self, End};

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpReply {
    /// To a segment of the kernel's.
    pub kernel: Reply,
    /// To one of our own, asked only where the kernel's was not answered.
    pub by_hand: Option<Reply>,
}

impl TcpReply {
    /// Whether it shows that checksums are spoilt on the way out.
    pub fn shows_broken_offload(&self) -> bool {
        self.kernel == Reply::Silent && self.by_hand.as_ref().is_some_and(Reply::is_answered)
    }
}

/// A port that hardly anybody listens on (RFC 863); a refusal is as good an answer as any.
pub const PORT: u16 = 9;

/// Asks a host that answers echoes.
pub fn ask(to: IpAddr, patience: Patience) -> TcpReply {
    let kernel = connect(to);
    let by_hand = (kernel == Reply::Silent)
        .then(|| by_hand(to, patience).unwrap_or_else(|error| Reply::from_error(&error)));
    TcpReply { kernel, by_hand }
}

fn connect(to: IpAddr) -> Reply {
    let asked = Instant::now();
    let answered = |link| Reply::Answered {
        after: asked.elapsed(),
        link,
    };
    match TcpStream::connect_timeout(&SocketAddr::new(to, PORT), CONNECT) {
        Ok(_) => answered(None),
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => answered(None),
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Reply::Silent,
            io::ErrorKind::HostUnreachable => Reply::Failed {
                by: None,
                why: Failure::Unreachable,
            },
            io::ErrorKind::PermissionDenied => Reply::Failed {
                by: None,
                why: Failure::Prohibited,
            },
            _ => Reply::NotSent(error.to_string()),
        },
    }
}

fn by_hand(to: IpAddr, patience: Patience) -> Result<Reply, ProbeError> {
    let socket = ProbeSocket::connect(Protocol::Tcp, to, 0, &Options::default())?;
    let asked = Instant::now();
    for attempt in 0..patience.attempts {
        // The kernel knows of no such connection and refuses what would be accepted, so nothing stays over there.
        let from = End {
            address: socket.local(),
            port: FIRST_PORT + attempt,
        };
        let to = End {
            address: to,
            port: PORT,
        };
        let sequence = u32::from(std::process::id().to_ne_bytes()[0]) << 16 | u32::from(attempt);
        socket.send(&packet::syn(from, to, sequence))?;
        let until = Instant::now() + patience.wait;
        while let Some(arrival) = socket.receive(until)? {
            match arrival {
                Arrival::Packet { bytes, link } => {
                    if packet::answers_syn(&bytes, from, to, sequence) {
                        let after = asked.elapsed();
                        return Ok(Reply::Answered { after, link });
                    }
                }
                Arrival::Failure { from: by, why, .. } => return Ok(Reply::Failed { by, why }),
            }
        }
    }
    Ok(Reply::Silent)
}

/// Below the ports that the kernel gives to connections (`ip_local_port_range`).
const FIRST_PORT: u16 = 31_871;

/// The kernel asks again after a second.
const CONNECT: Duration = Duration::from_millis(1_600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_an_answer() {
        let reply = ask("127.0.0.1".parse().unwrap(), Patience::USUAL);
        assert!(reply.kernel.is_answered(), "{reply:?}");
        assert!(!reply.shows_broken_offload());
    }

    #[test]
    fn a_segment_made_by_hand_is_answered_or_not_permitted() {
        match by_hand("127.0.0.1".parse().unwrap(), Patience::USUAL) {
            Ok(reply) => assert!(reply.is_answered(), "{reply:?}"),
            Err(error) => assert!(error.is_not_permitted(), "{error}"),
        }
    }
}
