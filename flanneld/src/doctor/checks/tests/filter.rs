//! Clocks and filters of the way back.

use super::*;
use crate::probe::outcomes::silent;

/// The way to the peer leads over another link than the uplink.
fn astray(facts: &mut Facts) {
    facts.links.push(link(LinkIndex(9), "wg0"));
    facts.peers[0].answered_by = Some(Some(LinkIndex(9)));
}

fn setting(facts: &mut Facts, link: &str, value: &str) {
    facts.sysctls.insert(filter_of(link), value.to_owned());
}

#[test]
fn a_strict_filter_is_blamed_where_the_way_back_is_another() {
    let (check, evidence, command) = cause_after(|facts| {
        astray(facts);
        probed(facts, silent());
    });
    assert_eq!(check, Check::RpFilter);
    assert_eq!(
        evidence,
        "rp_filter is strict on eth0, and the way to 192.0.2.12 leads over wg0: what comes from there by eth0 is dropped"
    );
    assert_eq!(command, "sysctl -w net.ipv4.conf.eth0.rp_filter=2");
    // A peer that answers all the same is no more than a warning.
    let mut facts = well();
    astray(&mut facts);
    let findings = all(&facts);
    let filter = findings
        .iter()
        .find(|finding| finding.check == Check::RpFilter);
    assert_eq!(filter.unwrap().verdict, Verdict::Warn);
    // Of both settings the larger counts, and loose is larger than strict.
    for (all_links, uplink, strict) in [
        ("0", "1", true),
        ("1", "2", false),
        ("2", "1", false),
        ("0", "0", false),
    ] {
        let (check, ..) = cause_after(|facts| {
            astray(facts);
            setting(facts, "all", all_links);
            setting(facts, "eth0", uplink);
            probed(facts, silent());
        });
        assert_eq!(check == Check::RpFilter, strict, "{all_links} {uplink}");
    }
}

#[test]
fn settings_of_links_with_dots_are_written_as_paths() {
    assert_eq!(
        sysctl("net/ipv4/ip_forward", "1"),
        "sysctl -w net.ipv4.ip_forward=1"
    );
    assert_eq!(
        sysctl("net/ipv4/conf/flannel.1/forwarding", "1"),
        "sysctl -w net/ipv4/conf/flannel.1/forwarding=1"
    );
}

#[test]
fn a_clock_apart_from_the_stores_is_a_warning() {
    for (ahead, expected) in [
        (
            -600_000,
            "this host's clock is 10 min ahead of that of the store",
        ),
        (
            7_300_000,
            "this host's clock is 2 h behind that of the store",
        ),
    ] {
        let mut facts = well();
        facts.store_clock = Ok(ahead);
        let findings = all(&facts);
        let clock = findings
            .iter()
            .find(|finding| finding.check == Check::Clock)
            .unwrap();
        assert_eq!(clock.verdict, Verdict::Warn);
        assert!(
            clock.evidence[0].starts_with(expected),
            "{:?}",
            clock.evidence
        );
    }
    for known in [Ok(-900), Ok(20_000), Err("nobody says".to_owned())] {
        let mut facts = well();
        facts.store_clock = known;
        let findings = all(&facts);
        let clock = findings
            .iter()
            .find(|finding| finding.check == Check::Clock)
            .unwrap();
        assert_eq!(clock.verdict, Verdict::Ok);
    }
}
