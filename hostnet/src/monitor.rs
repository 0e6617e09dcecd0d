//! Notifications of the kernel: they tell where to look again, never what is there.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use crate::{
    address::Address,
    attr::Attributes,
    error::Error,
    fdb::FdbEntry,
    link::{Link, LinkIndex},
    neighbour::{Entry, Neighbour},
    route::Route,
    socket::{Datagram, Family, Message, Socket},
};

/// What kind of changes to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// IPv4 addresses.
    Ipv4Addresses,
    /// IPv4 routes.
    Ipv4Routes,
    /// IPv6 addresses.
    Ipv6Addresses,
    /// IPv6 routes.
    Ipv6Routes,
    /// Links made, altered and taken away.
    Links,
    /// Neighbours of both families, and FDB entries.
    Neighbours,
    /// The IPv4 settings of links that the kernel tells of (forwarding is among them, most others are not).
    Ipv4Settings,
    /// The same of IPv6.
    Ipv6Settings,
}

impl Group {
    /// `enum rtnetlink_groups`, linux/rtnetlink.h.
    const fn number(self) -> u32 {
        match self {
            Self::Links => 1,
            Self::Neighbours => 3,
            Self::Ipv4Addresses => 5,
            Self::Ipv4Routes => 7,
            Self::Ipv6Addresses => 9,
            Self::Ipv6Routes => 11,
            Self::Ipv4Settings => 24,
            Self::Ipv6Settings => 25,
        }
    }
}

/// Why a [`Monitor`] woke up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wake {
    /// These things changed, in this order; never empty.
    Changed(Vec<Notice>),
    /// More happened than the receive buffer held. What is lost is not known: look at everything.
    Overrun,
    /// Nothing happened in the time given.
    TimedOut,
}

/// One thing that changed, and how it was right then. By now that may be old: good for seeing that a change is the one that was
/// wanted, not for knowing what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// An address of a link.
    Address {
        /// The link.
        link: LinkIndex,
        /// Whether it was taken away.
        removed: bool,
    },
    /// Something in the nf_tables ruleset.
    Firewall {
        /// The table it is in, of whatever family.
        table: String,
        /// The chain, if it is one or is in one.
        chain: Option<String>,
    },
    /// A link.
    Link {
        /// Its number.
        index: LinkIndex,
        /// Its name.
        name: String,
        /// Whether it was taken away (or moved to another namespace).
        removed: bool,
    },
    /// An FDB entry of a VXLAN device, or what a bridge learned about a port of its.
    Fdb {
        /// The link.
        link: LinkIndex,
        /// The entry; nothing if it is none of a VXLAN device.
        entry: Option<FdbEntry>,
        /// Whether it was taken away.
        removed: bool,
    },
    /// A neighbour.
    Neighbour {
        /// The neighbour.
        neighbour: Neighbour,
        /// Whether it was taken away.
        removed: bool,
    },
    /// A route.
    Route {
        /// The route.
        route: Route,
        /// Whether it was taken away.
        removed: bool,
    },
    /// A setting of a link, or of all.
    Setting,
}

/// A subscription to notifications, in the network namespace its thread was in when it was opened.
///
/// It can be polled: readable means that [`Self::wait`] will not wait.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    decode: fn(&Message<'_>) -> Option<Notice>,
}

impl Monitor {
    /// Subscribes to groups.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open(groups: &[Group]) -> Result<Self, Error> {
        let numbers = groups.iter().map(|group| group.number());
        Self::subscribe(Family::Route, numbers, decode_route)
    }

    /// Subscribes to changes of the nf_tables ruleset, by whomever.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open_firewall() -> Result<Self, Error> {
        Self::subscribe(Family::Netfilter, [NFNLGRP_NFTABLES], decode_firewall)
    }

    fn subscribe(
        family: Family,
        groups: impl IntoIterator<Item = u32>,
        decode: fn(&Message<'_>) -> Option<Notice>,
    ) -> Result<Self, Error> {
        let mut socket = Socket::open(family)?;
        socket
            .set_receive_buffer(RECEIVE_BUFFER)
            .and_then(|()| socket.join(groups))
            .map_err(|reason| Error::Open {
                family: family.name(),
                reason,
            })?;
        Ok(Self { socket, decode })
    }

    /// Waits until something changes, and takes in all that has changed by then; forever if there is no timeout.
    ///
    /// # Errors
    /// [`Error::Receive`]. An overrun is no error but [`Wake::Overrun`].
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Wake, Error> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if !self.is_readable_by(deadline)? {
                return Ok(Wake::TimedOut);
            }
            match self.take()? {
                // Something was sent that is none of the things we know.
                Wake::Changed(notices) if notices.is_empty() => {}
                wake => return Ok(wake),
            }
        }
    }

    fn is_readable_by(&self, deadline: Option<Instant>) -> Result<bool, Error> {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let timeout = left.map_or(PollTimeout::NONE, poll_timeout);
            match poll(
                &mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)],
                timeout,
            ) {
                // A longer time than poll(2) can wait for is waited for in parts.
                Ok(0) if left.is_some_and(|left| !left.is_zero()) => {}
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::Receive(io::Error::from(errno))),
            }
        }
    }

    /// Takes what is there, up to a limit, so that a storm of changes cannot hold up the one who has to act on them.
    fn take(&mut self) -> Result<Wake, Error> {
        let mut notices = Vec::new();
        for _ in 0..MAX_DATAGRAMS {
            match self.socket.receive_now() {
                Ok(Some(datagram)) => collect(datagram, self.decode, &mut notices),
                Ok(None) => break,
                Err(Error::Overrun | Error::Truncated { .. }) => {
                    // What is still waiting is older than what will now be looked at.
                    self.socket.drain();
                    return Ok(Wake::Overrun);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Wake::Changed(notices))
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn collect(
    datagram: Datagram<'_>,
    decode: fn(&Message<'_>) -> Option<Notice>,
    notices: &mut Vec<Notice>,
) {
    for notice in datagram.filter_map(|message| decode(&message)) {
        // Links especially are announced several times for one change.
        if notices.last() != Some(&notice) {
            notices.push(notice);
        }
    }
}

pub(crate) fn decode_route(message: &Message<'_>) -> Option<Notice> {
    let payload = message.payload;
    // Of each pair of types the odd one says that something was taken away.
    let removed = message.kind & 1 == 1;
    match message.kind {
        RTM_NEWLINK | RTM_DELLINK => {
            let link = Link::decode(payload)?;
            // A port leaves its bridge with an RTM_DELLINK of the bridge's family; the link itself is still there.
            let removed = removed && payload.first() == Some(&AF_UNSPEC);
            Some(Notice::Link {
                index: link.index,
                name: link.name,
                removed,
            })
        }
        RTM_NEWADDR | RTM_DELADDR => {
            let link = Address::decode(payload)?.link;
            Some(Notice::Address { link, removed })
        }
        RTM_NEWROUTE | RTM_DELROUTE => {
            let route = Route::decode(payload)?;
            Some(Notice::Route { route, removed })
        }
        RTM_NEWNEIGH | RTM_DELNEIGH if payload.first() == Some(&AF_BRIDGE) => {
            let link = Entry::decode(payload)?.link;
            let entry = FdbEntry::decode(payload);
            Some(Notice::Fdb {
                link,
                entry,
                removed,
            })
        }
        RTM_NEWNEIGH | RTM_DELNEIGH => {
            let neighbour = Neighbour::decode(payload)?;
            Some(Notice::Neighbour { neighbour, removed })
        }
        RTM_NEWNETCONF => Some(Notice::Setting),
        _ => None,
    }
}

pub(crate) fn decode_firewall(message: &Message<'_>) -> Option<Notice> {
    // The upper byte is the subsystem, the lower the kind of change.
    let [kind, subsystem] = message.kind.to_le_bytes();
    // The number of a new generation comes after what is new in it.
    if subsystem != NFNL_SUBSYS_NFTABLES || kind == NFT_MSG_NEWGEN {
        return None;
    }
    let chain_attribute = match kind {
        NFT_MSG_NEWCHAIN | NFT_MSG_DELCHAIN => Some(NFTA_CHAIN_NAME),
        NFT_MSG_NEWRULE | NFT_MSG_DELRULE => Some(NFTA_RULE_CHAIN),
        _ => None,
    };
    let (mut table, mut chain) = (String::new(), None);
    for attribute in Attributes::new(message.payload.get(NFGENMSG_LENGTH..)?) {
        if attribute.kind == NFTA_TABLE {
            table = attribute.text().into_owned();
        } else if Some(attribute.kind) == chain_attribute {
            chain = Some(attribute.text().into_owned());
        }
    }
    Some(Notice::Firewall { table, chain })
}

fn poll_timeout(left: Duration) -> PollTimeout {
    // Rounded up: waking a little early would mean to ask again and again for the rest of the millisecond.
    let milliseconds = left.as_nanos().div_ceil(1_000_000);
    i32::try_from(milliseconds)
        .ok()
        .and_then(|milliseconds| PollTimeout::try_from(milliseconds).ok())
        .unwrap_or(PollTimeout::MAX)
}

/// Asked for in bytes; the kernel doubles it and caps it at twice `net.core.rmem_max`.
const RECEIVE_BUFFER: i32 = 0x20_0000;
const MAX_DATAGRAMS: usize = 1024;

// linux/socket.h, linux/rtnetlink.h, linux/netfilter/nfnetlink.h
const AF_UNSPEC: u8 = 0;
const AF_BRIDGE: u8 = 7;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_NEWNETCONF: u16 = 80;
const NFNLGRP_NFTABLES: u32 = 7;
const NFNL_SUBSYS_NFTABLES: u8 = 10;
const NFGENMSG_LENGTH: usize = 4;
// linux/netfilter/nf_tables.h; the first attribute of every kind of object names its table.
const NFT_MSG_NEWCHAIN: u8 = 3;
const NFT_MSG_DELCHAIN: u8 = 5;
const NFT_MSG_NEWRULE: u8 = 6;
const NFT_MSG_DELRULE: u8 = 8;
const NFT_MSG_NEWGEN: u8 = 15;
const NFTA_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_RULE_CHAIN: u16 = 2;

#[cfg(test)]
mod tests;
