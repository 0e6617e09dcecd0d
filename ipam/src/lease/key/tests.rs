use proptest::option;
use proptest::prelude::*;

use super::*;

#[test]
fn flannel_s_samples_round_trip() {
    let key: LeaseKey = "10.12.13.0-24".parse().unwrap();
    assert_eq!(key.subnets(), Subnets::v4("10.12.13.0/24".parse().unwrap()));
    assert_eq!(key.to_string(), "10.12.13.0-24");
    let key: LeaseKey = "10.12.13.0-24&fd00:12:13::-56".parse().unwrap();
    let both = Subnets::both(
        "10.12.13.0/24".parse().unwrap(),
        "fd00:12:13::/56".parse().unwrap(),
    );
    assert_eq!(key.subnets(), both);
    assert_eq!(key.to_string(), "10.12.13.0-24&fd00:12:13::-56");
}

#[test]
fn flannel_s_bad_samples_are_refused() {
    for key in [
        "10",
        "10.12.13.0",
        "10.12.13-24",
        "10.12.13.300-24",
        "10.12.13.0-24hi",
        "&2001::-56",
        "10.12.13.0-24&:12:13:-56",
        "10.12.13.0-24&20011::-56",
        "10.12.13.0-24&2001-56",
        "10.12.13.0-24&2001::",
        "10.12.13.0-24&2001::-56hi",
    ] {
        let error = key.parse::<LeaseKey>().unwrap_err();
        assert!(
            matches!(error, LeaseKeyError::Malformed { .. }),
            "{key}: {error}"
        );
    }
}

#[test]
fn more_that_is_no_key() {
    for key in [
        "",
        "&",
        "-",
        "10.12.13.0-32",
        "10.12.13.0-33",
        "10.12.13.0-024",
        "10.12.13.0-+24",
        "x10.12.13.0-24",
        "10.12.13.0-24&",
        "10.12.13.0-24&fd00::-128",
        "10.12.13.0-24&fd00::-56&fd00::-56",
        "10.12.13.0-24&10.12.13.0-24",
        "10.12.13.0/24",
        "0.0.0.0-0",
    ] {
        assert!(key.parse::<LeaseKey>().is_err(), "{key:?} was taken");
    }
    let error = "10.12.13.7-24".parse::<LeaseKey>().unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("the subnet itself is 10.12.13.0/24"),
        "{error}"
    );
}

#[test]
fn without_ipv4_its_place_is_kept() {
    let six = Subnets::v6("fd00:10:5::/64".parse().unwrap());
    let key = LeaseKey::new(six).unwrap();
    assert_eq!(key.to_string(), "0.0.0.0-0&fd00:10:5::-64");
    assert_eq!("0.0.0.0-0&fd00:10:5::-64".parse(), Ok(key));
    assert_eq!(LeaseKey::new(Subnets::default()), None);
}

proptest! {
    #[test]
    fn round_trip(v4 in option::of((any::<u32>(), 1..=31_u8)), v6 in option::of((any::<u128>(), 0..=127_u8))) {
        let subnets = Subnets {
            v4: v4.map(|(bits, prefix)| Ipv4Cidr::masked(bits.into(), prefix).unwrap()),
            v6: v6.map(|(bits, prefix)| Ipv6Cidr::masked(bits.into(), prefix).unwrap()),
        };
        match LeaseKey::new(subnets) {
            Some(key) => prop_assert_eq!(key.to_string().parse(), Ok(key)),
            None => prop_assert!(v4.is_none() && v6.is_none()),
        }
    }

    #[test]
    fn any_text_is_answered(text in "[0-9a-f.:&-]{0,40}|.{0,40}") {
        if let Ok(key) = text.parse::<LeaseKey>() {
            prop_assert_eq!(key.to_string().parse(), Ok(key));
        }
    }
}
