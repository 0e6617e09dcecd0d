use super::*;

/// The expression as the kernel would list it, with the attributes of its data as given: kind and bytes.
fn decode(name: &str, attributes: &[(u16, &[u8])]) -> Instruction {
    let mut writer = Writer::new();
    writer.put_text(NFTA_EXPR_NAME, name);
    writer.nest(NFTA_EXPR_DATA, |data| {
        for (kind, bytes) in attributes {
            data.put(*kind, bytes);
        }
    });
    Instruction::decode(Attributes::new(writer.bytes()))
}

fn be(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

#[test]
fn what_the_kernel_adds_does_not_matter() {
    // What Linux 6 lists beyond what was written: the operation of a bitwise, the flags of a lookup.
    let value = |bytes: &[u8]| {
        let mut writer = Writer::new();
        writer.put(NFTA_DATA_VALUE, bytes);
        writer.bytes().to_vec()
    };
    let bitwise = decode(
        "bitwise",
        &[
            (1, &be(1)),
            (2, &be(1)),
            (3, &be(4)),
            (6, &be(0)),
            (4, &value(&[1, 2, 3, 4])),
            (5, &value(&[0; 4])),
        ],
    );
    let expected = Instruction::Bitwise {
        mask: vec![1, 2, 3, 4],
        xor: vec![0; 4],
    };
    assert_eq!(bitwise, expected);
    let lookup = decode("lookup", &[(1, b"s\0"), (2, &be(1)), (5, &be(0))]);
    let expected = Instruction::Lookup {
        set: "s".to_owned(),
        invert: false,
    };
    assert_eq!(lookup, expected);
    // An attribute newer than this code.
    let meta = decode("meta", &[(1, &be(1)), (2, &be(3)), (9, &be(5))]);
    assert_eq!(meta, Instruction::Meta(3));
    // A translation, whose last address and port are its first.
    let nat = decode(
        "nat",
        &[
            (1, &be(1)),
            (2, &be(2)),
            (3, &be(1)),
            (4, &be(1)),
            (5, &be(9)),
            (6, &be(9)),
            (7, &be(3)),
        ],
    );
    assert_eq!(nat, Instruction::Nat { family: 2, port: 9 });
    // However much it has counted.
    let counter = decode("counter", &[(1, &[1; 8]), (2, &[2; 8])]);
    assert_eq!(counter, Instruction::Counter);
}

#[track_caller]
fn check_foreign(name: &str, attributes: &[(u16, &[u8])]) {
    let decoded = decode(name, attributes);
    assert!(
        matches!(decoded, Instruction::Other { .. }),
        "it became {decoded:?}"
    );
    assert_eq!(decoded.name(), name);
}

#[test]
fn what_works_differently_is_not_one_of_ours() {
    let [none, one, two, three, four] = [0, 1, 2, 3, 4].map(be);
    // Other registers.
    check_foreign("meta", &[(1, &none), (2, &three)]);
    check_foreign("ct", &[(1, &two), (2, &none)]);
    check_foreign(
        "payload",
        &[(1, &none), (2, &one), (3, &be(12)), (4, &four)],
    );
    check_foreign("immediate", &[(1, &three), (2, &[])]);
    // The reply direction of a connection.
    check_foreign("ct", &[(1, &one), (2, &be(8)), (3, &[1])]);
    // Setting, not loading.
    check_foreign("ct", &[(4, &one), (2, &three)]);
    // Writing to the packet.
    check_foreign(
        "payload",
        &[(5, &one), (2, &one), (3, &be(12)), (4, &four), (6, &one)],
    );
    // A map of verdicts, and one into another register.
    check_foreign("lookup", &[(1, b"s\0"), (2, &one), (3, &none)]);
    check_foreign("lookup", &[(1, b"s\0"), (2, &one), (3, &two)]);
    // Source translation, one to a range of ports, one with flags.
    let nat = |kind, last_port, flags| {
        [
            (1, be(kind)),
            (2, be(2)),
            (3, be(1)),
            (4, be(1)),
            (5, be(9)),
            (6, be(last_port)),
            (7, be(flags)),
        ]
    };
    for attributes in [nat(0, 9, 3), nat(1, 10, 3), nat(1, 9, 7)] {
        let attributes = attributes
            .each_ref()
            .map(|(kind, bytes)| (*kind, &bytes[..]));
        check_foreign("nat", &attributes);
    }
    // A port range.
    check_foreign("masq", &[(1, &none), (2, &one)]);
    // A shift.
    check_foreign(
        "bitwise",
        &[(1, &one), (2, &one), (3, &four), (6, &one), (7, &[])],
    );
    // A comparison we have no name for.
    check_foreign("cmp", &[(1, &one), (2, &four), (3, &[])]);
    // Parts missing.
    check_foreign("meta", &[]);
    check_foreign("fib", &[(1, &one)]);
    // Another expression altogether.
    check_foreign("limit", &[(1, &[0; 8])]);
}

#[test]
fn foreign_instructions_differ_when_their_attributes_do() {
    let one = decode("limit", &[(1, &[1; 8])]);
    assert_ne!(one, decode("limit", &[(1, &[2; 8])]));
    assert_ne!(one, decode("quota", &[(1, &[1; 8])]));
    assert_eq!(one, decode("limit", &[(1, &[1; 8])]));
}
