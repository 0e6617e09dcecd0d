//! What the peers that were asked answered.

use std::collections::BTreeMap;

use hostnet::probe::Failure;

use super::filter::hides_direction;
use super::firewall::tunnel_port;
use super::some_of;
use crate::doctor::facts::{Facts, Probed};
use crate::doctor::finding::{Check, Finding, Remedy};
use crate::probe::echo::{PathSize, Reply};
use crate::probe::peer::Direction;
use crate::probe::verdict::{Verdict, judge};

/// The peers that were asked, with what came of it; else why there are none.
fn judged(facts: &Facts, check: Check) -> Result<Vec<(&Probed, Verdict)>, Finding> {
    let Some(probes) = &facts.probes else {
        return Err(Finding::not_seen(check, "no peer was asked (--probe 0)"));
    };
    let judged: Vec<(&Probed, Verdict)> = probes
        .iter()
        .map(|probed| (probed, judge(&probed.probe)))
        .collect();
    if judged.is_empty() {
        return Err(Finding::ok(check, "there is no peer to ask"));
    }
    if judged
        .iter()
        .all(|(_, verdict)| *verdict == Verdict::NotSeen)
    {
        return Err(Finding::not_seen(
            check,
            "this process may not send probes; run as root",
        ));
    }
    Ok(judged)
}

pub(super) fn reach(facts: &Facts) -> Finding {
    let judged = match judged(facts, Check::Reach) {
        Ok(judged) => judged,
        Err(finding) => return finding,
    };
    let mut silent: Vec<&(&Probed, Verdict)> = judged
        .iter()
        .filter(|(_, verdict)| is_unreached(verdict))
        .collect();
    // The kind that most have in common first.
    let mut kinds: BTreeMap<u8, usize> = BTreeMap::new();
    for (_, verdict) in &silent {
        *kinds.entry(rank(verdict)).or_default() += 1;
    }
    silent.sort_by_key(|(_, verdict)| {
        (
            std::cmp::Reverse(kinds.get(&rank(verdict)).copied()),
            rank(verdict),
        )
    });
    let asked = format!("{} of {} peers asked", judged.len(), facts.peers.len());
    let Some((first, verdict)) = silent.first() else {
        return Finding::ok(
            Check::Reach,
            format!("all answer{} ({asked})", slowest(&judged)),
        );
    };
    let names: Vec<String> = silent
        .iter()
        .map(|(probed, _)| probed.peer.public.to_string())
        .collect();
    let others = (silent.len() > 1).then(|| format!("not reached: {}", some_of(&names)));
    let finding = unreached(facts, first, verdict);
    let untold = matches!(verdict, Verdict::TunnelSilent(Direction::Unknown))
        && first.peer.public.is_ipv4()
        && hides_direction(facts);
    let untold = untold.then(|| {
        "in which direction cannot be told from here: rp_filter is strict; the doctor over there may say it".to_owned()
    });
    finding
        .also(untold)
        .also(others)
        .also([format!("{} answer, {asked}", judged.len() - silent.len())])
}

fn slowest(judged: &[(&Probed, Verdict)]) -> String {
    let through = |probed: &Probed| {
        probed
            .probe
            .through
            .clone()
            .unwrap_or(probed.probe.beside.clone())
    };
    let times = judged
        .iter()
        .filter_map(|(probed, _)| match through(probed) {
            Reply::Answered { after, .. } => Some(after),
            _ => None,
        });
    times.max().map_or_else(String::new, |slowest| {
        format!(
            " within {}.{} ms",
            slowest.as_millis(),
            slowest.subsec_micros() % 1000 / 100
        )
    })
}

fn is_unreached(verdict: &Verdict) -> bool {
    rank(verdict) < u8::MAX
}

/// What is told first where as many peers suffer from it.
fn rank(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::NoWay(_) => 0,
        Verdict::PortProhibited { .. } => 1,
        Verdict::NoTunnel => 2,
        Verdict::TunnelSilent(_) => 3,
        Verdict::Failed { .. } => 4,
        Verdict::Dead => 5,
        Verdict::Fine
        | Verdict::NotSeen
        | Verdict::UplinkMtu(_)
        | Verdict::TunnelMtu(_)
        | Verdict::ChecksumOffload => u8::MAX,
    }
}

fn unreached(facts: &Facts, probed: &Probed, verdict: &Verdict) -> Finding {
    let port = tunnel_port(facts);
    let public = probed.peer.public;
    let ip = if public.is_ipv4() { "ip" } else { "ip6" };
    let own = facts
        .uplink()
        .and_then(|uplink| facts.address_on(uplink.index, public.is_ipv4()));
    let own = own.map_or_else(|| "this host".to_owned(), |own| own.to_string());
    let on_peer = |remedy: Remedy| {
        remedy.run_on(
            public.to_string(),
            format!("nft insert rule inet filter input {ip} saddr {own} udp dport {port} accept"),
        )
    };
    let here = |remedy: Remedy| {
        remedy.run(format!(
            "nft insert rule inet filter input {ip} saddr {public} udp dport {port} accept"
        ))
    };
    let open = "open the port on every firewall between (security groups too): for a host's own chain `input` that is";
    let (evidence, remedy) = match verdict {
        Verdict::NoWay(reason) => (
            reason.clone(),
            Remedy::say("give this host a way there").run(format!("ip route get {public}")),
        ),
        Verdict::PortProhibited { by } => {
            let by = by.map_or_else(|| "somebody".to_owned(), |by| by.to_string());
            (
                format!("{by} says that packets to UDP {port} of {public} are prohibited"),
                on_peer(Remedy::say(open)),
            )
        }
        Verdict::NoTunnel => (
            format!(
                "host {public} is there and has UDP {port} closed: it has no VXLAN device, or one with another port"
            ),
            Remedy::say("start flanneld there, and see that it has the same network configuration")
                .run_on(public.to_string(), super::RESTART),
        ),
        Verdict::TunnelSilent(Direction::OnlyHere) => (
            format!(
                "UDP {port} from here to {public} is blocked: its packets arrive here, ours not there"
            ),
            on_peer(Remedy::say(open)),
        ),
        Verdict::TunnelSilent(Direction::OnlyThere) => (
            format!(
                "UDP {port} from {public} to here is blocked: our packets arrive there, its ones not here"
            ),
            here(Remedy::say(open)),
        ),
        Verdict::TunnelSilent(Direction::Unknown) => (
            format!(
                "host {public} answers, and nothing comes back through the overlay: UDP {port} is blocked on the way, or its device is not what its lease says"
            ),
            here(on_peer(Remedy::say(open))).run_on(public.to_string(), "flanneld doctor"),
        ),
        Verdict::Failed { by, why } => {
            let by = by.map_or_else(|| "this host".to_owned(), |by| by.to_string());
            let why = match why {
                Failure::Prohibited => "is prohibited",
                Failure::PortUnreachable => "has the port closed",
                _ => "cannot be reached",
            };
            (
                format!("{by} says that the other end of the tunnel to {public} {why}"),
                Remedy::say("see what the kernel does with such a packet")
                    .run(format!("ip route get {}", probed.peer.subnet.network())),
            )
        }
        _ => (
            format!("host {public} answers neither through the overlay nor beside it"),
            Remedy::say("see whether it runs, and whether the network between the hosts does")
                .run(format!("ping -c 3 {public}")),
        ),
    };
    Finding::fail(Check::Reach, evidence, remedy)
}

pub(super) fn mtu(facts: &Facts) -> Finding {
    let judged = match judged(facts, Check::Mtu) {
        Ok(judged) => judged,
        Err(finding) => return finding,
    };
    let mut holes: Vec<(&Probed, &PathSize, bool)> = judged
        .iter()
        .filter_map(|(probed, verdict)| match verdict {
            Verdict::TunnelMtu(size) => Some((*probed, size, true)),
            Verdict::UplinkMtu(size) => Some((*probed, size, false)),
            _ => None,
        })
        .collect();
    holes.sort_by_key(|(_, size, _)| size.passes);
    let Some((probed, size, tunnelled)) = holes.first() else {
        let probes = judged.iter().filter_map(|(probed, _)| {
            let probe = &probed.probe;
            Some(
                probe
                    .through_size
                    .as_ref()
                    .or(probe.beside_size.as_ref())?
                    .wanted,
            )
        });
        return match probes.min() {
            Some(size) => Finding::ok(Check::Mtu, format!("packets of {size} bytes get through")),
            None => Finding::not_seen(Check::Mtu, "no peer that was asked answers"),
        };
    };
    let public = probed.peer.public;
    let passes = size.passes.map_or_else(
        || "not even small ones do".to_owned(),
        |passes| format!("the largest that does has {passes}"),
    );
    let through = if *tunnelled {
        "through the overlay "
    } else {
        ""
    };
    let evidence = format!(
        "packets of {} bytes do not get {through}to {public}; {passes}",
        size.wanted
    );
    let told = size.told.map_or_else(
        || "nobody on the way says so, they just vanish".to_owned(),
        |(by, mtu)| format!("{by} says that {mtu} bytes would get on"),
    );
    let names: Vec<String> = holes
        .iter()
        .map(|(probed, ..)| probed.peer.public.to_string())
        .collect();
    let others = (holes.len() > 1).then(|| format!("the same with {}", some_of(&names)));
    Finding::fail(Check::Mtu, evidence, lower(facts, probed, size, *tunnelled))
        .also([told])
        .also(others)
}

/// All that goes between the hosts has to fit, so the uplink is where it is set; the daemon follows.
fn lower(facts: &Facts, probed: &Probed, size: &PathSize, tunnelled: bool) -> Remedy {
    let Some((uplink, passes)) = facts.uplink().zip(size.passes) else {
        return Remedy::say("find the link on the way whose MTU is too small");
    };
    let overhead = match (tunnelled, probed.peer.public.is_ipv4()) {
        (false, _) => 0,
        (true, true) => 50,
        (true, false) => 70,
    };
    let outer = passes + overhead;
    Remedy::say(format!(
        "raise the MTU on the way, or have all nodes send no more than {outer} bytes: \"MTU\": {outer} in the Backend of the network configuration, or on each node's uplink, which flanneld follows"
    ))
    .run(format!("ip link set dev {} mtu {outer}", uplink.name))
    .run_on(probed.peer.public.to_string(), format!("ip link set dev {} mtu {outer}", uplink.name))
}

pub(super) fn checksum(facts: &Facts) -> Finding {
    let judged = match judged(facts, Check::Checksum) {
        Ok(judged) => judged,
        Err(finding) => return finding,
    };
    let broken = judged
        .iter()
        .find(|(_, verdict)| *verdict == Verdict::ChecksumOffload);
    if let Some((probed, _)) = broken {
        let public = probed.peer.public;
        let tunnel = facts.tunnel(probed.peer.subnet.is_ipv4());
        let device = tunnel.map_or("flannel.1", |tunnel| tunnel.link.name.as_str());
        let offload = tunnel.and_then(|tunnel| facts.offloads.get(&tunnel.link.index));
        if offload == Some(&false) {
            return Finding::warn(
                Check::Checksum,
                format!("connections through the overlay to {public} are lost, single segments are not, and {device} leaves no checksum to the hardware"),
                Remedy::say("something else tells the two apart: a firewall that goes by ports or programs; see what leaves here")
                    .run(format!("tcpdump -nvi {device} tcp port 9")),
            );
        }
        return Finding::fail(
            Check::Checksum,
            format!(
                "TCP through the overlay to {public} is lost where the hardware makes the checksum, and answered where it is made by hand"
            ),
            Remedy::say(format!(
                "have the kernel make the checksums of packets that leave by {device}"
            ))
            .run(format!("ethtool -K {device} tx-checksum-ip-generic off")),
        );
    }
    let tcp: Vec<_> = judged
        .iter()
        .filter_map(|(probed, _)| probed.probe.tcp.as_ref().map(|tcp| (probed, tcp)))
        .collect();
    let lost = tcp.iter().find(|(_, tcp)| tcp.kernel == Reply::Silent);
    match lost {
        Some((probed, tcp)) if tcp.by_hand == Some(Reply::Silent) => Finding::warn(
            Check::Checksum,
            format!("host {} answers echoes through the overlay and no TCP, whoever makes the checksum", probed.peer.public),
            Remedy::say("a firewall there drops it, or something on the way spoils the packets; see what arrives there")
                .run_on(probed.peer.public.to_string(), "tcpdump -nvi flannel.1 tcp port 9"),
        ),
        Some(_) => Finding::not_seen(Check::Checksum, "TCP gets no answer, and this process may not send segments of its own; run as root"),
        None if tcp.is_empty() => Finding::not_seen(Check::Checksum, "no peer that was asked answers through the overlay"),
        None => Finding::ok(Check::Checksum, "TCP through the overlay is answered"),
    }
}
