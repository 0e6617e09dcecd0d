//! Who holds what: owners, files, boots, and the lock.

use super::*;

#[test]
fn an_owner_that_is_there_already_is_told_what_it_has() {
    let bench = Bench::new();
    let sets = [vec![range("10.244.1.0/24")]];
    let netns = NetnsIdentity {
        path: "/run/netns/a".to_owned(),
        dev: 4,
        ino: 4_026_532_000,
    };
    let details = Details {
        netns: Some(netns.clone()),
        host_ifname: Some("pod1".to_owned()),
        ..Details::default()
    };
    let first = bench
        .pool()
        .reserve(&owner("a"), &sets, &[], details)
        .unwrap();
    let error = bench
        .pool()
        .reserve(&owner("a"), &sets, &[], Details::default())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "eth0 of container a is attached already and holds 10.244.1.2; detach it first (DEL), or choose another interface name"
    );
    let PoolError::Duplicate { existing } = error else {
        panic!("{error}")
    };
    assert_eq!(*existing, first);
    assert_eq!(existing.details.netns, Some(netns));
    // The same container may have another interface.
    let second = Owner::new("a", "eth1").unwrap();
    assert!(
        bench
            .pool()
            .reserve(&second, &sets, &[], Details::default())
            .is_ok()
    );

    bench.pass(60);
    let new_life = Details {
        kind: Kind::Bridge {
            name: "cni0".to_owned(),
        },
        ..Details::default()
    };
    let taken_over = bench
        .pool()
        .take_over(&owner("a"), new_life.clone())
        .unwrap()
        .attachment;
    assert_eq!(
        taken_over,
        Attachment {
            details: new_life,
            created: first.created + 60,
            ..first
        }
    );
    assert_eq!(
        bench.pool().attachment(&owner("a")).unwrap(),
        Some(taken_over)
    );
    assert!(matches!(
        bench.pool().take_over(&owner("b"), Details::default()),
        Err(PoolError::Absent { .. })
    ));
    bench.audit(&sets);
}

#[test]
fn releasing_what_is_not_there_is_nothing() {
    let bench = Bench::new();
    let sets = [vec![range("10.244.1.0/24")]];
    assert_eq!(bench.release("a"), None);
    let reserved = bench
        .pool()
        .reserve(&owner("a"), &sets, &[], Details::default())
        .unwrap();
    assert_eq!(bench.release("a"), Some(reserved));
    assert_eq!(bench.release("a"), None);
}

#[test]
fn gc_decides_under_the_lock() {
    let bench = Bench::new();
    let sets = [vec![range("10.244.1.0/24")]];
    for name in ["a", "b"] {
        bench.reserve(name, &sets);
    }
    let listed: Vec<_> = bench
        .pool()
        .attachments()
        .unwrap()
        .map(Result::unwrap)
        .collect();
    // Since then, one is detached and attached again.
    bench.release("a").unwrap();
    bench.pass(5);
    bench.reserve("a", &sets);
    let pool = bench.pool();
    let released = listed
        .iter()
        .filter_map(|old| pool.release_if(&old.owner, |now| now == old).unwrap())
        .count();
    assert_eq!(released, 1);
    assert!(pool.attachment(&owner("a")).unwrap().is_some());
    assert!(pool.attachment(&owner("b")).unwrap().is_none());
}

#[test]
fn usage_tells_where_the_addresses_are() {
    let mut bench = Bench::new();
    bench.foreign = vec![ip("10.244.1.5"), ip("10.99.0.1")];
    let sets = [vec![range("10.244.1.0/28")]];
    let usage = |bench: &Bench| {
        let usage = bench.pool().usage(&sets[0][0]).unwrap();
        // Who looks without the lock sees the same, as long as nobody is at work.
        let [seen] = bench.pool().occupancies().unwrap()[..] else {
            panic!("one range");
        };
        assert_eq!(
            (seen.first, seen.last),
            (ip("10.244.1.1"), ip("10.244.1.14"))
        );
        assert_eq!(seen.usage, usage);
        usage
    };
    assert!(bench.pool().occupancies().unwrap().is_empty());
    assert_eq!(
        usage(&bench),
        Usage {
            total: 13,
            used: 0,
            foreign: 1,
            free: 12,
            cooling: 0
        }
    );
    for name in ["a", "b", "c"] {
        bench.reserve(name, &sets);
    }
    bench.release("a").unwrap();
    bench.pass(20);
    bench.release("b").unwrap();
    assert_eq!(
        usage(&bench),
        Usage {
            total: 13,
            used: 1,
            foreign: 1,
            free: 9,
            cooling: 2
        }
    );
    bench.pass(10);
    assert_eq!(
        usage(&bench),
        Usage {
            total: 13,
            used: 1,
            foreign: 1,
            free: 10,
            cooling: 1
        }
    );
}

#[test]
fn no_attachment_outlives_its_boot() {
    let mut bench = Bench::new();
    let sets = [vec![range("10.244.1.0/29")], vec![range("fd00::/125")]];
    for name in ["a", "b", "c"] {
        bench.reserve(name, &sets);
    }
    bench.boot = BootId::new("second boot");
    assert_eq!(bench.pool().attachments().unwrap().count(), 0);
    assert_eq!(bench.release("a"), None);
    assert_eq!(bench.reserve("b", &sets), [ip("10.244.1.2"), ip("fd00::2")]);
    assert_eq!(
        std::fs::read_dir(bench.pool().disk.path("attachments"))
            .unwrap()
            .count(),
        1
    );
    bench.audit(&sets);
}

#[test]
fn a_damaged_index_is_built_anew() {
    let sets = [vec![range("10.244.1.0/29")]];
    let name = sets[0][0].window().file_name();
    let damages: [fn(&mut Vec<u8>); 5] = [
        Vec::clear,
        |bytes| bytes.truncate(100),
        |bytes| bytes[20] ^= 1,
        |bytes| bytes[4096..].fill(0xee),
        |bytes| bytes[4096..].fill(0x02),
    ];
    for damage in damages {
        let bench = Bench::new();
        for name in ["a", "b", "c"] {
            bench.reserve(name, &sets);
        }
        bench.release("b").unwrap();
        let path = bench.pool().disk.path(&name);
        let mut bytes = std::fs::read(&path).unwrap();
        damage(&mut bytes);
        std::fs::write(&path, &bytes).unwrap();
        bench.audit(&sets);
        assert_eq!(bench.held().len(), 2);
    }
}

/// Found by fuzzing: slots have no checksum, and one that a bad disk lost reads as an address never given.
#[test]
fn a_damaged_attachment_stops_the_pool_only_when_it_matters_and_can_be_released() {
    let bench = Bench::new();
    let sets = [vec![range("10.244.1.0/29")]];
    for name in ["a", "b"] {
        bench.reserve(name, &sets);
    }
    let path = bench.pool().disk.path("attachments/a@eth0");
    std::fs::write(&path, "").unwrap();
    assert_eq!(bench.reserve("c", &sets), [ip("10.244.1.4")]);
    bench.pool().distrust().unwrap();
    let error = bench
        .pool()
        .reserve(&owner("d"), &sets, &[], Details::default())
        .unwrap_err();
    assert!(matches!(error, PoolError::Corrupt { .. }));
    assert!(
        error.to_string().starts_with(&path.display().to_string()),
        "{error}"
    );
    let listed: Vec<_> = bench.pool().attachments().unwrap().collect();
    assert_eq!(
        (
            listed.len(),
            listed.iter().filter(|item| item.is_err()).count()
        ),
        (3, 1)
    );
    assert_eq!(bench.release("a"), None);
    bench.audit(&sets);
}

#[test]
fn the_lock_is_waited_for_no_longer_than_told() {
    let bench = Bench::new();
    let sets = [vec![range("10.244.1.0/29")]];
    bench.reserve("a", &sets);
    let holder = bench.pool();
    let lock = holder.lock().unwrap();
    let mut impatient = bench.pool();
    impatient.options.lock_wait = Duration::from_millis(20);
    let error = impatient.release(&owner("a")).unwrap_err();
    assert!(
        matches!(&error, PoolError::Busy { waited, .. } if *waited >= Duration::from_millis(20))
    );
    assert!(
        error.to_string().contains("was locked by others for"),
        "{error}"
    );
    drop(lock);
    assert!(impatient.release(&owner("a")).unwrap().is_some());
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let bench = Bench::new();
    let in_the_way = bench.directory.path().join("file");
    std::fs::write(&in_the_way, "").unwrap();
    let pool = Pool::open(&in_the_way, "cbr0", Options::default()).unwrap();
    let error = pool
        .reserve(
            &owner("a"),
            &[vec![range("10.244.1.0/29")]],
            &[],
            Details::default(),
        )
        .unwrap_err();
    assert!(
        matches!(error, PoolError::Io { .. }) && error.to_string().contains("file/cbr0"),
        "{error}"
    );
    assert!(matches!(
        Pool::open(&in_the_way, "../x", Options::default()),
        Err(PoolError::Name(_))
    ));
}

#[test]
fn networks_have_nothing_in_common() {
    let bench = Bench::new();
    let sets = [vec![range("10.244.1.0/29")]];
    bench.reserve("a", &sets);
    let other = Pool::open(bench.directory.path(), "other", Options::default()).unwrap();
    let given = other
        .reserve(&owner("a"), &sets, &[], Details::default())
        .unwrap();
    assert_eq!(addresses(&given), [ip("10.244.1.2")]);
    assert_eq!(bench.held().len(), 1);
}

#[test]
fn an_attachment_may_have_no_address_of_the_pool() {
    let bench = Bench::new();
    let foreign = ForeignPlugin {
        name: "macvlan".to_owned(),
        config: r#"{"type":"macvlan"}"#.to_owned(),
    };
    let details = Details {
        kind: Kind::Foreign,
        foreign: Some(foreign),
        ..Details::default()
    };
    let pool = bench.pool();
    let made = pool.begin_foreign(&owner("a"), details.clone()).unwrap();
    assert_eq!(pool.attachment(&owner("a")).unwrap(), Some(made.attachment));
    for again in [
        pool.begin_foreign(&owner("a"), details),
        pool.begin(
            &owner("a"),
            &[vec![range("10.244.1.0/29")]],
            &[],
            Details::default(),
        ),
    ] {
        assert!(matches!(again, Err(PoolError::Duplicate { .. })));
    }
    // It takes no address from anybody.
    bench.reserve("b", &[vec![range("10.244.1.0/29")]]);
    assert_eq!(bench.held(), [ip("10.244.1.2")]);
    assert!(bench.release("a").is_some());
    assert_eq!(bench.held(), [ip("10.244.1.2")]);
}

#[test]
fn how_far_an_attachment_has_come_is_seen_by_others() {
    let bench = Bench::new();
    let sets = [vec![range("10.244.1.0/29")]];
    let (pool, a) = (bench.pool(), owner("a"));
    let stage = || bench.pool().stage(&a).unwrap();
    assert_eq!(stage(), None);
    let making = pool.begin(&a, &sets, &[], Details::default()).unwrap();
    assert_eq!(stage(), Some(Stage::Making));
    // As a kill does it.
    drop(making);
    assert_eq!(stage(), Some(Stage::Abandoned));
    let making = pool.take_over(&a, Details::default()).unwrap();
    assert_eq!(stage(), Some(Stage::Making));
    making.complete().unwrap();
    assert_eq!(stage(), Some(Stage::Complete));
    drop(making);
    assert_eq!(stage(), Some(Stage::Complete));
    // A new life begins as any other.
    drop(pool.take_over(&a, Details::default()).unwrap());
    assert_eq!(stage(), Some(Stage::Abandoned));
    assert_eq!(bench.held().len(), 1);
    bench.release("a");
    assert_eq!(stage(), None);
}

#[test]
fn later_versions_may_add_to_an_attachment() {
    let bench = Bench::new();
    let sets = [vec![range("10.244.1.0/29")]];
    let given = bench
        .pool()
        .reserve(&owner("a"), &sets, &[], Details::default())
        .unwrap();
    let path = bench.pool().disk.path("attachments/a@eth0");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replace(r#"{"owner":"#, r#"{"future":[1],"owner":"#);
    let text = text.replace(r#""type":"routed""#, r#""type":"netkit","mode":"l3""#);
    std::fs::write(&path, text).unwrap();
    let read = bench.release("a").unwrap();
    assert_eq!(
        read,
        Attachment {
            details: Details {
                kind: Kind::Unknown,
                ..Details::default()
            },
            ..given
        }
    );
}

#[test]
fn files_are_for_root_alone() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    bench.reserve("a", &[vec![range("10.244.1.0/29")]]);
    let pool = bench.pool();
    for (name, mode) in [
        ("", 0o700),
        ("attachments", 0o700),
        ("lock", 0o600),
        ("attachments/a@eth0", 0o600),
    ] {
        let found = std::fs::metadata(pool.disk.path(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777;
        assert_eq!(found & !mode, 0, "{name} has mode {found:o}");
    }
}

#[test]
fn the_kernel_tells_the_boot() {
    let boot = BootId::current().unwrap();
    assert_eq!(boot.to_string().len(), 36);
    assert_eq!(BootId::current().unwrap(), boot);
    // Cut where a character ends.
    assert_eq!(BootId::new(&"ä".repeat(40)).to_string(), "ä".repeat(32));
}
