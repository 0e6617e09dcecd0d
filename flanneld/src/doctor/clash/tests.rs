use super::*;
use crate::probe::outcomes::answered;
use crate::status::report::{LeftOutPart, PeerInKernel, Probe};

const HELD: &str = "10.244.6.0/24";
const COPY: &str = "10.244.200.0/24";

fn peer(subnet: &str, public: &str, left_out: Option<LeftOutCode>) -> Peer {
    Peer {
        subnets: vec![subnet.to_owned()],
        public: vec![public.parse().unwrap()],
        macs: vec!["02:00:00:00:00:12".to_owned()],
        seen: None,
        kernel: match left_out {
            Some(_) => PeerInKernel::LeftOut,
            None => PeerInKernel::Right,
        },
        reasons: Vec::new(),
        left_out: left_out
            .map(|code| LeftOutPart {
                subnet: Some(subnet.to_owned()),
                code,
            })
            .into_iter()
            .collect(),
        probe: Probe::default(),
    }
}

/// Which of two leases with one MAC is told to be left over.
fn left_over(held: Option<Reply>, copy: Option<Reply>) -> Option<String> {
    let left_out = peer(HELD, "192.0.2.12", Some(LeftOutCode::ClaimsPeers));
    let other = peer(COPY, "192.0.2.77", None);
    let clash = Clash {
        left_out: &left_out,
        others: vec![&other],
    };
    assert!(in_each_others_way(&left_out, &other));
    let replies = [(left_out.public[0], held), (other.public[0], copy)];
    let replies = replies
        .into_iter()
        .filter_map(|(host, reply)| Some((host, reply?)))
        .collect();
    let gone = clash.left_over(&replies, &["192.0.2.11".parse().unwrap()]);
    gone.map(|peer| peer.subnets[0].clone())
}

#[test]
fn the_lease_whose_host_is_silent_is_left_over_whichever_is_left_out() {
    let silent = || Some(Reply::Silent);
    let there = || Some(answered());
    assert_eq!(left_over(there(), silent()), Some(COPY.to_owned()));
    assert_eq!(left_over(silent(), there()), Some(HELD.to_owned()));
    // A lease is not given up to guesses.
    for (held, copy) in [
        (there(), there()),
        (silent(), silent()),
        (None, silent()),
        (None, None),
        (there(), Some(Reply::NotPermitted)),
    ] {
        assert_eq!(
            left_over(held.clone(), copy.clone()),
            None,
            "{held:?} {copy:?}"
        );
    }
}

#[test]
fn what_is_left_of_this_nodes_former_lease_needs_no_other_host() {
    let left_out = peer(HELD, "192.0.2.11", Some(LeftOutCode::ClaimsOurs));
    let clash = Clash {
        left_out: &left_out,
        others: Vec::new(),
    };
    let ours = ["192.0.2.11".parse().unwrap()];
    // This host answers itself.
    let replies = BTreeMap::from([(ours[0], answered())]);
    assert_eq!(clash.left_over(&replies, &ours), Some(&left_out));
    assert_eq!(clash.left_over(&replies, &[]), None);
}
