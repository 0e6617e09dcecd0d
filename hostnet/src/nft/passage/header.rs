//! What expressions find in a packet of which only some is known.

use std::net::IpAddr;

use nix::libc;

use super::Packet;
use crate::link::LinkIndex;

pub(super) fn payload(base: u32, offset: u32, length: u32, packet: &Packet) -> Option<Vec<u8>> {
    let header: Vec<Option<u8>> = match base.cast_signed() {
        libc::NFT_PAYLOAD_NETWORK_HEADER => network_header(packet),
        libc::NFT_PAYLOAD_TRANSPORT_HEADER => {
            let [high, low] = packet.port?.to_be_bytes();
            vec![None, None, Some(high), Some(low)]
        }
        _ => return None,
    };
    let offset = usize::try_from(offset).ok()?;
    let end = offset.checked_add(usize::try_from(length).ok()?)?;
    header.get(offset..end)?.iter().copied().collect()
}

/// The parts of it that are known: protocol and addresses (RFC 791, RFC 8200).
fn network_header(packet: &Packet) -> Vec<Option<u8>> {
    let octets = |address| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let (protocol, addresses) = if packet.source.is_ipv4() {
        (9, 12)
    } else {
        (6, 8)
    };
    let mut header = vec![None; addresses];
    header.extend(octets(packet.source).into_iter().map(Some));
    header.extend(octets(packet.destination).into_iter().map(Some));
    if let Some(place) = header.get_mut(protocol) {
        *place = Some(packet.protocol);
    }
    header
}

pub(super) fn meta(key: u32, packet: &Packet) -> Option<Vec<u8>> {
    let index = |link: &Option<(LinkIndex, String)>| {
        let (LinkIndex(index), _) = link.as_ref()?;
        Some(index.to_ne_bytes().to_vec())
    };
    let name = |link: &Option<(LinkIndex, String)>| {
        let (_, name) = link.as_ref()?;
        let mut bytes = name.as_bytes().to_vec();
        bytes.resize(libc::IFNAMSIZ, 0);
        Some(bytes)
    };
    match key.cast_signed() {
        libc::NFT_META_IIF => index(&packet.input),
        libc::NFT_META_OIF => index(&packet.output),
        libc::NFT_META_IIFNAME => name(&packet.input),
        libc::NFT_META_OIFNAME => name(&packet.output),
        libc::NFT_META_L4PROTO => Some(vec![packet.protocol]),
        libc::NFT_META_NFPROTO => {
            let protocol = if packet.source.is_ipv4() {
                libc::NFPROTO_IPV4
            } else {
                libc::NFPROTO_IPV6
            };
            u8::try_from(protocol).ok().map(|protocol| vec![protocol])
        }
        _ => None,
    }
}
