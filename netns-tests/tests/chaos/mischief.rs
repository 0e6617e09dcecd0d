//! What somebody may do to a host's network, as shell. None of it fails when there is nothing to do it to.

use crate::random::Random;

const ANYWHERE: [&str; 10] = [
    "nft flush ruleset",
    "nft delete table ip flannel-ipv4 || true",
    "nft flush chain ip6 flannel-ipv6 forward || true",
    "nft insert rule ip flannel-ipv4 forward drop || true",
    "ip -4 route flush proto 76 || true",
    "ip -6 route flush proto 76 || true",
    "ip route add 10.244.0.0/24 via 192.0.2.1 dev eth0 proto 76 || true",
    "sysctl -qw net/ipv4/ip_forward=0",
    "sysctl -qw net/ipv6/conf/all/forwarding=0",
    // The kernel drops what hangs on the link; whoever manages the host brings back what is the host's.
    "address=$(ip -6 -o address show dev eth0 scope global | awk '{print $4}')\n\
     ip link set dev eth0 down\n\
     ip link set dev eth0 up\n\
     ip address replace $address dev eth0 nodad\n\
     ip route replace default via 192.0.2.1\n\
     ip route replace default via 2001:db8::1",
];

const ON_DEVICES: [&str; 11] = [
    "ip link delete dev {device} || true",
    "ip link set dev {device} down || true",
    "ip link set dev {device} address {mac} || true",
    "ip link set dev {device} mtu 1280 || true",
    "ip address flush dev {device} scope global || true",
    "ip route flush dev {device} proto 76 || true",
    "ip neighbour flush dev {device} nud permanent || true",
    "bridge fdb show dev {device} | while read mac dst address rest; do bridge fdb delete $mac dev {device} dst $address || true; done",
    "bridge fdb show dev {device} | while read mac dst address rest; do bridge fdb replace $mac dev {device} dst {nobody} self permanent || true; done",
    "bridge fdb append 02:00:00:00:00:96 dev {device} dst {nobody} self permanent || true",
    "ip neighbour replace {free} lladdr 02:00:00:00:00:97 dev {device} nud permanent || true",
];

/// A line for a host with or without tunnels.
pub(crate) fn line(random: &mut Random, tunnels: bool) -> String {
    if !tunnels || random.below(3) == 0 {
        return (*random.pick(&ANYWHERE)).to_owned();
    }
    let line = *random.pick(&ON_DEVICES);
    let (device, nobody, free) = *random.pick(&[
        ("flannel.1", "192.0.2.200", "10.244.0.0"),
        ("flannel-v6.1", "2001:db8::200", "fd00:10:244::"),
    ]);
    line.replace("{device}", device)
        .replace("{nobody}", nobody)
        .replace("{free}", free)
        // Two hosts with one MAC would be another kind of trouble.
        .replace(
            "{mac}",
            &format!(
                "02:00:00:{:02x}:{:02x}:{:02x}",
                random.below(256),
                random.below(256),
                random.below(256)
            ),
        )
}
