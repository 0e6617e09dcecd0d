use crate::nft::{
    BaseHook, Chain, ChainKind, Expr, Family, Hook, Policy, Rule, Set, SetKind, Table, priority,
};

/// The layout of `nft list table` (1.0.6), which wraps long lists of elements in addition.
#[test]
fn a_table_prints_as_nft_lists_it() {
    let prefix = |text: &str| text.parse().expect("a prefix");
    let table = Table {
        family: Family::Inet,
        name: "t".to_owned(),
        comment: Some("all of it".to_owned()),
        sets: vec![
            Set {
                name: "nets".to_owned(),
                kind: SetKind::Ipv4,
                prefixes: vec![
                    prefix("10.0.3.0/24"),
                    prefix("10.0.0.0/24"),
                    prefix("10.0.1.0/24"),
                    prefix("10.0.2.0/25"),
                    prefix("255.255.255.255/32"),
                ],
            },
            Set {
                name: "empty".to_owned(),
                kind: SetKind::Ipv6,
                prefixes: Vec::new(),
            },
        ],
        ports: Vec::new(),
        chains: vec![
            Chain {
                name: "a".to_owned(),
                hook: None,
                rules: vec![
                    Rule::new([Expr::SourceIn("nets".to_owned()), Expr::Return]),
                    Rule::new([Expr::DestinationNotIn("empty".to_owned())]).with_comment("why"),
                ],
            },
            Chain {
                name: "b".to_owned(),
                hook: Some(BaseHook {
                    kind: ChainKind::Nat,
                    hook: Hook::Prerouting,
                    priority: priority::SRCNAT,
                    policy: Policy::Drop,
                }),
                rules: Vec::new(),
            },
        ],
    };
    let expected = r#"table inet t {
	comment "all of it"
	set nets {
		type ipv4_addr
		flags interval
		elements = { 10.0.0.0-10.0.2.127, 10.0.3.0/24, 255.255.255.255 }
	}

	set empty {
		type ipv6_addr
		flags interval
	}

	chain a {
		ip saddr @nets return
		ip6 daddr != @empty comment "why"
	}

	chain b {
		type nat hook prerouting priority 100; policy drop;
	}
}
"#;
    assert_eq!(table.to_string(), expected);
}

#[test]
fn usual_priorities_have_names_where_nft_has_them() {
    let hook = |hook, priority| {
        let base = BaseHook {
            kind: ChainKind::Filter,
            hook,
            priority,
            policy: Policy::Accept,
        };
        base.to_string()
    };
    for (line, expected) in [
        (
            hook(Hook::Prerouting, priority::RAW),
            "prerouting priority raw",
        ),
        (
            hook(Hook::Output, priority::MANGLE),
            "output priority mangle",
        ),
        (
            hook(Hook::Forward, priority::FILTER),
            "forward priority filter",
        ),
        (
            hook(Hook::Prerouting, priority::DSTNAT),
            "prerouting priority dstnat",
        ),
        (
            hook(Hook::Postrouting, priority::SRCNAT),
            "postrouting priority srcnat",
        ),
        (hook(Hook::Input, -7), "input priority -7"),
    ] {
        assert_eq!(line, format!("type filter hook {expected}; policy accept;"));
    }
}
