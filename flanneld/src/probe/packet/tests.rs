use super::*;

use proptest::prelude::*;

fn address(ipv4: bool) -> BoxedStrategy<IpAddr> {
    if ipv4 {
        any::<[u8; 4]>().prop_map(IpAddr::from).boxed()
    } else {
        any::<[u8; 16]>().prop_map(IpAddr::from).boxed()
    }
}

fn ends() -> impl Strategy<Value = (End, End)> {
    any::<bool>().prop_flat_map(|ipv4| {
        let end =
            || (address(ipv4), any::<u16>()).prop_map(|(address, port)| End { address, port });
        (end(), end())
    })
}

/// What the peer's kernel makes of a request.
fn replied(ipv4: bool, mut request: Vec<u8>) -> Vec<u8> {
    request[0] = if ipv4 { ECHO_REPLY } else { ECHO_REPLY_V6 };
    request
}

proptest! {
    #[test]
    fn an_echo_comes_back_as_it_went(ipv4: bool, identifier: u16, sequence: u16, size in 0_usize..9_100) {
        let request = echo_request(ipv4, identifier, sequence, size);
        let least = ip_header(ipv4) + ECHO_HEADER;
        prop_assert_eq!(ip_header(ipv4) + request.len(), size.max(least));
        if ipv4 {
            // A packet summed with its own checksum gives nothing.
            prop_assert_eq!(checksum(&[&request]), 0);
        }
        let expected = Echo { identifier, sequence, length: request.len() };
        prop_assert_eq!(quoted_echo(ipv4, &request), Some(expected));
        prop_assert_eq!(echo_reply(ipv4, &request), None, "a request is no reply");
        prop_assert_eq!(echo_reply(ipv4, &replied(ipv4, request)), Some(expected));
    }

    #[test]
    fn a_byte_changed_on_the_way_shows(ipv4: bool, sequence: u16, place in 0_usize..1_000, by in 1_u8..) {
        let mut reply = replied(ipv4, echo_request(ipv4, 1, sequence, 1_400));
        reply[ECHO_HEADER + place] ^= by;
        prop_assert_eq!(echo_reply(ipv4, &reply), None);
    }

    #[test]
    fn whatever_arrives_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), ipv4: bool, (from, to) in ends()) {
        let _ = echo_reply(ipv4, &bytes);
        let _ = quoted_echo(ipv4, &bytes);
        let _ = answers_syn(&bytes, from, to, 1);
    }

    #[test]
    fn a_connection_request_has_a_right_checksum((from, to) in ends(), sequence: u32) {
        let segment = syn(from, to, sequence);
        let sum = checksum(&[&pseudo_header(from.address, to.address, segment.len()), &segment]);
        prop_assert_eq!(sum, 0);
        prop_assert!(!answers_syn(&segment, from, to, sequence), "it does not answer itself");
    }

    #[test]
    fn acceptance_and_refusal_answer_and_nothing_else((from, to) in ends(), sequence: u32, flags: u8, off in 0_u32..3) {
        let mut answer = Vec::new();
        answer.extend(to.port.to_be_bytes());
        answer.extend(from.port.to_be_bytes());
        answer.extend(0_u32.to_be_bytes());
        answer.extend(sequence.wrapping_add(1 + off).to_be_bytes());
        answer.extend([5 << 4, flags, 0, 0, 0, 0, 0, 0]);
        let answers = off == 0 && flags & ACK != 0 && flags & (SYN | RST) != 0;
        prop_assert_eq!(answers_syn(&answer, from, to, sequence), answers);
    }
}

#[test]
fn the_checksum_is_that_of_the_rfc() {
    // RFC 1071, 3: the sum of these is ddf2.
    let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(checksum(&[&bytes]), !0xddf2);
    assert_eq!(checksum(&[&bytes[..4], &bytes[4..]]), !0xddf2);
}
