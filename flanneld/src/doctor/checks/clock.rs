//! The clock of this host.

use std::time::{Duration, SystemTime};

use crate::doctor::facts::Facts;
use crate::doctor::finding::{Check, Finding, Remedy};

/// A clock that is far off makes certificates look wrong and leases look old.
pub(super) fn clock(facts: &Facts) -> Finding {
    let remedy =
        || Remedy::say("set the clock, and keep it by NTP").run("timedatectl set-ntp true");
    if facts.at < SystemTime::UNIX_EPOCH + BUILT {
        return Finding::fail(
            Check::Clock,
            "the clock says a time before this program was made",
            remedy(),
        );
    }
    let went_back = facts
        .subnet_file_written
        .and_then(|written| written.duration_since(facts.at).ok())
        .filter(|ahead| *ahead > TOLERANCE)
        .map(|ahead| {
            format!(
                "the subnet file was written {} min in the future: the clock went back",
                ahead.as_secs() / 60
            )
        });
    match (&facts.store_clock, went_back) {
        (Ok(ahead), went_back) if Duration::from_millis(ahead.unsigned_abs()) > APART => {
            let (seconds, how) = match *ahead {
                ..0 => (ahead.unsigned_abs() / 1000, "ahead of"),
                0.. => (ahead.unsigned_abs() / 1000, "behind"),
            };
            let span = super::lease::span(seconds.try_into().unwrap_or(i64::MAX));
            let store = facts.report().and_then(|report| report.node.store.as_ref());
            let store = store.map_or("the store", |store| store.kind.as_str());
            let evidence = format!(
                "this host's clock is {span} {how} that of {store}; one of the two is wrong, and certificates may look so"
            );
            Finding::warn(Check::Clock, evidence, remedy()).also(went_back)
        }
        (_, Some(went_back)) => Finding::warn(Check::Clock, went_back, remedy()),
        (Ok(_), None) => Finding::ok(Check::Clock, "the same as the store's"),
        (Err(reason), None) => Finding::ok(Check::Clock, "sane")
            .also([format!("not compared with the store's: {reason}")]),
    }
}

/// Some time in 2026, after 1970; no host that runs this lives before.
const BUILT: Duration = Duration::from_secs(1_767_225_600);

/// Hosts correct their clocks by less.
const TOLERANCE: Duration = Duration::from_secs(300);

/// Clocks kept by NTP differ by milliseconds; the store's time comes in whole seconds, and after the time its answer takes.
const APART: Duration = Duration::from_secs(30);
