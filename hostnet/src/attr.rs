//! Netlink attributes as bytes: a reader that never gives up on a message, and a writer.
//!
//! The reader takes what it finds and stops quietly where the bytes make no sense, so that one attribute of a newer
//! kernel cannot hide an object from us. What the numbers mean is known to the modules that use it.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Walks the attributes in a slice.
///
/// Ends at the first attribute whose length field is impossible; what came before it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let length = usize::from(u16::from_ne_bytes(*self.0.first_chunk::<2>()?));
        let kind = u16::from_ne_bytes(*self.0.get(2..)?.first_chunk::<2>()?);
        let Some(payload) = self.0.get(ATTRIBUTE_HEADER_LENGTH..length) else {
            self.0 = &[];
            return None;
        };
        // The last attribute may come without its padding.
        self.0 = self.0.get(align(length)..).unwrap_or(&[]);
        Some(Attribute {
            kind: kind & NLA_TYPE_MASK,
            payload,
        })
    }
}

/// One attribute: its type without the flag bits, and its bytes.
///
/// The typed readers take the first bytes of the payload and give `None` when there are too few; a kernel that makes an
/// attribute longer stays readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attribute<'a> {
    pub(crate) kind: u16,
    pub(crate) payload: &'a [u8],
}

impl<'a> Attribute<'a> {
    pub(crate) fn u8(&self) -> Option<u8> {
        self.payload.first().copied()
    }

    pub(crate) fn u32(&self) -> Option<u32> {
        self.payload.first_chunk().copied().map(u32::from_ne_bytes)
    }

    pub(crate) fn i32(&self) -> Option<i32> {
        self.payload.first_chunk().copied().map(i32::from_ne_bytes)
    }

    /// A 16 bit number in network byte order.
    pub(crate) fn be_u16(&self) -> Option<u16> {
        self.payload.first_chunk().copied().map(u16::from_be_bytes)
    }

    /// A 32 bit number in network byte order: all numbers of nf_tables are.
    pub(crate) fn be_u32(&self) -> Option<u32> {
        self.payload.first_chunk().copied().map(u32::from_be_bytes)
    }

    /// An address of either family, told apart by its length.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        match self.payload.len() {
            4 => self
                .payload
                .first_chunk::<4>()
                .map(|octets| Ipv4Addr::from(*octets).into()),
            16 => self
                .payload
                .first_chunk::<16>()
                .map(|octets| Ipv6Addr::from(*octets).into()),
            _ => None,
        }
    }

    /// Text up to the first NUL; bytes that are not UTF-8 are replaced, because names are shown but never lost.
    pub(crate) fn text(&self) -> Cow<'a, str> {
        let end = self
            .payload
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(self.payload.len());
        String::from_utf8_lossy(self.payload.get(..end).unwrap_or_default())
    }

    /// The attributes inside this one.
    pub(crate) const fn nested(&self) -> Attributes<'a> {
        Attributes::new(self.payload)
    }
}

/// Writes messages and their attributes, one behind the other, ready for one send.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds a message: the netlink header, the `header` of the subsystem (padded to four bytes), then what `body` writes.
    pub(crate) fn message(
        &mut self,
        kind: u16,
        flags: u16,
        sequence: u32,
        header: &[u8],
        body: impl FnOnce(&mut Self),
    ) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        // Port 0: the kernel knows the sender's.
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(header);
        self.pad();
        body(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.overwrite(start, &length.to_ne_bytes());
    }

    /// Adds an attribute with these bytes.
    ///
    /// A payload beyond what the 16 bit length field can say (65,531 bytes) is cut there; nothing we write comes near.
    pub(crate) fn put(&mut self, kind: u16, payload: &[u8]) {
        let payload = payload.get(..MAX_PAYLOAD).unwrap_or(payload);
        let length = u16::try_from(ATTRIBUTE_HEADER_LENGTH + payload.len()).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(payload);
        self.pad();
    }

    pub(crate) fn put_be_u32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    pub(crate) fn put_be_u64(&mut self, kind: u16, value: u64) {
        self.put(kind, &value.to_be_bytes());
    }

    /// Adds text with the NUL at its end that the kernel's string attributes want.
    pub(crate) fn put_text(&mut self, kind: u16, text: &str) {
        let mut payload = Vec::with_capacity(text.len() + 1);
        payload.extend_from_slice(text.as_bytes());
        payload.push(0);
        self.put(kind, &payload);
    }

    /// Adds an attribute that holds what `body` writes, marked `NLA_F_NESTED`.
    pub(crate) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.put(kind | NLA_F_NESTED, &[]);
        body(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.overwrite(start, &length.to_ne_bytes());
    }

    /// Adds bytes as they are, padded to four: the fixed structure some attributes and messages begin with.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(align(self.bytes.len()), 0);
    }

    fn overwrite(&mut self, at: usize, with: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + with.len()) {
            place.copy_from_slice(with);
        }
    }
}

/// Rounds a length up to the four bytes that messages and attributes are aligned to.
pub(crate) const fn align(length: usize) -> usize {
    length.saturating_add(3) & !3
}

// linux/netlink.h
pub(crate) const MESSAGE_HEADER_LENGTH: usize = 16;
const ATTRIBUTE_HEADER_LENGTH: usize = 4;
const NLA_F_NESTED: u16 = 0x8000;
/// Without `NLA_F_NESTED` (0x8000) and `NLA_F_NET_BYTEORDER` (0x4000).
const NLA_TYPE_MASK: u16 = 0x3fff;
const MAX_PAYLOAD: usize = 0xffff - ATTRIBUTE_HEADER_LENGTH;

#[cfg(test)]
mod tests;
