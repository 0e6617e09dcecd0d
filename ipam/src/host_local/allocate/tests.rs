use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn store() -> (TempDir, HostLocal) {
    let root = TempDir::new().unwrap();
    let store = HostLocal::new(&root.path().join("networks"), "net").unwrap();
    (root, store)
}

fn owner(container_id: &str) -> Owner {
    Owner::new(container_id, "eth0").unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// `subnet[,start[,end[,gateway]]]`
fn spec(text: &str) -> RangeSpec {
    let mut parts = text.split(',');
    let subnet = parts.next().unwrap().parse().unwrap();
    let mut optional = || parts.next().filter(|text| !text.is_empty()).map(address);
    RangeSpec {
        subnet,
        start: optional(),
        end: optional(),
        gateway: optional(),
    }
}

fn ranges(sets: &[&[&str]]) -> PluginRanges {
    let sets: Vec<Vec<_>> = sets
        .iter()
        .map(|set| set.iter().map(|text| spec(text)).collect())
        .collect();
    PluginRanges::new(&sets).unwrap()
}

/// What the container gets, in words.
fn give(
    store: &HostLocal,
    ranges: &PluginRanges,
    container_id: &str,
    requested: &[&str],
) -> Result<Vec<String>, String> {
    let requested: Vec<_> = requested.iter().map(|text| address(text)).collect();
    let given = store.allocate(&owner(container_id), ranges, &requested, UNIX_EPOCH);
    match given {
        Ok(given) => Ok(given
            .iter()
            .map(|given| given.address.to_string())
            .collect()),
        Err(error) => Err(error.to_string()),
    }
}

fn files(store: &HostLocal) -> BTreeSet<String> {
    let entries = fs::read_dir(store.directory()).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn the_first_address_behind_the_gateway_comes_first() {
    let (_root, store) = store();
    let ranges = ranges(&[&["10.1.2.0/24"], &["2001:db8:1::/64"]]);
    let given = store
        .allocate(&owner("a"), &ranges, &[], UNIX_EPOCH)
        .unwrap();
    assert_eq!(
        given,
        [
            Given {
                address: address("10.1.2.2"),
                subnet: "10.1.2.0/24".parse().unwrap(),
                gateway: address("10.1.2.1"),
            },
            Given {
                address: address("2001:db8:1::2"),
                subnet: "2001:db8:1::/64".parse().unwrap(),
                gateway: address("2001:db8:1::1"),
            },
        ]
    );
    let names = [
        "10.1.2.2",
        "2001:db8:1::2",
        "last_reserved_ip.0",
        "last_reserved_ip.1",
        "lock",
    ];
    assert_eq!(files(&store), names.map(str::to_owned).into());
    let content = fs::read(store.directory().join("last_reserved_ip.1")).unwrap();
    assert_eq!(content, b"2001:db8:1::2");
}

#[test]
fn addresses_are_given_in_turn() {
    let (_root, store) = store();
    // The usable addresses are .2 to .6, without the gateway .1.
    let ranges = ranges(&[&["10.1.2.0/29"]]);
    let give = |id: &str| give(&store, &ranges, id, &[]).unwrap().concat();
    assert_eq!(give("a"), "10.1.2.2");
    store.release_all(&owner("a")).unwrap();
    assert_eq!(
        give("a"),
        "10.1.2.3",
        "a released address is not given at once"
    );
    for (id, expected) in [("b", "10.1.2.4"), ("c", "10.1.2.5"), ("d", "10.1.2.6")] {
        assert_eq!(give(id), expected);
    }
    assert_eq!(give("e"), "10.1.2.2", "round the end");
    let error = super::tests::give(&store, &ranges, "f", &[]).unwrap_err();
    let text = "no IP addresses available in range set: 10.1.2.1-10.1.2.6";
    assert!(error.starts_with(text), "{error}");
    store.release_all(&owner("c")).unwrap();
    assert_eq!(give("f"), "10.1.2.5", "the one that is left");
}

#[test]
fn the_ranges_of_a_set_follow_each_other() {
    let (_root, store) = store();
    let ranges = ranges(&[&[
        "10.1.2.0/24,10.1.2.10,10.1.2.11",
        "10.1.4.0/24,10.1.4.20,10.1.4.21,10.1.4.20",
    ]]);
    for (id, expected) in [("a", "10.1.2.10"), ("b", "10.1.2.11"), ("c", "10.1.4.21")] {
        assert_eq!(give(&store, &ranges, id, &[]).unwrap(), [expected]);
    }
    store.release_all(&owner("b")).unwrap();
    assert_eq!(give(&store, &ranges, "d", &[]).unwrap(), ["10.1.2.11"]);
}

#[test]
fn what_was_last_given_need_not_make_sense() {
    let (_root, store) = store();
    let ranges = ranges(&[&["10.1.2.0/24"]]);
    fs::create_dir_all(store.directory()).unwrap();
    for text in ["10.9.9.9", "garbage", "", "::1"] {
        fs::write(store.directory().join("last_reserved_ip.0"), text).unwrap();
        assert_eq!(
            give(&store, &ranges, "a", &[]).unwrap(),
            ["10.1.2.2"],
            "{text}"
        );
        store.release_all(&owner("a")).unwrap();
    }
}

#[test]
fn requested_addresses_are_given_or_nothing_is() {
    let (_root, store) = store();
    let ranges = ranges(&[&["10.1.2.0/24"], &["10.1.3.0/24"]]);
    let wishes = ["10.1.3.77", "10.1.2.88"];
    assert_eq!(
        give(&store, &ranges, "a", &wishes).unwrap(),
        ["10.1.2.88", "10.1.3.77"]
    );
    assert_eq!(
        give(&store, &ranges, "b", &["10.1.3.5"]).unwrap(),
        ["10.1.2.89", "10.1.3.5"]
    );
    let before = files(&store);
    for (wishes, text) in [
        (
            &["10.1.2.99", "10.1.2.98"][..],
            "failed to allocate all requested IPs: 10.1.2.98",
        ),
        (
            &["10.9.9.9"],
            "failed to allocate all requested IPs: 10.9.9.9",
        ),
        (
            &["10.1.3.77"],
            "requested IP address 10.1.3.77 is not available in range set 10.1.3.1-10.1.3.254",
        ),
        (&["10.1.2.1"], "requested ip 10.1.2.1 is subnet's gateway"),
    ] {
        let error = give(&store, &ranges, "c", wishes).unwrap_err();
        assert!(error.starts_with(text), "{error}");
        assert_eq!(files(&store), before, "{wishes:?} left something");
    }
}

#[test]
fn an_interface_has_one_address_of_a_set() {
    let (_root, store) = store();
    let ranges = ranges(&[&["10.1.2.0/24"]]);
    give(&store, &ranges, "a", &[]).unwrap();
    for wishes in [&[][..], &["10.1.2.9"]] {
        let error = give(&store, &ranges, "a", wishes).unwrap_err();
        let text = "10.1.2.2 has been allocated to a, duplicate allocation is not allowed";
        assert!(error.starts_with(text), "{error}");
    }
    let net1 = Owner::new("a", "net1").unwrap();
    store.allocate(&net1, &ranges, &[], UNIX_EPOCH).unwrap();
    // Files of very old versions are of the whole container.
    fs::write(store.directory().join("10.1.2.50"), "b").unwrap();
    assert!(give(&store, &ranges, "b", &[]).is_err());
    store.release_all(&owner("b")).unwrap();
    assert!(give(&store, &ranges, "b", &[]).is_ok());
}

#[test]
fn reservations_of_a_former_boot_fill_nothing_up() {
    let (_root, store) = store();
    let ranges = ranges(&[&["10.1.2.0/30"]]);
    assert_eq!(give(&store, &ranges, "a", &[]).unwrap(), ["10.1.2.2"]);
    assert_eq!(store.room(&ranges, UNIX_EPOCH).unwrap(), (0, 1));
    assert!(give(&store, &ranges, "b", &[]).is_err());
    let boot = SystemTime::now() + Duration::from_secs(60);
    assert_eq!(store.room(&ranges, boot).unwrap(), (1, 1));
    let given = store.allocate(&owner("a"), &ranges, &[], boot).unwrap();
    assert_eq!(given[0].address, address("10.1.2.2"), "no duplicate either");
    let wish = [address("10.1.2.2")];
    store.allocate(&owner("b"), &ranges, &wish, boot).unwrap();
    let held = store.reservation(wish[0]).unwrap().unwrap();
    assert_eq!(held.holder.unwrap().container_id(), "b");
}

#[test]
fn others_are_released_unless_they_are_young_or_nameless() {
    let (_root, store) = store();
    let ranges = ranges(&[&["10.1.2.0/24"]]);
    for id in ["a", "b"] {
        give(&store, &ranges, id, &[]).unwrap();
    }
    fs::write(store.directory().join("10.1.2.20"), "").unwrap();
    fs::write(store.directory().join("10.1.2.21"), "a").unwrap();
    fs::write(store.directory().join("10.1.2.22"), "c").unwrap();
    store.release_others(&[owner("a")], UNIX_EPOCH).unwrap();
    assert_eq!(
        store.reservations().unwrap().len(),
        5,
        "all of them are young"
    );
    let later = SystemTime::now() + Duration::from_secs(60);
    store.release_others(&[owner("a")], later).unwrap();
    let left: Vec<_> = store.reservations().unwrap();
    let left: Vec<_> = left.iter().map(|held| held.address.to_string()).collect();
    assert_eq!(left, ["10.1.2.2", "10.1.2.20", "10.1.2.21"]);
}

#[test]
fn nothing_is_made_to_release_nothing() {
    let (root, store) = store();
    assert_eq!(store.release_all(&owner("a")).unwrap(), []);
    store.release_others(&[], SystemTime::now()).unwrap();
    assert!(!root.path().join("networks").exists());
}

#[test]
fn ranges_are_checked_as_the_plugin_checks_them() {
    for (sets, fine) in [
        (&[&["10.1.2.0/30"][..]][..], true),
        (&[&["10.1.2.0/31"]], false),
        (&[&["2001:db8::/126"]], true),
        (&[&["2001:db8::/127"]], false),
        (&[&["10.1.2.0/24,,,192.0.2.1"]], true),
        (&[&["10.1.2.0/24,10.1.3.5"]], false),
        (&[&["10.1.2.0/24,10.1.2.9,10.1.2.8"]], false),
        (&[&["10.1.2.0/24", "2001:db8::/64"]], false),
        (
            &[&["10.1.2.0/24,,10.1.2.99", "10.1.2.0/24,10.1.2.100"]],
            true,
        ),
        (&[&["10.1.2.0/24"], &["10.1.0.0/16"]], false),
        (&[&[]], false),
        (&[], false),
    ] {
        let sets: Vec<Vec<_>> = sets
            .iter()
            .map(|set: &&[&str]| set.iter().map(|text| spec(text)).collect())
            .collect();
        assert_eq!(PluginRanges::new(&sets).is_ok(), fine, "{sets:?}");
    }
}

#[test]
fn a_gateway_elsewhere_leaves_the_first_address_to_a_pod() {
    let (_root, store) = store();
    let ranges = ranges(&[&["10.1.2.0/30,,,192.0.2.1"]]);
    let given = store
        .allocate(&owner("a"), &ranges, &[], UNIX_EPOCH)
        .unwrap();
    let (first, gateway) = (address("10.1.2.1"), address("192.0.2.1"));
    assert_eq!((given[0].address, given[0].gateway), (first, gateway));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Against the plainest model there is: a list of who has what.
    #[test]
    fn no_address_is_given_twice(steps in proptest::collection::vec((0..12_u8, any::<bool>()), 1..60)) {
        let (_root, store) = store();
        let ranges = ranges(&[&["10.1.2.0/29,,10.1.2.4", "10.1.3.0/29,10.1.3.3"]]);
        let mut held = std::collections::BTreeMap::new();
        for (id, add) in steps {
            let id = format!("c{id}");
            if !add {
                store.release_all(&owner(&id)).unwrap();
                held.remove(&id);
                continue;
            }
            match give(&store, &ranges, &id, &[]) {
                Ok(given) => {
                    prop_assert!(!held.values().any(|other| *other == given), "{given:?} twice");
                    prop_assert!(held.insert(id, given).is_none());
                }
                // .2 to .4 and .3 to .6
                Err(error) => prop_assert!(held.contains_key(&id) || held.len() == 7, "{error}"),
            }
        }
        let names: BTreeSet<_> = held.values().flatten().cloned().collect();
        let found: BTreeSet<_> = store.reservations().unwrap().iter().map(|held| held.address.to_string()).collect();
        prop_assert_eq!(found, names);
    }
}
