//! The socket: opened, connected, read with both of its queues.

use std::{
    io::IoSliceMut,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Instant,
};

use nix::{
    cmsg_space,
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        self, AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType,
        SockaddrStorage, sockopt,
    },
};

use super::{Arrival, Failure, Options, ProbeError, Protocol};
use crate::link::LinkIndex;

/// A socket connected to one peer: what others send does not show up in it.
#[derive(Debug)]
pub struct ProbeSocket {
    socket: OwnedFd,
    protocol: Protocol,
    peer: IpAddr,
    local: SocketAddr,
    /// Whether what is read begins with an IP header.
    headed: bool,
    /// Whether the kernel puts an identifier of its own into ICMP messages.
    numbered: bool,
}

impl ProbeSocket {
    /// Opens one in the calling thread's network namespace. For ICMP without `CAP_NET_RAW`, the kernel's own echo sockets are tried
    /// (`net.ipv4.ping_group_range`).
    ///
    /// `port` is the peer's, of UDP; 0 else.
    ///
    /// # Errors
    /// [`ProbeError::NotPermitted`], [`ProbeError::NoWay`], [`ProbeError::Socket`].
    pub fn connect(
        protocol: Protocol,
        peer: IpAddr,
        port: u16,
        options: &Options,
    ) -> Result<Self, ProbeError> {
        let failed = |action| move |errno: Errno| socket_error(action, protocol, errno);
        let (socket, raw) = open(protocol, peer.is_ipv4())?;
        set_up(&socket, peer, options).map_err(failed("set up"))?;
        if let Some(source) = options.source {
            socket::bind(socket.as_raw_fd(), &storage(source, 0))
                .map_err(|errno| no_way(peer, errno))?;
        }
        socket::connect(socket.as_raw_fd(), &storage(peer, port))
            .map_err(|errno| no_way(peer, errno))?;
        let local = local_address(&socket).map_err(failed("set up"))?;
        Ok(Self {
            socket,
            protocol,
            peer,
            local,
            headed: raw && peer.is_ipv4(),
            numbered: protocol == Protocol::Icmp && !raw,
        })
    }

    /// The address that packets leave from.
    #[must_use]
    pub const fn local(&self) -> IpAddr {
        self.local.ip()
    }

    /// The identifier that the kernel puts into ICMP echoes in the place of the caller's, if it does.
    #[must_use]
    pub const fn identifier(&self) -> Option<u16> {
        if self.numbered {
            Some(self.local.port())
        } else {
            None
        }
    }

    /// Sends a packet: all that is behind the IP header (for UDP behind the UDP header).
    ///
    /// # Errors
    /// [`ProbeError::TooLong`], [`ProbeError::NoWay`], [`ProbeError::NotPermitted`] (a firewall of this host refuses, too),
    /// [`ProbeError::Socket`].
    pub fn send(&self, bytes: &[u8]) -> Result<(), ProbeError> {
        // An error of an earlier packet is told to whoever sends the next one; that one has then not been sent.
        for _ in 0..ATTEMPTS {
            match socket::send(self.socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR | Errno::ECONNREFUSED | Errno::EHOSTUNREACH) => {}
                Err(Errno::EMSGSIZE) => return Err(ProbeError::TooLong { peer: self.peer }),
                Err(errno @ (Errno::ENETUNREACH | Errno::EADDRNOTAVAIL | Errno::EINVAL)) => {
                    return Err(no_way(self.peer, errno));
                }
                Err(errno) => return Err(socket_error("send", self.protocol, errno)),
            }
        }
        Err(no_way(self.peer, Errno::EHOSTUNREACH))
    }

    /// Waits for what comes next; nothing if nothing comes until then.
    ///
    /// # Errors
    /// [`ProbeError::Socket`].
    pub fn receive(&self, until: Instant) -> Result<Option<Arrival>, ProbeError> {
        let failed = |errno| socket_error("await the answer to", self.protocol, errno);
        loop {
            if let Some(arrival) = self.read(MsgFlags::MSG_ERRQUEUE).map_err(failed)? {
                return Ok(Some(arrival));
            }
            if let Some(arrival) = self.read(MsgFlags::empty()).map_err(failed)? {
                return Ok(Some(arrival));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let mut watched = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            // Rounded up, so that the last millisecond is not spent asking over and over.
            let millis = i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX);
            let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
            match poll(&mut watched, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
    }

    /// What is there now.
    fn read(&self, queue: MsgFlags) -> Result<Option<Arrival>, Errno> {
        let mut bytes = vec![0; LONGEST];
        let mut control = cmsg_space!(libc::in6_pktinfo, [u8; 128]);
        for _ in 0..ATTEMPTS {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            let received = socket::recvmsg::<SockaddrStorage>(
                self.socket.as_raw_fd(),
                &mut parts,
                Some(&mut control),
                queue | MsgFlags::MSG_DONTWAIT,
            );
            let received = match received {
                Ok(received) => received,
                Err(Errno::EAGAIN) => return Ok(None),
                // What a router said of an earlier packet; it is in the other queue.
                Err(errno) if is_told_twice(errno) => continue,
                Err(errno) => return Err(errno),
            };
            let length = received.bytes;
            let mut link = None;
            let mut failure = None;
            for message in received.cmsgs()? {
                match message {
                    ControlMessageOwned::Ipv4PacketInfo(info) => {
                        link = u32::try_from(info.ipi_ifindex).ok().map(LinkIndex);
                    }
                    ControlMessageOwned::Ipv6PacketInfo(info) => {
                        link = Some(LinkIndex(info.ipi6_ifindex));
                    }
                    ControlMessageOwned::Ipv4RecvErr(error, from) => {
                        let from =
                            from.map(|from| IpAddr::from(from.sin_addr.s_addr.to_ne_bytes()));
                        failure = Some((error, from));
                    }
                    ControlMessageOwned::Ipv6RecvErr(error, from) => {
                        let from = from.map(|from| IpAddr::from(from.sin6_addr.s6_addr));
                        failure = Some((error, from));
                    }
                    _ => {}
                }
            }
            bytes.truncate(length);
            return Ok(Some(match failure {
                Some((error, from)) => Arrival::Failure {
                    from: from.filter(|from| !from.is_unspecified()),
                    why: failure_of(&error),
                    quoted: bytes,
                },
                None if self.headed => Arrival::Packet {
                    bytes: behind_ipv4_header(&bytes).to_vec(),
                    link,
                },
                None => Arrival::Packet { bytes, link },
            }));
        }
        Ok(None)
    }
}

fn open(protocol: Protocol, ipv4: bool) -> Result<(OwnedFd, bool), ProbeError> {
    let family = if ipv4 {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let number = match (protocol, ipv4) {
        (Protocol::Icmp, true) => SockProtocol::Icmp,
        (Protocol::Icmp, false) => SockProtocol::IcmpV6,
        (Protocol::Tcp, _) => SockProtocol::Tcp,
        (Protocol::Udp, _) => SockProtocol::Udp,
    };
    let kinds: &[SockType] = match protocol {
        Protocol::Icmp => &[SockType::Raw, SockType::Datagram],
        Protocol::Tcp => &[SockType::Raw],
        Protocol::Udp => &[SockType::Datagram],
    };
    for &kind in kinds {
        match socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, number) {
            Ok(socket) => return Ok((socket, kind == SockType::Raw)),
            Err(Errno::EPERM | Errno::EACCES) => {}
            Err(errno) => return Err(socket_error("open a socket for", protocol, errno)),
        }
    }
    Err(ProbeError::NotPermitted(protocol.name()))
}

fn set_up(socket: &OwnedFd, peer: IpAddr, options: &Options) -> Result<(), Errno> {
    if let Some(mark) = options.mark {
        socket::setsockopt(socket, sockopt::Mark, &mark)?;
    }
    let ipv4 = peer.is_ipv4();
    if ipv4 {
        socket::setsockopt(socket, sockopt::Ipv4RecvErr, &true)?;
        socket::setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
    } else {
        socket::setsockopt(socket, sockopt::Ipv6RecvErr, &true)?;
        socket::setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    }
    if options.whole {
        discover_mtu_by_probing(socket, ipv4)?;
        if !ipv4 {
            socket::setsockopt(socket, sockopt::Ipv6DontFrag, &true)?;
        }
    }
    Ok(())
}

/// Packets with DF that are not held back by what the kernel has learnt of the way (`IP_PMTUDISC_PROBE`, ip(7)).
fn discover_mtu_by_probing(socket: &OwnedFd, ipv4: bool) -> Result<(), Errno> {
    let (level, name, value) = if ipv4 {
        (
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_PROBE,
        )
    } else {
        (
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_PROBE,
        )
    };
    let length = libc::socklen_t::try_from(size_of_val(&value)).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the kernel reads `length` bytes behind the pointer, which are those of `value`, alive until after the call; the
    // descriptor is open for as long as `socket` is borrowed.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            length,
        )
    };
    Errno::result(answer).map(|_| ())
}

fn local_address(socket: &OwnedFd) -> Result<SocketAddr, Errno> {
    let name: SockaddrStorage = socket::getsockname(socket.as_raw_fd())?;
    let ipv4 = name
        .as_sockaddr_in()
        .map(|name| SocketAddr::V4((*name).into()));
    let ipv6 = || {
        name.as_sockaddr_in6()
            .map(|name| SocketAddr::V6((*name).into()))
    };
    ipv4.or_else(ipv6).ok_or(Errno::EAFNOSUPPORT)
}

fn storage(address: IpAddr, port: u16) -> SockaddrStorage {
    SocketAddr::new(address, port).into()
}

fn no_way(peer: IpAddr, errno: Errno) -> ProbeError {
    ProbeError::NoWay {
        peer,
        reason: errno.into(),
    }
}

fn socket_error(action: &'static str, protocol: Protocol, errno: Errno) -> ProbeError {
    match errno {
        Errno::EPERM | Errno::EACCES => ProbeError::NotPermitted(protocol.name()),
        _ => ProbeError::Socket {
            action,
            what: protocol.name(),
            reason: errno.into(),
        },
    }
}

/// What the kernel reports both in the error queue and as the socket's state.
const fn is_told_twice(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EINTR
            | Errno::ECONNREFUSED
            | Errno::EHOSTUNREACH
            | Errno::ENETUNREACH
            | Errno::EMSGSIZE
            | Errno::EACCES
            | Errno::ENOPROTOOPT
            | Errno::EPROTO
            | Errno::EOPNOTSUPP
            | Errno::EHOSTDOWN
    )
}

/// Types and codes of RFC 792, RFC 1812 and RFC 4443.
fn failure_of(error: &libc::sock_extended_err) -> Failure {
    match (error.ee_origin, error.ee_type, error.ee_code) {
        (libc::SO_EE_ORIGIN_ICMP, 3, 4) | (libc::SO_EE_ORIGIN_ICMP6, 2, _) => {
            Failure::TooBig(error.ee_info)
        }
        (libc::SO_EE_ORIGIN_LOCAL, _, _) if error.ee_errno == Errno::EMSGSIZE as u32 => {
            Failure::TooBig(error.ee_info)
        }
        (libc::SO_EE_ORIGIN_ICMP, 3, 3) | (libc::SO_EE_ORIGIN_ICMP6, 1, 4) => {
            Failure::PortUnreachable
        }
        (libc::SO_EE_ORIGIN_ICMP, 3, 9 | 10 | 13) | (libc::SO_EE_ORIGIN_ICMP6, 1, 1 | 5 | 6) => {
            Failure::Prohibited
        }
        (libc::SO_EE_ORIGIN_ICMP, 3, 0 | 1 | 5 | 6 | 7 | 8 | 11 | 12)
        | (libc::SO_EE_ORIGIN_ICMP6, 1, 0 | 2 | 3)
        | (libc::SO_EE_ORIGIN_LOCAL, _, _) => Failure::Unreachable,
        (_, kind, code) => Failure::Other(kind, code),
    }
}

/// What follows the header, by the length that the header says (RFC 791); nothing where it cannot be.
fn behind_ipv4_header(packet: &[u8]) -> &[u8] {
    let words = packet.first().map_or(0, |first| usize::from(first & 0x0f));
    packet.get(words * 4..).unwrap_or(&[])
}

/// No packet is longer.
const LONGEST: usize = 0x1_0000;

/// How often a call is made again that told of something else.
const ATTEMPTS: usize = 8;

#[cfg(test)]
mod tests;
