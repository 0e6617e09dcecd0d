//! Entry points for fuzzing what is private here. The feature `fuzzing` is for `tests/fuzz` only; nothing of it is part of
//! the crate's interface.
//!
//! Each takes whatever bytes, as if the kernel had sent them, and panics if a promise of the decoders is broken.

use std::fmt::{Debug, Display};

use netlink_packet_core::Emitable;

use crate::{
    Address, FdbEntry, KernelError, Link, Neighbour, Route,
    attr::{Attributes, MESSAGE_HEADER_LENGTH},
    monitor,
    neighbour::Entry,
    socket::{Datagram, Message},
};

/// Answers and notifications of rtnetlink: framing, attributes, and every kind of object.
pub fn rtnetlink(bytes: &[u8]) {
    let mut length = 0;
    for message in Datagram::new(bytes) {
        length += MESSAGE_HEADER_LENGTH + message.payload.len();
        let _ = monitor::decode_route(&message);
        let _ = monitor::decode_firewall(&message);
        error(&message);
        objects(message.payload);
    }
    assert!(length <= bytes.len(), "messages overlap");
    attributes(Attributes::new(bytes), bytes.len(), 3);
    objects(bytes);
}

/// Answers of nf_tables.
pub fn nf_tables(bytes: &[u8]) {
    crate::nft::fuzzing::observe(bytes);
}

/// Whatever the type of a message says: a payload that is taken for another object must be no danger either.
fn objects(payload: &[u8]) {
    if let Some(link) = Link::decode(payload) {
        assert!(link.name.len() <= 3 * payload.len());
    }
    let _ = Entry::decode(payload);
    if let Some(address) = Address::decode(payload) {
        shown(&address, payload);
        // No link has the address of a group, and the builder of the request takes one for something else.
        if !address.address.is_multicast() {
            settles(&address, |address| {
                Address::decode(&emitted(&address.encode()))
            });
        }
    }
    if let Some(route) = Route::decode(payload) {
        shown(&route, payload);
        settles(&route, |route| Route::decode(&emitted(&route.encode())));
    }
    if let Some(neighbour) = Neighbour::decode(payload) {
        shown(&neighbour, payload);
        settles(&neighbour, |neighbour| {
            Neighbour::decode(&emitted(&neighbour.encode()))
        });
    }
    if let Some(entry) = FdbEntry::decode(payload) {
        shown(&entry, payload);
        settles(&entry, |entry| FdbEntry::decode(&emitted(&entry.encode())));
    }
}

/// What the kernel tells of an object but is not told is lost when the object is written; nothing is lost after that.
fn settles<T: Debug + PartialEq>(object: &T, written_and_read: impl Fn(&T) -> Option<T>) {
    let once = written_and_read(object);
    assert!(once.is_some(), "{object:?} cannot be read when written");
    let twice = once.as_ref().and_then(written_and_read);
    assert_eq!(twice, once, "{object:?} changes each time it is written");
}

fn error(message: &Message<'_>) {
    if let Err(error) = KernelError::from_message(message) {
        assert!(error.errno > 0, "{error:?} is no error");
        // Its words are text of at most the payload; a byte that is no UTF-8 takes three to replace.
        assert!(error.to_string().len() <= 3 * message.payload.len() + 100);
    }
}

fn attributes(attributes: Attributes<'_>, room: usize, depth: usize) {
    let mut length = 0;
    for attribute in attributes {
        length += attribute.payload.len();
        let _ = (attribute.u8(), attribute.u32(), attribute.i32());
        let _ = (attribute.be_u16(), attribute.be_u32(), attribute.ip());
        assert!(attribute.text().len() <= 3 * attribute.payload.len());
        if depth > 0 {
            self::attributes(attribute.nested(), attribute.payload.len(), depth - 1);
        }
    }
    assert!(length <= room, "attributes overlap");
}

/// What is shown of an object is bounded by what came.
fn shown(object: &(impl Display + Debug), payload: &[u8]) {
    assert!(
        object.to_string().len() <= 3 * payload.len() + 400,
        "{object:?}"
    );
}

fn emitted(message: &impl Emitable) -> Vec<u8> {
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    bytes
}
