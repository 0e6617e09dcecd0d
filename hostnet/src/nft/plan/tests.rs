use std::mem::discriminant;

use proptest::prelude::*;

use super::*;
use crate::nft::{
    BaseHook, Chain, ChainKind, Expr, Family, Hook, Policy, Rule, Set, SetKind, Table,
    strategies::tables,
};

fn table() -> Table {
    Table {
        family: Family::Ip,
        name: "t".to_owned(),
        comment: None,
        sets: vec![Set {
            name: "s".to_owned(),
            kind: SetKind::Ipv4,
            prefixes: vec!["10.0.0.0/8".parse().expect("a prefix")],
        }],
        ports: Vec::new(),
        chains: vec![Chain {
            name: "c".to_owned(),
            hook: Some(BaseHook {
                kind: ChainKind::Filter,
                hook: Hook::Forward,
                priority: 0,
                policy: Policy::Accept,
            }),
            rules: vec![Rule::new([Expr::SourceIn("s".to_owned()), Expr::Accept])],
        }],
    }
}

/// The changes that make `after` of `before`, as texts.
fn texts(before: Option<&Table>, after: &Table) -> Vec<String> {
    let before = before.map(|table| table.compile().expect("it compiles"));
    let after = after.compile().expect("it compiles");
    replacement([(&after, before.as_ref())])
        .iter()
        .map(ToString::to_string)
        .collect()
}

const ANEW: [&str; 7] = [
    "table ip t",
    "deletion of table ip t",
    "table ip t",
    "set ip t s",
    "elements of set ip t s",
    "chain ip t c",
    "rule 1 of chain ip t c",
];

#[test]
fn an_absent_table_is_made_in_the_order_of_references() {
    assert_eq!(texts(None, &table()), ANEW);
}

#[test]
fn new_rules_leave_chains_and_sets_in_place() {
    let mut before = table();
    before.chains[0].rules.clear();
    let refill = [
        "removal of the rules of table ip t",
        "rule 1 of chain ip t c",
    ];
    assert_eq!(texts(Some(&before), &table()), refill);
    assert_eq!(texts(Some(&table()), &table()), refill);
}

#[test]
fn new_elements_leave_the_set_in_place() {
    let mut before = table();
    before.sets[0].prefixes.clear();
    let expected = [
        "removal of the rules of table ip t",
        "removal of the elements of set ip t s",
        "elements of set ip t s",
        "rule 1 of chain ip t c",
    ];
    assert_eq!(texts(Some(&before), &table()), expected);
}

#[test]
fn another_frame_is_made_anew() {
    let mut hook = table();
    hook.chains[0].hook = None;
    let mut comment = table();
    comment.comment = Some("other".to_owned());
    let mut chain = table();
    chain.chains[0].name = "d".to_owned();
    let mut set = table();
    set.sets.push(Set {
        name: "more".to_owned(),
        kind: SetKind::Ipv4,
        prefixes: Vec::new(),
    });
    for before in [hook, comment, chain, set] {
        assert_eq!(texts(Some(&before), &table()), ANEW, "{before}");
    }
}

#[test]
fn long_sets_are_split_so_that_each_message_fits() {
    let mut long = table();
    long.sets[0].prefixes = (0..3_000_u32)
        .map(|number| {
            let address = std::net::Ipv4Addr::from_bits(number << 9);
            ipnetwork::IpNetwork::new(address.into(), 24).expect("24 bits")
        })
        .collect();
    let compiled = long.compile().expect("it compiles");
    let mut elements = 0;
    for change in replacement([(&compiled, None)]) {
        let batch = crate::nft::message::transaction(std::slice::from_ref(&change), 1, None);
        assert!(batch.bytes().len() < usize::from(u16::MAX), "{change}");
        if let Change::AddElements(_, _, chunk) = change {
            elements += chunk.len();
        }
    }
    assert_eq!(elements, 6_000);
}

proptest! {
    /// Whatever is there, what is referred to is made before what refers to it, and all rules are written.
    #[test]
    fn every_rule_is_written_once_after_all_chains(
        desired in tables(),
        observed in proptest::option::of(tables()),
    ) {
        let desired = desired.compile().expect("such tables compile");
        let observed = observed.map(|table| table.compile().expect("such tables compile"));
        let changes = replacement([(&desired, observed.as_ref())]);
        let is_rule = |change: &Change<'_>| matches!(change, Change::AddRule(..));
        let first = changes.iter().position(is_rule).unwrap_or(changes.len());
        prop_assert!(changes[first..].iter().all(is_rule));
        prop_assert_eq!(changes.len() - first, desired.rules());
        let flushes = changes.iter().any(|change| {
            discriminant(change) == discriminant(&Change::FlushRules(&desired))
        });
        let deletes = changes.iter().any(|change| matches!(change, Change::DeleteTable(..)));
        prop_assert!(flushes != deletes);
    }
}
