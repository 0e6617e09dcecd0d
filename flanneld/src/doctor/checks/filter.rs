//! Reverse-path filters (rp_filter, RFC 3704) that drop what peers send.
//!
//! Strict means that a packet is dropped where the way back to its source does not lead over the link that it came in by. Peers send to the
//! uplink, so a way to a peer over another link has its packets dropped, without a word and before any firewall.

use crate::doctor::facts::{Facts, PeerFacts, filter_of};
use crate::doctor::finding::{Check, Finding, Remedy};
use crate::probe::echo::Reply;

pub(super) fn rp_filter(facts: &Facts) -> Finding {
    let Some(uplink) = facts.uplink() else {
        return Finding::not_seen(Check::RpFilter, "the uplink is not known");
    };
    let name = &uplink.name;
    let Some(mode) = mode(facts, name) else {
        return Finding::not_seen(Check::RpFilter, "/proc/sys cannot be read");
    };
    if mode != STRICT {
        let how = if mode == LOOSE { "loose" } else { "off" };
        return Finding::ok(Check::RpFilter, format!("{how} on {name}"));
    }
    let elsewhere = |peer: &&PeerFacts| {
        let back = peer.answered_by.flatten();
        peer.public.is_ipv4() && back.is_some_and(|link| link != uplink.index)
    };
    let mut astray: Vec<&PeerFacts> = facts.peers.iter().filter(elsewhere).collect();
    // Who is not heard comes first.
    astray.sort_by_key(|peer| !is_silent(facts, peer));
    let Some(peer) = astray.first() else {
        return Finding::ok(
            Check::RpFilter,
            format!("strict on {name}, by which packets to the peers leave, too"),
        );
    };
    let back = peer.answered_by.flatten().and_then(|link| facts.link(link));
    let back = back.map_or("another link", |link| link.name.as_str());
    let evidence = format!(
        "rp_filter is strict on {name}, and the way to {} leads over {back}: what comes from there by {name} is dropped",
        peer.public
    );
    let remedy = Remedy::say(format!(
        "have {name} take packets that are answered by another link (loose), after the next boot too; or give {} a way over {name}",
        peer.public
    ))
    .run(super::sysctl(&filter_of(name), "2"));
    if is_silent(facts, peer) {
        Finding::fail(Check::RpFilter, evidence, remedy)
    } else {
        Finding::warn(Check::RpFilter, evidence, remedy)
    }
}

/// Whether the uplink drops what comes from addresses of pods, as answers do that were asked for through the tunnel and come beside it.
pub(super) fn hides_direction(facts: &Facts) -> bool {
    let uplink = facts.uplink();
    uplink.is_some_and(|uplink| mode(facts, &uplink.name) == Some(STRICT))
}

/// The stricter of a link's own and that of all counts, and loose is more than strict (ip-sysctl).
fn mode(facts: &Facts, link: &str) -> Option<u8> {
    let of = |link: &str| facts.sysctls.get(&filter_of(link))?.trim().parse().ok();
    let (all, own): (Option<u8>, Option<u8>) = (of("all"), of(link));
    all.max(own)
}

fn is_silent(facts: &Facts, peer: &PeerFacts) -> bool {
    let mut probes = facts.probes.iter().flatten();
    let probed = probes.find(|probed| probed.peer.subnet == peer.subnet);
    probed.is_some_and(|probed| {
        let probe = &probed.probe;
        *probe.through.as_ref().unwrap_or(&probe.beside) == Reply::Silent
    })
}

const STRICT: u8 = 1;
const LOOSE: u8 = 2;
