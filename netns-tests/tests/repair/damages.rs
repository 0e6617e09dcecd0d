//! The rows of the table, with the lines of shell that do the damage.
//!
//! A command may name `{device}` (flannel.1 or flannel-v6.1), `{ip}` (`ip -4` or `ip -6`), the peer's `{subnet}`, `{gateway}` (its VTEP's
//! address), `{mac}` (its VTEP's) and `{public}` address, `{own}` (this node's address on the device, with its length),
//! `{free}` and `{free_subnet}` (of the pod network, but nobody's), `{nobody}` (an address of the underlay without a host),
//! `{router}` (the default gateway), `{foreign}` (an address outside the pod network), `{full}` (the length of a whole address) and
//! `{table}` (the firewall table with its family).

use super::{Damage, On, Outcome};

const fn damage(
    on: On,
    object: &'static str,
    what: &'static str,
    command: &'static str,
    outcome: Outcome,
) -> Damage {
    Damage {
        object,
        what,
        on,
        per_family: true,
        command,
        outcome,
    }
}

const fn tunnel(
    object: &'static str,
    what: &'static str,
    command: &'static str,
    says: &'static str,
) -> Damage {
    damage(On::Vxlan, object, what, command, Outcome::Repaired(says))
}

const fn both(
    object: &'static str,
    what: &'static str,
    command: &'static str,
    says: &'static str,
) -> Damage {
    damage(On::Both, object, what, command, Outcome::Repaired(says))
}

const fn foreign(
    on: On,
    object: &'static str,
    what: &'static str,
    command: &'static str,
    undo: &'static str,
) -> Damage {
    damage(on, object, what, command, Outcome::LeftAlone(undo))
}

/// The table.
pub(crate) const DAMAGES: [Damage; 43] = [
    tunnel(
        "device",
        "deleted",
        "ip link delete dev {device}",
        "it is missing",
    ),
    tunnel(
        "device",
        "down",
        "ip link set dev {device} down",
        "it is down",
    ),
    tunnel(
        "device",
        "mac_changed",
        "ip link set dev {device} address 02:00:00:00:00:99",
        "its MAC is 02:00:00:00:00:99",
    ),
    tunnel(
        "device",
        "mtu_changed",
        "ip link set dev {device} mtu 1300",
        "its MTU is 1300",
    ),
    tunnel(
        "device",
        "put_under_a_bridge",
        "ip link set dev {device} master br-foreign",
        "it was put under another link",
    ),
    tunnel(
        "device",
        "learning_switched_on",
        "ip link set dev {device} type vxlan learning",
        "its learning switch",
    ),
    tunnel(
        "device",
        "of_another_kind",
        "ip link delete dev {device} && ip link add name {device} type bridge",
        "it is a link of kind bridge",
    ),
    tunnel(
        "device",
        "of_another_vni",
        "ip link delete dev {device} && ip link add name {device} type vxlan id 77 dstport 8472 dev eth0",
        "its VNI is 77",
    ),
    tunnel(
        "address",
        "deleted",
        "{ip} address delete {own} dev {device}",
        "it is missing",
    ),
    tunnel(
        "address",
        "of_another_node_added",
        "{ip} address add {free}/{full} dev {device}",
        "it is not this node's address",
    ),
    foreign(
        On::Vxlan,
        "address",
        "foreign",
        "{ip} address add {foreign}/{full} dev {device}",
        "{ip} address delete {foreign}/{full} dev {device}",
    ),
    both("route", "deleted", "{ip} route delete {subnet}", "{subnet}"),
    tunnel(
        "route",
        "gateway_changed",
        "{ip} route replace {subnet} via {free} dev {device} onlink",
        "{subnet}",
    ),
    both(
        "route",
        "led_to_the_router",
        "{ip} route replace {subnet} via {router} dev eth0",
        "{subnet}",
    ),
    both(
        "route",
        "made_a_blackhole",
        "{ip} route replace blackhole {subnet}",
        "{subnet}",
    ),
    both(
        "route",
        "foreign_one_put_before_it",
        "{ip} route prepend {subnet} via {router} dev eth0 proto static",
        "{subnet}",
    ),
    both(
        "route",
        "second_of_ours_added",
        "{ip} route add {subnet} via {router} dev eth0 proto 76 metric 2000",
        "{subnet}",
    ),
    tunnel(
        "route",
        "left_by_a_node_that_is_gone",
        "{ip} route add {free_subnet} via {free} dev {device} onlink",
        "no lease asks for it",
    ),
    both(
        "route",
        "of_ours_to_nobody",
        "{ip} route add {free_subnet} via {router} dev eth0 proto 76",
        "no lease asks for it",
    ),
    foreign(
        On::Both,
        "route",
        "foreign_beside_ours",
        "{ip} route add {subnet} via {router} dev eth0 proto static metric 2000",
        "{ip} route delete {subnet} via {router} dev eth0 proto static metric 2000",
    ),
    foreign(
        On::Both,
        "route",
        "foreign_in_the_pod_network",
        "{ip} route add {free_subnet} via {router} dev eth0 proto static",
        "{ip} route delete {free_subnet} via {router} dev eth0 proto static",
    ),
    foreign(
        On::Both,
        "route",
        "foreign_elsewhere",
        "{ip} route add {foreign} via {router} dev eth0",
        "{ip} route delete {foreign} via {router} dev eth0",
    ),
    tunnel(
        "neighbour",
        "deleted",
        "{ip} neighbour delete {gateway} dev {device}",
        "it is missing",
    ),
    tunnel(
        "neighbour",
        "mac_changed",
        "{ip} neighbour replace {gateway} lladdr 02:00:00:00:00:98 dev {device} nud permanent",
        "it says 02:00:00:00:00:98",
    ),
    tunnel(
        "neighbour",
        "made_mortal",
        "{ip} neighbour replace {gateway} lladdr {mac} dev {device} nud stale",
        "not permanent",
    ),
    tunnel(
        "neighbour",
        "left_by_a_node_that_is_gone",
        "{ip} neighbour add {free} lladdr 02:00:00:00:00:97 dev {device} nud permanent",
        "no lease asks for it",
    ),
    foreign(
        On::Vxlan,
        "neighbour",
        "foreign",
        "{ip} neighbour add {foreign} lladdr 02:00:00:00:00:97 dev {device} nud permanent",
        "{ip} neighbour delete {foreign} dev {device}",
    ),
    tunnel(
        "fdb_entry",
        "deleted",
        "bridge fdb delete {mac} dev {device} dst {public}",
        "it is missing",
    ),
    tunnel(
        "fdb_entry",
        "destination_changed",
        "bridge fdb replace {mac} dev {device} dst {nobody} self permanent",
        "it leads to {nobody}",
    ),
    tunnel(
        "fdb_entry",
        "made_mortal",
        "bridge fdb replace {mac} dev {device} dst {public} self dynamic",
        "not permanent",
    ),
    tunnel(
        "fdb_entry",
        "port_changed",
        "bridge fdb replace {mac} dev {device} dst {public} port 1234 self permanent",
        "it leads to another port",
    ),
    tunnel(
        "fdb_entry",
        "left_by_a_node_that_is_gone",
        "bridge fdb append 02:00:00:00:00:96 dev {device} dst {nobody} self permanent",
        "no lease asks for it",
    ),
    tunnel(
        "sysctl",
        "accept_ra_switched_on",
        "sysctl -qw net/ipv6/conf/{device}/accept_ra=1",
        "it says 1",
    ),
    both(
        "sysctl",
        "forwarding_switched_off",
        "sysctl -qw {forwarding}=0",
        "it says 0",
    ),
    both(
        "firewall",
        "table_deleted",
        "nft delete table {table}",
        "missing",
    ),
    both(
        "firewall",
        "chain_flushed",
        "nft flush chain {table} postrtg",
        "postrtg",
    ),
    both(
        "firewall",
        "chain_deleted",
        "nft delete chain {table} forward",
        "forward",
    ),
    both(
        "firewall",
        "rule_added",
        "nft insert rule {table} forward drop",
        "forward",
    ),
    both(
        "firewall",
        "rule_repeated",
        "nft insert rule {table} postrtg masquerade",
        "postrtg",
    ),
    both(
        "firewall",
        "policy_changed",
        "nft chain {table} forward '{ policy drop ; }'",
        "forward",
    ),
    foreign(
        On::Both,
        "firewall",
        "foreign_table",
        "nft add table {nft} foreign && nft add chain {nft} foreign any && nft add rule {nft} foreign any counter",
        "nft delete table {nft} foreign",
    ),
    Damage {
        object: "firewall",
        what: "ruleset_flushed",
        on: On::Both,
        per_family: false,
        command: "nft flush ruleset",
        outcome: Outcome::Repaired("missing"),
    },
    Damage {
        object: "everything",
        what: "deleted_at_once",
        on: On::Both,
        per_family: false,
        command: "nft flush ruleset; for device in flannel.1 flannel-v6.1; do ip link delete $device || true; done; \
                  ip -4 route flush proto 76; ip -6 route flush proto 76; sysctl -qw net/ipv4/ip_forward=0",
        outcome: Outcome::Repaired("missing"),
    },
];
