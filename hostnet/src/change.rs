//! Changes to be made in the kernel, as values: what they say to a person, and the messages that ask for them.

use std::fmt;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;

use crate::{
    address::Address,
    error::KernelError,
    fdb::FdbEntry,
    link::{
        LinkIndex,
        change::{LinkChange, LinkName, encode_delete},
        new::NewLink,
    },
    neighbour::Neighbour,
    route::Route,
};

/// One change. Its text is an order in the words of `ip`: "replace route 10.244.2.0/24 via 10.244.2.0 dev 7 onlink".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Puts an address on a link; refused (`is_exists`) if it is there.
    AddAddress(Address),
    /// Makes a link; refused (`is_exists`) if the name is taken.
    AddLink(NewLink),
    /// Makes a route; refused (`is_exists`) if there is one to the same destination with the same metric.
    AddRoute(Route),
    /// Takes an address from a link; found by link, address and prefix.
    DeleteAddress(Address),
    /// Takes away an FDB entry; found by link, MAC and destination.
    DeleteFdb(FdbEntry),
    /// Takes away a link and everything on it; a veth takes its other end with it.
    DeleteLink(LinkIndex),
    /// The same, found by name.
    DeleteLinkByName(String),
    /// Takes away a neighbour; found by link and address.
    DeleteNeighbour(Neighbour),
    /// Takes away a route; what the value says must fit, what it leaves open may be anything.
    DeleteRoute(Route),
    /// Puts an address on a link or alters the one that is there.
    ReplaceAddress(Address),
    /// Makes an FDB entry, in place of the one for this MAC if there is one. An entry for *another* MAC that leads to the
    /// same host stays. Not for the all-zero MAC, of which there may be several entries.
    ReplaceFdb(FdbEntry),
    /// Makes a neighbour, in place of the one with this address if there is one.
    ReplaceNeighbour(Neighbour),
    /// Makes a route, in place of the first one to the same destination with the same metric.
    ReplaceRoute(Route),
    /// Alters a link.
    SetLink(LinkChange),
}

impl Change {
    /// The messages that ask for it with their flags, in order. All but the alteration of a link have exactly one.
    pub(crate) fn encode(&self) -> Vec<(RouteNetlinkMessage, u16)> {
        use RouteNetlinkMessage as Message;
        const REPLACE: u16 = NLM_F_CREATE | NLM_F_REPLACE;
        const ADD: u16 = NLM_F_CREATE | NLM_F_EXCL;
        let message = match self {
            Self::AddAddress(address) => (Message::NewAddress(address.encode()), ADD),
            Self::AddLink(link) => (link.encode(), ADD),
            Self::AddRoute(route) => (Message::NewRoute(route.encode()), ADD),
            Self::DeleteAddress(address) => (Message::DelAddress(address.encode()), 0),
            Self::DeleteFdb(entry) => (Message::DelNeighbour(entry.encode_delete()), 0),
            Self::DeleteLink(index) => (encode_delete(&LinkName::Index(*index)), 0),
            Self::DeleteLinkByName(name) => (encode_delete(&LinkName::Name(name.clone())), 0),
            Self::DeleteNeighbour(neighbour) => (Message::DelNeighbour(neighbour.encode()), 0),
            Self::DeleteRoute(route) => (Message::DelRoute(route.encode_delete()), 0),
            Self::ReplaceAddress(address) => (Message::NewAddress(address.encode()), REPLACE),
            Self::ReplaceFdb(entry) => (Message::NewNeighbour(entry.encode()), REPLACE),
            Self::ReplaceNeighbour(neighbour) => {
                (Message::NewNeighbour(neighbour.encode()), REPLACE)
            }
            Self::ReplaceRoute(route) => (Message::NewRoute(route.encode()), REPLACE),
            Self::SetLink(change) => {
                return change
                    .encode()
                    .into_iter()
                    .map(|message| (message, 0))
                    .collect();
            }
        };
        vec![message]
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddAddress(address) => write!(f, "add address {address}"),
            Self::AddLink(link) => write!(f, "add {link}"),
            Self::AddRoute(route) => write!(f, "add route {route}"),
            Self::DeleteAddress(address) => write!(f, "delete address {address}"),
            Self::DeleteFdb(entry) => write!(f, "delete fdb entry {entry}"),
            Self::DeleteLink(index) => write!(f, "delete link {index}"),
            Self::DeleteLinkByName(name) => write!(f, "delete link {name}"),
            Self::DeleteNeighbour(neighbour) => write!(f, "delete neighbour {neighbour}"),
            Self::DeleteRoute(route) => write!(f, "delete route {route}"),
            Self::ReplaceAddress(address) => write!(f, "replace address {address}"),
            Self::ReplaceFdb(entry) => write!(f, "replace fdb entry {entry}"),
            Self::ReplaceNeighbour(neighbour) => write!(f, "replace neighbour {neighbour}"),
            Self::ReplaceRoute(route) => write!(f, "replace route {route}"),
            Self::SetLink(change) => write!(f, "set {change}"),
        }
    }
}

/// A change that the kernel refused, or of which it is not known whether it was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {change}: {error}")]
pub struct Refused {
    /// Which of the changes handed to [`crate::Netlink::apply`], counted from 0.
    pub index: usize,
    /// The text of the change.
    pub change: String,
    /// What the kernel said.
    pub error: KernelError,
}

impl Refused {
    /// Whether the object the change was about is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.error.is_not_found()
    }

    /// Whether there is such an object already.
    #[must_use]
    pub fn is_exists(&self) -> bool {
        self.error.is_exists()
    }
}

/// The changes that were refused; all others were made. Never empty, in the order of the changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusals(pub(crate) Vec<Refused>);

impl std::ops::Deref for Refusals {
    type Target = [Refused];

    fn deref(&self) -> &[Refused] {
        &self.0
    }
}

impl IntoIterator for Refusals {
    type Item = Refused;
    type IntoIter = std::vec::IntoIter<Refused>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Refusals {
    type Item = &'a Refused;
    type IntoIter = std::slice::Iter<'a, Refused>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A node with 5,000 peers has as many routes: the first few tell the cause.
        const SHOWN: usize = 3;
        for (position, refused) in self.0.iter().take(SHOWN).enumerate() {
            if position > 0 {
                f.write_str("; ")?;
            }
            refused.fmt(f)?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl std::error::Error for Refusals {}

#[cfg(test)]
pub(crate) mod tests;
