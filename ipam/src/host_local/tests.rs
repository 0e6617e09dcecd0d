use std::os::unix::fs::symlink;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const ONE: &str = "10.244.1.7";

fn store(files: &[(&str, &[u8])]) -> (TempDir, HostLocal) {
    let root = TempDir::new().unwrap();
    let store = HostLocal::new(root.path(), "cbr0").unwrap();
    fs::create_dir(store.directory()).unwrap();
    for (name, content) in files {
        fs::write(store.directory().join(name), content).unwrap();
    }
    (root, store)
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn owner(container_id: &str, ifname: &str) -> Owner {
    Owner::new(container_id, ifname).unwrap()
}

fn addresses(reservations: &[Reservation]) -> Vec<String> {
    let addresses = reservations.iter();
    addresses.map(|held| held.address.to_string()).collect()
}

fn files(store: &HostLocal) -> Vec<String> {
    let entries = fs::read_dir(store.directory()).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_not_there_holds_nothing() {
    let root = TempDir::new().unwrap();
    let store = HostLocal::new(root.path(), "cbr0").unwrap();
    assert_eq!(store.reservations().unwrap(), []);
    assert_eq!(store.reservation(address(ONE)).unwrap(), None);
    assert_eq!(store.held_by(&owner("a", "eth0")).unwrap(), []);
    assert_eq!(store.last_reserved(0).unwrap(), None);
    assert!(!store.directory().exists(), "looking made a directory");
}

#[test]
fn only_files_named_by_an_address_are_reservations() {
    let (_root, store) = store(&[
        (ONE, b"a\r\neth0"),
        ("fd00::7", b"a\r\neth0"),
        ("lock", b""),
        ("last_reserved_ip.0", b"a\r\neth0"),
        ("10.244.1.7.bak", b"a\r\neth0"),
        ("10.244.1", b"a\r\neth0"),
        ("loden.new", b"a\r\neth0"),
    ]);
    let all = store.reservations().unwrap();
    assert_eq!(addresses(&all), [ONE, "fd00::7"]);
    assert_eq!(all[0].holder, Some(Holder::from(&owner("a", "eth0"))));
    assert_eq!(store.held_by(&owner("a", "eth0")).unwrap(), all);
}

#[test]
fn files_of_old_versions_and_of_imitations_are_read() {
    for (content, container_id, ifname) in [
        (&b"a\r\neth0"[..], "a", Some("eth0")),
        (b"a\neth0", "a", Some("eth0")),
        (b"a\r\neth0\r\n", "a", Some("eth0")),
        (b" a \r\n eth0 ", "a", Some("eth0")),
        (b"a", "a", None),
        (b"a\r\n", "a", None),
        (b"\r\na\n", "a", None),
    ] {
        let holder = Holder::parse(content).unwrap();
        assert_eq!(holder.container_id(), container_id, "{content:?}");
        assert_eq!(holder.ifname(), ifname, "{content:?}");
    }
}

#[test]
fn a_file_that_names_nobody_still_holds_its_address() {
    let long = vec![b'a'; LONGEST + 1];
    for content in [
        &b""[..],
        b"\r\n",
        b"\0\0\0\0",
        b"a\xff\r\neth0",
        b"a\r\neth0\r\nmore",
        &long,
    ] {
        let (_root, store) = store(&[(ONE, content)]);
        let held = store.reservation(address(ONE)).unwrap().unwrap();
        assert_eq!(held.holder, None, "{content:?}");
        let locked = store.lock().unwrap();
        let refusal = locked.reserve(address(ONE), &owner("b", "eth0"), 0);
        assert!(matches!(
            refusal,
            Err(HostLocalError::Taken { holder: None, .. })
        ));
        assert!(!locked.release(address(ONE), &owner("a", "eth0")).unwrap());
        assert!(locked.remove(&held).unwrap());
        assert_eq!(store.reservations().unwrap(), []);
    }
}

#[test]
fn what_is_no_file_is_neither_read_nor_waited_for() {
    let (root, store) = store(&[]);
    let outside = root.path().join("outside");
    fs::write(&outside, "a\r\neth0").unwrap();
    symlink(&outside, store.directory().join("10.244.1.2")).unwrap();
    fs::create_dir(store.directory().join("10.244.1.3")).unwrap();
    let pipe = store.directory().join("10.244.1.4");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let socket = store.directory().join("10.244.1.5");
    let _socket = std::os::unix::net::UnixListener::bind(socket).unwrap();

    let all = store.reservations().unwrap();
    assert_eq!(all.len(), 4);
    assert!(all.iter().all(|held| held.holder.is_none()), "{all:?}");
}

#[test]
fn a_reservation_is_what_the_plugin_would_have_written() {
    let (_root, store) = store(&[]);
    let locked = store.lock().unwrap();
    locked
        .reserve(address(ONE), &owner("a", "eth0"), 0)
        .unwrap();
    locked
        .reserve(address("fd00:0:0::7"), &owner("a", "eth0"), 1)
        .unwrap();
    locked
        .reserve(address("::ffff:10.244.1.8"), &owner("a", "eth1"), 0)
        .unwrap();
    assert_eq!(
        files(&store),
        [
            "10.244.1.7",
            "10.244.1.8",
            "fd00::7",
            "last_reserved_ip.0",
            "last_reserved_ip.1",
            "lock"
        ]
    );
    let read = |name: &str| fs::read(store.directory().join(name)).unwrap();
    assert_eq!(read(ONE), b"a\r\neth0");
    assert_eq!(read("10.244.1.8"), b"a\r\neth1");
    assert_eq!(read("last_reserved_ip.0"), b"10.244.1.8");
    assert_eq!(read("last_reserved_ip.1"), b"fd00::7");
    assert_eq!(store.last_reserved(0).unwrap(), Some(address("10.244.1.8")));
    assert_eq!(store.last_reserved(2).unwrap(), None);
}

#[test]
fn an_address_is_reserved_once() {
    let (_root, store) = store(&[]);
    let locked = store.lock().unwrap();
    locked
        .reserve(address(ONE), &owner("a", "eth0"), 0)
        .unwrap();
    for other in [owner("b", "eth0"), owner("a", "eth0")] {
        let refusal = locked.reserve(address(ONE), &other, 0).unwrap_err();
        assert!(
            refusal.to_string().contains("eth0 of container a"),
            "{refusal}"
        );
    }
    assert_eq!(store.held_by(&owner("b", "eth0")).unwrap(), []);
    assert_eq!(files(&store), [ONE, "last_reserved_ip.0", "lock"]);
}

#[test]
fn only_the_owner_gives_an_address_back() {
    let (_root, store) = store(&[(ONE, b"a\r\neth0"), ("10.244.1.8", b"a")]);
    let locked = store.lock().unwrap();
    for other in [owner("a", "eth1"), owner("ab", "eth0")] {
        assert!(!locked.release(address(ONE), &other).unwrap());
    }
    assert!(locked.release(address(ONE), &owner("a", "eth0")).unwrap());
    assert!(!locked.release(address(ONE), &owner("a", "eth0")).unwrap());
    // The file does not say of which interface, so it goes with whichever comes first.
    assert!(
        locked
            .release(address("10.244.1.8"), &owner("a", "eth7"))
            .unwrap()
    );
    assert_eq!(store.reservations().unwrap(), []);
}

#[test]
fn container_files_count_only_where_no_interface_is_named() {
    let (_root, store) = store(&[
        (ONE, b"a"),
        ("10.244.1.8", b"a\neth0"),
        ("10.244.1.9", b"b"),
    ]);
    let locked = store.lock().unwrap();
    let released = locked.release_all(&owner("a", "eth0")).unwrap();
    assert_eq!(addresses(&released), ["10.244.1.8"]);
    let released = locked.release_all(&owner("a", "eth0")).unwrap();
    assert_eq!(addresses(&released), [ONE]);
    assert_eq!(locked.release_all(&owner("a", "eth0")).unwrap(), []);
    assert_eq!(addresses(&store.reservations().unwrap()), ["10.244.1.9"]);
}

#[test]
fn addresses_spelt_otherwise_are_found_and_given_back() {
    let (_root, store) = store(&[
        ("FD00:0::7", b"a\r\neth0"),
        ("::ffff:10.0.0.1", b"a\r\neth0"),
    ]);
    let held = store.held_by(&owner("a", "eth0")).unwrap();
    assert_eq!(addresses(&held), ["10.0.0.1", "fd00::7"]);
    assert_eq!(
        store
            .lock()
            .unwrap()
            .release_all(&owner("a", "eth0"))
            .unwrap(),
        held
    );
    assert_eq!(files(&store), ["lock"]);
}

#[test]
fn what_has_changed_hands_is_not_removed() {
    let (_root, store) = store(&[(ONE, b"a\r\neth0")]);
    let seen = store.reservation(address(ONE)).unwrap().unwrap();
    fs::write(store.directory().join(ONE), "b\r\neth0").unwrap();
    let locked = store.lock().unwrap();
    assert!(!locked.remove(&seen).unwrap());
    let seen = store.reservation(address(ONE)).unwrap().unwrap();
    assert!(locked.remove(&seen).unwrap());
    assert!(!locked.remove(&seen).unwrap());
}

/// A killed process may leave its draft, even as a second name of the reservation it became.
#[test]
fn a_draft_left_behind_harms_nothing() {
    let (_root, store) = store(&[(ONE, b"a\r\neth0")]);
    fs::hard_link(store.directory().join(ONE), store.directory().join(DRAFT)).unwrap();
    let locked = store.lock().unwrap();
    locked
        .reserve(address("10.244.1.8"), &owner("b", "eth0"), 0)
        .unwrap();
    assert_eq!(fs::read(store.directory().join(ONE)).unwrap(), b"a\r\neth0");
    assert_eq!(
        files(&store),
        [ONE, "10.244.1.8", "last_reserved_ip.0", "lock"]
    );
}

#[test]
fn the_lock_is_waited_for_no_longer_than_told() {
    let (_root, store) = store(&[]);
    let held = store.lock().unwrap();
    let impatient = store.clone().waiting(Duration::from_millis(5));
    let Err(HostLocalError::Busy { waited, path }) = impatient.lock() else {
        panic!("two have the lock");
    };
    assert!(waited >= Duration::from_millis(5));
    assert_eq!(path, store.directory().join("lock"));
    drop(held);
    impatient.lock().unwrap();
}

#[test]
fn a_network_name_cannot_lead_elsewhere() {
    for name in ["", "..", "../x", "a/b", "/etc"] {
        let refusal = HostLocal::new(Path::new("/x"), name);
        assert!(matches!(refusal, Err(HostLocalError::Name(_))), "{name}");
    }
}

proptest! {
    #[test]
    fn any_content_is_read_and_what_is_written_reads_back(content: Vec<u8>) {
        if let Some(holder) = Holder::parse(&content) {
            prop_assert_eq!(Holder::parse(holder.to_string().as_bytes()), Some(holder));
        }
    }

    #[test]
    fn text_reads_back_too(text in "[ab\r\n\t ]{0,10}") {
        if let Some(holder) = Holder::parse(text.as_bytes()) {
            prop_assert_eq!(Holder::parse(holder.to_string().as_bytes()), Some(holder));
        }
    }

    #[test]
    fn names_of_files_name_their_address(octets: [u8; 16], v4: bool) {
        let address = if v4 {
            IpAddr::from([octets[0], octets[1], octets[2], octets[3]])
        } else {
            IpAddr::from(octets)
        };
        prop_assert_eq!(file_name(address).parse::<IpAddr>(), Ok(address.to_canonical()));
    }
}
