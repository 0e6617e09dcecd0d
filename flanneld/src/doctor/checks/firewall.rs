//! Firewalls of others that drop what the overlay needs.

use hostnet::nft::{End, Family, Obstacle};
use ipnetwork::IpNetwork;

use crate::doctor::facts::Facts;
use crate::doctor::finding::{Check, Finding, Fix, Remedy};

pub(super) fn port(facts: &Facts) -> Finding {
    let firewall = match &facts.firewall {
        Ok(firewall) => firewall,
        Err(reason) => return Finding::not_seen(Check::FirewallPort, reason.clone()),
    };
    let port = tunnel_port(facts);
    let Some(obstacle) = firewall.port.iter().find(|obstacle| obstacle.certain) else {
        return passes(
            Check::FirewallPort,
            &firewall.port,
            &format!("UDP {port} of the other nodes is let in"),
        );
    };
    let accept = [format!("udp dport {port} accept")];
    let iptables = [format!("-p udp --dport {port} -j ACCEPT")];
    let remedy = Remedy::say("let the packets of the other nodes in");
    let remedy = match program(obstacle) {
        Program::Firewalld => remedy
            .run(format!("firewall-cmd --permanent --add-port={port}/udp"))
            .run("firewall-cmd --reload"),
        Program::Ufw => remedy.run(format!("ufw allow {port}/udp")),
        Program::Iptables => inserted(remedy, obstacle, &iptables),
        Program::Nft => accepted(remedy, obstacle, &accept),
    };
    Finding::fail(
        Check::FirewallPort,
        told(obstacle, &format!("the tunnel's packets (UDP {port})")),
        remedy,
    )
}

pub(super) fn forward(facts: &Facts) -> Finding {
    let firewall = match &facts.firewall {
        Ok(firewall) => firewall,
        Err(reason) => return Finding::not_seen(Check::FirewallForward, reason.clone()),
    };
    if let Some(family) = firewall.legacy_forward.first() {
        return Finding::fail(
            Check::FirewallForward,
            format!(
                "the chain FORWARD of iptables-legacy drops {family} packets of pods by its policy"
            ),
            rules_for_networks(Remedy::say("accept them"), facts, |network, direction| {
                let program = if network.is_ipv4() {
                    "iptables-legacy"
                } else {
                    "ip6tables-legacy"
                };
                format!("{program} -I FORWARD -{direction} {network} -j ACCEPT")
            }),
        );
    }
    let Some(obstacle) = firewall.forward.iter().find(|obstacle| obstacle.certain) else {
        return passes(
            Check::FirewallForward,
            &firewall.forward,
            "packets between pods of this node and of others are forwarded",
        );
    };
    let remedy = Remedy::say("accept packets from and to the pod network");
    let networks = || {
        let networks = facts.networks().into_iter();
        networks.filter(|network| {
            obstacle.family == Family::Inet || (obstacle.family == Family::Ip) == network.is_ipv4()
        })
    };
    let remedy = match program(obstacle) {
        Program::Firewalld => networks()
            .fold(remedy, |remedy, network| {
                remedy.run(format!(
                    "firewall-cmd --permanent --zone=trusted --add-source={network}"
                ))
            })
            .run("firewall-cmd --reload"),
        Program::Ufw => networks().fold(remedy, |remedy, network| {
            remedy
                .run(format!("ufw route allow from {network}"))
                .run(format!("ufw route allow to {network}"))
        }),
        Program::Iptables => {
            let rules: Vec<String> = networks()
                .flat_map(|network| {
                    [
                        format!("-s {network} -j ACCEPT"),
                        format!("-d {network} -j ACCEPT"),
                    ]
                })
                .collect();
            inserted(remedy, obstacle, &rules)
        }
        Program::Nft => {
            let rules: Vec<String> = networks()
                .flat_map(|network| {
                    let ip = if network.is_ipv4() { "ip" } else { "ip6" };
                    [
                        format!("{ip} saddr {network} accept"),
                        format!("{ip} daddr {network} accept"),
                    ]
                })
                .collect();
            accepted(remedy, obstacle, &rules)
        }
    };
    Finding::fail(
        Check::FirewallForward,
        told(obstacle, "packets between pods of this node and of others"),
        remedy,
    )
}

fn passes(check: Check, obstacles: &[Obstacle], fine: &str) -> Finding {
    let doubts = obstacles.iter().map(|obstacle| {
        format!(
            "the chain {} of the table {} {} may drop some, by what cannot be told from here",
            obstacle.chain, obstacle.family, obstacle.table
        )
    });
    Finding::ok(check, fine).also(doubts)
}

/// Who keeps a table.
enum Program {
    Firewalld,
    Ufw,
    Iptables,
    Nft,
}

fn program(obstacle: &Obstacle) -> Program {
    let in_chain = match &obstacle.end {
        End::Rule { chain, .. } => chain.as_str(),
        End::Policy => "",
    };
    if obstacle.table == "firewalld" {
        Program::Firewalld
    } else if in_chain.starts_with("ufw") {
        Program::Ufw
    } else if obstacle.table == "filter"
        && obstacle
            .chain
            .chars()
            .all(|letter| letter.is_ascii_uppercase())
    {
        Program::Iptables
    } else {
        Program::Nft
    }
}

fn told(obstacle: &Obstacle, what: &str) -> String {
    let Obstacle {
        family,
        table,
        chain,
        ..
    } = obstacle;
    match &obstacle.end {
        End::Policy => {
            format!("the chain {chain} of the table {family} {table} drops {what} by its policy")
        }
        End::Rule {
            chain: within,
            place,
            comment,
        } => {
            let comment = comment
                .as_ref()
                .map_or_else(String::new, |comment| format!(" (\"{comment}\")"));
            format!(
                "rule {place}{comment} in the chain {within} of the table {family} {table} drops {what}"
            )
        }
    }
}

fn accepted(remedy: Remedy, obstacle: &Obstacle, rules: &[String]) -> Remedy {
    let Obstacle {
        family,
        table,
        chain,
        ..
    } = obstacle;
    let words = |rule: &String| format!("nft insert rule {family} {table} {chain} {rule}");
    with_fixes(remedy, rules.iter().map(words))
}

fn inserted(remedy: Remedy, obstacle: &Obstacle, rules: &[String]) -> Remedy {
    let program = if obstacle.family == Family::Ip6 {
        "ip6tables"
    } else {
        "iptables"
    };
    let words = |rule: &String| format!("{program} -I {} {rule}", obstacle.chain);
    with_fixes(remedy, rules.iter().map(words))
}

fn rules_for_networks(
    remedy: Remedy,
    facts: &Facts,
    rule: impl Fn(IpNetwork, char) -> String,
) -> Remedy {
    let networks = facts.networks();
    let commands = networks
        .into_iter()
        .flat_map(|network| ['s', 'd'].map(|direction| rule(network, direction)));
    with_fixes(remedy, commands)
}

fn with_fixes(remedy: Remedy, commands: impl Iterator<Item = String>) -> Remedy {
    commands.fold(remedy, |remedy, command| {
        let words = command.split_whitespace().map(str::to_owned).collect();
        remedy.run(command).fix(Fix::Run(words))
    })
}

/// The port of our device, or the kernel's usual one.
pub(super) fn tunnel_port(facts: &Facts) -> u16 {
    let mut vxlans = facts
        .tunnels
        .iter()
        .filter_map(|tunnel| tunnel.link.vxlan.as_ref());
    vxlans
        .next()
        .map_or(crate::reconcile::DEFAULT_PORT, |vxlan| vxlan.port)
}
