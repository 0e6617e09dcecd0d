//! The flows of UDP that connection tracking knows, and their removal.
//!
//! A flow keeps the translation that its first packet met for as long as packets come, whatever the rules say by now. TCP ends by
//! itself when the other side is gone; UDP has to be told.

use std::net::{IpAddr, SocketAddr};

use nix::libc;

use crate::{
    AddressFamily,
    attr::{Attribute, Attributes, Writer},
    error::{Error, KernelError, NLMSG_DONE, NLMSG_ERROR},
    socket::{Family, Socket},
};

/// A flow of UDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpFlow {
    /// Who sent the first packet.
    pub source: SocketAddr,
    /// Where to, before any translation.
    pub destination: SocketAddr,
    /// Who answers: where the packets really go.
    pub answerer: SocketAddr,
    /// What the kernel finds it by: attributes as it gave them.
    key: Vec<(u16, Vec<u8>)>,
}

/// Connection tracking of the network namespace it was opened in.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
}

impl Conntrack {
    /// Opens a connection into the calling thread's network namespace.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open() -> Result<Self, Error> {
        let socket = Socket::open(Family::Netfilter)?;
        Ok(Self { socket })
    }

    /// The flows of UDP of a family.
    ///
    /// # Errors
    /// [`Error::Refused`], as by a kernel without `nf_conntrack_netlink`; [`Error::Interrupted`] when the list was never complete;
    /// those of the socket.
    pub fn udp_flows(&mut self, family: AddressFamily) -> Result<Vec<UdpFlow>, Error> {
        for _ in 0..ATTEMPTS {
            match self.list(family) {
                Err(Error::Overrun | Error::Truncated { .. }) => self.socket.drain(),
                outcome => return outcome,
            }
        }
        Err(Error::Interrupted {
            what: "flows",
            attempts: ATTEMPTS,
        })
    }

    /// Forgets a flow; one that is gone is no error.
    ///
    /// # Errors
    /// [`Error::Refused`] and those of the socket.
    pub fn delete(&mut self, flow: &UdpFlow) -> Result<(), Error> {
        let family = AddressFamily::of(flow.destination.ip());
        let sequence = self.request(CT_DELETE, libc::NLM_F_ACK, family, |body| {
            for (kind, payload) in &flow.key {
                body.put(*kind, payload);
            }
        })?;
        loop {
            for message in self.socket.receive()? {
                if message.sequence != sequence || message.kind != NLMSG_ERROR {
                    continue;
                }
                return match KernelError::from_message(&message) {
                    Err(error) if !error.is_not_found() => Err(Error::Refused {
                        what: format!("cannot forget the flow to {}", flow.destination),
                        error,
                    }),
                    _ => Ok(()),
                };
            }
        }
    }

    fn list(&mut self, family: AddressFamily) -> Result<Vec<UdpFlow>, Error> {
        let sequence = self.request(CT_GET, libc::NLM_F_DUMP, family, |_| {})?;
        let mut flows = Vec::new();
        loop {
            for message in self.socket.receive()? {
                if message.sequence != sequence {
                    continue;
                }
                if matches!(message.kind, NLMSG_DONE | NLMSG_ERROR) {
                    KernelError::from_message(&message).map_err(|error| Error::Refused {
                        what: format!("cannot list the flows of {family}"),
                        error,
                    })?;
                    return Ok(flows);
                }
                flows.extend(decode(message.payload));
            }
        }
    }

    fn request(
        &mut self,
        kind: u16,
        flags: i32,
        family: AddressFamily,
        body: impl FnOnce(&mut Writer),
    ) -> Result<u32, Error> {
        let sequence = self.socket.sequence(1);
        let mut writer = Writer::new();
        let [flags, family] = [libc::NLM_F_REQUEST | flags, family_number(family)];
        writer.message(
            NFNL_SUBSYS_CTNETLINK | kind,
            u16::try_from(flags).unwrap_or_default(),
            sequence,
            // `struct nfgenmsg`
            &[u8::try_from(family).unwrap_or_default(), 0, 0, 0],
            body,
        );
        self.socket.send(writer.bytes())?;
        Ok(sequence)
    }
}

/// The flow that a message tells of, if it is one of UDP.
pub(crate) fn decode(payload: &[u8]) -> Option<UdpFlow> {
    let (mut original, mut reply, mut key) = (None, None, Vec::new());
    for attribute in Attributes::new(payload.get(4..)?) {
        let payload = || attribute.payload.to_vec();
        match attribute.kind {
            CTA_TUPLE_ORIG => {
                original = tuple(attribute);
                key.push((CTA_TUPLE_ORIG | NLA_F_NESTED, payload()));
            }
            CTA_TUPLE_REPLY => reply = tuple(attribute),
            kind @ (CTA_ID | CTA_ZONE) => key.push((kind, payload())),
            _ => {}
        }
    }
    let ((source, destination), (answerer, _)) = (original?, reply?);
    Some(UdpFlow {
        source,
        destination,
        answerer,
        key,
    })
}

/// Source and destination, of UDP only.
fn tuple(attribute: Attribute<'_>) -> Option<(SocketAddr, SocketAddr)> {
    let (mut source, mut destination): (Option<IpAddr>, Option<IpAddr>) = (None, None);
    let (mut protocol, mut from, mut to) = (None, None, None);
    for part in attribute.nested() {
        for inner in part.nested() {
            match (part.kind, inner.kind) {
                (CTA_TUPLE_IP, CTA_IP_V4_SRC | CTA_IP_V6_SRC) => source = inner.ip(),
                (CTA_TUPLE_IP, CTA_IP_V4_DST | CTA_IP_V6_DST) => destination = inner.ip(),
                (CTA_TUPLE_PROTO, CTA_PROTO_NUM) => protocol = inner.u8(),
                (CTA_TUPLE_PROTO, CTA_PROTO_SRC_PORT) => from = inner.be_u16(),
                (CTA_TUPLE_PROTO, CTA_PROTO_DST_PORT) => to = inner.be_u16(),
                _ => {}
            }
        }
    }
    let is_udp = protocol.map(i32::from) == Some(libc::IPPROTO_UDP);
    is_udp.then_some(())?;
    let source = SocketAddr::new(source?, from?);
    Some((source, SocketAddr::new(destination?, to?)))
}

const fn family_number(family: AddressFamily) -> i32 {
    match family {
        AddressFamily::Ipv4 => libc::AF_INET,
        AddressFamily::Ipv6 => libc::AF_INET6,
    }
}

/// How often the list is asked for when more comes than the socket can hold.
const ATTEMPTS: usize = 5;
// linux/netlink.h
const NLA_F_NESTED: u16 = 0x8000;
// linux/netfilter/nfnetlink.h, linux/netfilter/nfnetlink_conntrack.h
const NFNL_SUBSYS_CTNETLINK: u16 = 1 << 8;
const CT_GET: u16 = 1;
const CT_DELETE: u16 = 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

#[cfg(test)]
mod tests;
