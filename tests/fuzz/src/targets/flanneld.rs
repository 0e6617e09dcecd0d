//! The command line of the daemon and the variables that stand in for it.

use flanneld::args::Invocation;
use flanneld::args::goflags::Normalised;
use flanneld::iptables::{self, Place, Saved, Variant, Wanted};

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

pub(super) const IPTABLES_SAVE: &[&str] = &[
    "*nat\n",
    "*filter\n",
    "*raw\n",
    "COMMIT\n",
    ":POSTROUTING ACCEPT [0:0]\n",
    ":FORWARD DROP [0:0]\n",
    ":OUTPUT ACCEPT [0:0]\n",
    ":FLANNEL-POSTRTG - [0:0]\n",
    ":FLANNEL-FWD - [0:0]\n",
    "-A POSTROUTING ",
    "-A FORWARD ",
    "-A OUTPUT ",
    "-A FLANNEL-FWD ",
    "-s 10.244.0.0/16 ",
    "! -s 10.244.0.0/16 ",
    "-d 10.244.0.0/16 ",
    "! -d 224.0.0.0/4 ",
    "-m comment --comment \"flanneld masq\" ",
    "-m comment --comment \"flanneld forward\" ",
    "-m comment --comment \"flanneld notrack\" ",
    "-j RETURN\n",
    "-j ACCEPT\n",
    "-j MASQUERADE\n",
    "-j FLANNEL-FWD\n",
    "-j FLANNEL-POSTRTG\n",
    "-j CT --notrack\n",
    "# Table `nat' is incompatible, use 'nft' tool.\n",
];

/// What `iptables-save` printed, and what is written because of it: lines of its language about chains that are ours and rules that were
/// there, whatever was printed.
pub(super) fn iptables_save(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(saved) = Saved::parse(&text) else {
        return;
    };
    for variant in [None, Some(Variant::Nft)] {
        let wanted = Wanted {
            active: variant,
            ..Wanted::nothing()
        };
        let place = Place::ALL[0];
        let plan = iptables::plan(&wanted, &[(place, saved.clone())].into());
        for restore in plan.active.iter().chain(&plan.others) {
            assert!(!restore.reason.is_empty());
            restore.script.lines().for_each(|line| legal(line, &text));
        }
    }
}

/// Nothing is wanted in these runs, so nothing is added, and what is deleted is in the listing.
fn legal(line: &str, listing: &str) {
    let own = ["FLANNEL-POSTRTG", "FLANNEL-FWD"];
    let ours = |chain: &str| own.contains(&chain);
    if let Some(table) = line.strip_prefix('*') {
        assert!(["nat", "filter", "raw"].contains(&table), "{line}");
    } else if let Some(rule) = line.strip_prefix("-D ") {
        let (chain, rule) = rule.split_once(' ').expect("a chain and a rule");
        assert!(listing.contains(chain) && listing.contains(rule), "{line}");
        let plain = |text: &str| text.replace(['"', '\\'], "");
        let known = plain(rule).contains("flannel") || plain(listing).contains("RETURN");
        assert!(known, "{line}");
    } else if let Some(chain) = line.strip_prefix("-X ") {
        assert!(ours(chain), "{line}");
    } else if let Some(chain) = line.strip_prefix(':') {
        let (chain, _) = chain.split_once(' ').expect("a chain and no policy");
        assert!(ours(chain), "{line}");
    } else {
        assert_eq!(line, "COMMIT");
    }
}
