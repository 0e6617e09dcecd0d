//! The command line of the daemon and the variables that stand in for it.

use flanneld::args::Invocation;
use flanneld::args::goflags::Normalised;

pub(super) const FLAGS: &[&str] = &[
    "\0",
    "-",
    "--",
    "=",
    "-etcd-endpoints",
    "--etcd-prefix=",
    "-ip-masq",
    "--ip-masq=false",
    "-iface=eth0",
    "--iface-regex",
    "-public-ip=10.0.0.1",
    "--healthz-port=",
    "-v=1",
    "--subnet-lease-renew-margin",
    "--iptables-resync=5",
    "-h",
    "--version",
    "FLANNELD_IP_MASQ=true",
    "FLANNELD_ETCD_PREFIX=/x",
    "FLANNELD_",
    "FLANNELD_IFACE=eth1",
    "FLANNELD_PUBLIC_IP=",
];

/// Words with a NUL between; those that read like a variable of ours are variables.
pub(super) fn flags(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (mut words, mut variables) = (Vec::new(), Vec::new());
    for word in text.split('\0').take(40) {
        match word
            .split_once('=')
            .filter(|(name, _)| name.starts_with("FLANNELD_"))
        {
            Some((name, value)) => variables.push((name.to_owned(), value.to_owned())),
            None => words.push(word.to_owned()),
        }
    }
    rewritten(&words);
    match Invocation::read(words, variables.clone()) {
        Ok(invocation) => {
            assert!(invocation.warnings.len() <= variables.len());
            for warning in &invocation.warnings {
                assert!(warning.contains("FLANNELD_"), "{warning}");
                assert!(warning.len() <= 20 * text.len() + 1000, "{warning}");
            }
        }
        // The error may bring the help text.
        Err(error) => assert!(
            error.to_string().len() <= 20 * text.len() + 20_000,
            "{error}"
        ),
    }
}

/// Rewriting loses no word and invents none.
fn rewritten(words: &[String]) {
    for boolean in [true, false] {
        let got = Normalised::from_words(words.iter().cloned(), |_| boolean);
        assert!(
            got.flags.iter().all(|flag| flag.starts_with("--")),
            "{got:?}"
        );
        assert!(words.ends_with(&got.rest), "{got:?}");
        let kept: usize = got.flags.iter().map(String::len).sum();
        // At most a dash more for each, or `--help` for `-h`.
        let given: usize = words.iter().map(|word| word.len() + "--help".len()).sum();
        assert!(kept <= given, "{got:?}");
        assert!(got.flags.len() + got.rest.len() <= words.len(), "{got:?}");
    }
}
