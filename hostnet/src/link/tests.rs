use proptest::prelude::*;

use super::*;
use crate::{
    attr::Writer,
    change::{Change, tests::only_message},
    link::new::{NewLink, NewLinkKind},
};

/// A link message as the kernel writes it, with these attributes behind the header.
fn link_message(flags: u32, attributes: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new();
    let mut header = [0; 16];
    header[2..4].copy_from_slice(&1u16.to_ne_bytes());
    header[4..8].copy_from_slice(&7u32.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    writer.raw(&header);
    attributes(&mut writer);
    writer.bytes().to_vec()
}

#[test]
fn a_veth_end_is_read() {
    let bytes = link_message(IFF_UP | IFF_RUNNING, |writer| {
        writer.put_text(IFLA_IFNAME, "veth0a1b");
        writer.put_u32(IFLA_MTU, 1450);
        writer.put(IFLA_ADDRESS, &[2, 0, 0, 0, 0, 1]);
        writer.put_u32(IFLA_LINK, 2);
        writer.put_u32(IFLA_LINK_NETNSID, 3);
        writer.put_u32(IFLA_MASTER, 5);
        writer.put_u32(IFLA_GROUP, 9);
        writer.put_text(IFLA_IFALIAS, "web");
        writer.nest(IFLA_LINKINFO, |writer| {
            writer.put_text(IFLA_INFO_KIND, "veth");
            writer.put_text(IFLA_INFO_SLAVE_KIND, "bridge");
            writer.nest(IFLA_INFO_SLAVE_DATA, |writer| {
                writer.put_u8(IFLA_BRPORT_MODE, 1)
            });
        });
        writer.nest(IFLA_AF_SPEC, |writer| {
            writer.nest(AF_INET, |writer| {
                writer.put(IFLA_INET_CONF, &[1u32.to_ne_bytes(), [0; 4]].concat())
            });
        });
    });
    let expected = Link {
        index: LinkIndex(7),
        name: "veth0a1b".into(),
        kind: Some("veth".into()),
        mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        mtu: 1450,
        up: true,
        running: true,
        loopback: false,
        master: Some(LinkIndex(5)),
        alias: Some("web".into()),
        group: 9,
        lower: Some(LinkIndex(2)),
        lower_netnsid: Some(3),
        vxlan: None,
        hairpin: true,
        forwards_ipv4: Some(true),
    };
    assert_eq!(Link::decode(&bytes), Some(expected));
}

#[test]
fn attributes_of_other_lengths_do_not_hide_a_link() {
    // An InfiniBand address, an MTU of one byte, an unknown attribute, and one whose length is a lie.
    let bytes = link_message(IFF_LOOPBACK, |writer| {
        writer.put_text(IFLA_IFNAME, "ib0");
        writer.put(IFLA_ADDRESS, &[7; 20]);
        writer.put_u8(IFLA_MTU, 1);
        writer.put(0x3fff, &[1, 2, 3]);
        writer.raw(&[0xff, 0xff, 1, 0]);
    });
    let link = Link::decode(&bytes).unwrap();
    assert_eq!((link.index, link.name.as_str()), (LinkIndex(7), "ib0"));
    assert_eq!((link.mac, link.mtu, link.loopback), (None, 0, true));
}

#[test]
fn the_data_of_another_kind_is_not_taken_for_vxlan() {
    let bytes = link_message(0, |writer| {
        writer.nest(IFLA_LINKINFO, |writer| {
            // The order the kernel does not use but may.
            writer.nest(IFLA_INFO_DATA, |writer| writer.put_u32(IFLA_VXLAN_ID, 1));
            writer.put_text(IFLA_INFO_KIND, "geneve");
        });
    });
    assert_eq!(Link::decode(&bytes).unwrap().vxlan, None);
}

prop_compose! {
    fn vxlans()(
        vni in 0u32..0x100_0000,
        lower in proptest::option::of(1u32..),
        local: Option<IpAddr>,
        group: Option<IpAddr>,
        port: u16,
        [learning, gbp, l2miss, l3miss]: [bool; 4],
    ) -> Vxlan {
        let specified = |address: &IpAddr| !address.is_unspecified();
        Vxlan {
            vni,
            lower: lower.map(LinkIndex),
            local: local.filter(specified),
            port,
            learning,
            gbp,
            l2miss,
            l3miss,
            group: group.filter(specified),
        }
    }
}

proptest! {
    #[test]
    fn a_header_is_enough_for_a_link(attributes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut bytes = link_message(IFF_UP, |_| {});
        bytes.extend(attributes);
        let link = Link::decode(&bytes).unwrap();
        prop_assert_eq!((link.index, link.up), (LinkIndex(7), true));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert_eq!(Link::decode(&bytes).is_some(), bytes.len() >= 16);
    }

    #[test]
    fn a_vxlan_device_reads_as_it_was_asked_for(
        vxlan in vxlans(),
        mac: [u8; 6],
        mtu: u32,
        index in proptest::option::of(1u32..),
    ) {
        let new = NewLink {
            index: index.map(LinkIndex),
            mac: Some(Mac(mac)),
            mtu: Some(mtu),
            up: true,
            ..NewLink::new("flannel.1", NewLinkKind::Vxlan(vxlan.clone()))
        };
        let (_, _, payload) = only_message(&Change::AddLink(new));
        let link = Link::decode(&payload).unwrap();
        prop_assert_eq!(link.index, LinkIndex(index.unwrap_or(0)));
        prop_assert_eq!((link.name.as_str(), link.kind.as_deref()), ("flannel.1", Some("vxlan")));
        prop_assert_eq!((link.mac, link.mtu, link.up), (Some(Mac(mac)), mtu, true));
        prop_assert_eq!(link.vxlan, Some(vxlan));
    }
}
