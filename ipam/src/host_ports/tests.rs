use super::*;

fn owner(container: &str) -> Owner {
    Owner::new(container, "eth0").unwrap()
}

fn record(container: &str, order: u64) -> PortRecord {
    PortRecord {
        owner: owner(container),
        network: "cbr0".to_owned(),
        order,
        host: 4_026_531_840,
        netns: "/run/netns/a".to_owned(),
        addresses: vec![PodAddress {
            address: "10.244.1.5".parse().unwrap(),
            prefix: 24,
        }],
        mappings: vec![Mapping {
            protocol: Transport::Tcp,
            host_port: 8080,
            container_port: 80,
            host_ip: None,
        }],
        masqueraded: Masqueraded::Near,
        mark_bit: 13,
        localnet: Some(Localnet {
            link: "veth0".to_owned(),
            ours: true,
        }),
    }
}

fn store() -> (tempfile::TempDir, HostPorts) {
    let directory = tempfile::tempdir().unwrap();
    let store = HostPorts::new(directory.path().join("hostports"));
    (directory, store)
}

#[test]
fn records_come_back_in_order_and_go() {
    let (_directory, store) = store();
    assert!(store.is_unused());
    let locked = store.lock(Duration::ZERO).unwrap();
    let long = "a".repeat(300);
    for (container, order) in [("b", 2), (&long, 1), ("c", 3)] {
        locked.write(&record(container, order)).unwrap();
    }
    let containers = |locked: &Locked<'_>| -> Vec<String> {
        let records = locked.records().unwrap();
        let owners = records.iter().map(|record| record.owner.container_id());
        owners.map(str::to_owned).collect()
    };
    assert_eq!(containers(&locked), [&long, "b", "c"]);
    assert_eq!(locked.records().unwrap()[1], record("b", 2));
    assert!(store.has(&owner("b")));
    locked.write(&record("b", 4)).unwrap();
    locked.remove(&owner("c")).unwrap();
    locked.remove(&owner("c")).unwrap();
    assert_eq!(containers(&locked), [&long, "b"]);
    assert!(!store.has(&owner("c")) && !store.is_unused());
}

#[test]
fn what_is_no_record_is_passed_over() {
    let (_directory, store) = store();
    let locked = store.lock(Duration::ZERO).unwrap();
    locked.write(&record("a", 1)).unwrap();
    for (name, text) in [
        ("x@eth0", "{"),
        ("y@eth0", ""),
        (DRAFT, "half a rec"),
        ("z@eth0", "[]"),
    ] {
        fs::write(store.directory.join(name), text).unwrap();
    }
    assert_eq!(locked.records().unwrap(), [record("a", 1)]);
}

#[test]
fn one_at_a_time() {
    let (_directory, store) = store();
    let _locked = store.lock(Duration::ZERO).unwrap();
    let refused = store.lock(Duration::ZERO).unwrap_err();
    assert!(matches!(refused, HostPortsError::Busy { .. }), "{refused}");
}

/// The form on disk: a newer program has to read what an older one wrote.
#[test]
fn golden() {
    let text = serde_json::to_string(&record("a", 1)).unwrap();
    let expected = concat!(
        r#"{"owner":{"containerId":"a","ifname":"eth0"},"network":"cbr0","order":1,"host":4026531840,"#,
        r#""netns":"/run/netns/a","addresses":[{"address":"10.244.1.5","prefix":24}],"#,
        r#""mappings":[{"protocol":"tcp","hostPort":8080,"containerPort":80}],"#,
        r#""masqueraded":"near","markBit":13,"localnet":{"link":"veth0","ours":true}}"#
    );
    assert_eq!(text, expected);
}
