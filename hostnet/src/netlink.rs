//! The blocking connection to the kernel's links, addresses, routes and neighbours: what is there. How changes are made
//! is in [`apply`].

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::AddressMessage,
    link::{LinkAttribute, LinkExtentMask, LinkMessage},
    neighbour::{NeighbourAttribute, NeighbourMessage},
};
use nix::errno::Errno;

use crate::{
    address::{Address, AddressFamily},
    error::{Error, KernelError, NLMSG_DONE, NLMSG_ERROR},
    fdb::FdbEntry,
    link::{Link, LinkIndex, change::LinkName},
    neighbour::Neighbour,
    route::{
        NoWay, Route,
        request::{self, RouteFilter},
    },
    socket::{Family, Socket},
};

mod apply;
mod traffic;

pub use self::traffic::Traffic;

/// A connection to the network namespace in which its thread was when it was opened.
///
/// Calls block until the kernel has done the work: some microseconds for most things, some milliseconds where the kernel
/// waits for others (deleting links).
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    traffic: Traffic,
}

impl Netlink {
    /// Opens a connection into the calling thread's network namespace.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open() -> Result<Self, Error> {
        Socket::open(Family::Route).map(|socket| Self {
            socket,
            traffic: Traffic::default(),
        })
    }

    /// All links.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Interrupted`] and those of the socket; so in all lists.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        let mut message = LinkMessage::default();
        message.attributes.push(without_statistics());
        self.dump("links", RouteNetlinkMessage::GetLink(message), Link::decode)
    }

    /// The link with this name, asked for alone; none if it is not there.
    ///
    /// # Errors
    /// [`Error::Refused`] and those of the socket.
    pub fn link_by_name(&mut self, name: &str) -> Result<Option<Link>, Error> {
        self.find_link(&name.into())
    }

    /// The link with this number, asked for alone; none if it is not there.
    ///
    /// # Errors
    /// [`Error::Refused`] and those of the socket.
    pub fn link(&mut self, index: LinkIndex) -> Result<Option<Link>, Error> {
        self.find_link(&index.into())
    }

    fn find_link(&mut self, link: &LinkName) -> Result<Option<Link>, Error> {
        match self.ask(link_request(link), Link::decode)? {
            Ok(link) => Ok(Some(link)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(Error::Refused {
                what: format!("cannot look at link {link}"),
                error,
            }),
        }
    }

    /// The addresses of one link, or of all; none for a link that is not there.
    ///
    /// # Errors
    /// As [`Self::links`].
    pub fn addresses(&mut self, link: Option<LinkIndex>) -> Result<Vec<Address>, Error> {
        let mut message = AddressMessage::default();
        message.header.index = link.map_or(0, |LinkIndex(index)| index);
        let request = RouteNetlinkMessage::GetAddress(message);
        let mut addresses = self.dump("addresses", request, Address::decode)?;
        addresses.retain(|address| link.is_none_or(|link| address.link == link));
        Ok(addresses)
    }

    /// The routes that a filter asks for; none for a table or link that is not there.
    ///
    /// # Errors
    /// As [`Self::links`].
    pub fn routes(&mut self, filter: &RouteFilter) -> Result<Vec<Route>, Error> {
        let families: &[AddressFamily] = match filter.family {
            Some(AddressFamily::Ipv4) => &[AddressFamily::Ipv4],
            Some(AddressFamily::Ipv6) => &[AddressFamily::Ipv6],
            None => &[AddressFamily::Ipv4, AddressFamily::Ipv6],
        };
        let mut routes = Vec::new();
        for family in families {
            let request = RouteNetlinkMessage::GetRoute(filter.encode(*family));
            let found = self.dump("routes", request, Route::decode)?;
            // A kernel without IPv6 answers the question for IPv6 with all that it has.
            let right = |route: &Route| route.family() == *family && filter.accepts(route);
            routes.extend(found.into_iter().filter(right));
        }
        Ok(routes)
    }

    /// The way a packet of this host to `destination` would go now: link, gateway and source address.
    ///
    /// # Errors
    /// [`Error::Refused`], also where the packet would meet a blackhole or prohibit route, and those of the socket. That
    /// there is no route is no error.
    pub fn route_to(&mut self, destination: IpAddr) -> Result<Option<Route>, Error> {
        let request = RouteNetlinkMessage::GetRoute(request::encode_lookup(destination));
        match self.ask(request, Route::decode)? {
            Ok(route) => Ok(Some(route)),
            Err(error) if is_unreachable(&error) => Ok(None),
            Err(error) => Err(Error::Refused {
                what: format!("cannot look up the route to {destination}"),
                error,
            }),
        }
    }

    /// The way a packet from `source` to `destination` that comes in by `arriving` would go now: what forwarding does with it.
    ///
    /// # Errors
    /// Those of the socket. That the packet would go no further is no error.
    pub fn route_of(
        &mut self,
        source: IpAddr,
        destination: IpAddr,
        arriving: LinkIndex,
    ) -> Result<Result<Route, NoWay>, Error> {
        let request = request::encode_forwarding(source, destination, arriving);
        let found = self.ask(RouteNetlinkMessage::GetRoute(request), Route::decode)?;
        Ok(found.map_err(NoWay::of))
    }

    /// The neighbours on a link, of one family or of both; none for a link that is not there.
    ///
    /// # Errors
    /// As [`Self::links`].
    pub fn neighbours(
        &mut self,
        link: LinkIndex,
        family: Option<AddressFamily>,
    ) -> Result<Vec<Neighbour>, Error> {
        let mut message = NeighbourMessage::default();
        if let Some(family) = family {
            message.header.family = family.to_packet();
        }
        message.attributes.push(NeighbourAttribute::IfIndex(link.0));
        let request = RouteNetlinkMessage::GetNeighbour(message);
        let mut neighbours =
            self.dump_unmarked("neighbours", request, Neighbour::decode, |one, other| {
                // A state changes by itself, and that alone hides nothing.
                (one.link, one.address) == (other.link, other.address)
            })?;
        neighbours.retain(|neighbour| neighbour.link == link);
        Ok(neighbours)
    }

    /// The FDB entries of a VXLAN device that lead to hosts; none for a link that is not there.
    ///
    /// # Errors
    /// As [`Self::links`].
    pub fn fdb(&mut self, link: LinkIndex) -> Result<Vec<FdbEntry>, Error> {
        let mut message = NeighbourMessage::default();
        message.header.family = netlink_packet_route::AddressFamily::Bridge;
        message.header.ifindex = link.0;
        let request = RouteNetlinkMessage::GetNeighbour(message);
        let mut entries =
            self.dump_unmarked("FDB entries", request, FdbEntry::decode, FdbEntry::eq)?;
        entries.retain(|entry| entry.link == link);
        Ok(entries)
    }

    /// Lists objects. A dump during which the kernel's list changed may lack some, so it is made again.
    fn dump<T>(
        &mut self,
        what: &'static str,
        request: RouteNetlinkMessage,
        decode: fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let mut message = NetlinkMessage::from(request);
        self.dump_part_by_part(what, &mut message, decode)
            .map(|(objects, _)| objects)
    }

    /// Lists objects of a kind whose dumps the kernel does not mark when the list changed between two parts: such a dump is
    /// believed when it came in one part or when two in a row agree.
    fn dump_unmarked<T>(
        &mut self,
        what: &'static str,
        request: RouteNetlinkMessage,
        decode: fn(&[u8]) -> Option<T>,
        same_object: fn(&T, &T) -> bool,
    ) -> Result<Vec<T>, Error> {
        let mut message = NetlinkMessage::from(request);
        let mut before: Option<Vec<T>> = None;
        for _ in 0..DUMP_ATTEMPTS {
            let (objects, parts) = self.dump_part_by_part(what, &mut message, decode)?;
            let agrees = |before: Vec<T>| {
                before.len() == objects.len()
                    && before
                        .iter()
                        .zip(&objects)
                        .all(|(one, other)| same_object(one, other))
            };
            if parts <= 1 || before.is_some_and(agrees) {
                return Ok(objects);
            }
            before = Some(objects);
        }
        Err(interrupted(what))
    }

    /// The objects of a dump that the kernel calls consistent, and in how many parts they came.
    fn dump_part_by_part<T>(
        &mut self,
        what: &'static str,
        message: &mut NetlinkMessage<RouteNetlinkMessage>,
        decode: fn(&[u8]) -> Option<T>,
    ) -> Result<(Vec<T>, usize), Error> {
        for _ in 0..DUMP_ATTEMPTS {
            let sequence = self.socket.sequence(1);
            let mut bytes = Vec::new();
            write(&mut bytes, message, NLM_F_DUMP, sequence);
            self.traffic.lists += 1;
            self.socket.send(&bytes)?;
            match self.read_dump(sequence, decode)? {
                Dump::Complete { objects, parts } => return Ok((objects, parts)),
                Dump::Incomplete => {}
                Dump::Refused(error) if error.is_not_found() || is_no_such_family(&error) => {
                    return Ok((Vec::new(), 0));
                }
                Dump::Refused(error) => {
                    let what = format!("cannot list {what}");
                    return Err(Error::Refused { what, error });
                }
            }
        }
        Err(interrupted(what))
    }

    /// Reads a dump to its end, also when it is known to be of no use: what is left unread would block the next one.
    fn read_dump<T>(
        &mut self,
        sequence: u32,
        decode: fn(&[u8]) -> Option<T>,
    ) -> Result<Dump<T>, Error> {
        let mut objects = Vec::new();
        let mut parts = 0;
        let mut complete = true;
        loop {
            let datagram = match self.socket.receive() {
                Ok(datagram) => datagram,
                // The buffer has grown by now, so that the next attempt gets all.
                Err(Error::Truncated { .. } | Error::Overrun) => {
                    complete = false;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let before = objects.len();
            for message in datagram.filter(|message| message.sequence == sequence) {
                complete &= message.flags & NLM_F_DUMP_INTR == 0;
                if !matches!(message.kind, NLMSG_ERROR | NLMSG_DONE) {
                    objects.extend(decode(message.payload));
                    continue;
                }
                parts += usize::from(objects.len() > before);
                return Ok(match KernelError::from_message(&message) {
                    Err(error) => Dump::Refused(error),
                    Ok(()) if complete => Dump::Complete { objects, parts },
                    Ok(()) => Dump::Incomplete,
                });
            }
            parts += usize::from(objects.len() > before);
        }
    }

    /// Asks for one object.
    fn ask<T>(
        &mut self,
        request: RouteNetlinkMessage,
        decode: fn(&[u8]) -> Option<T>,
    ) -> Result<Result<T, KernelError>, Error> {
        let sequence = self.socket.sequence(1);
        let mut bytes = Vec::new();
        write(&mut bytes, &mut NetlinkMessage::from(request), 0, sequence);
        self.traffic.lookups += 1;
        self.socket.send(&bytes)?;
        loop {
            for message in self
                .socket
                .receive()?
                .filter(|message| message.sequence == sequence)
            {
                if message.kind == NLMSG_ERROR {
                    let missing = || KernelError::new(Errno::ENODATA as i32);
                    return Ok(Err(KernelError::from_message(&message)
                        .err()
                        .unwrap_or_else(missing)));
                }
                if let Some(object) = decode(message.payload) {
                    return Ok(Ok(object));
                }
            }
        }
    }
}

enum Dump<T> {
    Complete { objects: Vec<T>, parts: usize },
    Incomplete,
    Refused(KernelError),
}

/// Appends a request to what is to be sent.
pub(crate) fn write(
    bytes: &mut Vec<u8>,
    message: &mut NetlinkMessage<RouteNetlinkMessage>,
    flags: u16,
    sequence: u32,
) {
    message.header.flags = NLM_F_REQUEST | flags;
    message.header.sequence_number = sequence;
    message.finalize();
    let start = bytes.len();
    bytes.resize(start + crate::attr::align(message.buffer_len()), 0);
    if let Some(place) = bytes.get_mut(start..) {
        message.serialize(place);
    }
}

fn link_request(link: &LinkName) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    match link {
        LinkName::Index(LinkIndex(index)) => message.header.index = *index,
        LinkName::Name(name) => message.attributes.push(LinkAttribute::IfName(name.clone())),
    }
    message.attributes.push(without_statistics());
    RouteNetlinkMessage::GetLink(message)
}

/// Halves a link's message; nobody here looks at counters.
fn without_statistics() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

fn interrupted(what: &'static str) -> Error {
    Error::Interrupted {
        what,
        attempts: DUMP_ATTEMPTS,
    }
}

fn is_unreachable(error: &KernelError) -> bool {
    matches!(
        Errno::from_raw(error.errno),
        Errno::EHOSTUNREACH | Errno::ENETUNREACH
    )
}

fn is_no_such_family(error: &KernelError) -> bool {
    matches!(
        Errno::from_raw(error.errno),
        Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP
    )
}

/// How often a dump is made before we say that the list never stands still.
const DUMP_ATTEMPTS: usize = 5;

#[cfg(test)]
mod tests;
