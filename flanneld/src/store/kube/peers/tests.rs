use ipam::{AnnotationPrefix, LeaseBackend};
use proptest::prelude::*;

use super::super::node::view;
use super::*;

const OWN: &str = "own";

fn prefix() -> AnnotationPrefix {
    "flannel.alpha.coreos.com".parse().unwrap()
}

fn peers() -> Peers {
    let families = Families { v4: true, v6: true };
    Peers::new(OWN, families)
}

/// A Node of the network: its subnets are numbered, and so is its public address.
fn node(name: &str, subnet: u8, public: u8) -> NodeView {
    let annotations = format!(
        r#""flannel.alpha.coreos.com/kube-subnet-manager":"true","flannel.alpha.coreos.com/backend-type":"host-gw",
           "flannel.alpha.coreos.com/public-ip":"192.0.2.{public}","flannel.alpha.coreos.com/public-ipv6":"2001:db8::{public}""#
    );
    bare(name, subnet, &annotations)
}

fn bare(name: &str, subnet: u8, annotations: &str) -> NodeView {
    let cidrs = format!(r#"["10.244.{subnet}.0/24","fd00:{subnet}::/64"]"#);
    view(
        &prefix(),
        &format!(
            r#"{{"metadata":{{"name":"{name}","resourceVersion":"5","creationTimestamp":"2026-11-21T12:00:00Z","annotations":{{{annotations}}}}},
               "spec":{{"podCIDRs":{cidrs}}}}}"#
        ),
    )
}

fn key(subnet: u8) -> LeaseKey {
    format!("10.244.{subnet}.0-24&fd00:{subnet}::-64")
        .parse()
        .unwrap()
}

fn mended(name: &str) -> PeerEvent {
    PeerEvent::Mended(format!("Node {name}"))
}

fn list(peers: &mut Peers, nodes: &[NodeView]) {
    peers.begin();
    for node in nodes {
        peers.put(node);
    }
    peers.end();
}

/// The keys that a snapshot has.
fn snapshot(peers: &mut Peers) -> (Vec<LeaseKey>, Vec<Unreadable>) {
    match peers.news().as_slice() {
        [PeerEvent::Snapshot { peers, skipped }] => {
            (peers.iter().map(|peer| peer.key).collect(), skipped.clone())
        }
        other => panic!("no snapshot: {other:?}"),
    }
}

fn known() -> Peers {
    let mut peers = peers();
    list(
        &mut peers,
        &[node(OWN, 1, 1), node("b", 2, 2), node("c", 3, 3)],
    );
    assert_eq!(snapshot(&mut peers), (vec![key(2), key(3)], vec![]));
    peers
}

#[test]
fn nothing_is_told_before_the_list_is_whole() {
    let mut peers = peers();
    peers.begin();
    peers.put(&node("b", 2, 2));
    assert_eq!(peers.news(), []);
    peers.end();
    assert_eq!(snapshot(&mut peers).0, [key(2)]);
    assert_eq!(peers.news(), []);
}

#[test]
fn heartbeats_are_no_news() {
    let mut peers = known();
    let mut beat = node("b", 2, 2);
    beat.revision += 1;
    peers.put(&beat);
    peers.put(&node(OWN, 1, 1));
    assert_eq!(peers.news(), []);
}

/// flannel drops a change of one family only (its defect D1).
#[test]
fn a_change_of_one_family_is_news() {
    let mut peers = known();
    let mut moved = node("b", 2, 2);
    let texts = r#""flannel.alpha.coreos.com/kube-subnet-manager":"true","flannel.alpha.coreos.com/backend-type":"host-gw",
       "flannel.alpha.coreos.com/public-ip":"192.0.2.2","flannel.alpha.coreos.com/public-ipv6":"2001:db8::99""#;
    moved.annotations = bare("b", 2, texts).annotations;
    peers.put(&moved);
    let news = peers.news();
    let [PeerEvent::Changed(lease)] = news.as_slice() else {
        panic!("{news:?}")
    };
    assert_eq!(
        lease.record.public.v6,
        Some("2001:db8::99".parse().unwrap())
    );
}

/// flannel does not notice (its defect D2).
#[test]
fn another_pod_cidr_removes_the_old_and_adds_the_new() {
    let mut peers = known();
    peers.put(&node("b", 9, 2));
    let news = peers.news();
    assert!(
        matches!(news.as_slice(), [PeerEvent::Removed(old), PeerEvent::Changed(new)] if *old == key(2) && new.key == key(9)),
        "{news:?}"
    );
}

#[test]
fn a_node_that_is_gone_is_gone_and_one_without_marker_is_none() {
    let mut peers = known();
    peers.remove("b");
    peers.remove("never-seen");
    peers.put(&bare("windows", 7, ""));
    let news = peers.news();
    let [PeerEvent::Unreadable(entry), PeerEvent::Removed(gone)] = news.as_slice() else {
        panic!("{news:?}")
    };
    assert_eq!(
        (entry.key.as_str(), entry.used.clone()),
        ("Node windows", Used::NotOurs)
    );
    assert_eq!(*gone, key(2));
    peers.remove("windows");
    assert_eq!(peers.news(), [mended("windows")]);
}

#[test]
fn a_list_tells_who_was_removed_meanwhile() {
    let mut peers = known();
    list(
        &mut peers,
        &[node(OWN, 1, 1), node("c", 3, 3), node("d", 4, 4)],
    );
    let news = peers.news();
    assert!(
        matches!(news.as_slice(), [PeerEvent::Removed(b), PeerEvent::Changed(d)] if *b == key(2) && d.key == key(4)),
        "{news:?}"
    );
}

#[test]
fn a_list_without_our_own_node_removes_nobody_until_it_is_back() {
    let mut peers = known();
    list(&mut peers, &[]);
    assert_eq!(peers.news(), []);
    peers.put(&node("c", 3, 3));
    peers.put(&node(OWN, 1, 1));
    assert_eq!(peers.news(), [PeerEvent::Removed(key(2))]);
}

#[test]
fn stripped_annotations_leave_what_was_known() {
    let mut peers = known();
    peers.put(&bare("b", 2, ""));
    let news = peers.news();
    let [PeerEvent::Unreadable(entry)] = news.as_slice() else {
        panic!("{news:?}")
    };
    assert_eq!((entry.key.as_str(), entry.lease), ("Node b", Some(key(2))));
    assert_eq!(entry.used, Used::Former);
    peers.put(&bare("b", 2, ""));
    assert_eq!(peers.news(), []);
    // Put back, it is the same as before.
    peers.put(&node("b", 2, 2));
    assert_eq!(peers.news(), [mended("b")]);
    // Stripped together with another subnet it is a Node of its own, which is none of ours.
    peers.put(&bare("b", 8, ""));
    let news = peers.news();
    let [PeerEvent::Unreadable(entry), PeerEvent::Removed(gone)] = news.as_slice() else {
        panic!("{news:?}")
    };
    assert_eq!((&entry.used, *gone), (&Used::NotOurs, key(2)));
}

#[test]
fn what_cannot_be_read_is_told_once_and_again_when_it_changes() {
    let mut peers = known();
    let broken = |text: &str| {
        bare(
            "d",
            4,
            &format!(
                r#""flannel.alpha.coreos.com/kube-subnet-manager":"true","flannel.alpha.coreos.com/public-ip":"{text}""#
            ),
        )
    };
    for (text, expected) in [("x", 1), ("x", 0), ("y", 1), ("y", 0)] {
        peers.put(&broken(text));
        assert_eq!(peers.news().len(), expected, "{text}");
    }
    peers.put(&node("d", 4, 4));
    let news = peers.news();
    assert!(
        matches!(news.as_slice(), [PeerEvent::Changed(_), after] if *after == mended("d")),
        "{news:?}"
    );
}

#[test]
fn of_a_node_that_is_readable_in_one_family_that_is_used() {
    let mut peers = known();
    let half = bare(
        "d",
        4,
        r#""flannel.alpha.coreos.com/kube-subnet-manager":"true","flannel.alpha.coreos.com/backend-type":"host-gw",
           "flannel.alpha.coreos.com/public-ip":"192.0.2.4","flannel.alpha.coreos.com/public-ipv6":"x""#,
    );
    peers.put(&half);
    let news = peers.news();
    let [PeerEvent::Unreadable(entry), PeerEvent::Changed(lease)] = news.as_slice() else {
        panic!("{news:?}")
    };
    assert_eq!((&entry.used, lease.key), (&Used::InPart, key(4)));
    assert_eq!(lease.record.public.v4, Some([192, 0, 2, 4].into()));
    assert_eq!(lease.record.public.v6, None);
}

#[test]
fn a_foreign_backend_is_a_lease_for_the_network_to_judge() {
    let mut peers = known();
    let wireguard = bare(
        "d",
        4,
        r#""flannel.alpha.coreos.com/kube-subnet-manager":"true","flannel.alpha.coreos.com/backend-type":"wireguard",
           "flannel.alpha.coreos.com/public-ip":"192.0.2.4""#,
    );
    peers.put(&wireguard);
    let news = peers.news();
    let [PeerEvent::Changed(lease)] = news.as_slice() else {
        panic!("{news:?}")
    };
    assert!(matches!(&lease.record.backend, LeaseBackend::Other { name } if name == "wireguard"));
}

#[test]
fn of_two_nodes_with_one_subnet_the_first_holds_it() {
    let mut peers = known();
    let later_node = || {
        let mut later = node("a", 2, 8);
        later.created += 60;
        later
    };
    peers.put(&later_node());
    let holder = |lease: &PeerLease| lease.record.public.v4.unwrap().to_string();
    let later = |entry: &Unreadable| match &entry.used {
        Used::Duplicate { later } => later.clone(),
        other => panic!("{other:?}"),
    };
    let news = peers.news();
    let [PeerEvent::Unreadable(entry), PeerEvent::Changed(lease)] = news.as_slice() else {
        panic!("{news:?}")
    };
    assert_eq!(
        entry.reason,
        "it has 10.244.2.0/24 and fd00:2::/64, as has Node b, which came first"
    );
    assert_eq!(
        (entry.key.as_str(), later(entry)),
        ("Node a", "Node a".to_owned())
    );
    assert_eq!(holder(lease), "192.0.2.2");
    // The heartbeats of both are none.
    peers.put(&later_node());
    peers.put(&node("b", 2, 2));
    assert_eq!(peers.news(), []);

    peers.remove("b");
    let news = peers.news();
    let [PeerEvent::Changed(lease), gone] = news.as_slice() else {
        panic!("{news:?}")
    };
    assert_eq!(
        (holder(lease), gone),
        ("192.0.2.8".to_owned(), &mended("a"))
    );
}

#[test]
fn a_subnet_that_changed_hands_unseen_is_no_duplicate() {
    let mut peers = known();
    peers.begin();
    peers.put(&node(OWN, 1, 1));
    peers.put(&node("c", 3, 3));
    let mut heir = node("d", 2, 8);
    heir.created += 60;
    peers.put(&heir);
    let news = peers.news();
    let [PeerEvent::Changed(lease)] = news.as_slice() else {
        panic!("{news:?}")
    };
    assert_eq!(lease.record.public.v4, Some("192.0.2.2".parse().unwrap()));
    peers.end();
    let news = peers.news();
    let [PeerEvent::Changed(lease), gone @ ..] = news.as_slice() else {
        panic!("{news:?}")
    };
    assert_eq!(lease.record.public.v4, Some("192.0.2.8".parse().unwrap()));
    assert!(
        gone.iter()
            .all(|event| matches!(event, PeerEvent::Mended(_))),
        "{news:?}"
    );
}

/// What our own Node has is nobody else's here, whatever the others think.
#[test]
fn whoever_has_our_own_subnets_is_told_and_left_out() {
    let mut peers = known();
    let mut own = node(OWN, 2, 1);
    own.created += 60;
    peers.put(&own);
    let news = peers.news();
    assert!(news.contains(&PeerEvent::Removed(key(2))), "{news:?}");
    let told: Vec<&Unreadable> = news
        .iter()
        .filter_map(|event| match event {
            PeerEvent::Unreadable(entry) => Some(entry),
            _ => None,
        })
        .collect();
    let [entry] = told.as_slice() else {
        panic!("{news:?}")
    };
    assert_eq!(
        entry.reason,
        "it has 10.244.2.0/24 and fd00:2::/64, as has this Node (own), and came first: \
         other nodes send there what is for pods of this one"
    );
    let later = "Node own".to_owned();
    assert_eq!(
        (entry.key.as_str(), &entry.used),
        ("Node b", &Used::Duplicate { later })
    );
    // Made anew, it has others, and the subnets are the other's again.
    peers.put(&node(OWN, 1, 1));
    let news = peers.news();
    assert!(news.contains(&mended("b")), "{news:?}");
    assert!(
        news.iter()
            .any(|event| matches!(event, PeerEvent::Changed(lease) if lease.key == key(2))),
        "{news:?}"
    );
}

#[derive(Clone, Debug)]
enum Step {
    Put {
        name: u8,
        subnet: u8,
        public: u8,
        managed: bool,
    },
    Remove {
        name: u8,
    },
    Relist {
        keep: u8,
    },
    Ask,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..5, 1u8..6, 1u8..5, any::<bool>()).prop_map(|(name, subnet, public, managed)| Step::Put { name, subnet, public, managed }),
        1 => (0u8..5).prop_map(|name| Step::Remove { name }),
        1 => any::<u8>().prop_map(|keep| Step::Relist { keep }),
        2 => Just(Step::Ask),
    ]
}

proptest! {
    /// Whoever takes in all news knows what one knows who asks once at the end.
    #[test]
    fn news_add_up_to_the_whole(steps in proptest::collection::vec(step(), 1..60)) {
        let mut peers = peers();
        let mut nodes: BTreeMap<String, NodeView> = BTreeMap::new();
        let own = node(OWN, 100, 100);
        list(&mut peers, std::slice::from_ref(&own));
        let (mut listener, mut told) = (BTreeMap::new(), BTreeMap::new());
        for step in steps.into_iter().chain([Step::Ask]) {
            match step {
                Step::Put { name, subnet, public, managed } => {
                    let name = format!("n{name}");
                    let view = if managed { node(&name, subnet, public) } else { bare(&name, subnet, "") };
                    peers.put(&view);
                    nodes.insert(name, view);
                }
                Step::Remove { name } => {
                    let name = format!("n{name}");
                    peers.remove(&name);
                    nodes.remove(&name);
                }
                Step::Relist { keep } => {
                    let mut at = 0;
                    nodes.retain(|_, _| { at += 1; keep >> (at % 8) & 1 == 1 });
                    let mut all: Vec<NodeView> = nodes.values().cloned().collect();
                    all.push(own.clone());
                    list(&mut peers, &all);
                }
                Step::Ask => for event in peers.news() {
                    match event {
                        PeerEvent::Snapshot { peers, skipped } => {
                            listener = peers.into_iter().map(|p| (p.key, p.record)).collect();
                            told = skipped.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
                        }
                        PeerEvent::Changed(lease) => { listener.insert(lease.key, lease.record); }
                        PeerEvent::Removed(key) => { listener.remove(&key); }
                        PeerEvent::Unreadable(entry) => { told.insert(entry.key.clone(), entry); }
                        PeerEvent::Mended(key) => { told.remove(&key); }
                    }
                },
            }
        }
        peers.reported = false;
        let news = peers.news();
        let [PeerEvent::Snapshot { peers: all, skipped }] = news.as_slice() else { panic!("{news:?}") };
        let entries: BTreeMap<_, _> = skipped.iter().map(|entry| (entry.key.clone(), entry.clone())).collect();
        prop_assert_eq!(&told, &entries);
        let whole: BTreeMap<_, _> = all.iter().map(|p| (p.key, p.record.clone())).collect();
        prop_assert_eq!(listener, whole);
        for node in nodes.values().filter(|node| node.annotations.is_managed()) {
            let key = LeaseKey::new(node.subnets.clone().unwrap()).unwrap();
            prop_assert!(all.iter().any(|lease| lease.key == key));
            // All came at the same time, so the name decides. One that was stripped of its annotations keeps its place.
            let used = |node: &NodeView| entries.get(&format!("Node {}", node.name)).map(|entry| entry.used.clone());
            let duplicate = |node: &NodeView| matches!(used(node), Some(Used::Duplicate { .. }));
            let holds = |node: &NodeView| node.annotations.is_managed() || duplicate(node) || used(node) == Some(Used::Former);
            let first = nodes.values().find(|other| holds(other) && other.subnets == node.subnets).unwrap();
            prop_assert_eq!(duplicate(node), first.name != node.name);
        }
    }
}
