use proptest::prelude::*;

use super::*;

/// What the kernel writes and we do not.
impl Writer {
    pub(crate) fn put_u8(&mut self, kind: u16, value: u8) {
        self.put(kind, &[value]);
    }

    pub(crate) fn put_u32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_ne_bytes());
    }
}

#[derive(Clone, Debug)]
enum Node {
    Leaf(u16, Vec<u8>),
    Nest(u16, Vec<Self>),
}

fn node() -> impl Strategy<Value = Node> {
    let leaf = (
        0..NLA_TYPE_MASK,
        proptest::collection::vec(any::<u8>(), 0..40),
    )
        .prop_map(|(kind, bytes)| Node::Leaf(kind, bytes));
    leaf.prop_recursive(3, 24, 5, |inner| {
        (0..NLA_TYPE_MASK, proptest::collection::vec(inner, 0..5))
            .prop_map(|(kind, nodes)| Node::Nest(kind, nodes))
    })
}

fn write(writer: &mut Writer, nodes: &[Node]) {
    for node in nodes {
        match node {
            Node::Leaf(kind, payload) => writer.put(*kind, payload),
            Node::Nest(kind, inner) => writer.nest(*kind, |writer| write(writer, inner)),
        }
    }
}

fn check(attributes: Attributes<'_>, nodes: &[Node]) {
    let found: Vec<_> = attributes.collect();
    assert_eq!(found.len(), nodes.len());
    for (attribute, node) in found.iter().zip(nodes) {
        match node {
            Node::Leaf(kind, payload) => assert_eq!(
                (attribute.kind, attribute.payload),
                (*kind, payload.as_slice())
            ),
            Node::Nest(kind, inner) => {
                assert_eq!(attribute.kind, *kind);
                check(attribute.nested(), inner);
            }
        }
    }
}

proptest! {
    #[test]
    fn walking_arbitrary_bytes_ends_and_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut seen = 0;
        for attribute in Attributes::new(&bytes) {
            seen += 4 + attribute.payload.len();
            let _ = (attribute.u8(), attribute.u32(), attribute.i32());
            let _ = (attribute.be_u16(), attribute.be_u32(), attribute.ip(), attribute.text());
            prop_assert!(attribute.nested().count() <= attribute.payload.len() / 4);
        }
        prop_assert!(seen <= bytes.len());
    }

    #[test]
    fn what_is_written_is_read_back(nodes in proptest::collection::vec(node(), 0..8)) {
        let mut writer = Writer::new();
        write(&mut writer, &nodes);
        prop_assert_eq!(writer.bytes().len() % 4, 0);
        check(Attributes::new(writer.bytes()), &nodes);
    }
}

#[test]
fn numbers_and_text_keep_their_byte_order() {
    let mut writer = Writer::new();
    writer.put_u8(1, 0x12);
    writer.put_u32(2, 0x1234_5678);
    writer.put(3, &8472u16.to_be_bytes());
    writer.put_be_u32(4, 0x4000);
    writer.put_be_u64(5, 1 << 40);
    writer.put_text(6, "flannel.1");
    let found: Vec<_> = Attributes::new(writer.bytes()).collect();
    assert_eq!(found[0].u8(), Some(0x12));
    assert_eq!(found[1].u32(), Some(0x1234_5678));
    assert_eq!(found[2].be_u16(), Some(8472));
    assert_eq!(found[3].payload, [0, 0, 0x40, 0]);
    assert_eq!(found[3].be_u32(), Some(0x4000));
    assert_eq!(found[4].payload, [0, 0, 1, 0, 0, 0, 0, 0]);
    assert_eq!(found[5].payload, b"flannel.1\0");
    assert_eq!(found[5].text(), "flannel.1");
    assert_eq!(found[0].u32(), None, "one byte is no 32 bit number");
}

#[test]
fn flag_bits_are_not_part_of_the_type() {
    let bytes = [8, 0, 5, 0xc0, 1, 2, 3, 4];
    assert_eq!(
        Attributes::new(&bytes).next(),
        Some(Attribute {
            kind: 5,
            payload: &[1, 2, 3, 4]
        })
    );
}

#[test]
fn an_impossible_length_ends_the_walk_and_keeps_what_came_before() {
    let mut writer = Writer::new();
    writer.put_u32(1, 7);
    writer.raw(&[200, 0, 2, 0]);
    assert_eq!(
        Attributes::new(writer.bytes())
            .map(|attribute| attribute.kind)
            .collect::<Vec<_>>(),
        [1]
    );
    let too_short = [3, 0, 1, 0, 8, 0, 2, 0, 0, 0, 0, 0];
    assert_eq!(Attributes::new(&too_short).next(), None);
}

#[test]
fn addresses_are_told_apart_by_length() {
    let v4 = Attribute {
        kind: 1,
        payload: &[10, 5, 70, 0],
    };
    let v6 = Attribute {
        kind: 1,
        payload: &[0; 16],
    };
    let neither = Attribute {
        kind: 1,
        payload: &[0; 5],
    };
    assert_eq!(v4.ip(), Some("10.5.70.0".parse().unwrap()));
    assert_eq!(v6.ip(), Some("::".parse().unwrap()));
    assert_eq!(neither.ip(), None);
}
