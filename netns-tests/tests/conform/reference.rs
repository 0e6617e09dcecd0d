//! The catalogue as a whole, and known facts about Debian's reference plugins.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use netns_tests::conform::{self, Outcome, Severity, SpecVersion};

use crate::{complaints, entry, reference_plugin, run};

pub(crate) fn the_catalogue_is_in_order() -> Result<()> {
    let mut seen = BTreeSet::new();
    for (area, check) in conform::catalogue() {
        let id = check.id;
        ensure!(seen.insert(id), "{id} is there twice");
        ensure!(conform::area(id) == Some(area), "{id} is in two areas");
        let plain = id
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'.' || byte == b'-');
        ensure!(plain && id.contains('.'), "{id} is no name");
        ensure!(!check.title.ends_with('.'), "{id}: {}", check.title);
        ensure!(!check.source.is_empty(), "{id} has no source");
    }
    ensure!(seen.len() > 100, "{} checks", seen.len());
    Ok(())
}

/// The manual, whose tables list the whole catalogue.
const MANUAL: &str = include_str!("../../../docs/conformance.md");

pub(crate) fn the_catalogue_is_documented() -> Result<()> {
    let documented: Vec<_> = MANUAL
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("`, "))
        .filter(|(id, _)| id.contains('.') && !id.contains(' '))
        .map(|(id, rest)| (id, rest.split([' ', '*']).find(|word| !word.is_empty())))
        .collect();
    let catalogue: Vec<_> = conform::catalogue()
        .map(|(_, check)| (check.id, Some(check.severity.as_str())))
        .collect();
    for line in &catalogue {
        ensure!(documented.contains(line), "the manual lacks {line:?}");
    }
    for line in &documented {
        ensure!(catalogue.contains(line), "the manual invents {line:?}");
    }
    Ok(())
}

/// What is known about a plugin in its newest version.
struct Facts {
    plugin: &'static str,
    hold: &'static [&'static str],
    fail: &'static [&'static str],
    do_not_apply: &'static [&'static str],
}

const BRIDGE: Facts = Facts {
    plugin: "bridge",
    hold: &[
        "add.two-interfaces",
        "add.bridge-mac-stays",
        "result.addresses",
        "result.host-interfaces",
        "check.mac-changed",
        "check.address-gone",
        "del.leaves-nothing",
        "pool.freed",
        "chain.portmap-forwards",
        "chain.bandwidth",
        "parallel.unique",
    ],
    fail: &[
        // plugins#810.
        "del.empty-netns-leaves-nothing",
        // The veth pair is made first, and left when there is no address.
        "pool.exhausted-leaves-nothing",
        // cri-o#3437.
        "check.host-mac-changed",
        "check.routes-moved",
        "chain.prev-result-kept",
    ],
    do_not_apply: &[
        "status.ready",
        "gc.succeeds",
        "result.mtu",
        "check.loopback-down",
    ],
};

const PTP: Facts = Facts {
    plugin: "ptp",
    hold: &[
        "pool.exhausted-leaves-nothing",
        "check.host-mac-changed",
        "check.interface-gone",
        "check.route-gone",
        "result.routes",
        "add.gateway-answers",
    ],
    fail: &[
        // Both interfaces want a route to the same gateway.
        "add.two-interfaces",
        // It works in the host's own namespace.
        "add.own-netns-refused",
        "add.own-netns-untouched",
        "del.own-netns-harmless",
        "del.empty-netns-leaves-nothing",
        "del.missing-netns-leaves-nothing",
        // "unknown FS magic".
        "del.ordinary-file",
        "del.ordinary-file-leaves-nothing",
        "del.corrupt-prev-result",
        "check.routes-moved",
    ],
    do_not_apply: &["add.bridge-mac-stays", "add.no-interface-by-ipam"],
};

const HOST_LOCAL: Facts = Facts {
    plugin: "host-local",
    hold: &[
        "pool.whole",
        "pool.not-leaked",
        "pool.not-reused-at-once",
        "request.cni-args",
        "request.ips-capability",
        "request.taken",
        "request.ip-ranges",
        "check.reservation-gone",
        "add.no-interface-by-ipam",
        "result.dual-stack",
        "parallel.unique",
    ],
    fail: &["config.args-equals", "version.newest"],
    do_not_apply: &["add.interface", "result.addresses"],
};

/// Checks that some reference plugin fails.
pub(crate) fn seen_to_fail() -> impl Iterator<Item = &'static str> {
    [BRIDGE, PTP, HOST_LOCAL]
        .into_iter()
        .flat_map(|facts| facts.fail.iter().copied())
}

fn hold_true(facts: &Facts) -> Result<()> {
    let mut options = reference_plugin(facts.plugin)?;
    options.versions = vec![SpecVersion::V100];
    options.only = [facts.hold, facts.fail, facts.do_not_apply]
        .concat()
        .iter()
        .map(|id| (*id).to_owned())
        .collect();
    let report = run(&options)?;
    let all = |ids: &[&str], expected: fn(&Outcome) -> bool| -> Result<()> {
        for id in ids {
            for finding in &entry(&report, id)?.findings {
                ensure!(expected(&finding.outcome), "{id}: {finding:?}");
            }
        }
        Ok(())
    };
    all(facts.hold, |outcome| *outcome == Outcome::Holds)?;
    all(facts.fail, |outcome| {
        matches!(outcome, Outcome::DoesNotHold { .. })
    })?;
    all(facts.do_not_apply, |outcome| {
        matches!(outcome, Outcome::NotApplicable { .. })
    })
}

pub(crate) fn known_facts_about_bridge() -> Result<()> {
    hold_true(&BRIDGE)
}

pub(crate) fn known_facts_about_ptp() -> Result<()> {
    hold_true(&PTP)
}

pub(crate) fn known_facts_about_host_local() -> Result<()> {
    hold_true(&HOST_LOCAL)
}

pub(crate) fn known_facts_about_loopback() -> Result<()> {
    let mut options = reference_plugin("loopback")?;
    options.only = vec!["result.shape".to_owned(), "own-netns-harmless".to_owned()];
    let report = run(&options)?;
    // Its addresses lack the version that results had before 1.0.0.
    for finding in &entry(&report, "result.shape")?.findings {
        let old = finding
            .version
            .is_some_and(|version| (SpecVersion::V030..SpecVersion::V100).contains(&version));
        let holds = finding.outcome == Outcome::Holds;
        ensure!(holds != old, "{finding:?}");
    }
    ensure!(!report.conformant, "{}", complaints(&report));
    // plugins#714: it took the host's loopback down.
    let harmless = entry(&report, "del.own-netns-harmless")?;
    ensure!(!harmless.holds(), "{harmless:?}");
    ensure!(report.holds(Severity::Quality), "{}", complaints(&report));
    Ok(())
}
