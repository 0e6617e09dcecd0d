//! What the answers about a peer mean, all taken together.

use std::net::IpAddr;

use hostnet::probe::Failure;

use super::echo::{PathSize, Reply};
use super::peer::{Direction, PeerProbe};

/// What is the matter with the way to a peer; the first that applies, in the order of a packet's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Fine,
    /// Nothing can be said: this process may not ask.
    NotSeen,
    /// Packets for it cannot leave this host, for this reason.
    NoWay(String),
    /// It answers nowhere: it is down, or the network between the hosts is.
    Dead,
    /// Somebody on the way, or it, refuses packets for the tunnel's port.
    PortProhibited {
        /// Who says so.
        by: Option<IpAddr>,
    },
    /// It is there, and nothing on it has the tunnel's port open: it has no VXLAN device, or one with another port.
    NoTunnel,
    /// It answers beside the overlay and not through it.
    TunnelSilent(Direction),
    /// Packets of full size do not get there beside the overlay.
    UplinkMtu(PathSize),
    /// Packets of full size do not get there through the overlay.
    TunnelMtu(PathSize),
    /// The checksums of TCP are spoilt on the way out.
    ChecksumOffload,
    /// The kernel says that it is not reached through the overlay.
    Failed {
        /// Who says so; nobody when it was this host itself.
        by: Option<IpAddr>,
        /// What is said.
        why: Failure,
    },
}

/// What a probe of a peer shows.
pub fn judge(probe: &PeerProbe) -> Verdict {
    let through = probe.through.as_ref().unwrap_or(&probe.beside);
    match through {
        Reply::Answered { .. } => judge_answering(probe),
        Reply::NotPermitted => Verdict::NotSeen,
        Reply::NotSent(reason) => Verdict::NoWay(reason.clone()),
        Reply::Failed { by, why } => Verdict::Failed { by: *by, why: *why },
        Reply::Silent => judge_silent(probe),
    }
}

fn judge_silent(probe: &PeerProbe) -> Verdict {
    match probe.refused_port() {
        Some((_, Failure::PortUnreachable)) => Verdict::NoTunnel,
        Some((by, Failure::Prohibited)) => Verdict::PortProhibited { by },
        _ if probe.through.is_some() && probe.beside.is_answered() => {
            Verdict::TunnelSilent(probe.direction.unwrap_or(Direction::Unknown))
        }
        _ => Verdict::Dead,
    }
}

fn judge_answering(probe: &PeerProbe) -> Verdict {
    // Of the two, what the overlay does matters; the underlay may take less than its link says where the overlay's MTU was
    // lowered for just that.
    let hole = |size: &Option<PathSize>| size.as_ref().filter(|size| !size.is_whole()).cloned();
    let tcp = probe.tcp.as_ref();
    match (hole(&probe.through_size), hole(&probe.beside_size)) {
        (Some(through), _) => Verdict::TunnelMtu(through),
        (None, Some(beside)) if probe.through.is_none() => Verdict::UplinkMtu(beside),
        _ if tcp.is_some_and(super::tcp::TcpReply::shows_broken_offload) => {
            Verdict::ChecksumOffload
        }
        _ => Verdict::Fine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::probe::outcomes::{answered, answers, passes, silent, tcp_lost};

    #[test]
    fn a_peer_that_answers_everything_is_answers() {
        assert_eq!(judge(&answers()), Verdict::Fine);
        // Firewalls that drop echoes on the underlay are many, and harm nothing.
        let hidden = PeerProbe {
            beside: Reply::Silent,
            beside_size: None,
            ..answers()
        };
        assert_eq!(judge(&hidden), Verdict::Fine);
        // The overlay's MTU was lowered for it.
        let lowered = PeerProbe {
            beside_size: passes(1500, 1400),
            through_size: passes(1350, 1350),
            ..answers()
        };
        assert_eq!(judge(&lowered), Verdict::Fine);
    }

    #[test]
    fn silence_is_told_apart_by_what_else_is_heard() {
        assert_eq!(judge(&silent()), Verdict::TunnelSilent(Direction::Unknown));
        let there = PeerProbe {
            direction: Some(Direction::OnlyThere),
            ..silent()
        };
        assert_eq!(judge(&there), Verdict::TunnelSilent(Direction::OnlyThere));
        let dead = PeerProbe {
            beside: Reply::Silent,
            direction: None,
            ..silent()
        };
        assert_eq!(judge(&dead), Verdict::Dead);
        let by = Some("192.0.2.9".parse().unwrap());
        let refused = |why| PeerProbe {
            port: Some(Reply::Failed { by, why }),
            ..silent()
        };
        assert_eq!(judge(&refused(Failure::PortUnreachable)), Verdict::NoTunnel);
        assert_eq!(
            judge(&refused(Failure::Prohibited)),
            Verdict::PortProhibited { by }
        );
    }

    #[test]
    fn a_hole_in_the_mtu_comes_before_checksums_that_it_may_hide() {
        let hole = PeerProbe {
            through_size: passes(1450, 1350),
            beside_size: passes(1500, 1400),
            ..answers()
        };
        let expected = passes(1450, 1350).unwrap();
        assert_eq!(judge(&hole), Verdict::TunnelMtu(expected));
        let without_tunnel = PeerProbe {
            through: None,
            through_size: None,
            tcp: None,
            beside_size: passes(1500, 1400),
            ..answers()
        };
        let expected = passes(1500, 1400).unwrap();
        assert_eq!(judge(&without_tunnel), Verdict::UplinkMtu(expected));
    }

    #[test]
    fn only_an_answer_to_a_checksum_of_our_own_blames_the_offload() {
        assert_eq!(judge(&tcp_lost(answered())), Verdict::ChecksumOffload);
        assert_eq!(judge(&tcp_lost(Reply::Silent)), Verdict::Fine);
        assert_eq!(judge(&tcp_lost(Reply::NotPermitted)), Verdict::Fine);
    }

    #[test]
    fn what_could_not_be_asked_is_not_taken_for_silence() {
        let not_permitted = PeerProbe {
            through: Some(Reply::NotPermitted),
            ..silent()
        };
        assert_eq!(judge(&not_permitted), Verdict::NotSeen);
        let no_way = PeerProbe {
            through: Some(Reply::NotSent("no".to_owned())),
            ..silent()
        };
        assert_eq!(judge(&no_way), Verdict::NoWay("no".to_owned()));
    }
}
