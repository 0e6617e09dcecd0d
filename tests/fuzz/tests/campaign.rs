//! Feeds every target. How long, and with which mutations, is told by variables; see `docs/testing.md`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use loden_fuzz::{Campaign, Settings, TARGETS, Target};

fn campaign(target: &Target, settings: Settings) -> Result<u64, String> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let finds = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
    Campaign::new(target, settings, &corpus, &finds).run()
}

fn run(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.unwrap_or_else(|| panic!("there is no target {name}"));
    let fed = Settings::from_environment().and_then(|settings| campaign(target, settings));
    match fed {
        Ok(fed) => println!("{name}: {fed} inputs"),
        Err(find) => panic!("{find}"),
    }
}

/// One test for each target, so that they run side by side and can be chosen by name.
macro_rules! targets {
    ($($test:ident),* $(,)?) => {
        $(
            #[test]
            fn $test() {
                run(stringify!($test));
            }
        )*

        #[test]
        fn every_target_has_its_test_and_its_folder() {
            let mut names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            names.sort();
            let mut tests = vec![$(stringify!($test)),*];
            tests.sort();
            assert_eq!(tests, names);
            let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
            for entry in std::fs::read_dir(corpus).unwrap() {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                assert!(!entry.path().is_dir() || names.contains(&name.as_str()), "{name} is fed to nothing");
            }
        }
    };
}

targets!(
    attachment,
    cni_alias,
    cni_args,
    cni_environment,
    cni_result,
    cni_scratch,
    cni_stdin,
    doctor_foreign,
    flanneld_flags,
    host_local,
    iptables_save,
    lease_key,
    lease_record,
    net_conf,
    nf_tables,
    node_annotations,
    pool_directory,
    pool_slots,
    probe_packets,
    rtnetlink,
    subnet,
    subnet_env,
);

/// A runner that finds nothing would look just like a parser without faults.
#[test]
fn a_broken_promise_is_found_kept_and_found_again() {
    let broken = Target {
        name: "subnet",
        run: |input| assert!(!input.windows(2).any(|pair| pair == b"//"), "two slashes"),
        dictionary: &["/"],
        cost: 1,
    };
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let finds = tempfile_dir();
    let settings = Settings {
        runs: 20_000,
        seed: 1,
        only: None,
    };
    let campaign =
        |settings: &Settings| Campaign::new(&broken, settings.clone(), &corpus, &finds).run();
    let first = campaign(&settings).unwrap_err();
    assert!(
        first.contains("two slashes") && first.contains("seed 1"),
        "{first}"
    );
    assert_eq!(
        campaign(&settings).unwrap_err(),
        first,
        "it depends on more than the seed"
    );
    let find = finds.join("subnet-find");
    assert!(
        std::fs::read(&find)
            .unwrap()
            .windows(2)
            .any(|pair| pair == b"//")
    );
    let again = campaign(&Settings {
        only: Some(find),
        ..settings
    })
    .unwrap_err();
    assert!(again.contains("the only input"), "{again}");
}

fn tempfile_dir() -> std::path::PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("broken")
}
