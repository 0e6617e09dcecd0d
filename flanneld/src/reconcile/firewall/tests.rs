use std::collections::BTreeMap;
use std::time::Duration;

use hostnet::AddressFamily;
use ipam::PerFamily;

use super::super::{Action, Observed, plan};
use crate::desired::Desired;
use crate::firewall::{self, Firewall, OWNED};
use crate::iptables::{Place, Saved, Variant, Wanted};

const ALL: Firewall = Firewall {
    masquerade: true,
    fully_random: true,
    forward_accept: true,
    untracked: None,
};
const IPTABLES: Place = Place {
    family: AddressFamily::Ipv4,
    variant: Variant::Nft,
};

/// IPv4 alone, in nf_tables or by iptables.
fn desired(active: Option<Variant>) -> Desired {
    let networks = PerFamily::v4("10.244.0.0/16".parse().expect("a network"));
    let own = PerFamily::v4("10.244.3.0/24".parse().expect("a network"));
    let tables = firewall::tables(&networks, &own, &ALL);
    let (wanted, unwanted) = match active {
        None => (tables, vec![OWNED[1]]),
        Some(_) => (Vec::new(), OWNED.to_vec()),
    };
    Desired {
        firewall: wanted,
        no_firewall: unwanted
            .into_iter()
            .map(|(family, name)| (family, name.to_owned()))
            .collect(),
        iptables: Some(Wanted {
            active,
            ranges: firewall::ranges(&networks, &own),
            firewall: ALL,
            resync: Duration::from_secs(5),
        }),
        ..Desired::default()
    }
}

/// What of both modes stands in the kernel.
fn observed(tables: bool, rules: Option<&str>) -> Observed {
    let compile = |table: &hostnet::nft::Table| table.compile().expect("it compiles");
    let iptables: BTreeMap<Place, Saved> = rules
        .map(|rules| (IPTABLES, Saved::parse(rules).expect("a listing")))
        .into_iter()
        .collect();
    Observed {
        firewall: if tables {
            desired(None).firewall.iter().map(compile).collect()
        } else {
            Vec::new()
        },
        iptables,
        ..Observed::default()
    }
}

fn steps(active: Option<Variant>, observed: &Observed) -> Vec<&'static str> {
    plan(&desired(active), observed)
        .steps
        .iter()
        .map(|step| match &step.action {
            Action::Firewall => "tables",
            Action::DeleteTables(tables) if tables.len() == 1 => "no tables",
            Action::Iptables(restore) if restore.script.contains("-A ") => "rules",
            Action::Iptables(_) => "no rules",
            other => panic!("what for: {other:?}"),
        })
        .collect()
}

const RULES: &str = include_str!("../../iptables/tests/flannel-0.28.rules");

#[test]
fn the_old_mode_goes_only_when_the_new_one_stands() {
    // To nf_tables.
    assert_eq!(steps(None, &observed(false, Some(RULES))), ["tables"]);
    assert_eq!(steps(None, &observed(true, Some(RULES))), ["no rules"]);
    assert_eq!(steps(None, &observed(true, Some(""))), [""; 0]);
    // To iptables.
    let iptables = Some(Variant::Nft);
    assert_eq!(steps(iptables, &observed(true, Some(RULES))), ["rules"]);
    let ours = plan(&desired(iptables), &observed(true, Some("")));
    let Action::Iptables(restore) = &ours.steps[0].action else {
        panic!("{ours:?}");
    };
    assert!(ours.unfinished);
    // What the script makes of empty tables, as iptables-save would list it.
    let listing = restore
        .script
        .replace("*nat\n", "*nat\n:POSTROUTING ACCEPT\n")
        .replace("*filter\n", "*filter\n:FORWARD ACCEPT\n");
    let v6 = Place {
        family: AddressFamily::Ipv6,
        ..IPTABLES
    };
    let mut stands = observed(true, Some(&listing));
    stands.iptables.insert(v6, Saved::default());
    assert_eq!(steps(iptables, &stands), ["no tables"]);
    stands.firewall.clear();
    assert_eq!(steps(iptables, &stands), [""; 0]);
}

#[test]
fn as_long_as_iptables_cannot_be_read_nothing_is_taken_away() {
    assert_eq!(steps(Some(Variant::Nft), &observed(true, None)), [""; 0]);
}

#[test]
fn before_the_lease_iptables_is_left_alone() {
    let bare = plan(&Desired::default(), &observed(false, Some(RULES)));
    assert_eq!(bare.steps, []);
}
