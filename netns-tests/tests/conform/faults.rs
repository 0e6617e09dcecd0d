//! A plugin broken on purpose, one fault at a time: a script before the reference `ptp` or `host-local`. Without a fault it
//! passes the same checks, so that it is the fault that is caught.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use netns_tests::conform::{self, Options, Outcome, SpecVersion};
use netns_tests::eventually;
use serde_json::json;

use crate::protocol_faults::PROTOCOL;
use crate::reference::seen_to_fail;
use crate::verb_faults::*;
use crate::{REFERENCE, complaints, entry, reference_plugin, run};

/// Before the plugin runs: the config is in `$input`, and what comes out of it in `$output`.
///
/// The reference plugins know 1.0.0 at most: 1.1.0, with a GC and a STATUS that do what little a pool in files needs, is made
/// here.
const PROLOGUE: &str = r#"#!/bin/sh
set -u
reservations=/var/lib/cni/networks/conform
verb=${CNI_COMMAND:-}
new=
# What the command substitution would strip does not matter to a config.
case $verb in '' | VERSION) input= ;; *) input=$(cat) ;; esac
case $input in *'"cniVersion":"1.1.0"'*) new=yes ;; esac
input=$(printf %s "$input" | sed 's/"cniVersion":"1\.1\.0"/"cniVersion":"1.0.0"/')
refuse() { printf '{"cniVersion":"1.0.0","code":%s,"msg":"%s"}' "$1" "$2"; exit 1; }
real() { printf '%s' "$input" | "$REAL"; }
banner() { echo "CNI stand-in plugin v1.2.3" >&2; }
version() { printf '{"cniVersion":"1.1.0","supportedVersions":["0.1.0","0.3.1","0.4.0","1.0.0","1.1.0"]}'; }
add() { real; }
del() { real; }
check() { real; }
gc() {
    [ "$new" ] || refuse 1 "GC exists since 1.1.0"
    case $input in *valid-attachments*) ;; *) return 0 ;; esac
    case $input in *'"name":"conform"'*) ;; *) return 0 ;; esac
    for file in "$reservations"/10.*; do
        [ -e "$file" ] || continue
        # The container, then the interface, as the list has them.
        entry=$(tr -d '\r' <"$file" | sed '1s/.*/"containerID":"&",/; 2s/.*/"ifname":"&"/' | tr -d '\n')
        case $input in *"$entry"*) ;; *) rm "$file" ;; esac
    done
}
status() {
    [ "$new" ] || refuse 1 "STATUS exists since 1.1.0"
    # The small pool has five addresses.
    case $input in *10.99.0.0/29*) ;; *) return 0 ;; esac
    set -- "$reservations"/10.99.*
    [ $# -lt 5 ] || refuse 50 "no address left"
}
"#;

const EPILOGUE: &str = r#"
case $verb in
'') banner ;;
ADD) add ;;
DEL) del ;;
CHECK) check ;;
GC) gc ;;
STATUS) status ;;
VERSION) version ;;
*) real ;;
esac
"#;

/// Writes the plugin with this fault, which redefines some of the functions.
fn stand_in(directory: &Path, real: &str, fault: &str) -> Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let path = directory.join(real);
    let real = format!("REAL={REFERENCE}/{real}\n");
    fs::write(&path, [PROLOGUE, &real, fault, EPILOGUE].concat())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// A fault, and the checks that have to catch it.
pub(crate) type Fault = (&'static str, &'static [&'static str]);

fn options(real: &str, number: usize, fault: &str, checks: &[&str]) -> Result<Options> {
    reference_plugin(real)?;
    let directory = Path::new("/tmp/stand-in").join(number.to_string());
    let mut options = Options::new(stand_in(&directory, real, fault)?);
    options.versions = vec![SpecVersion::V100];
    let new = ["gc.", "status.", "result.mtu"];
    if checks
        .iter()
        .any(|id| new.iter().any(|start| id.starts_with(start)))
    {
        options.versions = vec![SpecVersion::V110];
    }
    options.only = checks.iter().map(|id| (*id).to_owned()).collect();
    Ok(options)
}

fn caught(real: &str, faults: &[Fault]) -> Result<()> {
    for (number, (fault, checks)) in faults.iter().enumerate() {
        let report = run(&options(real, number, fault, checks)?)?;
        for id in *checks {
            for finding in &entry(&report, id)?.findings {
                let caught = matches!(finding.outcome, Outcome::DoesNotHold { .. });
                ensure!(caught, "{fault}\nis not caught by {id}: {finding:?}");
            }
        }
    }
    Ok(())
}

/// Without a fault, every check holds that a fault is to fail; but for those that the reference plugin itself fails.
pub(crate) fn the_honest_stand_in_holds() -> Result<()> {
    const FAILS_ANYWAY: [&str; 8] = [
        "answer.error-version",
        "check.host-end-down",
        "config.args-equals",
        "del.empty-netns-leaves-nothing",
        "chain.prev-result-kept",
        "parallel.same-del",
        "pool.not-reused-at-once",
        "version.newest",
    ];
    let of_interfaces = [PROTOCOL, RESULTS, ADD, DEL, CHECK, TOGETHER];
    let of_interfaces = of_interfaces.concat();
    let sets = [
        ("ptp", of_interfaces.as_slice()),
        ("ptp", GC_AND_STATUS),
        ("host-local", ADDRESSES),
        ("host-local", OTHER_GC),
        ("bridge", OF_A_BRIDGE),
        ("loopback", OF_LOOPBACK),
    ];
    for (number, (real, faults)) in sets.into_iter().enumerate() {
        let mut checks: Vec<_> = faults
            .iter()
            .flat_map(|(_, checks)| checks.iter().copied())
            .filter(|id| !FAILS_ANYWAY.contains(id))
            .collect();
        checks.sort_unstable();
        checks.dedup();
        let report = run(&options(real, number, "", &checks)?)?;
        for id in checks {
            for finding in &entry(&report, id)?.findings {
                ensure!(
                    finding.outcome == Outcome::Holds,
                    "{id} of an honest {real}: {finding:?}"
                );
            }
        }
    }
    Ok(())
}

pub(crate) fn faults_of_the_protocol_are_caught() -> Result<()> {
    caught("ptp", PROTOCOL)
}

pub(crate) fn faults_of_results_are_caught() -> Result<()> {
    caught("ptp", RESULTS)?;
    caught("ptp", NEW_RESULTS)
}

pub(crate) fn faults_of_add_are_caught() -> Result<()> {
    caught("ptp", ADD)?;
    caught("bridge", OF_A_BRIDGE)
}

pub(crate) fn faults_of_del_are_caught() -> Result<()> {
    caught("ptp", DEL)
}

pub(crate) fn faults_of_check_are_caught() -> Result<()> {
    caught("ptp", CHECK)?;
    caught("loopback", OF_LOOPBACK)
}

pub(crate) fn faults_of_gc_and_status_are_caught() -> Result<()> {
    caught("ptp", GC_AND_STATUS)?;
    caught("host-local", OTHER_GC)
}

/// What the runner knows about flannel's daemon, tried with a stand-in of that type.
pub(crate) fn a_status_that_ignores_the_daemon_is_caught() -> Result<()> {
    let honest = r#"status() { [ -e /run/flannel/subnet.env ] || refuse 50 "no subnet yet"; }"#;
    for (number, (status, holds)) in [("", false), (honest, true)].into_iter().enumerate() {
        let mut options = options("ptp", number, status, &["status.not-ready"])?;
        options.config = Some(json!({
            "type": "flannel",
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/24"}]]},
        }));
        let report = run(&options)?;
        let right = entry(&report, "status.not-ready")?.holds() == holds;
        ensure!(right, "{status:?}: {:#?}", report.checks);
    }
    Ok(())
}

/// Each check has been seen to fail, here or with a reference plugin.
pub(crate) fn no_check_is_blind() -> Result<()> {
    let faults = [
        PROTOCOL,
        RESULTS,
        NEW_RESULTS,
        ADD,
        DEL,
        CHECK,
        GC_AND_STATUS,
        OTHER_GC,
        ADDRESSES,
        TOGETHER,
        OF_A_BRIDGE,
        OF_LOOPBACK,
    ];
    let seen: BTreeSet<_> = faults
        .concat()
        .iter()
        .flat_map(|(_, checks)| checks.iter().copied())
        .chain(seen_to_fail())
        .chain(["status.not-ready"])
        .collect();
    let blind: Vec<_> = conform::catalogue()
        .map(|(_, check)| check.id)
        .filter(|id| !seen.contains(id))
        .collect();
    ensure!(blind.is_empty(), "nobody has seen these fail: {blind:?}");
    Ok(())
}

pub(crate) fn faults_of_addresses_are_caught() -> Result<()> {
    caught("host-local", ADDRESSES)
}

pub(crate) fn faults_at_once_and_in_chains_are_caught() -> Result<()> {
    caught("ptp", TOGETHER)
}

/// A plugin that hangs, and one whose child holds its output open, are refused instead of holding up the run.
pub(crate) fn a_plugin_that_hangs_is_killed() -> Result<()> {
    let hang = r#"version() { exec tail -f /dev/null; }"#;
    let report = run(&options("ptp", 0, hang, &["version.silent-stdin"])?)?;
    let silent = entry(&report, "version.silent-stdin")?;
    let evidence = complaints(&report);
    ensure!(
        !silent.holds() && evidence.contains("still running after 10 s"),
        "{evidence}"
    );
    Ok(())
}

/// A daemon that the setup starts lives as long as its check; a setup that fails is not held against the plugin.
pub(crate) fn the_setup_prepares_each_host() -> Result<()> {
    let mut options = options("ptp", 0, "", &["add.succeeds", "del.succeeds"])?;
    let daemon = "tail -f /dev/null";
    options.setup =
        format!("echo hello; {daemon} & echo $! >/run/daemon.pid; test -s /run/daemon.pid");
    let report = run(&options)?;
    ensure!(report.holds_strictly(), "{}", complaints(&report));
    eventually("the daemons are gone", Duration::from_secs(5), || {
        let mut left = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let command = fs::read_to_string(entry?.path().join("cmdline")).unwrap_or_default();
            left.extend((command.replace('\0', " ").trim() == daemon).then_some(command));
        }
        ensure!(left.is_empty(), "{} still run", left.len());
        Ok(())
    })?;

    options.setup = "echo no such disk >&2; exit 3".to_owned();
    let report = run(&options)?;
    let add = &entry(&report, "add.succeeds")?.findings[0].outcome;
    let told = matches!(add, Outcome::Undecided { trouble } if trouble.contains("no such disk"));
    ensure!(told, "{add:?}");
    Ok(())
}
