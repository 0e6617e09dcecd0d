use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use hostnet::nft::{End, Family, Obstacle};
use hostnet::{Address, FdbEntry, Link, LinkIndex, Mac, Neighbour, Route, Scope, Vxlan};
use ipam::SubnetEnv;
use ipnetwork::IpNetwork;

use super::*;
use crate::doctor::facts::*;
use crate::doctor::finding::{Check, Verdict, cause};
use crate::network::vxlan::derived_mac;
use crate::probe::echo::{PathSize, Reply};
use crate::probe::peer::{Direction, PeerProbe};
use crate::probe::tcp::TcpReply;
use crate::reconcile::ROUTE_PROTOCOL;

const UPLINK: LinkIndex = LinkIndex(2);
const TUNNEL: LinkIndex = LinkIndex(3);

fn link(index: LinkIndex, name: &str) -> Link {
    Link {
        mtu: 1500,
        up: true,
        running: true,
        ..Link::bare(index, name)
    }
}

fn address(link: LinkIndex, address: &str, prefix: u8) -> Address {
    Address::new(link, address.parse().unwrap(), prefix)
}

fn network(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn peer_mac() -> Mac {
    "02:00:00:00:00:12".parse().unwrap()
}

fn peer() -> PeerFacts {
    PeerFacts {
        subnet: network("10.244.2.0/24"),
        public: "192.0.2.12".parse().unwrap(),
        tunnelled: true,
        leaves_by: Some(Some(TUNNEL)),
    }
}

fn answered() -> Reply {
    Reply::Answered {
        after: Duration::from_micros(300),
        link: None,
    }
}

fn passes(wanted: u32, passes: u32) -> Option<PathSize> {
    Some(PathSize {
        wanted,
        passes: Some(passes),
        told: None,
    })
}

fn answers() -> PeerProbe {
    PeerProbe {
        beside: answered(),
        through: Some(answered()),
        port: None,
        direction: None,
        beside_size: passes(1500, 1500),
        through_size: passes(1450, 1450),
        tcp: Some(TcpReply {
            kernel: answered(),
            by_hand: None,
        }),
    }
}

fn silent() -> PeerProbe {
    PeerProbe {
        through: Some(Reply::Silent),
        port: Some(Reply::Silent),
        direction: Some(Direction::Unknown),
        through_size: None,
        tcp: None,
        ..answers()
    }
}

/// A node without a daemon on which all is well.
fn well() -> Facts {
    let mut tunnel = link(TUNNEL, "flannel.1");
    tunnel.mtu = 1450;
    tunnel.mac = Some(derived_mac(
        "192.0.2.11".parse().unwrap(),
        ipam::Vni::DEFAULT,
    ));
    tunnel.vxlan = Some(Vxlan {
        lower: Some(UPLINK),
        local: Some("192.0.2.11".parse().unwrap()),
        port: 8472,
        ..Vxlan::new(1)
    });
    let vtep = "10.244.2.0".parse().unwrap();
    let way = Route {
        gateway: Some(vtep),
        link: Some(TUNNEL),
        protocol: ROUTE_PROTOCOL,
        ..Route::new(peer().subnet)
    };
    let env = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
    Facts {
        at: SystemTime::now(),
        daemon: Err(NotAsked::NotRunning),
        subnet_file: Ok(SubnetEnv::parse(env).unwrap()),
        subnet_file_written: Some(SystemTime::now()),
        kernel: KernelFacts {
            release: "6.1".to_owned(),
            vxlan: Some(true),
            nf_tables: None,
            iptables: true,
        },
        links: vec![link(UPLINK, "eth0"), tunnel.clone()],
        addresses: vec![
            address(UPLINK, "192.0.2.11", 24),
            address(TUNNEL, "10.244.1.0", 32),
        ],
        routes: vec![
            way,
            Route {
                gateway: Some("192.0.2.1".parse().unwrap()),
                link: Some(UPLINK),
                ..Route::new(network("0.0.0.0/0"))
            },
        ],
        tunnels: vec![TunnelFacts {
            link: tunnel,
            neighbours: vec![Neighbour::permanent(TUNNEL, vtep, peer_mac())],
            fdb: vec![FdbEntry::permanent(TUNNEL, peer_mac(), peer().public)],
        }],
        offloads: BTreeMap::new(),
        sysctls: [("net/ipv4/ip_forward".to_owned(), "1".to_owned())].into(),
        managed: Vec::new(),
        firewall: Ok(FirewallFacts::default()),
        peers: vec![peer()],
        probes: Some(vec![Probed {
            peer: peer(),
            probe: answers(),
        }]),
        rivals: BTreeMap::new(),
        cni: CniFacts {
            directory: PathBuf::from("/etc/cni/net.d"),
            conflists: Ok(vec![conflist(
                "10-flannel.conflist",
                &["flannel", "portmap"],
            )]),
            programs_in: PathBuf::from("/opt/cni/bin"),
            programs: vec![program(
                "flannel",
                ProgramState::Ours(env!("CARGO_PKG_VERSION").to_owned()),
            )],
            stale: Vec::new(),
            unlinked: Vec::new(),
            addresses: Vec::new(),
            pods: 0,
            unseen: Vec::new(),
        },
    }
}

fn conflist(file: &str, types: &[&str]) -> Conflist {
    Conflist {
        file: file.to_owned(),
        types: Some(types.iter().map(|&kind| kind.to_owned()).collect()),
    }
}

fn program(name: &str, state: ProgramState) -> Program {
    Program {
        name: name.to_owned(),
        state,
    }
}

fn probed(facts: &mut Facts, probe: PeerProbe) {
    facts.probes = Some(vec![Probed {
        peer: peer(),
        probe,
    }]);
}

/// The cause with its first evidence and command, after this was done to a node that is well.
fn cause_after(damage: impl FnOnce(&mut Facts)) -> (Check, String, String) {
    let mut facts = well();
    damage(&mut facts);
    let findings = all(&facts);
    let cause = cause(&findings).unwrap_or_else(|| panic!("nothing is wrong: {findings:#?}"));
    let commands = cause.remedy.iter().flat_map(|remedy| &remedy.commands);
    let command = commands.map(|step| step.run.clone()).next();
    (
        cause.check,
        cause.evidence[0].clone(),
        command.unwrap_or_default(),
    )
}

#[test]
fn nothing_but_the_daemon_is_missed_where_all_is_well() {
    let (check, evidence, command) = cause_after(|_| ());
    assert_eq!(
        (check, command.as_str()),
        (Check::Daemon, "systemctl restart flanneld")
    );
    assert!(evidence.starts_with("flanneld does not run"), "{evidence}");
    let findings = all(&well());
    let wrong = findings
        .iter()
        .filter(|finding| finding.verdict >= Verdict::Warn);
    assert_eq!(wrong.count(), 1, "{findings:#?}");
    let unseen: Vec<Check> = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::NotSeen)
        .map(|finding| finding.check)
        .collect();
    assert_eq!(unseen, [Check::Store, Check::Lease, Check::Duplicates]);
}

#[test]
fn a_kernel_without_vxlan_is_named() {
    let (check, evidence, command) = cause_after(|facts| {
        facts.kernel.vxlan = Some(false);
        facts.tunnels.clear();
    });
    assert_eq!(check, Check::Kernel);
    assert_eq!(evidence, "Linux 6.1 has no VXLAN devices");
    assert_eq!(command, "modprobe vxlan");
}

#[test]
fn the_uplink_explains_the_silence_behind_it() {
    let (check, evidence, command) = cause_after(|facts| {
        facts.links[0].running = false;
        probed(facts, silent());
    });
    assert_eq!(
        (check, evidence.as_str()),
        (Check::Uplink, "eth0 has no carrier")
    );
    assert_eq!(command, "ip link set dev eth0 up");
}

#[test]
fn a_device_that_is_not_as_it_should_be_is_named() {
    let (check, evidence, _) = cause_after(|facts| {
        facts.tunnels.clear();
        facts.links.pop();
        facts.routes.remove(0);
    });
    assert_eq!(
        (check, evidence.as_str()),
        (Check::Device, "there is no VXLAN device for IPv4")
    );
    let (check, evidence, _) = cause_after(|facts| facts.tunnels[0].link.mtu = 1500);
    assert_eq!(check, Check::Device);
    assert_eq!(
        evidence,
        "flannel.1 has MTU 1500, but eth0 leaves room for 1450 only"
    );
    let (check, evidence, _) = cause_after(|facts| {
        facts.addresses.pop();
    });
    assert_eq!(
        (check, evidence.as_str()),
        (Check::Device, "flannel.1 lacks the address 10.244.1.0")
    );
}

#[test]
fn another_mac_is_blamed_only_where_peers_are_silent() {
    let steal = |facts: &mut Facts| facts.tunnels[0].link.mac = Some(peer_mac());
    // flannel's devices have MACs of their own making.
    let (check, ..) = cause_after(steal);
    assert_eq!(check, Check::Daemon);
    let (check, evidence, command) = cause_after(|facts| {
        steal(facts);
        probed(facts, silent());
    });
    assert_eq!(check, Check::Mac, "{evidence}");
    let was = well().tunnels[0].link.mac.unwrap();
    assert_eq!(command, format!("ip link set dev flannel.1 address {was}"));
}

#[test]
fn routes_of_others_are_told_from_those_of_pods() {
    let with = |destination: &'static str, link: LinkIndex| {
        move |facts: &mut Facts| {
            facts.links.push(self::link(LinkIndex(9), "docker0"));
            let mut pod = self::link(LinkIndex(10), "pod1");
            pod.kind = Some("veth".to_owned());
            facts.links.push(pod);
            facts.routes.push(Route::direct(network(destination), link));
        }
    };
    let (check, evidence, command) = cause_after(with("10.244.2.128/25", LinkIndex(9)));
    assert_eq!(check, Check::Overlap);
    assert_eq!(
        evidence,
        "the route 10.244.2.128/25 dev docker0 (Docker) takes a part of the pod network away"
    );
    assert_eq!(command, "ip -4 route del 10.244.2.128/25 dev docker0");
    // Our own pods, and what is somewhere else.
    for (destination, link) in [
        ("10.244.1.5/32", LinkIndex(10)),
        ("172.17.0.0/16", LinkIndex(9)),
        ("0.0.0.0/0", UPLINK),
    ] {
        let (check, evidence, _) = cause_after(with(destination, link));
        assert_eq!(check, Check::Daemon, "{destination}: {evidence}");
    }
    // In the network and in nobody's subnet yet: no more than a warning.
    let mut facts = well();
    with("10.244.77.0/24", LinkIndex(9))(&mut facts);
    let findings = all(&facts);
    let overlap = findings
        .iter()
        .find(|finding| finding.check == Check::Overlap)
        .unwrap();
    assert_eq!(overlap.verdict, Verdict::Warn);
}

#[test]
fn a_rule_of_a_vpn_is_seen_by_where_packets_leave() {
    let (check, evidence, command) = cause_after(|facts| {
        facts.links.push(link(LinkIndex(9), "wg0"));
        facts.peers[0].leaves_by = Some(Some(LinkIndex(9)));
    });
    assert_eq!(check, Check::Overlap);
    assert!(
        evidence.starts_with("packets to pods in 10.244.2.0/24 leave by wg0"),
        "{evidence}"
    );
    assert_eq!(command, "ip rule show");
}

#[test]
fn firewalls_are_opened_in_the_words_of_who_keeps_them() {
    let obstacle = |family, table: &str, chain: &str, within: &str| Obstacle {
        family,
        table: table.to_owned(),
        chain: chain.to_owned(),
        end: if within.is_empty() {
            End::Policy
        } else {
            End::Rule {
                chain: within.to_owned(),
                place: 3,
                comment: None,
            }
        },
        certain: true,
    };
    for (obstacle, expected) in [
        (
            obstacle(Family::Inet, "guard", "forward", ""),
            "nft insert rule inet guard forward ip saddr 10.244.0.0/16 accept",
        ),
        (
            obstacle(Family::Ip, "filter", "FORWARD", ""),
            "iptables -I FORWARD -s 10.244.0.0/16 -j ACCEPT",
        ),
        (
            obstacle(Family::Ip, "filter", "FORWARD", "ufw-reject-forward"),
            "ufw route allow from 10.244.0.0/16",
        ),
        (
            obstacle(Family::Inet, "firewalld", "filter_FORWARD", ""),
            "firewall-cmd --permanent --zone=trusted --add-source=10.244.0.0/16",
        ),
    ] {
        let (check, evidence, command) = cause_after(|facts| {
            facts.firewall = Ok(FirewallFacts {
                forward: vec![obstacle],
                ..FirewallFacts::default()
            });
        });
        assert_eq!(
            (check, command.as_str()),
            (Check::FirewallForward, expected),
            "{evidence}"
        );
    }
    let (check, _, command) = cause_after(|facts| {
        facts.firewall = Ok(FirewallFacts {
            port: vec![obstacle(Family::Ip, "filter", "INPUT", "")],
            ..FirewallFacts::default()
        });
        probed(facts, silent());
    });
    assert_eq!(
        (check, command.as_str()),
        (
            Check::FirewallPort,
            "iptables -I INPUT -p udp --dport 8472 -j ACCEPT"
        )
    );
    // What may drop some is told, and blamed for nothing.
    let (check, ..) = cause_after(|facts| {
        facts.firewall = Ok(FirewallFacts {
            forward: vec![Obstacle {
                certain: false,
                ..obstacle(Family::Inet, "guard", "forward", "")
            }],
            ..FirewallFacts::default()
        });
    });
    assert_eq!(check, Check::Daemon);
}

#[test]
fn what_peers_answer_is_put_in_words() {
    let (check, evidence, _) = cause_after(|facts| probed(facts, silent()));
    assert_eq!(check, Check::Reach);
    assert!(
        evidence.starts_with("host 192.0.2.12 answers, and nothing comes back through the overlay"),
        "{evidence}"
    );
    let (check, evidence, command) = cause_after(|facts| {
        let hole = PeerProbe {
            through_size: passes(1450, 1350),
            ..answers()
        };
        probed(facts, hole);
    });
    assert_eq!(check, Check::Mtu);
    assert_eq!(
        evidence,
        "packets of 1450 bytes do not get through the overlay to 192.0.2.12; the largest that does has 1350"
    );
    assert_eq!(command, "ip link set dev eth0 mtu 1400");
    let (check, _, command) = cause_after(|facts| {
        let spoilt = PeerProbe {
            tcp: Some(TcpReply {
                kernel: Reply::Silent,
                by_hand: Some(answered()),
            }),
            ..answers()
        };
        probed(facts, spoilt);
    });
    assert_eq!(
        (check, command.as_str()),
        (
            Check::Checksum,
            "ethtool -K flannel.1 tx-checksum-ip-generic off"
        )
    );
    // Who may not ask has heard nothing, and blames nobody.
    let (check, ..) = cause_after(|facts| {
        let unasked = PeerProbe {
            beside: Reply::NotPermitted,
            through: Some(Reply::NotPermitted),
            ..silent()
        };
        probed(facts, unasked);
    });
    assert_eq!(check, Check::Daemon);
}

#[test]
fn what_pods_need_is_checked_last_and_told_apart() {
    let (check, evidence, command) = cause_after(|facts| {
        let others = conflist("05-cilium.conflist", &["cilium-cni"]);
        facts.cni.conflists.as_mut().unwrap().insert(0, others);
    });
    assert_eq!(check, Check::Conflist);
    assert!(
        evidence.contains("05-cilium.conflist (cilium-cni) before 10-flannel.conflist"),
        "{evidence}"
    );
    assert_eq!(
        command,
        "mv /etc/cni/net.d/05-cilium.conflist /etc/cni/net.d/05-cilium.conflist.disabled"
    );
    let (check, _, command) = cause_after(|facts| {
        facts.cni.programs[0].state = ProgramState::Missing;
        facts.cni.programs_in = PathBuf::from("/usr/lib/cni");
    });
    assert_eq!(
        (check, command.as_str()),
        (
            Check::CniPrograms,
            "flanneld install-cni --cni-bin-dir=/usr/lib/cni"
        )
    );
}

#[test]
fn what_the_kernel_has_of_a_peer_must_hold_together() {
    let (check, evidence, _) = cause_after(|facts| facts.tunnels[0].fdb.clear());
    assert_eq!(check, Check::Peers);
    assert_eq!(
        evidence,
        "flannel.1 has no FDB entry for 02:00:00:00:00:12, behind which 10.244.2.0/24 is"
    );
}

#[test]
fn long_lists_are_cut() {
    assert_eq!(some_of(&["a", "b", "c"]), "a, b, c");
    assert_eq!(some_of(&["a", "b", "c", "d", "e"]), "a, b, c and 2 more");
}

#[test]
fn scopes_of_addresses_are_minded() {
    let mut facts = well();
    let mut local = address(UPLINK, "fe80::1", 64);
    local.scope = Scope::Link;
    facts.addresses.push(local);
    assert_eq!(facts.address_on(UPLINK, false), None);
    assert_eq!(
        facts.address_on(UPLINK, true),
        Some("192.0.2.11".parse().unwrap())
    );
}
