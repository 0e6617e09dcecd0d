//! Answers of peers as tests make them up.

use std::time::Duration;

use super::echo::{PathSize, Reply};
use super::peer::{Direction, PeerProbe};
use super::tcp::TcpReply;

/// It answered at once.
pub(crate) fn answered() -> Reply {
    Reply::Answered {
        after: Duration::from_micros(300),
        link: None,
    }
}

/// Packets up to this size get through, of those that should.
pub(crate) fn passes(wanted: u32, passes: u32) -> Option<PathSize> {
    Some(PathSize {
        wanted,
        passes: Some(passes),
        told: None,
    })
}

/// A peer behind a tunnel that answers everything.
pub(crate) fn answers() -> PeerProbe {
    PeerProbe {
        beside: answered(),
        through: Some(answered()),
        port: None,
        direction: None,
        beside_size: passes(1500, 1500),
        through_size: passes(1450, 1450),
        tcp: Some(TcpReply {
            kernel: answered(),
            by_hand: None,
        }),
    }
}

/// A peer that answers beside the tunnel and not through it.
pub(crate) fn silent() -> PeerProbe {
    PeerProbe {
        through: Some(Reply::Silent),
        port: Some(Reply::Silent),
        direction: Some(Direction::Unknown),
        through_size: None,
        tcp: None,
        ..answers()
    }
}

/// TCP is lost with the kernel's checksum; with one made by hand this comes of it.
pub(crate) fn tcp_lost(by_hand: Reply) -> PeerProbe {
    PeerProbe {
        tcp: Some(TcpReply {
            kernel: Reply::Silent,
            by_hand: Some(by_hand),
        }),
        ..answers()
    }
}
