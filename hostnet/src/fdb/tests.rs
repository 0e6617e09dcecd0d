use proptest::prelude::*;

use super::*;
use crate::{
    attr::Writer,
    change::{Change, tests::only_message},
};

proptest! {
    #[test]
    fn an_entry_reads_as_it_was_written(link: u32, mac: [u8; 6], destination: IpAddr, permanent: bool) {
        let entry = FdbEntry {
            link: LinkIndex(link),
            mac: Mac(mac),
            destination,
            permanent,
            detour: false,
        };
        let (_, _, payload) = only_message(&Change::ReplaceFdb(entry.clone()));
        prop_assert_eq!(FdbEntry::decode(&payload), Some(entry));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = FdbEntry::decode(&bytes);
    }
}

#[test]
fn another_port_is_seen_and_the_entry_can_still_be_deleted() {
    const NDA_PORT: u16 = 6;
    let plain = FdbEntry::permanent(LinkIndex(7), Mac([2; 6]), IpAddr::from([192, 0, 2, 1]));
    let (_, _, mut payload) = only_message(&Change::ReplaceFdb(plain.clone()));
    let mut port = Writer::new();
    port.put(NDA_PORT, &1234u16.to_be_bytes());
    payload.extend_from_slice(port.bytes());
    let found = FdbEntry::decode(&payload).unwrap();
    assert_eq!(
        found,
        FdbEntry {
            detour: true,
            ..plain
        }
    );
    let (_, _, deletion) = only_message(&Change::DeleteFdb(found));
    // The header of 12 bytes and the MAC.
    assert_eq!(deletion.len(), 12 + 4 + 8);
}

#[test]
fn an_entry_of_a_bridge_is_none_of_ours() {
    const AF_BRIDGE: u8 = 7;
    const NTF_MASTER: u8 = 4;
    let mut writer = Writer::new();
    writer.raw(&[AF_BRIDGE, 0, 0, 0, 7, 0, 0, 0, 0x80, 0, NTF_MASTER, 0]);
    writer.put(1, &[192, 0, 2, 1]);
    writer.put(2, &[2, 0, 0, 0, 0, 1]);
    assert_eq!(FdbEntry::decode(writer.bytes()), None);
}
