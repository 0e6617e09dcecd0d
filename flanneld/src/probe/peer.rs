//! All there is to ask about one peer, and of many peers at once.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use hostnet::LinkIndex;
use hostnet::probe::{Arrival, Failure, Options, ProbeError, ProbeSocket, Protocol};

use super::Patience;
use super::echo::{PathSize, Question, Reply, path_size};
use super::tcp::{self, TcpReply};

/// What a peer is reached by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its address on the network between hosts.
    pub public: IpAddr,
    /// How the packets between hosts leave.
    pub uplink: Way,
    /// Its end of the tunnel, where there is one.
    pub tunnel: Option<Tunnel>,
}

/// One of this host's links that lead to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The link.
    pub link: LinkIndex,
    /// Our address on it.
    pub source: IpAddr,
    /// Its MTU.
    pub mtu: u32,
}

/// A peer's end of a VXLAN tunnel, and ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The address of its VTEP: the network address of its subnet.
    pub vtep: IpAddr,
    /// Our device.
    pub own: Way,
    /// The UDP port of the network.
    pub port: u16,
}

/// In which directions the packets of a tunnel get through, when no answer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Ours arrive over there, theirs not here.
    OnlyThere,
    /// Theirs arrive here, ours not over there.
    OnlyHere,
    /// It could not be told.
    Unknown,
}

/// What came of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerProbe {
    /// An echo beside the overlay.
    pub beside: Reply,
    /// An echo through it.
    pub through: Option<Reply>,
    /// What a stray datagram to the tunnel's port met with; asked where the overlay is silent.
    pub port: Option<Reply>,
    /// Asked where the overlay is silent.
    pub direction: Option<Direction>,
    /// How large packets get through beside the overlay.
    pub beside_size: Option<PathSize>,
    /// How large packets get through the overlay.
    pub through_size: Option<PathSize>,
    /// TCP through the overlay.
    pub tcp: Option<TcpReply>,
}

impl Target {
    /// Whether the peer answers through the overlay, or beside it where there is none. One packet, if it is answered.
    pub fn latency(&self, patience: Patience) -> Reply {
        let to = self.tunnel.map_or(self.public, |tunnel| tunnel.vtep);
        Question::new(to).ask(patience)
    }

    /// Asks everything: within about three seconds where all is well or all is silent, within eight at worst.
    pub fn probe(&self) -> PeerProbe {
        let (beside, through) = thread::scope(|scope| {
            let beside = scope.spawn(|| Question::new(self.public).ask(Patience::USUAL));
            let through = self
                .tunnel
                .map(|tunnel| Question::new(tunnel.vtep).ask(Patience::USUAL));
            let lost = || Reply::NotSent("the probe broke off".to_owned());
            (beside.join().unwrap_or_else(|_| lost()), through)
        });
        let mut probe = PeerProbe {
            beside,
            through,
            port: None,
            direction: None,
            beside_size: None,
            through_size: None,
            tcp: None,
        };
        if probe.beside.is_answered() {
            probe.beside_size = size_of(self.public, self.uplink.mtu);
        }
        let Some(tunnel) = self.tunnel else {
            return probe;
        };
        if probe.through.as_ref().is_some_and(Reply::is_answered) {
            probe.through_size = size_of(tunnel.vtep, tunnel.own.mtu);
            probe.tcp = Some(tcp::ask(tunnel.vtep, Patience::SHORT));
        } else if probe.through == Some(Reply::Silent) {
            probe.port = Some(self.knock(tunnel.port));
            if probe.beside.is_answered() {
                probe.direction = Some(self.direction(tunnel));
            }
        }
        probe
    }

    /// A datagram that no VXLAN device takes for a packet (it says that it belongs to no network): silence means that a device is
    /// there, or that somebody drops it.
    fn knock(&self, port: u16) -> Reply {
        let knock = || -> Result<Reply, ProbeError> {
            let socket =
                ProbeSocket::connect(Protocol::Udp, self.public, port, &Options::default())?;
            for _ in 0..Patience::SHORT.attempts {
                socket.send(&[0; VXLAN_HEADER])?;
                let until = Instant::now() + Patience::SHORT.wait;
                if let Some(Arrival::Failure { from, why, .. }) = socket.receive(until)? {
                    return Ok(Reply::Failed { by: from, why });
                }
            }
            Ok(Reply::Silent)
        };
        knock().unwrap_or_else(|error| Reply::from_error(&error))
    }

    /// Sends through the overlay what is answered beside it, and the other way round. An answer that comes in by the expected link
    /// proves that one direction works; silence proves nothing, for hosts on the way may not like such packets.
    fn direction(&self, tunnel: Tunnel) -> Direction {
        let crossed = |to, from: Way, back: LinkIndex| {
            let question = Question {
                source: Some(from.source),
                // What carries this mark is not masqueraded by us (and not by flannel).
                mark: Some(NO_MASQUERADE),
                ..Question::new(to)
            };
            let reply = question.ask(Patience::SHORT);
            matches!(reply, Reply::Answered { link, .. } if link == Some(back))
        };
        if crossed(tunnel.vtep, self.uplink, self.uplink.link) {
            Direction::OnlyThere
        } else if crossed(self.public, tunnel.own, tunnel.own.link) {
            Direction::OnlyHere
        } else {
            Direction::Unknown
        }
    }
}

/// Probes many peers, in their order, at most so many at a time.
pub fn probe_all<T: Sync, A: Send>(
    peers: &[T],
    at_once: usize,
    probe: impl Fn(&T) -> A + Sync,
) -> Vec<A> {
    let next = AtomicUsize::new(0);
    let answers = Mutex::new(Vec::with_capacity(peers.len()));
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(peer) = peers.get(index) else {
                break;
            };
            let answer = probe(peer);
            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers.push((index, answer));
        }
    };
    thread::scope(|scope| {
        for _ in 0..at_once.min(peers.len()) {
            scope.spawn(work);
        }
    });
    let mut answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
    answers.sort_by_key(|(index, _)| *index);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

fn size_of(to: IpAddr, wanted: u32) -> Option<PathSize> {
    // That it can be asked at all was seen a moment ago.
    path_size(to, wanted, Patience::SHORT).ok()
}

impl PeerProbe {
    /// Whether somebody said that a packet for the tunnel's port did not get there, and what.
    pub fn refused_port(&self) -> Option<(Option<IpAddr>, Failure)> {
        match self.port {
            Some(Reply::Failed { by, why }) => Some((by, why)),
            _ => None,
        }
    }
}

const VXLAN_HEADER: usize = 8;

/// The mark by which flannel's rules (and ours) know packets that keep their source address.
const NO_MASQUERADE: u32 = 0x4000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_the_order_of_the_peers() {
        let peers: Vec<usize> = (0..100).collect();
        let answers = probe_all(&peers, 7, |peer| {
            thread::yield_now();
            peer * 2
        });
        assert_eq!(answers, (0..100).map(|peer| peer * 2).collect::<Vec<_>>());
        assert!(probe_all(&[] as &[usize], 7, |peer| *peer).is_empty());
    }
}
