use super::*;

use std::net::UdpSocket;
use std::time::Duration;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

#[test]
fn a_port_on_which_nobody_listens_is_told_by_the_host_itself() {
    // A port that was free a moment ago.
    let port = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let peer: IpAddr = "127.0.0.1".parse().unwrap();
    let socket = ProbeSocket::connect(Protocol::Udp, peer, port, &Options::default()).unwrap();
    socket.send(b"anybody?").unwrap();
    let arrival = socket.receive(soon()).unwrap();
    assert_eq!(
        arrival,
        Some(Arrival::Failure {
            from: Some(peer),
            why: Failure::PortUnreachable,
            quoted: b"anybody?".to_vec(),
        })
    );
}

#[test]
fn what_a_peer_sends_comes_with_the_link_it_came_by() {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = peer.local_addr().unwrap().port();
    let address: IpAddr = "127.0.0.1".parse().unwrap();
    let socket = ProbeSocket::connect(Protocol::Udp, address, port, &Options::default()).unwrap();
    assert_eq!(socket.local(), address);
    socket.send(b"a").unwrap();
    let mut buffer = [0; 8];
    let (_, from) = peer.recv_from(&mut buffer).unwrap();
    peer.send_to(b"b", from).unwrap();
    let Some(Arrival::Packet { bytes, link }) = socket.receive(soon()).unwrap() else {
        panic!("no packet");
    };
    assert_eq!(
        (bytes.as_slice(), link),
        (b"b".as_slice(), Some(LinkIndex(1)))
    );
}

#[test]
fn silence_ends_with_the_deadline() {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = peer.local_addr().unwrap().port();
    let address: IpAddr = "127.0.0.1".parse().unwrap();
    let socket = ProbeSocket::connect(Protocol::Udp, address, port, &Options::default()).unwrap();
    let started = Instant::now();
    let until = started + Duration::from_millis(50);
    assert_eq!(socket.receive(until).unwrap(), None);
    assert!(Instant::now() >= until);
}

#[test]
fn an_impossible_source_address_is_named_as_no_way() {
    let options = Options {
        source: Some("192.0.2.77".parse().unwrap()),
        ..Options::default()
    };
    let peer = "127.0.0.1".parse().unwrap();
    let error = ProbeSocket::connect(Protocol::Udp, peer, 9, &options).unwrap_err();
    assert!(matches!(error, ProbeError::NoWay { .. }), "{error}");
}

#[test]
fn types_and_codes_of_both_families_are_told_apart() {
    let error = |origin, kind, code| libc::sock_extended_err {
        ee_errno: 0,
        ee_origin: origin,
        ee_type: kind,
        ee_code: code,
        ee_pad: 0,
        ee_info: 1400,
        ee_data: 0,
    };
    let (icmp, icmp6) = (libc::SO_EE_ORIGIN_ICMP, libc::SO_EE_ORIGIN_ICMP6);
    for (origin, kind, code, expected) in [
        (icmp, 3, 4, Failure::TooBig(1400)),
        (icmp6, 2, 0, Failure::TooBig(1400)),
        (icmp, 3, 3, Failure::PortUnreachable),
        (icmp6, 1, 4, Failure::PortUnreachable),
        (icmp, 3, 13, Failure::Prohibited),
        (icmp6, 1, 1, Failure::Prohibited),
        (icmp, 3, 1, Failure::Unreachable),
        (icmp6, 1, 3, Failure::Unreachable),
        (icmp, 11, 0, Failure::Other(11, 0)),
    ] {
        assert_eq!(failure_of(&error(origin, kind, code)), expected);
    }
}

#[test]
fn headers_that_lie_about_their_length_leave_nothing() {
    assert_eq!(behind_ipv4_header(&[]), &[] as &[u8]);
    assert_eq!(behind_ipv4_header(&[0x4f, 1, 2]), &[] as &[u8]);
    let mut packet = vec![0x45; 20];
    packet.extend([1, 2, 3]);
    assert_eq!(behind_ipv4_header(&packet), &[1, 2, 3]);
}
