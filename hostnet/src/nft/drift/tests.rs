use proptest::prelude::*;

use super::*;
use crate::nft::{
    Chain, Expr, Family, Rule, Set, SetKind, Table, instruction::Instruction, strategies::tables,
};

fn table() -> CompiledTable {
    let prefix = "10.0.0.0/8".parse().expect("a prefix");
    let table = Table {
        family: Family::Ip,
        name: "t".to_owned(),
        comment: Some("ours".to_owned()),
        sets: vec![Set {
            name: "s".to_owned(),
            kind: SetKind::Ipv4,
            prefixes: vec![prefix],
        }],
        ports: Vec::new(),
        chains: vec![Chain {
            name: "c".to_owned(),
            hook: None,
            rules: vec![
                Rule::new([Expr::Source(prefix), Expr::Accept]).with_comment("first"),
                Rule::new([Expr::Drop]),
            ],
        }],
    };
    table.compile().expect("it compiles")
}

#[track_caller]
fn check(alter: impl FnOnce(&mut CompiledTable), expected: &[&str]) {
    let mut observed = table();
    alter(&mut observed);
    let drift: Vec<String> = table()
        .drift(Some(&observed))
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(drift, expected);
}

#[test]
fn each_kind_of_change_is_named() {
    let chain = |table: &mut CompiledTable| table.chains.remove("c").expect("there is one");
    assert_eq!(table().drift(None)[0].to_string(), "table ip t is missing");
    check(|_| {}, &[]);
    check(|table| table.comment = None, &["table ip t was altered"]);
    check(|table| table.flags = 1, &["table ip t was altered"]);
    check(
        |table| {
            chain(table);
        },
        &["chain ip t c is missing"],
    );
    check(
        |table| {
            table
                .chains
                .insert("d".to_owned(), CompiledChain::default());
        },
        &["chain ip t d is not ours"],
    );
    check(
        |table| {
            let altered = CompiledChain {
                flags: 2,
                ..chain(table)
            };
            table.chains.insert("c".to_owned(), altered);
        },
        &["chain ip t c was altered"],
    );
    check(|table| table.sets.clear(), &["set ip t s is missing"]);
    check(
        |table| {
            let set = table.sets["s"].clone();
            table.sets.insert("r".to_owned(), set);
        },
        &["set ip t r is not ours"],
    );
    check(
        |table| table.sets.values_mut().for_each(|set| set.flags = 0),
        &["set ip t s was altered"],
    );
}

#[test]
fn each_change_of_rules_is_named() {
    let rules = |change: fn(&mut Vec<CompiledRule>)| {
        move |table: &mut CompiledTable| {
            change(&mut table.chains.get_mut("c").expect("there is one").rules);
        }
    };
    check(
        rules(|rules| rules.swap(0, 1)),
        &["the rules of chain ip t c are in another order"],
    );
    check(
        rules(|rules| drop(rules.remove(0))),
        &["rule 1 of chain ip t c (\"first\") is missing"],
    );
    check(
        rules(|rules| rules.push(rules[0].clone())),
        &["rule 3 of chain ip t c (\"first\") is not ours"],
    );
    check(
        rules(|rules| rules[1].instructions.insert(0, Instruction::Counter)),
        &[
            "rule 2 of chain ip t c is missing",
            "rule 2 of chain ip t c is not ours",
        ],
    );
}

proptest! {
    #[test]
    fn drift_is_empty_exactly_if_the_tables_are_equal(one in tables(), other in tables()) {
        let one = one.compile().expect("such tables compile");
        let mut other = other.compile().expect("such tables compile");
        prop_assert_eq!(one.drift(Some(&one)), vec![]);
        prop_assert_eq!(one.drift(Some(&other)).is_empty(), one == other);
        // The same again for tables that are alike but for their chains.
        (other.name, other.family) = (one.name.clone(), one.family);
        (other.comment, other.sets) = (one.comment.clone(), one.sets.clone());
        prop_assert_eq!(one.drift(Some(&other)).is_empty(), one == other);
    }
}

#[test]
fn what_is_there_beyond_it_is_not_lacking() {
    let more = |text: &str| -> CompiledTable {
        let mut more = table();
        let set = more.sets.get_mut("s").expect("there is one");
        let prefix = text.parse().expect("a prefix");
        set.elements = Elements::Ranges(crate::nft::ranges::Ranges::covering([&prefix]));
        let rules = &mut more.chains.get_mut("c").expect("there is one").rules;
        rules.insert(0, CompiledRule::default());
        more.chains.insert("d".to_owned(), CompiledChain::default());
        more
    };
    assert_eq!(table().lacking(Some(&more("8.0.0.0/6"))), []);
    assert!(!table().drift(Some(&more("8.0.0.0/6"))).is_empty());
    let texts = |observed: Option<&CompiledTable>| -> Vec<String> {
        let lacking = table().lacking(observed);
        lacking.iter().map(ToString::to_string).collect()
    };
    assert_eq!(texts(Some(&more("10.0.0.0/9"))), ["set ip t s was altered"]);
    assert_eq!(texts(None), ["table ip t is missing"]);
    let mut less = more("10.0.0.0/8");
    less.chains.get_mut("c").expect("there is one").rules.pop();
    assert_eq!(texts(Some(&less)), ["rule 2 of chain ip t c is missing"]);
}

proptest! {
    /// A table lacks nothing of itself, and nothing that drift does not tell of.
    #[test]
    fn what_is_lacking_drifts(one in tables(), other in tables()) {
        let (one, other) = (one.compile().unwrap(), other.compile().unwrap());
        prop_assert_eq!(one.lacking(Some(&one)), []);
        let drift = one.drift(Some(&other));
        prop_assert!(one.lacking(Some(&other)).iter().all(|lacking| drift.contains(lacking)));
    }
}
