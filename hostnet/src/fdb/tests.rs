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
fn an_entry_of_a_bridge_is_none_of_ours() {
    const AF_BRIDGE: u8 = 7;
    const NTF_MASTER: u8 = 4;
    let mut writer = Writer::new();
    writer.raw(&[AF_BRIDGE, 0, 0, 0, 7, 0, 0, 0, 0x80, 0, NTF_MASTER, 0]);
    writer.put(1, &[192, 0, 2, 1]);
    writer.put(2, &[2, 0, 0, 0, 0, 1]);
    assert_eq!(FdbEntry::decode(writer.bytes()), None);
}
