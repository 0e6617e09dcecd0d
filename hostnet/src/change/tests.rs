use std::net::IpAddr;

use netlink_packet_core::NetlinkMessage;

use super::*;
use crate::{
    link::{
        Vxlan,
        new::{NewLinkKind, VethPeer},
    },
    mac::Mac,
    neighbour::NeighbourState,
    netlink::write,
    route::RouteKind,
    socket::Datagram,
};

/// The messages of a change: type, flags, and what is behind the netlink header.
fn messages(change: &Change) -> Vec<(u16, u16, Vec<u8>)> {
    let mut bytes = Vec::new();
    for (message, flags) in change.encode() {
        write(&mut bytes, &mut NetlinkMessage::from(message), flags, 1);
    }
    Datagram::new(&bytes)
        .map(|message| (message.kind, message.flags, message.payload.to_vec()))
        .collect()
}

/// The message of a change that has only one.
pub(crate) fn only_message(change: &Change) -> (u16, u16, Vec<u8>) {
    let mut messages = messages(change);
    assert_eq!(messages.len(), 1, "{change}");
    messages.remove(0)
}

/// Bytes in hexadecimal, a word of four bytes at a time, as the kernel's tools show them.
fn words(bytes: &[u8]) -> String {
    let word = |word: &[u8]| {
        word.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    bytes.chunks(4).map(word).collect::<Vec<_>>().join(" ")
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn tunnel_route() -> Route {
    Route {
        onlink: true,
        protocol: 76,
        ..Route::via(
            "10.244.2.0/24".parse().unwrap(),
            ip("10.244.2.0"),
            LinkIndex(7),
        )
    }
}

#[test]
fn the_veth_message_is_as_the_kernel_wants_it() {
    if cfg!(target_endian = "big") {
        return;
    }
    let peer = VethPeer {
        mac: Some(Mac([2, 0, 0, 0, 0, 2])),
        mtu: Some(1450),
        netns: Some(9),
        queues: Some(1),
        ..VethPeer::new("eth0")
    };
    let link = NewLink {
        mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        mtu: Some(1450),
        up: true,
        queues: Some(1),
        ..NewLink::new("veth1", NewLinkKind::Veth { peer })
    };
    let (kind, flags, payload) = only_message(&Change::AddLink(link));
    // RTM_NEWLINK; NLM_F_REQUEST, NLM_F_CREATE, NLM_F_EXCL
    assert_eq!((kind, flags), (16, 0x601));
    let expected = [
        // struct ifinfomsg: IFF_UP in flags and change mask
        "00000000 00000000 01000000 01000000",
        // IFLA_IFNAME
        "0a000300 76657468 31000000",
        // IFLA_ADDRESS, IFLA_MTU, IFLA_NUM_TX_QUEUES, IFLA_NUM_RX_QUEUES
        "0a000100 02000000 00010000 08000400 aa050000 08001f00 01000000 08002000 01000000",
        // IFLA_LINKINFO: IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER
        "60001200 09000100 76657468 00000000 50000200 4c000100",
        // the peer's struct ifinfomsg, IFLA_IFNAME, IFLA_ADDRESS, IFLA_MTU
        "00000000 00000000 00000000 00000000",
        "09000300 65746830 00000000 0a000100 02000000 00020000 08000400 aa050000",
        // IFLA_NET_NS_FD, queues
        "08001c00 09000000 08001f00 01000000 08002000 01000000",
    ];
    assert_eq!(words(&payload), expected.join(" "));
}

#[test]
fn the_messages_of_a_remote_subnet_are_as_the_kernel_wants_them() {
    if cfg!(target_endian = "big") {
        return;
    }
    let link = LinkIndex(7);
    let mac = Mac([2, 0, 0, 0, 0, 2]);
    for (change, kind, flags, expected) in [
        (
            Change::ReplaceNeighbour(Neighbour::permanent(link, ip("10.244.2.0"), mac)),
            // RTM_NEWNEIGH; NLM_F_REQUEST, NLM_F_REPLACE, NLM_F_CREATE
            28,
            0x501,
            // struct ndmsg: AF_INET, index, NUD_PERMANENT; NDA_DST, NDA_LLADDR
            "02000000 07000000 80000000 08000100 0af40200 0a000200 02000000 00020000",
        ),
        (
            Change::ReplaceFdb(FdbEntry::permanent(link, mac, ip("192.0.2.12"))),
            28,
            0x501,
            // AF_BRIDGE, index, NUD_PERMANENT, NTF_SELF; NDA_LLADDR, NDA_DST
            "07000000 07000000 80000200 0a000200 02000000 00020000 08000100 c000020c",
        ),
        (
            Change::ReplaceRoute(tunnel_route()),
            // RTM_NEWROUTE
            24,
            0x501,
            // struct rtmsg: AF_INET, /24, main table, protocol, universe, unicast, RTNH_F_ONLINK; RTA_DST, RTA_GATEWAY, RTA_OIF
            "02180000 fe4c0001 04000000 08000100 0af40200 08000500 0af40200 08000400 07000000",
        ),
        (
            Change::DeleteRoute(tunnel_route()),
            // RTM_DELROUTE, of any scope
            25,
            0x1,
            "02180000 fe4cff01 04000000 08000100 0af40200 08000500 0af40200 08000400 07000000",
        ),
        (
            Change::AddAddress(Address::new(link, ip("10.244.1.0"), 32)),
            // RTM_NEWADDR; NLM_F_REQUEST, NLM_F_CREATE, NLM_F_EXCL
            20,
            0x601,
            // struct ifaddrmsg; IFA_ADDRESS, IFA_LOCAL
            "02200000 07000000 08000100 0af40100 08000200 0af40100",
        ),
        (
            Change::DeleteLink(link),
            // RTM_DELLINK
            17,
            0x1,
            "00000000 07000000 00000000 00000000",
        ),
    ] {
        let (found_kind, found_flags, payload) = only_message(&change);
        assert_eq!((found_kind, found_flags), (kind, flags), "{change}");
        assert_eq!(words(&payload), expected, "{change}");
    }
}

#[test]
fn what_must_be_set_before_a_link_is_up_goes_before_it() {
    let change = LinkChange {
        no_ipv6_link_local: true,
        hairpin: Some(true),
        master: Some(Some(LinkIndex(3))),
        ..LinkChange::up(LinkIndex(7))
    };
    let kinds: Vec<_> = messages(&Change::SetLink(change))
        .into_iter()
        .map(|(kind, flags, payload)| (kind, flags, payload[8] & 1))
        .collect();
    // Twice RTM_SETLINK, of which the second brings the link up; then RTM_NEWLINK, which makes nothing.
    assert_eq!(kinds, [(19, 1, 0), (19, 1, 1), (16, 1, 0)]);
}

#[test]
fn an_alteration_of_nothing_is_still_a_question_to_the_kernel() {
    assert_eq!(messages(&Change::SetLink(LinkChange::new("gone"))).len(), 1);
    let hairpin = LinkChange {
        hairpin: Some(false),
        ..LinkChange::new("port")
    };
    assert_eq!(messages(&Change::SetLink(hairpin)).len(), 1);
}

#[test]
fn changes_read_as_orders() {
    let link = LinkIndex(7);
    let mac = Mac([2, 0, 0, 0, 0, 2]);
    let vxlan = Vxlan {
        lower: Some(LinkIndex(2)),
        local: Some(ip("192.0.2.11")),
        port: 8472,
        ..Vxlan::new(1)
    };
    let device = NewLink {
        mac: Some(mac),
        mtu: Some(1450),
        ..NewLink::new("flannel.1", NewLinkKind::Vxlan(vxlan))
    };
    let pair = NewLink {
        master: Some(LinkIndex(3)),
        ..NewLink::new(
            "veth1",
            NewLinkKind::Veth {
                peer: VethPeer::new("eth0"),
            },
        )
    };
    let alteration = LinkChange {
        mac: Some(mac),
        mtu: Some(1400),
        master: Some(None),
        alias: Some("web".into()),
        no_ipv6_link_local: true,
        arp_notify: true,
        hairpin: Some(false),
        promiscuous: Some(true),
        ..LinkChange::up("veth1")
    };
    let blackhole = Route {
        kind: RouteKind::Blackhole,
        ..Route::new("10.244.0.0/16".parse().unwrap())
    };
    let asked = Neighbour {
        mac: None,
        state: NeighbourState::Other(1),
        ..Neighbour::permanent(link, ip("fd00::2"), mac)
    };
    for (change, text) in [
        (
            Change::AddLink(device),
            "add link flannel.1 type vxlan id 1 dev 2 local 192.0.2.11 dstport 8472 nolearning address 02:00:00:00:00:02 mtu 1450",
        ),
        (
            Change::AddLink(pair),
            "add link veth1 type veth peer eth0 master 3",
        ),
        (
            Change::SetLink(alteration),
            "set link veth1 address 02:00:00:00:00:02 mtu 1400 nomaster alias \"web\" addrgenmode none arp_notify on hairpin off promisc on up",
        ),
        (Change::DeleteLink(link), "delete link 7"),
        (
            Change::DeleteLinkByName("veth1".into()),
            "delete link veth1",
        ),
        (
            Change::AddAddress(Address::new(link, ip("10.244.1.1"), 24)),
            "add address 10.244.1.1/24 dev 7",
        ),
        (
            Change::ReplaceRoute(tunnel_route()),
            "replace route 10.244.2.0/24 via 10.244.2.0 dev 7 onlink",
        ),
        (
            Change::DeleteRoute(blackhole),
            "delete route blackhole 10.244.0.0/16",
        ),
        (
            Change::ReplaceNeighbour(Neighbour::permanent(link, ip("10.244.2.0"), mac)),
            "replace neighbour 10.244.2.0 dev 7 lladdr 02:00:00:00:00:02 permanent",
        ),
        (
            Change::DeleteNeighbour(asked),
            "delete neighbour fd00::2 dev 7 state 0x1",
        ),
        (
            Change::DeleteFdb(FdbEntry::permanent(link, mac, ip("192.0.2.12"))),
            "delete fdb entry 02:00:00:00:00:02 dev 7 dst 192.0.2.12 self permanent",
        ),
    ] {
        assert_eq!(change.to_string(), text);
    }
}

#[test]
fn many_refusals_are_summed_up() {
    let refused = |index| Refused {
        index,
        change: format!("delete link {index}"),
        error: KernelError::new(nix::errno::Errno::ENODEV as i32),
    };
    let text = "cannot delete link 0: No such device (errno 19)";
    assert_eq!(Refusals(vec![refused(0)]).to_string(), text);
    let many = Refusals((0..500).map(refused).collect());
    let text = many.to_string();
    assert!(
        text.starts_with("cannot delete link 0: No such device (errno 19); cannot delete link 1: "),
        "{text}"
    );
    assert!(text.ends_with("; and 497 more"), "{text}");
    assert_eq!(
        many.iter().filter(|refused| refused.is_not_found()).count(),
        500
    );
}
