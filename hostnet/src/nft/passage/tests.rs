use super::*;
use crate::nft::ruleset::{
    BaseHook, Chain, ChainKind, CtState, Expr, Policy, Rule, Table, priority,
};

fn packet() -> Packet {
    Packet {
        source: "10.244.1.2".parse().unwrap(),
        destination: "10.244.2.2".parse().unwrap(),
        protocol: 6,
        port: None,
        input: None,
        output: Some((LinkIndex(7), "flannel.1".to_owned())),
    }
}

fn chain(name: &str, policy: Option<Policy>, rules: Vec<Vec<Expr>>) -> Chain {
    Chain {
        name: name.to_owned(),
        hook: policy.map(|policy| BaseHook {
            kind: ChainKind::Filter,
            hook: Hook::Forward,
            priority: priority::FILTER,
            policy,
        }),
        rules: rules.into_iter().map(Rule::new).collect(),
    }
}

fn obstacles(chains: Vec<Chain>) -> Vec<(End, bool)> {
    let table = Table {
        family: Family::Inet,
        name: "theirs".to_owned(),
        comment: None,
        sets: Vec::new(),
        ports: Default::default(),
        chains,
    };
    let found = table.compile().unwrap().obstacles(Hook::Forward, &packet());
    found
        .into_iter()
        .map(|found| (found.end, found.certain))
        .collect()
}

fn rule(chain: &str, place: usize) -> End {
    End::Rule {
        chain: chain.to_owned(),
        place,
        comment: None,
    }
}

fn from(prefix: &str) -> Expr {
    Expr::Source(prefix.parse().unwrap())
}

#[test]
fn a_policy_that_drops_is_an_obstacle_unless_a_rule_accepts_before() {
    let policy = Some(Policy::Drop);
    assert_eq!(
        obstacles(vec![chain("f", policy, vec![])]),
        [(End::Policy, true)]
    );
    for (prefix, expected) in [
        ("10.244.0.0/16", vec![]),
        ("10.244.0.0/17", vec![]),
        ("10.245.0.0/16", vec![(End::Policy, true)]),
        ("fd00::/48", vec![(End::Policy, true)]),
    ] {
        let accepts = vec![vec![from(prefix), Expr::Accept]];
        assert_eq!(
            obstacles(vec![chain("f", policy, accepts)]),
            expected,
            "{prefix}"
        );
    }
}

#[test]
fn what_is_about_connections_that_exist_does_not_help_the_first_packet() {
    let state = Expr::CtState(CtState::ESTABLISHED.or(CtState::RELATED));
    let chains = vec![chain(
        "f",
        Some(Policy::Drop),
        vec![vec![state, Expr::Accept]],
    )];
    assert_eq!(obstacles(chains), [(End::Policy, true)]);
}

#[test]
fn drops_are_found_through_jumps_and_returns() {
    let accept = Some(Policy::Accept);
    let chains = vec![
        chain("f", accept, vec![vec![Expr::Jump("inner".to_owned())]]),
        chain("inner", None, vec![vec![from("10.0.0.0/8"), Expr::Drop]]),
    ];
    assert_eq!(obstacles(chains), [(rule("inner", 1), true)]);
    let chains = vec![
        chain(
            "f",
            accept,
            vec![vec![Expr::Jump("inner".to_owned())], vec![Expr::Accept]],
        ),
        chain(
            "inner",
            None,
            vec![vec![from("10.0.0.0/8"), Expr::Return], vec![Expr::Drop]],
        ),
    ];
    assert_eq!(obstacles(chains), []);
}

#[test]
fn what_cannot_be_known_makes_a_drop_uncertain() {
    let mark = Expr::Mark { mask: 1, value: 1 };
    let chains = vec![chain(
        "f",
        Some(Policy::Accept),
        vec![vec![mark, Expr::Drop]],
    )];
    assert_eq!(obstacles(chains), [(rule("f", 1), false)]);
}

#[test]
fn links_are_known_by_number_and_name() {
    let name = |name: &str| Expr::InterfaceOut(name.parse().unwrap());
    for (link, expected) in [
        ("flannel.1", vec![]),
        ("flannel*", vec![]),
        ("eth0", vec![(End::Policy, true)]),
    ] {
        let chains = vec![chain(
            "f",
            Some(Policy::Drop),
            vec![vec![name(link), Expr::Accept]],
        )];
        assert_eq!(obstacles(chains), expected, "{link}");
    }
    assert_eq!(
        meta(libc::NFT_META_OIF.cast_unsigned(), &packet()),
        Some(7_u32.to_ne_bytes().to_vec())
    );
    assert_eq!(meta(libc::NFT_META_IIF.cast_unsigned(), &packet()), None);
}

#[test]
fn what_gives_a_packet_another_address_is_found() {
    let nat = |rules| {
        let mut chain = chain("n", Some(Policy::Accept), rules);
        chain.hook = chain.hook.map(|hook| BaseHook {
            kind: ChainKind::Nat,
            hook: Hook::Postrouting,
            ..hook
        });
        let table = Table {
            family: Family::Ip,
            name: "theirs".to_owned(),
            comment: None,
            sets: Vec::new(),
            ports: Default::default(),
            chains: vec![chain],
        };
        table.compile().unwrap()
    };
    let found = |rules| {
        let found = nat(rules)
            .rewrites(Hook::Postrouting, &packet())
            .into_iter();
        found
            .map(|found| (found.end, found.certain))
            .collect::<Vec<_>>()
    };
    let masquerade = || Expr::Masquerade(Default::default());
    assert_eq!(
        found(vec![vec![from("10.244.0.0/16"), masquerade()]]),
        [(rule("n", 1), true)]
    );
    assert_eq!(found(vec![vec![from("172.17.0.0/16"), masquerade()]]), []);
    // As kube-proxy has it: only what carries a mark.
    let mark = |value| Expr::Mark {
        value,
        mask: 0x4000,
    };
    assert_eq!(found(vec![vec![mark(0x4000), masquerade()]]), []);
    assert_eq!(found(vec![vec![Expr::Accept], vec![masquerade()]]), []);
    assert_eq!(
        nat(vec![vec![Expr::Drop]]).obstacles(Hook::Postrouting, &packet()),
        []
    );
}

#[test]
fn targets_of_iptables_that_rewrite_are_known_by_their_names() {
    for (name, data, expected) in [
        ("target", &b"\0\x09\0\x01DNAT\0\0\0"[..], true),
        ("target", b"\0\x0f\0\x01MASQUERADE\0", true),
        ("target", b"\0\x08\0\x01LOG\0", false),
        ("match", b"DNAT\0", false),
        ("redir", b"", true),
    ] {
        assert_eq!(rewrites(name, data), expected, "{name}");
    }
}
