use proptest::prelude::*;

use super::*;
use crate::{
    attr::Writer,
    change::{Change, tests::only_message},
};

proptest! {
    #[test]
    fn an_address_reads_as_it_was_written(
        link: u32,
        address: IpAddr,
        prefix in 0u8..=32,
        scope: u8,
        [nodad, noprefixroute]: [bool; 2],
    ) {
        prop_assume!(!address.is_multicast());
        let written = Address {
            scope: Scope::from_wire(scope),
            nodad,
            noprefixroute,
            ..Address::new(LinkIndex(link), address, prefix)
        };
        let (_, _, payload) = only_message(&Change::AddAddress(written.clone()));
        // Only the kernel adds the flag that says "no lifetime".
        let expected = Address { dynamic: true, ..written };
        prop_assert_eq!(Address::decode(&payload), Some(expected));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Address::decode(&bytes);
    }
}

fn message(family: u8, flags: u8, attributes: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.raw(&[family, 24, flags, 253, 7, 0, 0, 0]);
    attributes(&mut writer);
    writer.bytes().to_vec()
}

#[test]
fn the_own_end_of_a_point_to_point_address_is_taken() {
    let bytes = message(AF_INET, 0x80, |writer| {
        writer.put(IFA_ADDRESS, &[192, 0, 2, 2]);
        writer.put(IFA_LOCAL, &[192, 0, 2, 1]);
    });
    let address = Address::decode(&bytes).unwrap();
    assert_eq!(address.address, "192.0.2.1".parse::<IpAddr>().unwrap());
    assert_eq!(address.scope, Scope::Link);
    assert!(!address.dynamic);
}

#[test]
fn a_secondary_ipv4_address_is_not_temporary() {
    const SECONDARY: u8 = 1;
    let v4 = message(AF_INET, SECONDARY, |writer| {
        writer.put(IFA_LOCAL, &[192, 0, 2, 1])
    });
    assert!(!Address::decode(&v4).unwrap().temporary);
    let v6 = message(AF_INET6, SECONDARY, |writer| {
        writer.put(IFA_ADDRESS, &[0xfd; 16])
    });
    assert!(Address::decode(&v6).unwrap().temporary);
}

#[test]
fn addresses_of_other_families_are_none_of_ours() {
    const AF_MCTP: u8 = 45;
    let bytes = message(AF_MCTP, 0, |writer| writer.put(IFA_LOCAL, &[8]));
    assert_eq!(Address::decode(&bytes), None);
}
