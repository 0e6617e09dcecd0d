//! The packets of probes as bytes: ICMP echoes (RFC 792, RFC 4443) and the first segment of a TCP connection (RFC 9293).

use std::net::IpAddr;

/// An echo's header.
pub const ECHO_HEADER: usize = 8;

/// What is recognised in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Whose question it was.
    pub identifier: u16,
    /// Which of them.
    pub sequence: u16,
    /// The ICMP message, in bytes.
    pub length: usize,
}

/// The length of the header of an IP packet without options.
pub const fn ip_header(ipv4: bool) -> usize {
    if ipv4 { 20 } else { 40 }
}

/// An echo request whose IP packet has `size` bytes, or as few as can be.
///
/// The checksum of ICMPv6 covers addresses, so it is left to the kernel.
pub fn echo_request(ipv4: bool, identifier: u16, sequence: u16, size: usize) -> Vec<u8> {
    let payload = size.saturating_sub(ip_header(ipv4) + ECHO_HEADER);
    let kind = if ipv4 { ECHO_REQUEST } else { ECHO_REQUEST_V6 };
    let mut message = vec![kind, 0, 0, 0];
    message.extend(identifier.to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.extend(pattern(sequence).take(payload));
    if ipv4 {
        let sum = checksum(&[&message]);
        if let Some(place) = message.get_mut(2..4) {
            place.copy_from_slice(&sum.to_be_bytes());
        }
    }
    message
}

/// Reads an echo reply; nothing if it is another message, or its payload is not what a request of ours carried.
pub fn echo_reply(ipv4: bool, message: &[u8]) -> Option<Echo> {
    let kind = if ipv4 { ECHO_REPLY } else { ECHO_REPLY_V6 };
    let echo = echo(kind, message)?;
    let payload = message.get(ECHO_HEADER..)?;
    let ours = payload.iter().copied().zip(pattern(echo.sequence));
    ours.into_iter().all(|(is, was)| is == was).then_some(echo)
}

/// Which request of ours an ICMP error quotes; routers quote at least its header.
pub fn quoted_echo(ipv4: bool, quoted: &[u8]) -> Option<Echo> {
    let kind = if ipv4 { ECHO_REQUEST } else { ECHO_REQUEST_V6 };
    echo(kind, quoted)
}

fn echo(kind: u8, message: &[u8]) -> Option<Echo> {
    let [is, 0, _, _, i0, i1, s0, s1] = *message.first_chunk::<ECHO_HEADER>()? else {
        return None;
    };
    (is == kind).then_some(Echo {
        identifier: u16::from_be_bytes([i0, i1]),
        sequence: u16::from_be_bytes([s0, s1]),
        length: message.len(),
    })
}

/// Not the same in any two places near each other, so that a part taken for another shows.
fn pattern(sequence: u16) -> impl Iterator<Item = u8> {
    let [_, first] = sequence.to_be_bytes();
    (0..=u8::MAX)
        .cycle()
        .map(move |place| place.wrapping_mul(7) ^ first)
}

/// One end of a TCP connection to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

/// The segment that asks for a connection, with its checksum.
pub fn syn(from: End, to: End, sequence: u32) -> Vec<u8> {
    let mut segment = Vec::with_capacity(20);
    segment.extend(from.port.to_be_bytes());
    segment.extend(to.port.to_be_bytes());
    segment.extend(sequence.to_be_bytes());
    segment.extend(0_u32.to_be_bytes());
    // Five words of header; the window is any.
    segment.extend([5 << 4, SYN, 0xff, 0xff, 0, 0, 0, 0]);
    let sum = checksum(&[
        &pseudo_header(from.address, to.address, segment.len()),
        &segment,
    ]);
    if let Some(place) = segment.get_mut(16..18) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
    segment
}

/// Whether a segment answers the one that `from` sent to `to`: it accepts, or it refuses.
pub fn answers_syn(segment: &[u8], from: End, to: End, sequence: u32) -> bool {
    let Some([f0, f1, t0, t1, _, _, _, _, a0, a1, a2, a3, _, flags]) =
        segment.first_chunk::<14>().copied()
    else {
        return false;
    };
    let accepts = flags & (SYN | ACK | RST) == SYN | ACK;
    let refuses = flags & RST != 0;
    u16::from_be_bytes([f0, f1]) == to.port
        && u16::from_be_bytes([t0, t1]) == from.port
        && u32::from_be_bytes([a0, a1, a2, a3]) == sequence.wrapping_add(1)
        && flags & ACK != 0
        && (accepts || refuses)
}

/// What TCP's checksum covers of the IP header (RFC 9293 3.1, RFC 8200 8.1). The family of both ends is that of `from`.
fn pseudo_header(from: IpAddr, to: IpAddr, length: usize) -> Vec<u8> {
    let mut header = Vec::with_capacity(40);
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    for address in [from, to] {
        match address {
            IpAddr::V4(address) => header.extend(address.octets()),
            IpAddr::V6(address) => header.extend(address.octets()),
        }
    }
    // The forms differ in the place of the zeros only, which adds nothing to the sum.
    header.extend(length.to_be_bytes());
    header.extend([0, 0, 0, TCP]);
    header
}

/// The checksum of the Internet (RFC 1071) over these parts, all but the last of which have an even length.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u64;
    for part in parts {
        for pair in part.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            let high = pair.first().copied().unwrap_or(0);
            sum += u64::from(u16::from_be_bytes([high, low]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;

const TCP: u8 = 6;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

#[cfg(test)]
mod tests;
