//! What the doctor hears from other hosts and reads of other programs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use flanneld::doctor::foreign;
use flanneld::http::date;
use flanneld::probe::packet::{self, ECHO_HEADER, End};
use flanneld::status::report::Report;

pub(super) const FOREIGN: &[&str] = &[
    "{\"plugins\":[{\"type\":\"flannel\"}]}",
    "\"type\":",
    "\"plugins\":",
    "CNI flannel plugin v",
    " (Loden)",
    "ADMIN_STATE=configured\n",
    "managed=true\n",
    "HTTP/1.1 200 OK\r\n",
    "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
    "\r\n\r\n",
    "{\"apiVersion\":\"loden.status/v1\"",
    "\"leftOut\":[{\"code\":\"claimsPeers\"}]",
];

/// Conflists, banners, files of link managers, the head of an HTTP answer, and the report of a daemon of another version.
pub(super) fn foreign(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some(types) = foreign::plugin_types(bytes) {
        assert!(!types.is_empty(), "a conflist without plugins");
        let length: usize = types.iter().map(String::len).sum();
        // A letter is written with six at most (`\u0041`), never with less than its own length.
        assert!(length <= bytes.len(), "{types:?}");
    }
    if let Some(version) = foreign::version_in(&text) {
        assert!(
            text.contains(&version) && !version.contains('\n'),
            "{version:?}"
        );
    }
    let managed = [
        foreign::networkd_manages(&text),
        foreign::network_manager_manages(&text),
    ];
    assert!(managed.iter().all(|managed| !managed) || text.contains('='));
    if let Some(said) = date::of_head(bytes) {
        // Only what stands there as a date is one.
        assert!(text.to_ascii_lowercase().contains("date:"), "{said:?}");
    }
    let _ = date::parse(&text);
    if let Ok(report) = serde_json::from_slice::<Report>(bytes) {
        let written = serde_json::to_vec(&report).expect("a report is JSON");
        let read: Report = serde_json::from_slice(&written).expect("its own JSON");
        assert_eq!(read, report);
        for peer in &report.peers {
            assert!(
                peer.subnets.iter().all(|subnet| !peer.leaves_out(subnet))
                    || peer.kernel == flanneld::status::report::PeerInKernel::LeftOut
            );
        }
    }
}

pub(super) const PACKETS: &[&str] = &["\0\0\0\0", "\x08\0", "\0\x09", "\x50\x12", "\x50\x14"];

/// What answers a probe, whoever sent it: only what carries our payload is a reply, and only what names our segment answers it.
pub(super) fn packets(bytes: &[u8]) {
    for ipv4 in [true, false] {
        if let Some(echo) = packet::echo_reply(ipv4, bytes) {
            assert_eq!(echo.length, bytes.len());
            // The request to which it is the answer, byte for byte.
            let size = packet::ip_header(ipv4) + bytes.len();
            let request = packet::echo_request(ipv4, echo.identifier, echo.sequence, size);
            assert_eq!(request.get(ECHO_HEADER..), bytes.get(ECHO_HEADER..));
            assert_eq!(packet::quoted_echo(ipv4, &request), Some(echo));
        }
        if let Some(echo) = packet::quoted_echo(ipv4, bytes) {
            assert!(echo.length >= ECHO_HEADER && echo.length == bytes.len());
            assert_eq!(
                packet::echo_reply(ipv4, bytes),
                None,
                "a question is no answer"
            );
        }
    }
    let number = |place: usize| bytes.get(place).copied().unwrap_or_default();
    let ends = |address: IpAddr| End {
        address,
        port: u16::from_be_bytes([number(0), number(1)]),
    };
    for (from, to) in [
        (
            ends(Ipv4Addr::new(10, 244, 1, number(2)).into()),
            ends(Ipv4Addr::new(10, 244, 2, number(3)).into()),
        ),
        (
            ends(Ipv6Addr::LOCALHOST.into()),
            ends(Ipv6Addr::from([number(4); 16]).into()),
        ),
    ] {
        let sequence = u32::from_be_bytes([number(5), number(6), number(7), number(8)]);
        let segment = packet::syn(from, to, sequence);
        assert!(
            !packet::answers_syn(&segment, from, to, sequence),
            "it answers itself"
        );
        if packet::answers_syn(bytes, from, to, sequence) {
            assert!(bytes.len() >= 14, "{bytes:?}");
            let acknowledged = sequence.wrapping_add(1).to_be_bytes();
            assert_eq!(bytes.get(8..12), Some(acknowledged.as_slice()));
        }
    }
}
