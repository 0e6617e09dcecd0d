use std::os::unix::fs::MetadataExt;

use proptest::option;
use proptest::prelude::*;

use super::*;

fn four() -> HostNetwork<Ipv4Cidr> {
    HostNetwork {
        networks: vec!["10.244.0.0/16".parse().unwrap()],
        subnet: "10.244.1.0/24".parse().unwrap(),
    }
}

fn six() -> HostNetwork<Ipv6Cidr> {
    HostNetwork {
        networks: vec!["fd00::/48".parse().unwrap()],
        subnet: "fd00:0:0:1::/64".parse().unwrap(),
    }
}

fn refusal(text: &str) -> String {
    SubnetEnv::parse(text).unwrap_err().to_string()
}

/// The bytes as flannel writes them.
#[test]
fn golden_text() {
    let v4 = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\n";
    let v6 = "FLANNEL_IPV6_NETWORK=fd00::/48\nFLANNEL_IPV6_SUBNET=fd00:0:0:1::1/64\n";
    let rest = "FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
    for (families, text) in [
        (PerFamily::v4(four()), format!("{v4}{rest}")),
        (PerFamily::v6(six()), format!("{v6}{rest}")),
        (PerFamily::both(four(), six()), format!("{v4}{v6}{rest}")),
    ] {
        let env = SubnetEnv {
            families,
            mtu: 1450,
            ip_masq: true,
        };
        assert_eq!(env.to_string(), text);
        assert_eq!(SubnetEnv::parse(&text).unwrap(), env);
    }
}

#[test]
fn reads_what_old_daemons_and_people_write() {
    let text = "# by hand\n\nexport FLANNEL_NETWORK=\"10.244.0.0/16, 10.245.0.0/16,10.244.0.0/16,nonsense\"\r\n\
        FLANNEL_SUBNET='10.244.1.1/24'\nFLANNEL_MTU\n FLANNEL_MTU = 1450 \nFLANNEL_IPMASQ=1\nOTHER=x=y\n";
    let env = SubnetEnv::parse(text).unwrap();
    let networks = ["10.244.0.0/16", "10.245.0.0/16"].map(|network| network.parse().unwrap());
    assert_eq!(env.families.v4.unwrap().networks, networks);
    assert_eq!((env.mtu, env.ip_masq), (1450, true));
}

#[test]
fn says_what_is_missing() {
    assert_eq!(
        refusal(""),
        "subnet.env lacks FLANNEL_NETWORK, FLANNEL_SUBNET, FLANNEL_MTU, FLANNEL_IPMASQ; wait for flanneld to write it, or restart flanneld"
    );
    assert!(
        refusal("FLANNEL_NETWORK=10.244.0.0/16\n").starts_with("subnet.env lacks FLANNEL_SUBNET;")
    );
    assert!(
        refusal("FLANNEL_IPV6_SUBNET=fd00::1/64\n")
            .starts_with("subnet.env lacks FLANNEL_IPV6_NETWORK;")
    );
    let no_mtu = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU\nFLANNEL_IPMASQ=true\n";
    assert!(refusal(no_mtu).starts_with("subnet.env lacks FLANNEL_MTU;"));
}

#[test]
fn says_what_is_wrong() {
    let with = |from: &str, to: &str| {
        let good = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
        refusal(&good.replace(from, to))
    };
    assert_eq!(
        with("10.244.1.1/24", "10.244.1.1"),
        "FLANNEL_SUBNET in subnet.env must be one subnet, not \"10.244.1.1\"; restart flanneld, which writes the file anew"
    );
    assert!(with("10.244.1.1/24", "10.244.1.1/24,10.244.2.1/24").contains("must be one subnet"));
    assert!(
        with("10.244.0.0/16", "fd00::/48")
            .starts_with("FLANNEL_NETWORK in subnet.env must be a subnet or a list")
    );
    assert!(
        with("1450", "big")
            .starts_with("FLANNEL_MTU in subnet.env must be a number of bytes, not \"big\"")
    );
    assert!(with("true", "yes").starts_with("FLANNEL_IPMASQ in subnet.env must be true or false"));
}

#[test]
fn a_file_that_is_not_there_points_at_the_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let error = SubnetEnv::read(&directory.path().join("subnet.env")).unwrap_err();
    assert!(
        matches!(error, SubnetEnvError::Absent { .. })
            && error.to_string().contains("start flanneld on this host")
    );
    let error = SubnetEnv::read(directory.path()).unwrap_err();
    assert!(matches!(error, SubnetEnvError::Read { .. }), "{error}");
}

#[test]
fn is_written_at_once_for_everyone_to_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flannel/subnet.env");
    let env = SubnetEnv {
        families: PerFamily::both(four(), six()),
        mtu: 1450,
        ip_masq: false,
    };
    env.write_atomic(&path).unwrap();
    assert_eq!(SubnetEnv::read(&path).unwrap(), env);
    let first = fs::metadata(&path).unwrap();
    assert_eq!(first.mode() & 0o777, 0o644);
    // Whoever has the old file open keeps reading the old text.
    let mut reader = File::open(&path).unwrap();
    let changed = SubnetEnv {
        mtu: 1400,
        ..env.clone()
    };
    changed.write_atomic(&path).unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, env.to_string());
    assert_eq!(SubnetEnv::read(&path).unwrap(), changed);
    let names: Vec<_> = fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["subnet.env"]);
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let in_the_way = directory.path().join("file");
    fs::write(&in_the_way, "").unwrap();
    let path = in_the_way.join("subnet.env");
    let env = SubnetEnv {
        families: PerFamily::v4(four()),
        mtu: 1450,
        ip_masq: true,
    };
    let error = env.write_atomic(&path).unwrap_err().to_string();
    assert!(
        error.starts_with(&path.display().to_string()) && error.contains("--subnet-file"),
        "{error}"
    );
}

#[test]
fn the_previous_subnet_is_a_wish_only_if_it_is_clear() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("subnet.env");
    let previous = |text: &str| {
        fs::write(&path, text).unwrap();
        SubnetEnv::previous_subnets(&path)
    };
    let four = Some(four().subnet);
    assert_eq!(previous("FLANNEL_SUBNET=10.244.1.1/24\n").v4, four);
    assert_eq!(
        previous("FLANNEL_SUBNET=x,10.244.1.1/24,y\nFLANNEL_MTU").v4,
        four
    );
    assert_eq!(
        previous("FLANNEL_SUBNET=10.244.1.1/24,10.244.2.1/24\n"),
        Subnets::default()
    );
    assert_eq!(
        previous("FLANNEL_SUBNET=nonsense\n\u{0}"),
        Subnets::default()
    );
    assert_eq!(
        previous("FLANNEL_IPV6_SUBNET=fd00:0:0:1::1/64\n").v6,
        Some(six().subnet)
    );
    fs::remove_file(&path).unwrap();
    assert_eq!(SubnetEnv::previous_subnets(&path), Subnets::default());
}

proptest! {
    #[test]
    fn round_trip(
        v4 in option::of((proptest::collection::btree_set((any::<u32>(), 0..=32_u8), 1..4), any::<u32>(), 0..=32_u8)),
        v6 in option::of((any::<u128>(), 0..=128_u8)),
        mtu: u32,
        ip_masq: bool,
    ) {
        let v4 = v4.map(|(networks, bits, prefix)| {
            let networks = networks.into_iter().map(|(bits, prefix)| Ipv4Cidr::masked(bits.into(), prefix).unwrap());
            let networks = std::collections::BTreeSet::from_iter(networks).into_iter().collect();
            HostNetwork { networks, subnet: Ipv4Cidr::masked(bits.into(), prefix).unwrap() }
        });
        let v6 = v6.map(|(bits, prefix)| {
            let subnet = Ipv6Cidr::masked(bits.into(), prefix).unwrap();
            HostNetwork { networks: vec![subnet], subnet }
        });
        let env = SubnetEnv { families: PerFamily { v4, v6 }, mtu, ip_masq };
        match SubnetEnv::parse(&env.to_string()) {
            Ok(read) => prop_assert_eq!(read, env),
            Err(error) => prop_assert!(env.families.is_empty(), "{}", error),
        }
    }

    #[test]
    fn any_text_is_answered(text in "(FLANNEL_(IPV6_)?(NETWORK|SUBNET|MTU|IPMASQ)?=?[0-9a-f.:/,'\" ]{0,20}\n?){0,6}|.{0,60}") {
        if let Ok(env) = SubnetEnv::parse(&text) {
            prop_assert_eq!(SubnetEnv::parse(&env.to_string()).unwrap(), env);
        }
    }
}

#[test]
fn a_file_of_any_length_is_read_whole() {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("subnet.env");
    for padding in [0, 800, 1023, 1024, 1025, 5000] {
        let end = "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.2.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
        let comment = "#".repeat(padding);
        std::fs::write(&path, format!("{comment}\n{end}")).unwrap();
        let env = SubnetEnv::read(&path).unwrap();
        assert_eq!((env.mtu, env.ip_masq), (1450, true), "{padding}");
    }
}
