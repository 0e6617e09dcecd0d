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

fn is_other(instruction: &Instruction) -> bool {
    matches!(instruction, Instruction::Other { .. })
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
    // However much it has counted.
    let counter = decode("counter", &[(1, &[1; 8]), (2, &[2; 8])]);
    assert_eq!(counter, Instruction::Counter);
}

#[test]
fn what_works_differently_is_not_one_of_ours() {
    let foreign: &[(&str, &[(u16, &[u8])])] = &[
        // other registers
        ("meta", &[(1, &be(2)), (2, &be(3))]),
        ("ct", &[(1, &be(2)), (2, &be(0))]),
        (
            "payload",
            &[(1, &be(8)), (2, &be(1)), (3, &be(12)), (4, &be(4))],
        ),
        ("immediate", &[(1, &be(3)), (2, &[])]),
        // the reply direction of a connection
        ("ct", &[(1, &be(1)), (2, &be(8)), (3, &[1])]),
        // setting, not loading
        ("ct", &[(4, &be(1)), (2, &be(3))]),
        // writing to the packet
        (
            "payload",
            &[
                (5, &be(1)),
                (2, &be(1)),
                (3, &be(12)),
                (4, &be(4)),
                (6, &be(1)),
            ],
        ),
        // a map
        ("lookup", &[(1, b"s\0"), (2, &be(1)), (3, &be(1))]),
        // a port range
        ("masq", &[(1, &be(0)), (2, &be(1))]),
        // a shift
        (
            "bitwise",
            &[(1, &be(1)), (2, &be(1)), (3, &be(4)), (6, &be(1)), (7, &[])],
        ),
        // a comparison we have no name for
        ("cmp", &[(1, &be(1)), (2, &be(4)), (3, &[])]),
        // parts missing
        ("meta", &[]),
        ("fib", &[(1, &be(1))]),
        // another expression altogether
        ("limit", &[(1, &[0; 8])]),
    ];
    for (name, attributes) in foreign {
        let decoded = decode(name, attributes);
        assert!(
            is_other(&decoded),
            "{name} {attributes:?} became {decoded:?}"
        );
        assert_eq!(decoded.name(), *name);
    }
}

#[test]
fn foreign_instructions_differ_when_their_attributes_do() {
    let one = decode("limit", &[(1, &[1; 8])]);
    assert_ne!(one, decode("limit", &[(1, &[2; 8])]));
    assert_ne!(one, decode("quota", &[(1, &[1; 8])]));
    assert_eq!(one, decode("limit", &[(1, &[1; 8])]));
}
