//! Whatever stands in the tables before.

use proptest::prelude::*;

use super::*;

/// Rules of ours, of flannel's and of others.
fn some_rule() -> impl Strategy<Value = String> {
    let known: Vec<String> = LAYOUTS
        .iter()
        .flat_map(|layout| layout.lines())
        .filter_map(|line| Some(line.strip_prefix("-A ")?.split_once(' ')?.1.to_owned()))
        .chain([
            "-p udp -m udp --dport 8472 -m comment --comment \"flanneld notrack\" -j CT --notrack"
                .to_owned(),
            "-j ACCEPT".to_owned(),
            "-i docker0 -j FLANNEL-FWD".to_owned(),
            "-i docker0 -j FLANNEL-POSTRTG".to_owned(),
        ])
        .collect();
    proptest::sample::select(known)
}

/// Tables with any such rules in any chain.
fn any_tables() -> impl Strategy<Value = Saved> {
    let places = [
        ("nat", "POSTROUTING"),
        ("nat", "PREROUTING"),
        ("nat", "FLANNEL-POSTRTG"),
        ("filter", "FORWARD"),
        ("filter", "FLANNEL-FWD"),
        ("raw", "PREROUTING"),
        ("raw", "OUTPUT"),
    ];
    let chain = proptest::option::weighted(0.8, proptest::collection::vec(some_rule(), 0..9));
    (
        proptest::collection::vec(chain, places.len()),
        any::<bool>(),
    )
        .prop_map(move |(chains, drops)| {
            let mut saved = Saved::default();
            for ((table, chain), rules) in places.iter().zip(chains) {
                let Some(rules) = rules else { continue };
                // A rule can only lead to what is there.
                let rules =
                    rules
                        .iter()
                        .filter(|rule| match (*table, rule.split_once("FLANNEL-")) {
                            (_, None) => true,
                            ("nat", Some((_, "POSTRTG"))) | ("filter", Some((_, "FWD"))) => {
                                !chain.starts_with("FLANNEL")
                            }
                            _ => false,
                        });
                let policy = match *chain {
                    "FORWARD" if drops => Some("DROP".to_owned()),
                    name if name.starts_with("FLANNEL") => None,
                    _ => Some("ACCEPT".to_owned()),
                };
                let content = SavedChain {
                    policy,
                    rules: rules.map(|rule| rule.parse().expect("a rule")).collect(),
                };
                saved
                    .tables
                    .entry((*table).to_owned())
                    .or_default()
                    .insert((*chain).to_owned(), content);
            }
            for (table, own) in [("nat", "FLANNEL-POSTRTG"), ("filter", "FLANNEL-FWD")] {
                if let Some(table) = saved.tables.get_mut(table) {
                    table.entry(own.to_owned()).or_default();
                }
            }
            saved
        })
}

fn any_firewall() -> impl Strategy<Value = Firewall> {
    (
        any::<[bool; 3]>(),
        proptest::option::of(any::<u16>().prop_map(|port| Tunnels { port, vni: 1 })),
    )
        .prop_map(|(switches, untracked)| {
            let [masquerade, fully_random, forward_accept] = switches;
            Firewall {
                masquerade,
                fully_random,
                forward_accept,
                untracked,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// From whatever is there, one run makes it right; others' rules keep their place and order.
    #[test]
    fn one_run_is_enough_and_others_rules_stay(
        before in any_tables(),
        firewall in any_firewall(),
        active in proptest::sample::select(vec![None, Some(Variant::Nft), Some(Variant::Legacy)]),
    ) {
        let wanted = Wanted { firewall, ..wanted(active) };
        if let Some(restore) = at(&wanted, PLACE, &before) {
            let after = model::restored(&before, &restore.script);
            prop_assert!(after.is_ok(), "{:?} of\n{}", after, restore.script);
            let after = after.expect("checked");
            prop_assert_eq!(at(&wanted, PLACE, &after), None, "after\n{}", restore.script);
            prop_assert_eq!(foreign(&after), foreign(&before));
            for (table, chains) in &before.tables {
                for (chain, content) in chains.iter().filter(|(name, _)| !name.starts_with("FLANNEL")) {
                    prop_assert_eq!(&after.tables[table][chain].policy, &content.policy);
                }
            }
            if active == Some(PLACE.variant) && firewall.masquerade {
                let chain = &after.tables["nat"][POSTROUTING_CHAIN].rules;
                prop_assert_eq!(chain.len(), 6);
            }
        }
    }
}
