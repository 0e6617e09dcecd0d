use proptest::prelude::*;

use super::*;

fn spec(subnet: &str) -> RangeSpec {
    RangeSpec::whole(subnet.parse().unwrap())
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn ends(range: Range) -> (String, String) {
    (range.start().to_string(), range.end().to_string())
}

#[test]
fn a_shared_link_has_a_gateway_and_no_broadcast() {
    let range = spec("10.244.1.0/24").shared_link().unwrap();
    assert_eq!(
        ends(range),
        ("10.244.1.1".to_owned(), "10.244.1.254".to_owned())
    );
    assert_eq!(range.gateway(), Some(ip("10.244.1.1")));
    let range = RangeSpec {
        gateway: Some(ip("10.244.1.9")),
        ..spec("10.244.1.0/24")
    }
    .shared_link()
    .unwrap();
    assert_eq!(range.gateway(), Some(ip("10.244.1.9")));
    let range = spec("fd00::/64").shared_link().unwrap();
    assert_eq!(
        ends(range),
        ("fd00::1".to_owned(), "fd00::ffff:ffff:ffff:ffff".to_owned())
    );
    assert_eq!(range.gateway(), Some(ip("fd00::1")));
    for small in ["10.244.1.0/31", "10.244.1.0/32", "fd00::/127", "fd00::/128"] {
        assert!(
            matches!(spec(small).shared_link(), Err(RangeError::TooSmall { .. })),
            "{small}"
        );
    }
    assert!(spec("10.244.1.0/30").shared_link().is_ok());
}

#[test]
fn a_routed_subnet_may_be_a_single_address() {
    let one = spec("10.244.1.7/32").routed().unwrap();
    assert_eq!(
        ends(one),
        ("10.244.1.7".to_owned(), "10.244.1.7".to_owned())
    );
    assert_eq!(one.gateway(), None);
    assert_eq!(
        ends(spec("10.244.1.6/31").routed().unwrap()),
        ("10.244.1.6".to_owned(), "10.244.1.7".to_owned())
    );
    assert_eq!(
        ends(spec("fd00::/127").routed().unwrap()),
        ("fd00::".to_owned(), "fd00::1".to_owned())
    );
    assert_eq!(
        ends(spec("10.244.1.0/30").routed().unwrap()),
        ("10.244.1.1".to_owned(), "10.244.1.2".to_owned())
    );
}

#[test]
fn given_ends_count_within_the_usable_part() {
    let part = |start: &str, end: &str| {
        RangeSpec {
            start: Some(ip(start)),
            end: Some(ip(end)),
            ..spec("10.244.1.0/24")
        }
        .shared_link()
    };
    assert_eq!(
        ends(part("10.244.1.10", "10.244.1.20").unwrap()),
        ("10.244.1.10".to_owned(), "10.244.1.20".to_owned())
    );
    assert_eq!(
        ends(part("10.244.1.0", "10.244.1.255").unwrap()),
        ("10.244.1.1".to_owned(), "10.244.1.254".to_owned())
    );
    assert!(matches!(
        part("10.244.1.20", "10.244.1.10"),
        Err(RangeError::Empty { .. })
    ));
    assert!(matches!(
        part("10.244.1.1", "10.244.1.1"),
        Err(RangeError::Empty { .. })
    ));
    assert!(matches!(
        part("10.244.1.255", "10.244.1.255"),
        Err(RangeError::Empty { .. })
    ));
    let error = part("10.244.2.1", "10.244.1.20").unwrap_err().to_string();
    assert_eq!(
        error,
        "range start 10.244.2.1 lies outside its subnet 10.244.1.0/24; choose one within it or leave it out"
    );
    assert!(matches!(
        part("fd00::1", "10.244.1.20"),
        Err(RangeError::Outside { .. })
    ));
    let gateway = RangeSpec {
        gateway: Some(ip("10.244.2.1")),
        ..spec("10.244.1.0/24")
    };
    assert!(matches!(
        gateway.shared_link(),
        Err(RangeError::Outside {
            what: "gateway",
            ..
        })
    ));
}

#[test]
fn ranges_that_do_not_go_together_are_refused() {
    let (a, b) = (
        spec("10.244.1.0/24").routed().unwrap(),
        spec("10.244.0.0/16").routed().unwrap(),
    );
    let six = spec("fd00::/64").routed().unwrap();
    assert!(matches!(check(&[]), Err(RangeError::NoRange)));
    assert!(matches!(
        check(&[vec![a], vec![]]),
        Err(RangeError::NoRange)
    ));
    assert!(matches!(
        check(&[vec![a, six]]),
        Err(RangeError::MixedFamilies { .. })
    ));
    assert!(matches!(
        check(&[vec![a], vec![b]]),
        Err(RangeError::Overlap { .. })
    ));
    assert!(matches!(
        check(&[vec![b, a]]),
        Err(RangeError::Overlap { .. })
    ));
    assert!(check(&[vec![a], vec![six]]).is_ok());
    let error = check(&[vec![a], vec![a]]).unwrap_err().to_string();
    assert_eq!(
        error,
        "the ranges 10.244.1.1 to 10.244.1.254 and 10.244.1.1 to 10.244.1.254 overlap; make them disjoint"
    );
}

#[test]
fn only_so_many_addresses_have_a_slot() {
    let window = spec("fd00::/64").shared_link().unwrap().window();
    assert_eq!(window.len(), 65_536);
    assert_eq!(window.index(ip("fd00::1")), Some(0));
    assert_eq!(window.index(ip("fd00::1:0")), Some(65_535));
    assert_eq!(window.index(ip("fd00::1:1")), None);
    let last = RangeSpec {
        start: Some(ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0")),
        ..spec("ffff::/16")
    };
    assert_eq!(last.routed().unwrap().window().len(), 16);
}

#[test]
fn file_names_of_others_are_no_windows() {
    for name in [
        "lock",
        "attachments",
        "slots.new",
        "slots-",
        "slots-10.0.0.1",
        "slots-10.0.0.1-",
        "slots-10.0.0.2-10.0.0.1",
        "slots-10.0.0.1-fd00::1",
        "slots-10.0.0.1-10.1.0.1",
        "slots-::-1::",
        "slots-10.0.0.1-10.0.0.2-",
        "10.0.0.1-10.0.0.2",
    ] {
        assert_eq!(Window::from_file_name(name), None, "{name}");
    }
}

proptest! {
    /// Ranges are compared with their neighbours only; that must find what comparing each with each finds.
    #[test]
    fn ranges_that_overlap_are_found_wherever_they_stand(ends in proptest::collection::vec((1u8..=254, 0u8..40), 1..8)) {
        let range = |&(start, more): &(u8, u8)| {
            let end = start.saturating_add(more).min(254);
            let at = |last| Some(IpAddr::from([10, 244, 1, last]));
            RangeSpec { start: at(start), end: at(end), ..spec("10.244.1.0/24") }.routed().unwrap()
        };
        let ranges: Vec<_> = ends.iter().map(range).collect();
        let met = |(place, one): (usize, &Range)| ranges[place + 1..].iter().any(|other| one.overlaps(other));
        prop_assert_eq!(check(std::slice::from_ref(&ranges)).is_err(), ranges.iter().enumerate().any(met));
    }

    #[test]
    fn file_names_round_trip(v4: bool, start: u128, more in 0..Window::LARGEST) {
        let start = if v4 { start & 0xffff_ffff } else { start };
        if let Some(window) = Window::new(v4, start, start.saturating_add(more)) {
            prop_assert_eq!(Window::from_file_name(&window.file_name()), Some(window));
            prop_assert_eq!(window.index(window.address(window.len() - 1)), Some(window.len() - 1));
        }
    }

    #[test]
    fn addresses_to_give_are_never_those_of_the_subnet_itself(bits: u32, prefix in 0..=30_u8, start: Option<u32>, end: Option<u32>) {
        let subnet = Ipv4Cidr::masked(bits.into(), prefix).unwrap();
        let within = |bits: u32| IpAddr::from(Ipv4Addr::from_bits(subnet.network().to_bits() | bits & (subnet.last().to_bits() ^ subnet.network().to_bits())));
        let spec = RangeSpec { start: start.map(within), end: end.map(within), ..RangeSpec::whole(subnet.into()) };
        if let Ok(range) = spec.shared_link() {
            prop_assert!(!range.contains(subnet.network().into()));
            prop_assert!(!range.contains(subnet.last().into()));
            prop_assert!(range.start() <= range.end());
        }
    }
}
