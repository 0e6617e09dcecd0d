//! Firewalls of others.

use hostnet::nft::{End, Family, Obstacle};

use super::*;
use crate::probe::outcomes::silent;

#[test]
fn firewalls_are_opened_in_the_words_of_who_keeps_them() {
    let obstacle = |family, table: &str, chain: &str, within: &str| Obstacle {
        family,
        table: table.to_owned(),
        chain: chain.to_owned(),
        end: if within.is_empty() {
            End::Policy
        } else {
            End::Rule {
                chain: within.to_owned(),
                place: 3,
                comment: None,
            }
        },
        certain: true,
    };
    for (obstacle, expected) in [
        (
            obstacle(Family::Inet, "guard", "forward", ""),
            "nft insert rule inet guard forward ip saddr 10.244.0.0/16 accept",
        ),
        (
            obstacle(Family::Ip, "filter", "FORWARD", ""),
            "iptables -I FORWARD -s 10.244.0.0/16 -j ACCEPT",
        ),
        (
            obstacle(Family::Ip, "filter", "FORWARD", "ufw-reject-forward"),
            "ufw route allow from 10.244.0.0/16",
        ),
        (
            obstacle(Family::Inet, "firewalld", "filter_FORWARD", ""),
            "firewall-cmd --permanent --zone=trusted --add-source=10.244.0.0/16",
        ),
    ] {
        let (check, evidence, command) = cause_after(|facts| {
            facts.firewall = Ok(FirewallFacts {
                forward: vec![obstacle],
                ..FirewallFacts::default()
            });
        });
        assert_eq!(
            (check, command.as_str()),
            (Check::FirewallForward, expected),
            "{evidence}"
        );
    }
    let (check, _, command) = cause_after(|facts| {
        facts.firewall = Ok(FirewallFacts {
            port: vec![obstacle(Family::Ip, "filter", "INPUT", "")],
            ..FirewallFacts::default()
        });
        probed(facts, silent());
    });
    assert_eq!(
        (check, command.as_str()),
        (
            Check::FirewallPort,
            "iptables -I INPUT -p udp --dport 8472 -j ACCEPT"
        )
    );
    // What may drop some is told, and blamed for nothing.
    let (check, ..) = cause_after(|facts| {
        facts.firewall = Ok(FirewallFacts {
            forward: vec![Obstacle {
                certain: false,
                ..obstacle(Family::Inet, "guard", "forward", "")
            }],
            ..FirewallFacts::default()
        });
    });
    assert_eq!(check, Check::Daemon);
}
