//! ICMP echoes: whether a host answers, how fast, and how large a packet may be on the way to it.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use hostnet::LinkIndex;
use hostnet::probe::{Arrival, Failure, Options, ProbeError, ProbeSocket, Protocol};

use super::Patience;
use super::packet::{self, Echo};

/// An echo to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// To which address.
    pub to: IpAddr,
    /// From which address of ours; else the kernel's choice.
    pub source: Option<IpAddr>,
    /// With which mark.
    pub mark: Option<u32>,
    /// The size of the IP packet, which nobody may part then. Else it is small.
    pub size: Option<u32>,
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It was answered.
    Answered {
        /// From the question to the answer.
        after: Duration,
        /// By which link the answer came.
        link: Option<LinkIndex>,
    },
    /// Nothing came.
    Silent,
    /// Somebody on the way, or the host, says that it does not work.
    Failed {
        /// Who; nobody when it is this host itself.
        by: Option<IpAddr>,
        /// What is said.
        why: Failure,
    },
    /// It could not leave this host.
    NotSent(String),
    /// This process may not ask.
    NotPermitted,
}

impl Reply {
    /// Whether the other host answered.
    pub const fn is_answered(&self) -> bool {
        matches!(self, Self::Answered { .. })
    }

    /// Whether nothing is known because this process may not ask.
    pub const fn is_not_permitted(&self) -> bool {
        matches!(self, Self::NotPermitted)
    }

    pub(super) fn from_error(error: &ProbeError) -> Self {
        match error {
            ProbeError::NotPermitted(_) => Self::NotPermitted,
            // What it could be larger than, its own link told.
            ProbeError::TooLong { .. } => Self::Failed {
                by: None,
                why: Failure::TooBig(0),
            },
            error => Self::NotSent(error.to_string()),
        }
    }
}

impl Question {
    /// A small one.
    pub const fn new(to: IpAddr) -> Self {
        Self {
            to,
            source: None,
            mark: None,
            size: None,
        }
    }

    /// Asks, and waits.
    pub fn ask(&self, patience: Patience) -> Reply {
        self.try_ask(patience)
            .unwrap_or_else(|error| Reply::from_error(&error))
    }

    fn try_ask(&self, patience: Patience) -> Result<Reply, ProbeError> {
        let asker = Asker::new(self)?;
        let size = self.size.unwrap_or(SMALL);
        let mut failed = None;
        for attempt in 1..=patience.attempts {
            let asked = asker.send(attempt, size)?;
            let until = asked + patience.wait;
            match asker.hear(until)? {
                // To an earlier one, it took longer than was waited for it; it works all the same.
                Some(Heard::Reply(echo, link)) => {
                    let late = patience.wait * u32::from(attempt.saturating_sub(echo.sequence));
                    let after = asked.elapsed() + late;
                    return Ok(Reply::Answered { after, link });
                }
                Some(Heard::Failure(why, by)) => failed = Some(Reply::Failed { by, why }),
                None => {}
            }
        }
        Ok(failed.unwrap_or(Reply::Silent))
    }
}

/// How large packets may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathSize {
    /// What should pass, in bytes of the IP packet.
    pub wanted: u32,
    /// The largest that does; nothing if not even the smallest does.
    pub passes: Option<u32>,
    /// Who said that a packet was too large, and what would not be. Where nobody says so, packets just vanish.
    pub told: Option<(IpAddr, u32)>,
}

impl PathSize {
    /// Whether what should pass passes.
    pub fn is_whole(&self) -> bool {
        self.passes.is_some_and(|passes| passes >= self.wanted)
    }
}

/// Looks for the largest packet up to `wanted` bytes that gets to a host that answers small ones, and back. Some at once are sent in
/// each round, so that silence is waited for a few times only.
///
/// # Errors
/// [`ProbeError`].
pub fn path_size(to: IpAddr, wanted: u32, patience: Patience) -> Result<PathSize, ProbeError> {
    let question = Question {
        size: Some(wanted),
        ..Question::new(to)
    };
    let asker = Asker::new(&question)?;
    let mut told = None;
    let mut sequence = 0;
    let (mut passes, mut fails) = (None, wanted.saturating_add(1));
    let mut sizes = vec![wanted];
    while !sizes.is_empty() {
        let best = asker.largest(&sizes, &mut sequence, patience, &mut told)?;
        fails = sizes
            .iter()
            .copied()
            .filter(|size| Some(*size) > best)
            .fold(fails, u32::min);
        passes = passes.max(best);
        sizes = steps(passes.unwrap_or(LEAST), fails, passes.is_none());
        if passes.is_none() && fails <= LEAST {
            break;
        }
    }
    Ok(PathSize {
        wanted,
        passes,
        told,
    })
}

/// Sizes to try between one that passes and one that does not, the ends excluded (the lower one only if it is known).
pub fn steps(passes: u32, fails: u32, with_lower: bool) -> Vec<u32> {
    let low = if with_lower { passes } else { passes + 1 };
    if low >= fails {
        return Vec::new();
    }
    let room = fails - low;
    let count = room.min(AT_ONCE);
    (0..count).map(|step| low + step * room / count).collect()
}

/// A socket and the name under which its questions go.
struct Asker {
    socket: ProbeSocket,
    ipv4: bool,
    identifier: u16,
}

enum Heard {
    Reply(Echo, Option<LinkIndex>),
    Failure(Failure, Option<IpAddr>),
}

impl Asker {
    fn new(question: &Question) -> Result<Self, ProbeError> {
        let options = Options {
            source: question.source,
            mark: question.mark,
            whole: question.size.is_some(),
        };
        let socket = ProbeSocket::connect(Protocol::Icmp, question.to, 0, &options)?;
        let identifier = socket.identifier().unwrap_or_else(arbitrary);
        Ok(Self {
            socket,
            ipv4: question.to.is_ipv4(),
            identifier,
        })
    }

    fn send(&self, sequence: u16, size: u32) -> Result<Instant, ProbeError> {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let message = packet::echo_request(self.ipv4, self.identifier, sequence, size);
        let asked = Instant::now();
        self.socket.send(&message)?;
        Ok(asked)
    }

    /// The next thing said about a question of ours.
    fn hear(&self, until: Instant) -> Result<Option<Heard>, ProbeError> {
        while let Some(arrival) = self.socket.receive(until)? {
            match arrival {
                Arrival::Packet { bytes, link } => {
                    let echo = packet::echo_reply(self.ipv4, &bytes);
                    if let Some(echo) = echo.filter(|echo| echo.identifier == self.identifier) {
                        return Ok(Some(Heard::Reply(echo, link)));
                    }
                }
                Arrival::Failure { from, why, quoted } => {
                    let echo = packet::quoted_echo(self.ipv4, &quoted);
                    // What this host says quotes nothing that could be compared.
                    if from.is_none() || echo.is_some_and(|echo| echo.identifier == self.identifier)
                    {
                        return Ok(Some(Heard::Failure(why, from)));
                    }
                }
            }
        }
        Ok(None)
    }

    /// The largest of these sizes that was answered; those not answered are asked again while patience lasts.
    fn largest(
        &self,
        sizes: &[u32],
        sequence: &mut u16,
        patience: Patience,
        told: &mut Option<(IpAddr, u32)>,
    ) -> Result<Option<u32>, ProbeError> {
        let top = sizes.iter().copied().max();
        let mut best = None;
        for _ in 0..patience.attempts {
            let first = *sequence;
            for &size in sizes {
                let number = *sequence;
                *sequence = sequence.wrapping_add(1);
                match self.send(number, size) {
                    // The device it leaves by has grown smaller meanwhile.
                    Ok(_) | Err(ProbeError::TooLong { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            let until = Instant::now() + patience.wait;
            while best < top || best.is_none() {
                match self.hear(until)? {
                    Some(Heard::Reply(echo, _)) => {
                        let place = usize::from(echo.sequence.wrapping_sub(first));
                        best = best.max(sizes.get(place).copied());
                    }
                    Some(Heard::Failure(Failure::TooBig(mtu), Some(from))) => {
                        *told = Some((from, mtu));
                    }
                    Some(Heard::Failure(..)) => {}
                    None => break,
                }
            }
            if best == top {
                break;
            }
        }
        Ok(best)
    }
}

/// Tells the questions of sockets and processes apart; a collision costs an answer that is taken for another's.
fn arbitrary() -> u16 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let number = RandomState::new().build_hasher().finish();
    let [first, second, ..] = number.to_ne_bytes();
    u16::from_ne_bytes([first, second])
}

/// Every path takes this much and more: what IPv6 asks for is more, but a tunnel's may be less.
const LEAST: u32 = 576;

/// Of a packet that fits everywhere.
const SMALL: u32 = 64;

/// How many sizes are tried in a round.
const AT_ONCE: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    proptest! {
        /// As [`path_size`] does it, against a path of known size.
        #[test]
        fn the_search_ends_at_the_largest_that_passes(wanted in LEAST + 1..9_001, path in 500_u32..9_100) {
            let (mut passes, mut fails, mut rounds) = (None, wanted + 1, 0);
            let mut sizes = vec![wanted];
            while !sizes.is_empty() {
                let best = sizes.iter().copied().filter(|size| *size <= path).max();
                fails = sizes.iter().copied().filter(|size| Some(*size) > best).fold(fails, u32::min);
                passes = passes.max(best);
                sizes = steps(passes.unwrap_or(LEAST), fails, passes.is_none());
                if passes.is_none() && fails <= LEAST {
                    break;
                }
                rounds += 1;
            }
            prop_assert!(rounds <= 6, "{} rounds", rounds);
            let expected = (path >= LEAST).then_some(path.min(wanted));
            prop_assert_eq!(passes, expected);
        }
    }

    #[test]
    fn this_host_answers_itself_or_says_that_it_may_not() {
        let to = "127.0.0.1".parse().unwrap();
        let reply = Question::new(to).ask(Patience::USUAL);
        assert!(reply.is_answered() || reply.is_not_permitted(), "{reply:?}");
        if reply.is_answered() {
            let size = path_size(to, 4_000, Patience::USUAL).unwrap();
            assert!(size.is_whole(), "{size:?}");
        }
    }
}
