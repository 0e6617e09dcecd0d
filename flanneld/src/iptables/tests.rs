use ipnetwork::IpNetwork;

use super::wanted::{FORWARD_CHAIN, POSTROUTING_CHAIN};
use super::*;
use crate::firewall::Tunnels;

mod any;
mod model;

const ALL: Firewall = Firewall {
    masquerade: true,
    fully_random: true,
    forward_accept: true,
    untracked: Some(Tunnels { port: 8472, vni: 1 }),
};
const PLACE: Place = Place::new(AddressFamily::Ipv4, Variant::Nft);

fn ranges() -> BTreeMap<AddressFamily, Ranges> {
    let network = |text: &str| text.parse::<IpNetwork>().expect("a network");
    [
        (
            AddressFamily::Ipv4,
            Ranges {
                network: network("10.244.0.0/16"),
                subnet: network("10.244.3.0/24"),
            },
        ),
        (
            AddressFamily::Ipv6,
            Ranges {
                network: network("fd00:10:244::/56"),
                subnet: network("fd00:10:244:3::/64"),
            },
        ),
    ]
    .into()
}

fn wanted(active: Option<Variant>) -> Wanted {
    Wanted {
        active,
        ranges: ranges(),
        firewall: ALL,
        resync: Duration::from_secs(5),
    }
}

fn saved(text: &str) -> Saved {
    Saved::parse(text).expect("a listing")
}

/// What is to be done at one place.
fn at(wanted: &Wanted, place: Place, saved: &Saved) -> Option<Restore> {
    let plan = plan(wanted, &[(place, saved.clone())].into());
    let restores: Vec<_> = [plan.active, plan.others].concat();
    assert!(restores.len() <= 1, "one run for each place");
    restores.into_iter().next()
}

#[test]
fn on_an_empty_host_all_is_written_in_one_run_per_family() {
    let places = Place::ALL.map(|place| (place, Saved::default()));
    let plan = plan(&wanted(Some(Variant::Nft)), &places.into());
    assert!(!plan.settled);
    assert_eq!(plan.others, []);
    let scripts: Vec<_> = plan
        .active
        .iter()
        .map(|restore| format!("# {}\n{}", restore.place, restore.script))
        .collect();
    assert_eq!(scripts.concat(), include_str!("tests/both-families.rules"));
    assert_eq!(
        plan.active[0].reason,
        "chain nat FLANNEL-POSTRTG is missing, chain nat POSTROUTING lacks our rule, \
         chain filter FLANNEL-FWD is missing, chain filter FORWARD lacks our rule, \
         chain raw OUTPUT lacks our rule, chain raw PREROUTING lacks our rule"
    );
}

#[test]
fn the_switches_leave_out_what_they_say() {
    let script = |firewall| {
        let wanted = Wanted {
            firewall,
            ..wanted(Some(Variant::Nft))
        };
        at(&wanted, PLACE, &Saved::default()).map_or_else(String::new, |restore| restore.script)
    };
    let tables = |text: &str| -> Vec<String> {
        text.lines()
            .filter_map(|line| line.strip_prefix('*').map(str::to_owned))
            .collect()
    };
    let none = Wanted::nothing().firewall;
    assert_eq!(script(none), "");
    let only = |firewall| tables(&script(firewall));
    assert_eq!(
        only(Firewall {
            masquerade: true,
            ..none
        }),
        ["nat"]
    );
    assert_eq!(
        only(Firewall {
            forward_accept: true,
            ..none
        }),
        ["filter"]
    );
    let other_port = Firewall {
        untracked: Some(Tunnels { port: 4789, vni: 7 }),
        ..none
    };
    assert_eq!(only(other_port), ["raw"]);
    assert!(script(other_port).contains("--dport 4789 "));
    let plain = script(Firewall {
        fully_random: false,
        ..ALL
    });
    assert_eq!(script(ALL).replace(" --random-fully", ""), plain);
}

#[test]
fn a_place_that_could_not_be_read_is_left_alone_and_holds_up_the_others() {
    let other = Place::new(AddressFamily::Ipv4, Variant::Legacy);
    let left = saved("*filter\n:FORWARD ACCEPT\n:FLANNEL-FWD -\nCOMMIT\n");
    let plan = plan(&wanted(Some(Variant::Nft)), &[(other, left)].into());
    assert_eq!(plan.active, []);
    assert!(!plan.settled, "nobody knows whether it is in order");
    assert_eq!(plan.others.len(), 1);
}

/// As Docker leaves a host.
const DOCKER: &str =
    "*filter\n:INPUT ACCEPT\n:FORWARD DROP\n:DOCKER-USER -\n-A FORWARD -j DOCKER-USER\nCOMMIT\n";

#[test]
fn where_forwarding_is_dropped_pods_packets_are_accepted_in_every_mode() {
    let docker = saved(DOCKER);
    for active in [None, Some(Variant::Legacy), Some(Variant::Nft)] {
        let restore = at(&wanted(active), PLACE, &docker).expect("something is to be done");
        let then = model::restored(&docker, &restore.script).expect("it is taken");
        let forward = &then.tables["filter"]["FORWARD"];
        assert_eq!(
            forward.policy.as_deref(),
            Some("DROP"),
            "that is Docker's to say"
        );
        assert_eq!(
            forward.rules.last().and_then(Rule::target),
            Some(FORWARD_CHAIN)
        );
        let masquerades = then.tables.contains_key("nat");
        assert_eq!(masquerades, active == Some(Variant::Nft));
    }
    // Without need nothing is done there, and what is there goes with the need.
    let accepting = saved(&DOCKER.replace("DROP", "ACCEPT"));
    assert_eq!(at(&wanted(None), PLACE, &accepting), None);
    let unwanted = Wanted {
        firewall: Firewall {
            forward_accept: false,
            ..ALL
        },
        ..wanted(None)
    };
    assert_eq!(at(&unwanted, PLACE, &docker), None);
}

#[test]
fn each_kind_of_drift_is_named() {
    let wanted = wanted(Some(Variant::Nft));
    let first = at(&wanted, PLACE, &Saved::default()).expect("all is missing");
    let right = model::restored(&Saved::default(), &first.script).expect("it is taken");
    assert_eq!(at(&wanted, PLACE, &right), None);
    let told = |change: &dyn Fn(&mut Saved)| {
        let mut drifted = right.clone();
        change(&mut drifted);
        at(&wanted, PLACE, &drifted).expect("it is noticed").reason
    };
    let rules = |saved: &mut Saved, table: &str, chain: &str, change: &dyn Fn(&mut Vec<Rule>)| {
        let table = saved.tables.get_mut(table).expect("the table");
        change(&mut table.get_mut(chain).expect("the chain").rules);
    };
    let nat = |change: &dyn Fn(&mut Vec<Rule>)| {
        told(&|saved| rules(saved, "nat", POSTROUTING_CHAIN, change))
    };
    assert_eq!(
        nat(&|rules| rules.swap(1, 4)),
        "the rules of chain nat FLANNEL-POSTRTG are in another order"
    );
    assert_eq!(
        nat(&|rules| drop(rules.remove(3))),
        "rule 4 of chain nat FLANNEL-POSTRTG is missing"
    );
    assert_eq!(
        nat(&|rules| rules.push(rules[0].clone())),
        "rule 7 of chain nat FLANNEL-POSTRTG is not ours"
    );
    assert_eq!(
        nat(&|rules| rules[4] = "-j ACCEPT".parse().expect("a rule")),
        "rule 5 of chain nat FLANNEL-POSTRTG is missing, rule 5 of chain nat FLANNEL-POSTRTG is not ours"
    );
    let hook =
        |change: &dyn Fn(&mut Vec<Rule>)| told(&|saved| rules(saved, "filter", "FORWARD", change));
    assert_eq!(
        hook(&|rules| rules.clear()),
        "chain filter FORWARD lacks our rule"
    );
    assert_eq!(
        hook(&|rules| rules.push(rules[0].clone())),
        "chain filter FORWARD has our rule 1 more time"
    );
    assert_eq!(
        told(&|saved| {
            saved.tables.remove("filter");
        }),
        "chain filter FLANNEL-FWD is missing, chain filter FORWARD lacks our rule"
    );
    assert_eq!(
        told(&|saved| rules(saved, "raw", "OUTPUT", &|rules| {
            let text = rules[0].to_string().replace("8472", "4789");
            rules[0] = text.parse().expect("a rule");
        })),
        "chain raw OUTPUT lacks our rule, chain raw OUTPUT has 1 rule of flannel's or ours that should not be there"
    );
}

/// The layouts that versions of flannel left, each with a rule of somebody else before and behind.
const LAYOUTS: [&str; 4] = [
    include_str!("tests/flannel-0.9.rules"),
    include_str!("tests/flannel-0.16.rules"),
    include_str!("tests/flannel-0.20.rules"),
    include_str!("tests/flannel-0.28.rules"),
];

/// What of a table is nobody's but others'.
fn foreign(saved: &Saved) -> Vec<String> {
    let mut foreign = Vec::new();
    for (table, chains) in &saved.tables {
        for (chain, content) in chains {
            if chain.starts_with("FLANNEL-") {
                continue;
            }
            let ours = super::recognise::ours(saved, table, chain);
            for (place, rule) in content.rules.iter().enumerate() {
                if !ours.contains(&place) {
                    foreign.push(format!("{table} {chain} {rule}"));
                }
            }
        }
    }
    foreign
}

#[test]
fn every_layout_of_flannels_is_taken_over_and_removed_without_touching_others() {
    for layout in LAYOUTS {
        taken_over(PLACE, &saved(layout));
        let ipv6 = layout
            .replace("10.244.0.0/16", "fd00:10:244::/56")
            .replace("10.244.3.0/24", "fd00:10:244:3::/64")
            .replace("10.244.7.0/24", "fd00:10:244:7::/64")
            .replace("224.0.0.0/4", "ff00::/8")
            .replace("172.17.0.0/16", "fd17::/64")
            .replace("10.9.0.0/16", "fd09::/64")
            .replace("icmp-port", "icmp6-port");
        taken_over(Place::new(AddressFamily::Ipv6, Variant::Nft), &saved(&ipv6));
    }
}

fn taken_over(place: Place, before: &Saved) {
    let others = foreign(before);
    assert_eq!(others.len(), 4, "{others:#?}");
    let active = wanted(Some(Variant::Nft));
    let ours = at(&active, place, before).expect("it is another layout");
    let over = model::restored(before, &ours.script).expect("it is taken");
    assert_eq!(foreign(&over), others);
    assert_eq!(at(&active, place, &over), None);
    for (from, gone) in [(before, Wanted::nothing()), (&over, wanted(None))] {
        let removal = at(&gone, place, from).expect("there is something");
        let after = model::restored(from, &removal.script).expect("it is taken");
        assert_eq!(foreign(&after), others);
        let text = format!("{after:?}");
        assert!(
            !text.contains("FLANNEL") && !text.contains("flannel"),
            "{text}"
        );
        assert_eq!(at(&gone, place, &after), None);
    }
}

/// Rules that look like flannel's of old, without being all of them or in their order.
#[test]
fn what_only_looks_like_flannels_stays() {
    let oldest = LAYOUTS[0];
    let without = |line: &str| oldest.replace(&format!("{line}\n"), "");
    for strangers in [
        "*filter\n:FORWARD DROP\n-A FORWARD -s 10.244.0.0/16 -j ACCEPT\n-A FORWARD -d 10.244.0.0/16 -j ACCEPT\nCOMMIT\n".to_owned(),
        without("-A POSTROUTING -s 10.244.0.0/16 -d 10.244.0.0/16 -j RETURN"),
        without("-A POSTROUTING ! -s 10.244.0.0/16 -d 10.244.3.0/24 -j RETURN"),
        oldest.replace("! -d 224.0.0.0/4", "! -d 225.0.0.0/8"),
        oldest.replace("-s 10.244.0.0/16 -d 10.244.0.0/16 -j RETURN", "-s 10.244.0.0/16 -d 10.245.0.0/16 -j RETURN"),
        "*nat\n:POSTROUTING ACCEPT\n-A POSTROUTING -o eth0 -m comment --comment \"flanneld masq\" -j MASQUERADE\nCOMMIT\n".to_owned(),
        "*filter\n:FORWARD ACCEPT\n-A FORWARD -s 10.244.0.0/16 -m comment --comment \"flanneld forward\" -j DROP\nCOMMIT\n".to_owned(),
    ] {
        assert_eq!(at(&Wanted::nothing(), PLACE, &saved(&strangers)), None, "{strangers}");
    }
}

#[test]
fn a_chain_that_somebody_elses_rule_leads_to_is_emptied_but_stays() {
    let before = saved(
        "*filter\n:FORWARD ACCEPT\n:FLANNEL-FWD -\n-A FORWARD -i docker0 -j FLANNEL-FWD\n-A FLANNEL-FWD -s 10.244.0.0/16 -j ACCEPT\nCOMMIT\n",
    );
    let removal = at(&Wanted::nothing(), PLACE, &before).expect("there is something");
    let after = model::restored(&before, &removal.script).expect("it is taken");
    assert_eq!(
        after.tables["filter"]["FORWARD"],
        before.tables["filter"]["FORWARD"]
    );
    assert_eq!(after.tables["filter"]["FLANNEL-FWD"].rules, []);
    assert_eq!(
        at(&Wanted::nothing(), PLACE, &after),
        None,
        "not again and again"
    );
}
