use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    attr::Writer,
    nft::{Family, Table, message::transaction, plan, strategies::tables},
    socket::Datagram,
};

/// The messages that make the table. What the kernel lists has the same layout as what it is told.
fn messages(table: &CompiledTable) -> Vec<u8> {
    let changes = plan::replacement([(table, None)]);
    transaction(&changes, 1, None).bytes().to_vec()
}

/// Reads bytes as the kernel's description of a table, whatever they are.
fn read(family: Family, name: &str, bytes: &[u8]) -> Option<CompiledTable> {
    let mut seen = Observation::new(family, name);
    for message in Datagram::new(bytes) {
        match message.kind {
            0xa00 => seen.table(message.payload),
            0xa03 => seen.chain(message.payload),
            0xa06 => seen.rule(message.payload),
            0xa09 => seen.set(message.payload),
            0xa0c => seen.elements(message.payload),
            _ => {}
        }
    }
    seen.finish()
}

fn compile(table: &Table) -> CompiledTable {
    table.compile().expect("such tables compile")
}

proptest! {
    #[test]
    fn a_table_is_read_as_it_was_written(table in tables()) {
        let compiled = compile(&table);
        let observed = read(compiled.family, &compiled.name, &messages(&compiled));
        prop_assert_eq!(compiled.drift(observed.as_ref()), vec![]);
        prop_assert_eq!(observed, Some(compiled));
    }

    #[test]
    fn other_tables_do_not_show(table in tables()) {
        let compiled = compile(&table);
        let bytes = messages(&compiled);
        prop_assert_eq!(read(Family::Ip6, &compiled.name, &bytes), None);
        prop_assert_eq!(read(compiled.family, "another-name", &bytes), None);
        let mut seen = Observation::new(compiled.family, "another-name");
        for message in Datagram::new(&bytes) {
            seen.chain(message.payload);
            seen.rule(message.payload);
        }
        prop_assert!(seen.table.chains.is_empty());
    }

    /// Any byte of what the kernel sends may be another one, or the end.
    #[test]
    fn damaged_messages_are_no_danger(
        table in tables(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        end in any::<prop::sample::Index>(),
    ) {
        let compiled = compile(&table);
        let mut bytes = messages(&compiled);
        for (place, byte) in damage {
            *place.get_mut(&mut bytes) = byte;
        }
        bytes.truncate(end.index(bytes.len()));
        let observed = read(compiled.family, &compiled.name, &bytes);
        // Whatever came out can be compared and printed.
        let _ = compiled.drift(observed.as_ref());
        let _ = observed.map(|table| table.to_string());
    }

    #[test]
    fn no_bytes_make_it_panic(payload in vec(any::<u8>(), 0..200)) {
        let mut seen = Observation::new(Family::Ip, "t");
        // The first byte is the family; mostly it shall be ours.
        let ours: Vec<u8> = [2].iter().chain(&payload).copied().collect();
        for payload in [&payload, &ours] {
            seen.table(payload);
            seen.chain(payload);
            seen.rule(payload);
            seen.set(payload);
            seen.elements(payload);
            let _ = generation(payload);
            let _ = comment_of(payload);
        }
        let _ = seen.finish();
    }
}

#[test]
fn long_sets_come_in_several_messages() {
    let element = |address: u32, end: bool| {
        let mut writer = Writer::new();
        writer.raw(&[2, 0, 0, 0]);
        writer.put_text(NFTA_SET_ELEM_LIST_TABLE, "t");
        writer.put_text(NFTA_SET_ELEM_LIST_SET, "s");
        writer.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
            list.nest(NFTA_LIST_ELEM, |item| {
                item.nest(NFTA_SET_ELEM_KEY, |key| {
                    key.put(NFTA_DATA_VALUE, &address.to_be_bytes());
                });
                item.put_be_u32(NFTA_SET_ELEM_FLAGS, u32::from(end));
            });
        });
        writer.bytes().to_vec()
    };
    let mut set = Writer::new();
    set.raw(&[2, 0, 0, 0]);
    set.put_text(NFTA_SET_TABLE, "t");
    set.put_text(NFTA_SET_NAME, "s");
    set.put_be_u32(NFTA_SET_FLAGS, NFT_SET_INTERVAL);
    set.put_be_u32(NFTA_SET_KEY_LEN, 4);
    let mut seen = Observation::new(Family::Ip, "t");
    seen.found = true;
    seen.set(set.bytes());
    seen.elements(&element(0x0a00_0100, true));
    seen.elements(&element(0x0a00_0000, false));
    let table = seen.finish().expect("it was found");
    let prefix = "10.0.0.0/24".parse().expect("a prefix");
    let expected = Elements::Ranges(Ranges::covering([&prefix]));
    assert_eq!(table.sets["s"].elements, expected);
}

/// An element without a key stands for all addresses, so a set that has one is not as it was.
#[test]
fn a_catch_all_element_covers_everything() {
    let mut writer = Writer::new();
    writer.nest(NFTA_LIST_ELEM, |item| {
        item.put_be_u32(NFTA_SET_ELEM_FLAGS, 2)
    });
    let item = Attributes::new(writer.bytes()).next().expect("an item");
    let mut set = CompiledSet {
        key_type: 7,
        key_length: 4,
        flags: NFT_SET_INTERVAL,
        data: None,
        elements: Elements::Ranges(Ranges::default()),
    };
    set.fill(vec![decode_element(&item)]);
    let everything = "0.0.0.0/0".parse().expect("a prefix");
    assert_eq!(
        set.elements,
        Elements::Ranges(Ranges::covering([&everything]))
    );
}

#[test]
fn comments_are_found_among_other_data() {
    assert_eq!(comment_of(&[0, 3, b'h', b'i', 0]), Some("hi".to_owned()));
    assert_eq!(comment_of(&[7, 1, 9, 0, 2, b'x', 0]), Some("x".to_owned()));
    assert_eq!(comment_of(&[7, 1, 9]), None);
    assert_eq!(comment_of(&[0, 200, b'x']), None);
    assert_eq!(comment_of(&[]), None);
}
