//! One blocking netlink socket: bytes out, raw messages in.
//!
//! Shared by routes ([`crate::Netlink`]), notifications ([`crate::Monitor`]) and nf_tables ([`crate::nft`]). It knows the
//! framing of netlink, and nothing of what the messages say. A socket stays in the network namespace it was opened in,
//! whatever its thread does later.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use netlink_sys::{
    SocketAddr,
    protocols::{NETLINK_NETFILTER, NETLINK_ROUTE},
};
use nix::libc;

use crate::{
    attr::{MESSAGE_HEADER_LENGTH, align},
    error::Error,
};

/// The netlink protocol of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// nf_tables (`NETLINK_NETFILTER`).
    Netfilter,
    /// Links, addresses, routes, neighbours (`NETLINK_ROUTE`).
    Route,
}

impl Family {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Netfilter => "netfilter",
            Self::Route => "route",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Socket {
    inner: netlink_sys::Socket,
    next_sequence: u32,
    /// What was received last; its capacity is the room for the next.
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace: close-on-exec, with the kernel's words in its errors.
    ///
    /// It is not bound: the kernel does that at the first send, and a system call less counts in the CNI program.
    pub(crate) fn open(family: Family) -> Result<Self, Error> {
        let open = || -> io::Result<netlink_sys::Socket> {
            let socket = netlink_sys::Socket::new(match family {
                Family::Netfilter => NETLINK_NETFILTER,
                Family::Route => NETLINK_ROUTE,
            })?;
            socket.set_ext_ack(true)?;
            socket.set_cap_ack(true)?;
            if family == Family::Route {
                // Makes the kernel filter dumps by what the request says, and refuse what it would else ignore.
                socket.set_netlink_get_strict_chk(true)?;
            }
            Ok(socket)
        };
        let inner = open().map_err(|reason| Error::Open {
            family: family.name(),
            reason,
        })?;
        Ok(Self {
            inner,
            next_sequence: 1,
            buffer: Vec::new(),
        })
    }

    /// Reserves `count` sequence numbers in a row and returns the first.
    pub(crate) fn sequence(&mut self, count: usize) -> u32 {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        // Start again at 1 instead of wrapping in the middle of a batch; 0 is what notifications carry.
        let first = if self.next_sequence.checked_add(count).is_some() {
            self.next_sequence
        } else {
            1
        };
        self.next_sequence = first.saturating_add(count);
        first
    }

    /// Hands messages to the kernel, all in one datagram. The kernel works on them before this returns.
    pub(crate) fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        loop {
            match self.inner.send(bytes, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Send(error)),
            }
        }
    }

    /// Waits for a datagram of the kernel, with one system call. Datagrams of other processes are dropped.
    ///
    /// # Errors
    /// [`Error::Overrun`] when messages were lost since the last call; [`Error::Truncated`] when this one was longer than the
    /// buffer, which is then enlarged, so that asking again helps; [`Error::Receive`] otherwise.
    pub(crate) fn receive(&mut self) -> Result<Datagram<'_>, Error> {
        self.receive_with(0)
    }

    /// As [`Self::receive`], but `None` instead of waiting.
    pub(crate) fn receive_now(&mut self) -> Result<Option<Datagram<'_>>, Error> {
        match self.receive_with(libc::MSG_DONTWAIT) {
            Ok(datagram) => Ok(Some(datagram)),
            Err(Error::Receive(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn receive_with(&mut self, flags: libc::c_int) -> Result<Datagram<'_>, Error> {
        // Room, and not zeros: the memory that no datagram reaches is never touched, which would cost the CNI program a page fault
        // for every 4 KiB.
        if self.buffer.capacity() == 0 {
            self.buffer.reserve(BUFFER_LENGTH);
        }
        let room = self.buffer.capacity();
        let length = loop {
            self.buffer.clear();
            // MSG_TRUNC makes the kernel report the length the datagram has, not what fitted.
            match self
                .inner
                .recv_from(&mut self.buffer, flags | libc::MSG_TRUNC)
            {
                Ok((length, sender)) if sender.port_number() == 0 => break length,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Err(Error::Overrun);
                }
                Err(error) => return Err(Error::Receive(error)),
            }
        };
        if length > room {
            self.buffer.clear();
            self.buffer.reserve(length.next_power_of_two());
            return Err(Error::Truncated {
                length,
                buffer: room,
            });
        }
        Ok(Datagram {
            bytes: &self.buffer,
        })
    }

    /// Throws away what is waiting to be read, so that answers to an abandoned request cannot be taken for the next one's.
    pub(crate) fn drain(&mut self) {
        while !matches!(self.receive_now(), Ok(None) | Err(Error::Receive(_))) {}
    }

    /// Subscribes to multicast groups (`RTNLGRP_*`, `NFNLGRP_*`).
    pub(crate) fn join(&mut self, groups: impl IntoIterator<Item = u32>) -> io::Result<()> {
        // A socket without a number of its own is taken for the kernel, to which the kernel tells nothing.
        self.inner.bind(&SocketAddr::new(0, 0))?;
        groups
            .into_iter()
            .try_for_each(|group| self.inner.add_membership(group))
    }

    /// Asks for a receive buffer of this many bytes (the kernel doubles it and caps it at `net.core.rmem_max`).
    pub(crate) fn set_receive_buffer(&self, bytes: i32) -> io::Result<()> {
        self.inner.set_rx_buf_sz(bytes)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

/// The messages of one datagram, in order. Ends at the first whose length is impossible.
#[derive(Clone, Debug)]
pub(crate) struct Datagram<'a> {
    bytes: &'a [u8],
}

#[cfg(any(test, feature = "fuzzing"))]
impl<'a> Datagram<'a> {
    /// Bytes that did not come from a socket.
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }
}

impl<'a> Iterator for Datagram<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let bytes = self.bytes;
        let header = bytes.first_chunk::<MESSAGE_HEADER_LENGTH>()?;
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        let Some(payload) = bytes.get(MESSAGE_HEADER_LENGTH..length) else {
            self.bytes = &[];
            return None;
        };
        self.bytes = bytes.get(align(length)..).unwrap_or(&[]);
        Some(Message {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            payload,
        })
    }
}

/// One message as it came: the fields of `struct nlmsghdr` that matter, and everything behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
}

/// The kernel fills dumps into datagrams of at most 32 KiB; a single message (a link with many sub-objects) may be longer.
const BUFFER_LENGTH: usize = 0x1_0000;

#[cfg(test)]
mod tests;
