use proptest::option;
use proptest::prelude::*;

use super::*;

fn any_header() -> impl Strategy<Value = Header> {
    let window = (any::<u32>(), 0..0xffff_u32).prop_map(|(start, more)| Window {
        v4: true,
        start: start.into(),
        end: start.saturating_add(more).into(),
    });
    (
        window,
        any::<[u8; 32]>(),
        any::<[Option<u32>; 3]>(),
        any::<[u32; 3]>(),
    )
        .prop_map(|(window, boot, links, numbers)| {
            let mut boot_id = [0; BOOT_ID_LEN];
            boot_id[..32].copy_from_slice(&boot);
            let [gateway, oldest, newest] =
                links.map(|link| link.map(|index| index % window.len()));
            let [fresh, used, foreign] = numbers;
            Header {
                boot_id,
                window,
                gateway,
                fresh: fresh % (window.len() + 1),
                oldest,
                newest,
                used,
                foreign,
            }
        })
}

fn any_slot() -> impl Strategy<Value = Slot> {
    let link = || option::of(0..u32::MAX);
    prop_oneof![
        Just(Slot::Fresh),
        Just(Slot::Used),
        Just(Slot::Foreign),
        Just(Slot::Gateway),
        (any::<u64>(), link(), link()).prop_map(|(since, older, newer)| Slot::Free(Free {
            since,
            older,
            newer
        })),
    ]
}

#[test]
fn what_was_never_written_is_fresh() {
    assert_eq!(Slot::decode(&[0; SLOT_LEN]), Some(Slot::Fresh));
}

#[test]
fn no_write_crosses_a_page() {
    const { assert!(HEADER_LEN <= 4096) };
    for index in [0, 1, 127, 128, 65_535] {
        assert_eq!(
            slot_offset(index) / 4096,
            (slot_offset(index) + SLOT_LEN as u64 - 1) / 4096
        );
    }
}

proptest! {
    #[test]
    fn header_round_trips(header in any_header()) {
        let mut bytes = header.encode();
        prop_assert_eq!(Header::decode(&bytes), Some((header.clone(), false)));
        bytes[DIRTY] = 1;
        prop_assert_eq!(Header::decode(&bytes), Some((header, true)));
    }

    #[test]
    fn a_damaged_header_is_known_as_such(header in any_header(), place in 0..DIRTY, bit in 0..8_u8) {
        let mut bytes = header.encode();
        bytes[place] ^= 1_u8 << bit;
        prop_assert_eq!(Header::decode(&bytes), None);
        prop_assert_eq!(Header::decode(&header.encode()[..place]), None);
    }

    #[test]
    fn slot_round_trips(slot in any_slot()) {
        prop_assert_eq!(Slot::decode(&slot.encode()), Some(slot));
    }

    #[test]
    fn any_bytes_are_answered(bytes: Vec<u8>, header: [[u8; 13]; 13]) {
        let _ = (Header::decode(&bytes), Slot::decode(&bytes), Header::decode(&header.concat()));
    }
}
