//! Sockets for asking other hosts: ICMP echoes and TCP segments as the caller made them, and what comes back, errors of routers
//! on the way included.
//!
//! What is in the packets is the caller's; here is how they get on the wire at an exact size, and how answers are waited for.

use std::{io, net::IpAddr};

use crate::link::LinkIndex;

mod socket;

pub use self::socket::ProbeSocket;

/// What a socket sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// ICMP or ICMPv6 messages, by the family of the peer. The checksum of ICMPv6 is the kernel's work.
    Icmp,
    /// TCP segments whose checksum the caller has made. Needs `CAP_NET_RAW`.
    Tcp,
    /// Payloads of UDP datagrams.
    Udp,
}

impl Protocol {
    const fn name(self) -> &'static str {
        match self {
            Self::Icmp => "ICMP",
            Self::Tcp => "raw TCP",
            Self::Udp => "UDP",
        }
    }
}

/// How packets leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The address they come from; else the kernel's choice.
    pub source: Option<IpAddr>,
    /// The mark they carry (`SO_MARK`; needs `CAP_NET_ADMIN`).
    pub mark: Option<u32>,
    /// Neither this host nor a router may part them, and what this host remembers of the way's MTU does not hold them back: only
    /// the MTU of the link they leave by does.
    pub whole: bool,
}

/// Why a probe could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// This process may not.
    #[error("this process may not open a socket for {0} probes; run as root (or with CAP_NET_RAW)")]
    NotPermitted(&'static str),
    /// There is no way to the host, or no such source address here.
    #[error("packets to {peer} cannot leave this host: {reason}")]
    NoWay {
        /// To whom.
        peer: IpAddr,
        /// What the kernel said.
        reason: io::Error,
    },
    /// The packet is larger than the MTU of the link that it would leave by.
    #[error("a packet of this size to {peer} is larger than the MTU of the link it would leave by")]
    TooLong {
        /// To whom.
        peer: IpAddr,
    },
    /// The socket itself.
    #[error("cannot {action} a {what} probe: {reason}")]
    Socket {
        /// What was to be done.
        action: &'static str,
        /// With what.
        what: &'static str,
        /// What the kernel said.
        reason: io::Error,
    },
}

impl ProbeError {
    /// Whether it is only that this process may not, so that nothing is known.
    #[must_use]
    pub const fn is_not_permitted(&self) -> bool {
        matches!(self, Self::NotPermitted(_))
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A packet of the peer's, from behind the IP header.
    Packet {
        /// The message or segment.
        bytes: Vec<u8>,
        /// The link it came in by, where the kernel says.
        link: Option<LinkIndex>,
    },
    /// Somebody says that a packet of ours did not get there.
    Failure {
        /// Who says so; nobody when it was this host itself.
        from: Option<IpAddr>,
        /// What is said.
        why: Failure,
        /// As much of our packet, from behind its IP header, as was quoted.
        quoted: Vec<u8>,
    },
}

/// What an ICMP error says, in both families' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// The packet is larger than the next hop's MTU, which is this.
    TooBig(u32),
    /// Nobody listens on the port.
    PortUnreachable,
    /// A firewall says no (administratively prohibited, or a policy's reject).
    Prohibited,
    /// Nobody answers for the address, or no router knows the way.
    Unreachable,
    /// Something else: type and code of the message.
    Other(u8, u8),
}
