use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn versions_are_read_and_compared() {
    for (text, version) in [
        ("iptables v1.8.9 (nf_tables)\n", Version(1, 8, 9)),
        ("iptables v1.4.21", Version(1, 4, 21)),
        ("ip6tables v1.8.10 (legacy)", Version(1, 8, 10)),
        ("iptables v2.0", Version(2, 0, 0)),
    ] {
        assert_eq!(Version::parse(text), Some(version));
    }
    assert_eq!(Version::parse("iptables: command not found"), None);
    assert!(Version(1, 6, 1) < Version::RANDOM_FULLY && Version(1, 8, 0) > Version::RANDOM_FULLY);
}

/// A directory with programs that do as told.
struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn with(self, names: &[&str], script: &str) -> Self {
        for name in names {
            let path = self.0.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permitted");
        }
        self
    }

    fn programs(&self) -> Programs {
        Programs::find_in(self.0.path().as_os_str())
    }
}

const USUAL: [&str; 4] = [
    "iptables-save",
    "iptables-restore",
    "ip6tables-save",
    "ip6tables-restore",
];

#[test]
fn programs_without_a_variant_in_their_name_say_what_they_are() {
    for (word, variant, random) in [
        ("v1.8.9 (nf_tables)", Variant::Nft, true),
        ("v1.8.9 (legacy)", Variant::Legacy, true),
        ("v1.6.1", Variant::Legacy, false),
    ] {
        let directory = Directory::new().with(&USUAL, "true").with(
            &["iptables", "ip6tables"],
            &format!("echo 'iptables {word}'"),
        );
        let programs = directory.programs();
        assert_eq!(programs.usual, Some(variant), "{word}");
        assert!(programs.has(variant, &[AddressFamily::Ipv4, AddressFamily::Ipv6]));
        assert_eq!(programs.can_randomise(variant), random, "{word}");
    }
}

#[test]
fn a_family_that_is_not_used_needs_no_programs() {
    let names = ["iptables-nft-save", "iptables-nft-restore"];
    let programs = Directory::new().with(&names, "true").programs();
    let (ipv4, ipv6) = (AddressFamily::Ipv4, AddressFamily::Ipv6);
    assert!(programs.has(Variant::Nft, &[ipv4]));
    assert!(!programs.has(Variant::Nft, &[ipv4, ipv6]));
    assert!(!programs.has(Variant::Legacy, &[ipv4]));
}

#[test]
fn without_programs_nothing_is_found() {
    assert_eq!(Directory::new().programs(), Programs::default());
    // iptables alone is of no use.
    let alone = Directory::new().with(&["iptables"], "echo iptables v1.8.9");
    assert_eq!(alone.programs(), Programs::default());
    let place = Place::ALL[0];
    let error = alone.programs().save(place).expect_err("there is none");
    assert!(error.to_string().contains("iptables-nft-save"), "{error}");
}

#[test]
fn what_a_program_says_about_its_failure_is_told() {
    let directory = Directory::new().with(
        &["iptables-nft-save", "iptables-nft-restore"],
        "echo 'no such thing' >&2; exit 3",
    );
    let error = directory
        .programs()
        .save(Place::ALL[0])
        .expect_err("it fails");
    let text = error.to_string();
    assert!(
        text.contains("no such thing") && text.contains("exit status: 3"),
        "{text}"
    );
}

#[test]
fn a_program_is_given_its_script_and_may_ignore_it() {
    let directory = Directory::new()
        .with(&["iptables-nft-save"], "cat \"$0.rules\"")
        .with(
            &["iptables-nft-restore"],
            "cat > \"${0%-restore}-save.rules\"",
        );
    let programs = directory.programs();
    let place = Place::ALL[0];
    let script = "*raw\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n".repeat(10_000);
    let restore = Restore {
        place,
        script,
        reason: String::new(),
    };
    programs.restore(&restore).expect("it is written");
    let saved = programs.save(place).expect("it is read");
    assert!(saved.tables.contains_key("raw"));
    let deaf = Directory::new().with(&["iptables-nft-save", "iptables-nft-restore"], "exit 0");
    deaf.programs().restore(&restore).expect("it does not read");
}
