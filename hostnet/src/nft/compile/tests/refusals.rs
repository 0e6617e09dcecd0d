//! Tables that cannot be: what is said of them.

use super::*;

#[track_caller]
fn check_error(table: &Table, expected: &str) {
    let error = table.compile().expect_err(expected);
    assert_eq!(error.to_string(), expected);
}

#[test]
fn what_leads_nowhere_is_refused() {
    for (expr, expected) in [
        (
            Expr::Jump("nowhere".to_owned()),
            "a rule of table ip t names the chain \"nowhere\", which is not in the table",
        ),
        (
            Expr::Goto("nowhere".to_owned()),
            "a rule of table ip t names the chain \"nowhere\", which is not in the table",
        ),
        (
            Expr::SourceIn("nothing".to_owned()),
            "a rule of table ip t names the set \"nothing\", which is not in the table",
        ),
    ] {
        check_error(&table(Family::Ip, vec![expr]), expected);
    }
}

#[test]
fn the_other_address_family_is_refused() {
    check_error(
        &table(Family::Ip, vec![Expr::Source(prefix("fd00::/16"))]),
        "prefix fd00::/16 is of the other address family than table ip t, so it can never match there",
    );
    check_error(
        &table(
            Family::Ip6,
            vec![Expr::DestinationNot(prefix("10.0.0.0/8"))],
        ),
        "prefix 10.0.0.0/8 is of the other address family than table ip6 t, so it can never match there",
    );
    let mut wrong_set = table(Family::Ip6, vec![]);
    wrong_set.sets[0].kind = SetKind::Ipv4;
    check_error(
        &wrong_set,
        "set v6 is of the other address family than table ip6 t, so it can never match there",
    );
    let mut wrong_prefix = table(Family::Inet, vec![]);
    wrong_prefix.sets[0].prefixes = vec![prefix("10.0.0.0/8"), prefix("fd00::/16")];
    check_error(
        &wrong_prefix,
        "prefix fd00::/16 is of the other address family than set inet t v4, so it can never match there",
    );
}

#[test]
fn names_and_comments_must_be_printable_and_names_used_once() {
    let mut twice = table(Family::Ip, vec![]);
    twice.chains[0].name = "c".to_owned();
    check_error(
        &twice,
        "table ip t has two chains named \"c\"; give them different names",
    );
    let mut twice = table(Family::Inet, vec![]);
    twice.sets[1].name = "v4".to_owned();
    check_error(
        &twice,
        "table inet t has two sets named \"v4\"; give them different names",
    );
    for comment in ["", "a\0b", "say \"no\"", &"x".repeat(129)] {
        let mut table = table(Family::Ip, vec![]);
        table.chains[1].rules[0].comment = Some(comment.to_owned());
        assert!(matches!(
            table.compile(),
            Err(Error::Text { limit: 128, .. })
        ));
    }
    let mut long = table(Family::Ip, vec![]);
    long.name = "x".repeat(256);
    assert!(matches!(
        long.compile(),
        Err(Error::Text { limit: 255, .. })
    ));
}

#[test]
fn interface_names_that_cannot_be_are_refused() {
    for name in [
        "",
        "*",
        "eth 0",
        "a/b",
        "a*b",
        "sixteen-letters-",
        "a\"b",
        "a\0",
        "**",
    ] {
        let error = name.parse::<InterfacePattern>().expect_err(name);
        assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
    }
    assert_eq!(
        interface("fifteen-letters*").to_string(),
        "fifteen-letters*"
    );
}

#[test]
fn frames_are_looked_at_on_bridges_only() {
    let station = Expr::EtherSourceNot("0a:58:0a:f4:01:05".parse().unwrap());
    check(
        Family::Bridge,
        vec![station.clone()],
        "ether saddr != 0a:58:0a:f4:01:05",
        &[
            "payload load 6b @ link header + 6 => reg 1",
            "cmp neq reg 1 0xf40a580a 0x00000501",
        ],
    );
    for family in [Family::Inet, Family::Ip, Family::Ip6] {
        let error = table(family, vec![station.clone()]).compile().unwrap_err();
        assert!(error.to_string().contains("ether saddr"), "{error}");
    }
}
