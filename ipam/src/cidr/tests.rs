use proptest::prelude::*;

use super::*;

fn v4(text: &str) -> Ipv4Cidr {
    text.parse().unwrap()
}

fn v6(text: &str) -> Ipv6Cidr {
    text.parse().unwrap()
}

#[test]
fn reads_only_the_subnet_itself() {
    assert_eq!(v4("10.244.1.0/24").to_string(), "10.244.1.0/24");
    assert_eq!(v6("FD00:10:244:0::/64").to_string(), "fd00:10:244::/64");
    let error = "10.244.1.7/24".parse::<Ipv4Cidr>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "10.244.1.7/24 is an address within a subnet; the subnet itself is 10.244.1.0/24"
    );
    assert_eq!(
        Ipv4Cidr::parse_masked("10.244.1.7/24"),
        Ok(v4("10.244.1.0/24"))
    );
    assert_eq!(
        Cidr::parse_masked("fd00::7/64"),
        Ok(Cidr::V6(v6("fd00::/64")))
    );
}

#[test]
fn refuses_what_go_refuses() {
    for text in [
        "",
        "/",
        "10.0.0.0",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0.0/+8",
        "10.0.0.0/08",
        "10.0.0/8",
        "10.0.0.0/255.0.0.0",
        "10.0.0.0/8/8",
        " 10.0.0.0/8",
        "010.0.0.0/8",
        "10.0.0.256/32",
        "fd00::/16",
        "10.0.0.0/999",
    ] {
        assert!(text.parse::<Ipv4Cidr>().is_err(), "{text:?} was taken");
        assert!(Ipv4Cidr::parse_masked(text).is_err(), "{text:?} was taken");
    }
    for text in [
        "fd00::",
        "fd00::/129",
        "10.0.0.0/8",
        "fd00:::/16",
        "fe80::%1/64",
        "[fd00::]/16",
        "fd00::/1000",
    ] {
        assert!(text.parse::<Ipv6Cidr>().is_err(), "{text:?} was taken");
    }
}

#[test]
fn errors_say_what_is_wrong_and_stay_short() {
    let error = "10.0.0.0".parse::<Ipv4Cidr>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"10.0.0.0\" has no prefix length; write it like 10.244.0.0/16"
    );
    let error = "fd00::/129".parse::<Ipv6Cidr>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the prefix length of \"fd00::/129\" is more than 128, the length of the address"
    );
    let error = "x\n"
        .repeat(10_000)
        .parse::<Ipv4Cidr>()
        .unwrap_err()
        .to_string();
    assert!(error.len() < 300 && !error.contains('\n'), "{error}");
}

#[test]
fn knows_its_addresses() {
    let subnet = v4("10.244.1.0/24");
    assert_eq!(subnet.first_address(), Ipv4Addr::new(10, 244, 1, 1));
    assert_eq!(subnet.last(), Ipv4Addr::new(10, 244, 1, 255));
    assert_eq!(
        v4("10.244.1.7/32").first_address(),
        Ipv4Addr::new(10, 244, 1, 7)
    );
    assert_eq!(
        v4("10.244.1.6/31").first_address(),
        Ipv4Addr::new(10, 244, 1, 7)
    );
    let subnet = v6("fd00::/64");
    assert_eq!(subnet.first_address().to_string(), "fd00::1");
    assert_eq!(subnet.last().to_string(), "fd00::ffff:ffff:ffff:ffff");
    assert!(
        v6("::/0").contains(Ipv6Addr::LOCALHOST) && v4("0.0.0.0/0").contains(Ipv4Addr::BROADCAST)
    );
}

#[test]
fn neighbours_end_at_the_ends() {
    assert_eq!(v4("10.3.255.0/24").next(), Some(v4("10.4.0.0/24")));
    assert_eq!(v4("10.4.0.0/24").previous(), Some(v4("10.3.255.0/24")));
    assert_eq!(v4("255.255.255.0/24").next(), None);
    assert_eq!(v4("0.0.0.0/24").previous(), None);
    assert_eq!(v6("::/0").next(), None);
}

#[test]
fn families_have_nothing_in_common() {
    let (four, six) = (Cidr::from(v4("0.0.0.0/0")), Cidr::from(v6("::/0")));
    assert!(!four.overlaps(six) && !four.covers(six) && !six.contains(Ipv4Addr::LOCALHOST.into()));
    assert_eq!("10.0.0.0/8".parse(), Ok(Cidr::from(v4("10.0.0.0/8"))));
    assert_eq!("fd00::/8".parse(), Ok(Cidr::from(v6("fd00::/8"))));
}

#[test]
fn stands_in_json_as_text() {
    let json = serde_json::to_string(&(v4("10.0.0.0/8"), Cidr::from(v6("fd00::/8")))).unwrap();
    assert_eq!(json, r#"["10.0.0.0/8","fd00::/8"]"#);
    assert_eq!(
        serde_json::from_str::<(Ipv4Cidr, Cidr)>(&json).unwrap(),
        (v4("10.0.0.0/8"), v6("fd00::/8").into())
    );
    assert!(serde_json::from_str::<Cidr>(r#""10.0.0.1/8""#).is_err());
}

proptest! {
    #[test]
    fn text_round_trips(bits: u128, v4_prefix in 0..=32_u8, v6_prefix in 0..=128_u8) {
        let four = Ipv4Cidr::masked(Ipv4Addr::from_bits(bits as u32), v4_prefix).unwrap();
        prop_assert_eq!(four.to_string().parse(), Ok(four));
        prop_assert_eq!(Ipv4Cidr::new(four.network(), v4_prefix), Ok(four));
        let six = Ipv6Cidr::masked(Ipv6Addr::from_bits(bits), v6_prefix).unwrap();
        prop_assert_eq!(six.to_string().parse(), Ok(six));
        prop_assert_eq!(six.to_string().parse(), Ok(Cidr::from(six)));
    }

    /// `ipnetwork` is the judge.
    #[test]
    fn overlap_is_that_of_ipnetwork(a: u32, b: u32, near: bool, p in 0..=32_u8, q in 0..=32_u8) {
        let b = if near { a ^ (b >> 24) } else { b };
        let (ours, theirs) = (Ipv4Cidr::masked(a.into(), p).unwrap(), Ipv4Cidr::masked(b.into(), q).unwrap());
        let (judge_ours, judge_theirs) = (Ipv4Network::from(ours), Ipv4Network::from(theirs));
        prop_assert_eq!(ours.overlaps(theirs), judge_ours.overlaps(judge_theirs));
        prop_assert_eq!(ours.covers(theirs), judge_theirs.is_subnet_of(judge_ours));
        prop_assert_eq!(ours.contains(theirs.network()), judge_ours.contains(theirs.network()));
    }

    #[test]
    fn next_and_previous_undo_each_other(bits: u128, prefix in 0..=128_u8) {
        let subnet = Ipv6Cidr::masked(bits.into(), prefix).unwrap();
        if let Some(next) = subnet.next() {
            prop_assert_eq!(next.previous(), Some(subnet));
            prop_assert!(!next.overlaps(subnet));
            prop_assert_eq!(next.bits(), subnet.last_bits() + 1);
        }
    }

    #[test]
    fn any_text_is_answered(text in "[0-9a-f.:/ ]{0,30}|.{0,30}") {
        let _ = (text.parse::<Cidr>(), Cidr::parse_masked(&text));
    }
}
