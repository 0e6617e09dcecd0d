//! What the peers answer.

use super::*;
use crate::probe::echo::Reply;
use crate::probe::outcomes::{answered, passes, silent, tcp_lost};

#[test]
fn what_peers_answer_is_put_in_words() {
    let (check, evidence, _) = cause_after(|facts| probed(facts, silent()));
    assert_eq!(check, Check::Reach);
    assert!(
        evidence.starts_with("host 192.0.2.12 answers, and nothing comes back through the overlay"),
        "{evidence}"
    );
    let (check, evidence, command) = cause_after(|facts| {
        let hole = PeerProbe {
            through_size: passes(1450, 1350),
            ..answers()
        };
        probed(facts, hole);
    });
    assert_eq!(check, Check::Mtu);
    assert_eq!(
        evidence,
        "packets of 1450 bytes do not get through the overlay to 192.0.2.12; the largest that does has 1350"
    );
    assert_eq!(command, "ip link set dev eth0 mtu 1400");
    let (check, _, command) = cause_after(|facts| {
        probed(facts, tcp_lost(answered()));
    });
    assert_eq!(
        (check, command.as_str()),
        (
            Check::Checksum,
            "ethtool -K flannel.1 tx-checksum-ip-generic off"
        )
    );
    // Who may not ask has heard nothing, and blames nobody.
    let (check, ..) = cause_after(|facts| {
        let unasked = PeerProbe {
            beside: Reply::NotPermitted,
            through: Some(Reply::NotPermitted),
            ..silent()
        };
        probed(facts, unasked);
    });
    assert_eq!(check, Check::Daemon);
}
