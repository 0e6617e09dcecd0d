use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::cidr::{Ipv4Cidr, Ipv6Cidr};
use crate::netconf::Vni;

fn prefix() -> AnnotationPrefix {
    "flannel.alpha.coreos.com".parse().unwrap()
}

fn on_node(texts: &[(&str, &str)]) -> NodeAnnotations {
    let keys: Vec<(String, &str)> = texts
        .iter()
        .map(|(suffix, text)| (format!("flannel.alpha.coreos.com/{suffix}"), *text))
        .collect();
    NodeAnnotations::pick(
        &prefix(),
        keys.iter().map(|(key, text)| (key.as_str(), *text)),
    )
}

fn vxlan(mac: &str) -> VxlanLease {
    VxlanLease {
        vni: Some(Vni::DEFAULT),
        mac: mac.parse().unwrap(),
    }
}

fn dual() -> LeaseRecord {
    LeaseRecord {
        public: PerFamily::both("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()),
        backend: LeaseBackend::Vxlan(PerFamily::both(
            vxlan("12:c6:65:89:b4:e3"),
            vxlan("0e:2a:00:00:00:01"),
        )),
    }
}

fn both_subnets() -> Subnets {
    pod_subnets(["10.244.1.0/24", "fd00:10:1::/64"], None).unwrap()
}

const DUAL: [(&str, &str); 6] = [
    ("backend-data", r#"{"VNI":1,"VtepMAC":"12:c6:65:89:b4:e3"}"#),
    ("backend-type", "vxlan"),
    (
        "backend-v6-data",
        r#"{"VNI":1,"VtepMAC":"0e:2a:00:00:00:01"}"#,
    ),
    ("kube-subnet-manager", "true"),
    ("public-ip", "192.0.2.1"),
    ("public-ipv6", "2001:db8::1"),
];

#[test]
fn prefixes_follow_flannels_rule() {
    for (text, key) in [
        (
            "flannel.alpha.coreos.com",
            "flannel.alpha.coreos.com/backend-type",
        ),
        ("org.com", "org.com/backend-type"),
        ("org.com/", "org.com/backend-type"),
        ("org.com/9", "org.com/9-backend-type"),
        ("org.com/9-", "org.com/9-backend-type"),
        ("a_b.c-d/e_f", "a_b.c-d/e_f-backend-type"),
    ] {
        let prefix: AnnotationPrefix = text.parse().unwrap();
        assert_eq!(prefix.key(NodeAnnotation::BackendType), key);
    }
    for text in [
        "",
        "org",
        "org/",
        "org.com/a/b",
        "Org.com",
        "org..com",
        ".com",
        "org.com/-",
        "org.com/ä",
        "o m.x",
    ] {
        assert!(
            text.parse::<AnnotationPrefix>().is_err(),
            "{text:?} was taken"
        );
    }
}

/// The texts as flannel writes them, for each backend that Loden has.
#[test]
fn golden_annotations() {
    let none = PerFamily::default();
    assert_eq!(NodeAnnotations::of(&dual(), &none), on_node(&DUAL));
    let six = LeaseRecord {
        public: PerFamily::v6("2001:db8::1".parse().unwrap()),
        backend: LeaseBackend::HostGw,
    };
    assert_eq!(
        NodeAnnotations::of(&six, &none),
        on_node(&[
            ("backend-data", "null"),
            ("backend-type", "host-gw"),
            ("backend-v6-data", "null"),
            ("kube-subnet-manager", "true"),
            ("public-ip", "0.0.0.0"),
            ("public-ipv6", "2001:db8::1"),
        ])
    );
    let alloc = LeaseRecord {
        public: dual().public,
        backend: LeaseBackend::Unnamed,
    };
    assert_eq!(
        NodeAnnotations::of(&alloc, &none),
        on_node(&[
            ("backend-data", "null"),
            ("backend-type", ""),
            ("kube-subnet-manager", "true"),
            ("public-ip", "192.0.2.1"),
        ])
    );
    let tunnel_of_six = LeaseRecord {
        public: dual().public,
        backend: LeaseBackend::Vxlan(PerFamily::v6(vxlan("0e:2a:00:00:00:01"))),
    };
    let written = NodeAnnotations::of(&tunnel_of_six, &none);
    assert_eq!(written.text(NodeAnnotation::PublicIp), None);
    assert_eq!(
        written.text(NodeAnnotation::PublicIpv6),
        Some("2001:db8::1")
    );
}

#[test]
fn an_overwrite_stands_in_the_address_place() {
    let mut texts = DUAL.to_vec();
    texts.push(("public-ip-overwrite", "203.0.113.9"));
    texts.push(("public-ipv6-overwrite", "nonsense"));
    let node = on_node(&texts);
    let (overwrite, faults) = node.overwrites();
    assert_eq!(overwrite, PerFamily::v4("203.0.113.9".parse().unwrap()));
    assert_eq!(
        faults[0].to_string(),
        r#"annotation public-ipv6-overwrite is "nonsense", which is no address of its family"#
    );
    let changes = node.changes(&NodeAnnotations::of(&dual(), &overwrite));
    assert_eq!(
        changes,
        BTreeMap::from([(NodeAnnotation::PublicIp, Some("203.0.113.9".to_owned()))])
    );
}

#[test]
fn what_people_wrote_is_never_changed_and_left_overs_are_taken_away() {
    let mut texts = DUAL.to_vec();
    texts.push(("node-public-ip", "192.0.2.77"));
    let node = on_node(&texts);
    let record = LeaseRecord {
        public: PerFamily::v4("192.0.2.1".parse().unwrap()),
        backend: LeaseBackend::Vxlan(PerFamily::v4(vxlan("12:c6:65:89:b4:e3"))),
    };
    let wanted = NodeAnnotations::of(&record, &PerFamily::default());
    assert_eq!(
        node.changes(&wanted),
        BTreeMap::from([
            (NodeAnnotation::BackendV6Data, None),
            (NodeAnnotation::PublicIpv6, None),
        ])
    );
    assert_eq!(node.wishes().0.v4, Some("192.0.2.77".parse().unwrap()));
}

#[test]
fn a_family_that_is_missing_or_broken_does_not_harm_the_other() {
    for (annotation, text, faults) in [
        ("public-ipv6", "", 0),
        ("public-ipv6", "2001:db8::g", 1),
        ("backend-v6-data", "null", 0),
        ("backend-v6-data", r#"{"VtepMAC":"ff:ff:ff:ff:ff:ff"}"#, 1),
        ("backend-v6-data", "[", 1),
    ] {
        let mut texts = DUAL.to_vec();
        texts.retain(|(name, _)| *name != annotation);
        texts.push((annotation, text));
        let lease = on_node(&texts).lease(both_subnets()).unwrap();
        assert_eq!(lease.faults.len(), faults, "{annotation}={text}");
        assert_eq!(lease.record.public.v4, dual().public.v4);
        let LeaseBackend::Vxlan(data) = lease.record.backend else {
            panic!("not vxlan")
        };
        assert_eq!(data.v4, Some(vxlan("12:c6:65:89:b4:e3")));
        assert!(data.v6.is_none() || lease.record.public.v6.is_none());
    }
}

#[test]
fn what_makes_no_lease_says_why() {
    let reason = |texts: &[(&str, &str)], subnets| on_node(texts).lease(subnets).unwrap_err();
    assert_eq!(reason(&DUAL, Subnets::default()), NodeLeaseError::NoPodCidr);
    let mut without_type = DUAL.to_vec();
    without_type.remove(1);
    assert_eq!(
        reason(&without_type, both_subnets()),
        NodeLeaseError::Lacks {
            annotation: NodeAnnotation::BackendType
        }
    );
    assert!(matches!(
        reason(&DUAL[..4], both_subnets()),
        NodeLeaseError::NoAddress { .. }
    ));
    let wrong = [("public-ip", "10.0.0"), ("backend-type", "host-gw")];
    assert!(matches!(
        reason(&wrong, both_subnets()),
        NodeLeaseError::BadAddress { .. }
    ));
}

#[test]
fn pod_cidrs_are_at_most_one_of_each_family() {
    assert_eq!(pod_subnets([], None), Ok(Subnets::default()));
    assert_eq!(pod_subnets([], Some("")), Ok(Subnets::default()));
    assert_eq!(
        pod_subnets([], Some("10.244.1.7/24")),
        pod_subnets(["10.244.1.0/24"], Some("ignored"))
    );
    for (list, text) in [
        (vec!["10.244.1.0/24", "10.244.2.0/24"], "at most one"),
        (vec!["10.1.0.0/24", "fd00::/64", "fd01::/64"], "3 podCIDRs"),
        (vec!["10.244.1.0"], "podCIDR is no subnet"),
    ] {
        let error = pod_subnets(list, None).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn only_annotations_under_the_prefix_are_picked() {
    let picked = NodeAnnotations::pick(
        &"org.com/9".parse().unwrap(),
        [
            ("org.com/9-backend-type", "host-gw"),
            ("org.com/backend-type", "vxlan"),
            ("org.com/9-backend-types", "x"),
            ("flannel.alpha.coreos.com/kube-subnet-manager", "true"),
        ],
    );
    assert_eq!(picked.text(NodeAnnotation::BackendType), Some("host-gw"));
    assert!(!picked.is_managed());
    assert_eq!(picked.0.len(), 1);
}

fn record() -> impl Strategy<Value = LeaseRecord> {
    let mac = any::<[u8; 6]>()
        .prop_map(Mac)
        .prop_filter("unicast", |mac| mac.is_unicast());
    let data = (option::of(0u32..=0x00ff_ffff), mac).prop_map(|(vni, mac)| VxlanLease {
        vni: vni.and_then(Vni::new),
        mac,
    });
    let backend = prop_oneof![
        Just(LeaseBackend::HostGw),
        Just(LeaseBackend::Unnamed),
        (option::of(data.clone()), option::of(data))
            .prop_map(|(v4, v6)| LeaseBackend::Vxlan(PerFamily { v4, v6 })),
    ];
    let v4 = option::of(any::<Ipv4Addr>().prop_filter("an address", |a| !a.is_unspecified()));
    let v6 = option::of(any::<Ipv6Addr>().prop_filter("an address", |a| !a.is_unspecified()));
    (v4, v6, backend).prop_map(|(v4, v6, backend)| LeaseRecord {
        public: PerFamily { v4, v6 },
        backend,
    })
}

proptest! {
    /// What is written once needs no second writing, and reads back as what it was, as far as it was written.
    #[test]
    fn writing_is_done_once(before in record(), now in record()) {
        let none = PerFamily::default();
        let mut node = NodeAnnotations::of(&before, &none);
        let wanted = NodeAnnotations::of(&now, &none);
        for (annotation, text) in node.changes(&wanted) {
            match text {
                Some(text) => node.0.insert(annotation, text.into()),
                None => node.0.remove(&annotation),
            };
        }
        prop_assert!(node.changes(&wanted).is_empty());
        prop_assert!(node.is_managed());
        let subnets = both_subnets();
        match node.lease(subnets) {
            Ok(lease) => {
                prop_assert_eq!(&lease.faults, &[]);
                prop_assert_eq!(lease.record.backend.name(), now.backend.name());
                if let (LeaseBackend::Vxlan(read), LeaseBackend::Vxlan(written)) = (&lease.record.backend, &now.backend) {
                    prop_assert_eq!(read.v4, written.v4);
                    prop_assert_eq!(read.v6, written.v6.filter(|_| now.public.v6.is_some()));
                }
                for (read, written) in [
                    (lease.record.public.v4.map(std::net::IpAddr::V4), now.public.v4.map(std::net::IpAddr::V4)),
                    (lease.record.public.v6.map(std::net::IpAddr::V6), now.public.v6.map(std::net::IpAddr::V6)),
                ] {
                    prop_assert!(read.is_none() || read == written);
                }
            }
            Err(error) => {
                let no_address = matches!(error, NodeLeaseError::NoAddress { .. });
                prop_assert!(no_address, "{}", error);
            }
        }
    }

    #[test]
    fn any_texts_are_answered(texts in proptest::collection::vec((0usize..10, ".{0,60}"), 0..12), v4: Ipv4Addr, v6: Ipv6Addr) {
        let prefix = prefix();
        let keys: Vec<(String, String)> = texts
            .into_iter()
            .map(|(at, text)| (prefix.key(NodeAnnotation::ALL[at]), text))
            .collect();
        let node = NodeAnnotations::pick(&prefix, keys.iter().map(|(k, t)| (k.as_str(), t.as_str())));
        let subnets = PerFamily::both(Ipv4Cidr::masked(v4, 24).unwrap(), Ipv6Cidr::masked(v6, 64).unwrap());
        if let Err(error) = node.lease(subnets) {
            prop_assert!(error.to_string().len() < 1000);
        }
        let _ = (node.wishes(), node.overwrites(), node.macs());
    }
}
