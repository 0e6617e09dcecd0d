use std::net::IpAddr;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::status::report::*;

const PLAIN: Paper = Paper {
    colour: false,
    width: 80,
};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A node of which all is known and nearly all well.
pub(crate) fn sample() -> Report {
    Report {
        api_version: API_VERSION.to_owned(),
        at: at("2026-03-01T12:00:00Z"),
        daemon: Daemon {
            state: DaemonState::Running,
            since: Some(at("2026-03-01T09:00:00Z")),
            pid: Some(1),
            version: Some("0.1.0".to_owned()),
            ready: true,
            reason: None,
        },
        node: Node {
            name: "alpha".to_owned(),
            uplink: Some(Uplink {
                name: "eth0".to_owned(),
                mtu: 1500,
                public: vec!["192.0.2.11".parse().unwrap()],
                trouble: None,
            }),
            subnets: vec!["10.244.1.0/24".to_owned()],
            mtu: Some(1450),
            lease: Some(Lease {
                origin: "held before".to_owned(),
                since: at("2026-03-01T09:00:01Z"),
                renewed: Some(at("2026-03-01T11:59:58Z")),
                expires: Some(at("2026-03-02T09:00:01Z")),
                lost: None,
                trouble: None,
            }),
            store: Some(Store {
                kind: "etcd".to_owned(),
                endpoints: vec!["http://192.0.2.2:2379".to_owned()],
                prefix: None,
                healthy: Some(true),
                answered: Some(at("2026-03-01T11:59:58Z")),
                failed: None,
                trouble: None,
                clock_ahead: None,
            }),
        },
        network: Network {
            networks: vec!["10.244.0.0/16".to_owned()],
            backend: Some("vxlan".to_owned()),
            vni: Some(1),
            port: Some(8472),
            direct_routing: false,
            devices: vec![Device {
                name: "flannel.1".to_owned(),
                mac: Some("02:00:00:00:00:01".to_owned()),
            }],
            firewall: Some("nftables".to_owned()),
            masquerade: Some(true),
        },
        peers: vec![peer(2, PeerInKernel::Right), peer(3, PeerInKernel::Wrong)],
        unreadable: Vec::new(),
        pods: vec![Pod {
            addresses: vec!["10.244.1.2".parse().unwrap()],
            network: "cbr0".to_owned(),
            container_id: "0123456789abcdef".repeat(4),
            ifname: "eth0".to_owned(),
            namespace: Some("shop".to_owned()),
            name: Some("web-0".to_owned()),
            netns: Some("/run/netns/web-0".to_owned()),
            interface: Some("veth0123abcd".to_owned()),
            kind: "routed".to_owned(),
            since: Some(at("2026-03-01T10:00:00Z")),
            linked: Some(true),
        }],
        addresses: vec![Addresses {
            network: "cbr0".to_owned(),
            range: (
                "10.244.1.2".parse().unwrap(),
                "10.244.1.254".parse().unwrap(),
            ),
            total: 253,
            used: 1,
            free: 251,
            cooling: 1,
        }],
        repairs: vec![Repair {
            at: at("2026-03-01T11:58:00Z"),
            first: Some(at("2026-03-01T11:00:00Z")),
            times: 12,
            object: "route 10.244.2.0/24".to_owned(),
            action: "replace route 10.244.2.0/24 via 10.244.2.0 dev 9 onlink".to_owned(),
            reason: "it is missing".to_owned(),
        }],
        contested: vec![Contested {
            object: "device flannel.1".to_owned(),
            repairs: 31,
            since: at("2026-03-01T11:59:00Z"),
            next_attempt: at("2026-03-01T12:00:08Z"),
        }],
        problems: vec![
            "somebody keeps undoing this: device flannel.1 (put right 31 times)".to_owned(),
        ],
        unseen: vec!["firewall rules: not permitted".to_owned()],
    }
}

fn peer(number: u32, kernel: PeerInKernel) -> Peer {
    let reasons = match kernel {
        PeerInKernel::Right => Vec::new(),
        _ => vec![format!(
            "route 10.{}.{}.0/24: it is missing",
            number / 256,
            number % 256
        )],
    };
    Peer {
        subnets: vec![format!("10.{}.{}.0/24", number / 256, number % 256)],
        public: vec![
            format!("192.0.{}.{}", number / 256, number % 256)
                .parse()
                .unwrap(),
        ],
        macs: vec!["02:00:00:00:00:02".to_owned()],
        seen: Some(at("2026-03-01T11:00:00Z")),
        kernel,
        reasons,
        left_out: Vec::new(),
        probe: Probe::default(),
    }
}

fn widest(text: &str) -> usize {
    text.lines()
        .map(|line| line.chars().count())
        .max()
        .unwrap_or(0)
}

#[test]
fn everything_that_is_known_is_there_within_80_columns() {
    let text = report(&sample(), false, PLAIN);
    for part in [
        "node alpha: flanneld 0.1.0 has been running for 3h",
        "! somebody keeps undoing this: device flannel.1",
        "eth0, 192.0.2.11, MTU 1500",
        "10.244.1.0/24, MTU for pods 1450",
        "ends in 21h, made sure of 2s ago, held for 2h (held",
        "etcd http://192.0.2.2:2379, answered 2s ago",
        "vxlan, VNI 1, UDP port 8472, flannel.1 (02:00:00:00:00:01)",
        "nftables, pods are masqueraded on their way out",
        "2 peers: 1 right in the kernel, 1 wrong",
        "not probed",
        "shop/web-0",
        "0123456789ab ",
        "of 253 addresses from 10.244.1.2 on 1 are used, 251 free, 1 cooling",
        "12 repairs of what somebody else changed",
        "2m ago route 10.244.2.0/24: it is missing (replace route 10.244.2.0/24 via\n           10.244.2.0 dev 9 onlink), 12 times in 60m",
        "put right 31 times in 60s, again in 8s",
        "firewall rules: not permitted",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    assert!(widest(&text) <= 80, "{text}");
}

#[test]
fn of_thousands_of_peers_the_worst_come_first_and_the_rest_is_counted() {
    let mut many = sample();
    many.peers = (0..5000)
        .map(|number| peer(number, PeerInKernel::Right))
        .collect();
    many.peers.push(peer(5000, PeerInKernel::LeftOut));
    many.peers.push(peer(5001, PeerInKernel::Wrong));
    let text = report(&many, false, PLAIN);
    assert!(
        text.contains("5002 peers: 5000 right in the kernel, 1 wrong, 1 left out"),
        "{text}"
    );
    assert!(text.contains("… and 4982 more, --all shows them"), "{text}");
    let place = |part: &str| text.find(part).unwrap();
    assert!(
        place("10.19.137.0/24  ") < place("10.19.136.0/24  "),
        "{text}"
    );
    assert!(place("10.19.136.0/24  ") < place("10.0.0.0/24  "), "{text}");
    assert!(text.lines().count() < 70, "{text}");
    assert!(report(&many, true, PLAIN).lines().count() > 5002);
}

#[test]
fn both_families_of_a_peer_and_of_a_pod_stand_below_each_other() {
    let mut dual = sample();
    dual.peers.truncate(1);
    dual.peers[0]
        .subnets
        .push("fd00:10:244:1234::/64".to_owned());
    dual.peers[0].public.push("2001:db8::1234".parse().unwrap());
    dual.pods[0]
        .addresses
        .push("fd00:10:244:1::2".parse().unwrap());
    let text = report(&dual, false, PLAIN);
    assert!(
        text.contains("\n  fd00:10:244:1234::/64  2001:db8::1234\n"),
        "{text}"
    );
    assert!(text.contains("\n  fd00:10:244:1::2\n"), "{text}");
    assert!(widest(&text) <= 80, "{text}");
}

#[test]
fn of_much_that_is_wrong_the_first_is_told() {
    let mut wrong = sample();
    wrong.contested = vec![wrong.contested[0].clone(); 5000];
    wrong.problems = vec!["somebody keeps undoing this".to_owned(); 5000];
    let text = report(&wrong, false, PLAIN);
    assert!(text.contains("… and 4992 more, --all"), "{text}");
    assert!(text.contains("… and 4995 more, --all"), "{text}");
    assert!(text.lines().count() < 60, "{text}");
}

/// A word as others may have put it somewhere: long, and with what makes a terminal do something.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9./:-]{0,120}",
        "\\PC{0,40}",
        "[\\x00-\\x1f a-z]{0,40}",
    ]
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u16; 8]>().prop_map(IpAddr::from),
    ]
}

prop_compose! {
    fn any_pod()(
        addresses in vec(address(), 0..3),
        words in vec(word(), 5),
        linked in any::<Option<bool>>(),
    ) -> Pod {
        let [namespace, name, id, interface, kind] = words.try_into().unwrap();
        Pod {
            addresses,
            container_id: id,
            namespace: Some(namespace),
            name: Some(name),
            interface: Some(interface),
            kind,
            linked,
            ..sample().pods.remove(0)
        }
    }
}

prop_compose! {
    fn any_peer()(
        subnets in vec(word(), 0..3),
        public in vec(address(), 0..3),
        reasons in vec(word(), 0..3),
        kernel in prop_oneof![Just(PeerInKernel::Wrong), Just(PeerInKernel::Unknown), Just(PeerInKernel::Right)],
    ) -> Peer {
        Peer { subnets, public, reasons, ..peer(1, kernel) }
    }
}

prop_compose! {
    fn any_report()(
        peers in vec(any_peer(), 0..5),
        pods in vec(any_pod(), 0..5),
        problems in vec(word(), 0..4),
        words in vec(word(), 8),
    ) -> Report {
        let mut report = sample();
        let [name, uplink, subnet, reason, object, device, endpoint, lost] = words.try_into().unwrap();
        report.node.name = name;
        report.node.subnets = vec![subnet.clone(), subnet];
        report.node.uplink = report.node.uplink.map(|found| Uplink { name: uplink, ..found });
        report.node.store = report.node.store.map(|found| Store { endpoints: vec![endpoint], ..found });
        report.node.lease = report.node.lease.map(|found| Lease { lost: Some(lost), ..found });
        report.network.devices[0].name = device;
        report.repairs[0].reason = reason;
        report.contested[0].object = object;
        report.unseen = problems.clone();
        Report { peers, pods, problems, ..report }
    }
}

proptest! {
    #[test]
    fn whatever_others_are_called_80_columns_are_enough(found in any_report()) {
        let text = report(&found, false, PLAIN);
        prop_assert!(widest(&text) <= 80, "{}", text);
        prop_assert!(!text.contains(|sign: char| sign.is_control() && sign != '\n'), "{:?}", text);
        let narrow = Paper { width: 40, ..PLAIN };
        let text = report(&found, true, narrow);
        prop_assert!(widest(&text) <= 40, "{}", text);
    }
}

#[test]
fn a_node_of_which_nothing_is_known_has_a_report_too() {
    let mut empty = sample();
    empty.daemon = Daemon {
        state: DaemonState::NotRunning,
        ..Daemon::default()
    };
    empty.node = Node::default();
    empty.network = Network::default();
    empty.peers.clear();
    empty.pods.clear();
    empty.addresses.clear();
    empty.repairs.clear();
    empty.contested.clear();
    empty.problems.clear();
    let text = report(&empty, false, PLAIN);
    assert!(text.contains("flanneld is not running"), "{text}");
    assert!(
        text.contains("network not known") && text.contains("0 peers"),
        "{text}"
    );
}

/// What programs rely on. Fields may be added here; that one changes or goes is a new version.
#[test]
fn the_json_is_the_documented_one() {
    let golden = include_str!("golden.json");
    let report = sample();
    let found = serde_json::to_string_pretty(&report).unwrap();
    assert_eq!(found.trim(), golden.trim());
    let read: Report = serde_json::from_str(golden).unwrap();
    assert_eq!(read, report);
}

#[test]
fn a_later_versions_json_can_be_read() {
    let mut value = serde_json::to_value(sample()).unwrap();
    value["invented"] = true.into();
    value["peers"][0]["invented"] = 7.into();
    let read: Report = serde_json::from_value(value).unwrap();
    assert_eq!(read, sample());
}

#[test]
fn a_plan_tells_what_waits_and_why() {
    let step = |held_until| PlanStep {
        object: "route 10.244.2.0/24".to_owned(),
        action: "replace it".to_owned(),
        reason: "it is missing".to_owned(),
        held_until,
    };
    let mut wanted = Plan {
        api_version: API_VERSION.to_owned(),
        at: at("2026-03-01T12:00:00Z"),
        complete: true,
        steps: Vec::new(),
        unfinished: false,
        trouble: None,
    };
    assert!(plan(&wanted, false, PLAIN).contains("nothing is to be changed"));
    wanted.steps = vec![step(None), step(Some(at("2026-03-01T12:00:08Z")))];
    wanted.unfinished = true;
    let text = plan(&wanted, false, PLAIN);
    assert!(
        text.starts_with(
            "2 changes due now\n  ~ route 10.244.2.0/24: it is missing (replace it)\n"
        ),
        "{text}"
    );
    assert!(
        text.contains("left as it is for 8s") && text.contains("more follows"),
        "{text}"
    );
    wanted.steps = vec![step(None); 5000];
    let text = plan(&wanted, false, PLAIN);
    assert!(
        text.contains("… and 4980 more, --all") && text.lines().count() < 30,
        "{text}"
    );
    assert!(plan(&wanted, true, PLAIN).lines().count() > 5000);
    wanted.trouble = Some("the thread is stuck".to_owned());
    assert!(plan(&wanted, false, PLAIN).contains("the thread is stuck"));
}

#[test]
fn spans_are_short() {
    for (seconds, text) in [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (7199, "119m"),
        (7200, "2h"),
        (172_800, "2d"),
    ] {
        assert_eq!(span(seconds), text);
    }
}
