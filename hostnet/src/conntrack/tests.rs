use proptest::prelude::*;

use super::*;

/// The attribute of a tuple as the kernel lists it.
fn put_tuple(writer: &mut Writer, kind: u16, from: &str, to: &str, protocol: u8) {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
    writer.nest(kind, |tuple| {
        tuple.nest(CTA_TUPLE_IP, |ip| {
            for (place, address) in [(0, from.ip()), (1, to.ip())] {
                match address {
                    IpAddr::V4(address) => ip.put(CTA_IP_V4_SRC + place, &address.octets()),
                    IpAddr::V6(address) => ip.put(CTA_IP_V6_SRC + place, &address.octets()),
                }
            }
        });
        tuple.nest(CTA_TUPLE_PROTO, |proto| {
            proto.put(CTA_PROTO_NUM, &[protocol]);
            proto.put(CTA_PROTO_SRC_PORT, &from.port().to_be_bytes());
            proto.put(CTA_PROTO_DST_PORT, &to.port().to_be_bytes());
        });
    });
}

fn flow(protocol: u8, host: &str, pod: &str, client: &str) -> Option<UdpFlow> {
    let mut writer = Writer::new();
    writer.raw(&[2, 0, 0, 0]);
    put_tuple(&mut writer, CTA_TUPLE_ORIG, client, host, protocol);
    put_tuple(&mut writer, CTA_TUPLE_REPLY, pod, client, protocol);
    writer.put_be_u32(CTA_ID, 7);
    decode(writer.bytes())
}

#[test]
fn a_flow_tells_where_it_was_sent_and_who_answers() {
    for [host, pod, client] in [
        ["192.0.2.1:53", "10.244.1.5:5353", "192.0.2.9:4000"],
        ["[2001:db8::1]:53", "[fd00::5]:5353", "[2001:db8::9]:4000"],
    ] {
        let flow = flow(17, host, pod, client).unwrap();
        assert_eq!(flow.source, client.parse().unwrap());
        assert_eq!(flow.destination, host.parse().unwrap());
        assert_eq!(flow.answerer, pod.parse().unwrap());
        // The tuple of the first packet, and the number.
        let kinds: Vec<_> = flow.key.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [CTA_TUPLE_ORIG | NLA_F_NESTED, CTA_ID]);
    }
}

#[test]
fn other_protocols_are_passed_over() {
    for protocol in [1, 6, 132] {
        assert_eq!(
            flow(protocol, "192.0.2.1:80", "10.0.0.1:80", "192.0.2.9:9"),
            None
        );
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
    }
}
