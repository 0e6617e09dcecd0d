use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn arbitrary_notifications_never_panic(kind in prop_oneof![0u16..120, 2560u16..2600], payload in proptest::collection::vec(any::<u8>(), 0..200)) {
        let message = Message { kind, flags: 0, sequence: 0, payload: &payload };
        let _ = decode_route(&message);
        let _ = decode_firewall(&message);
    }

    #[test]
    fn a_wait_is_never_cut_short(nanoseconds in 0u64..5_000_000_000) {
        let left = Duration::from_nanos(nanoseconds);
        let timeout = poll_timeout(left).as_millis().unwrap();
        prop_assert!(Duration::from_millis(timeout.into()) >= left);
        prop_assert!(Duration::from_millis(timeout.into()) < left + Duration::from_millis(1));
    }
}

#[test]
fn very_long_waits_are_cut_to_what_the_kernel_takes() {
    assert_eq!(poll_timeout(Duration::MAX), PollTimeout::MAX);
}

#[test]
fn a_port_that_leaves_its_bridge_is_not_gone() {
    const AF_BRIDGE: u8 = 7;
    let mut payload = [0; 16];
    payload[4] = 9;
    let notice = |payload: &[u8]| {
        let message = Message {
            kind: RTM_DELLINK,
            flags: 0,
            sequence: 0,
            payload,
        };
        decode_route(&message)
    };
    let expected = |removed| {
        Some(Notice::Link {
            index: LinkIndex(9),
            name: String::new(),
            removed,
        })
    };
    assert_eq!(notice(&payload), expected(true));
    payload[0] = AF_BRIDGE;
    assert_eq!(notice(&payload), expected(false));
}

#[test]
fn nothing_happens_in_no_time() {
    // No group at all, so there is nothing to be told of.
    let mut monitor = Monitor::open(&[]).unwrap();
    assert_eq!(monitor.wait(Some(Duration::ZERO)).unwrap(), Wake::TimedOut);
    assert_eq!(
        monitor.wait(Some(Duration::from_millis(2))).unwrap(),
        Wake::TimedOut
    );
}

#[test]
fn a_notification_of_the_firewall_names_table_and_chain() {
    let notice = |kind: u8, chain_attribute: u16| {
        let mut payload = vec![2, 0, 0, 0];
        for (attribute, text) in [(1_u16, b"nat\0"), (chain_attribute, b"POS\0")] {
            payload.extend(8_u16.to_ne_bytes());
            payload.extend(attribute.to_ne_bytes());
            payload.extend(text);
        }
        let message = Message {
            kind: u16::from_le_bytes([kind, NFNL_SUBSYS_NFTABLES]),
            flags: 0,
            sequence: 0,
            payload: &payload,
        };
        decode_firewall(&message)
    };
    let expected = |chain: Option<&str>| {
        Some(Notice::Firewall {
            table: "nat".to_owned(),
            chain: chain.map(str::to_owned),
        })
    };
    assert_eq!(notice(NFT_MSG_DELRULE, 2), expected(Some("POS")));
    assert_eq!(notice(NFT_MSG_NEWCHAIN, 3), expected(Some("POS")));
    assert_eq!(notice(0, 2), expected(None));
    assert_eq!(notice(NFT_MSG_NEWGEN, 2), None);
}
