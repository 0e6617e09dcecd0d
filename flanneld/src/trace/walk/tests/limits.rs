//! What others decide, and what is not followed.

use super::*;

#[test]
fn rules_of_others_that_drop_end_it_and_those_that_may_are_told() {
    for (at, to) in [
        ("Prerouting", "10.244.2.2"),
        ("Forward", "10.244.2.2"),
        ("Postrouting", "198.51.100.1"),
    ] {
        let mut host = host();
        let drops = |certain| Others {
            drops: place("the policy of chain theirs in table inet theirs", certain),
            ..Others::default()
        };
        host.others.insert(at, drops(true));
        let (_, decisions, end) = host.followed(to);
        let last = decisions.last().unwrap();
        assert_eq!((last.by, last.passes), (By::Filter, Some(false)), "{at}");
        assert_eq!(end.kind, EndKind::Dropped, "{at}");
        assert!(end.says.contains("chain theirs"), "{}", end.says);
        host.others.insert(at, drops(false));
        let (_, decisions, end) = host.followed(to);
        assert_ne!(end.kind, EndKind::Dropped, "{at}");
        let told = |decision: &Decision| {
            decision.passes.is_none() && decision.says.contains("theirs may drop it")
        };
        assert!(decisions.iter().any(told), "{at}: {decisions:?}");
    }
}

#[test]
fn an_input_rule_decides_on_what_is_for_the_host() {
    let mut host = host();
    host.way = Ok(Route {
        kind: RouteKind::Local,
        ..route(LinkIndex(1), None)
    });
    let drops = place("rule 3 of chain INPUT in table ip filter", true);
    let others = Others {
        drops,
        ..Others::default()
    };
    host.others.insert("Input", others);
    assert_eq!(host.end_of("192.0.2.11").0, EndKind::Dropped);
}

#[test]
fn a_service_is_not_followed_and_said_to_be_one() {
    let mut host = host();
    let rewrites = |certain| Others {
        rewrites: place("rule 1 of chain SERVICES in table ip nat", certain),
        ..Others::default()
    };
    host.others.insert("Prerouting", rewrites(true));
    let (_, decisions, end) = host.followed("10.96.0.1");
    assert_eq!(end.kind, EndKind::Unknown);
    assert_eq!(decisions.last().unwrap().by, By::Service);
    // It goes by the port: not for what is a pod's.
    host.others.insert("Prerouting", rewrites(false));
    for (to, told) in [("10.96.0.1", true), ("10.244.2.2", false)] {
        let (_, decisions, end) = host.followed(to);
        assert_ne!(end.kind, EndKind::Unknown, "{to}");
        let found = decisions
            .iter()
            .any(|decision| decision.by == By::Service && decision.passes.is_none());
        assert_eq!(found, told, "{to}: {decisions:?}");
    }
    host.others.clear();
    host.way = Ok(Route {
        kind: RouteKind::Local,
        ..route(LinkIndex(1), None)
    });
    host.service = Some(ip("10.96.0.1"));
    assert_eq!(host.end_of("10.96.0.1").0, EndKind::Unknown);
}

#[test]
fn another_program_may_give_it_another_source() {
    let mut host = host();
    let rewrites = place("rule 1 of chain POSTROUTING in table ip nat", true);
    let others = Others {
        rewrites,
        ..Others::default()
    };
    host.others.insert("Postrouting", others);
    let (_, decisions, end) = host.followed("198.51.100.1");
    assert_eq!(end.kind, EndKind::Outside);
    let told =
        |decision: &Decision| decision.by == By::Masquerade && decision.says.contains("gives");
    assert!(decisions.iter().any(told), "{decisions:?}");
}

#[test]
fn of_several_ways_one_is_followed_and_that_is_said() {
    let mut host = host();
    host.ways = 2;
    let (_, decisions, end) = host.followed("198.51.100.1");
    assert_eq!(end.kind, EndKind::Outside);
    let told = |decision: &Decision| decision.says.contains("one of the route's 2 ways");
    assert!(decisions.iter().any(told), "{decisions:?}");
}

#[test]
fn what_is_for_no_other_host_is_not_followed_to_one() {
    for (to, kind) in [
        ("127.0.0.1", EndKind::Pod),
        ("::1", EndKind::Pod),
        ("0.0.0.0", EndKind::Pod),
        ("224.0.0.251", EndKind::Unknown),
        ("255.255.255.255", EndKind::Unknown),
        ("ff02::1", EndKind::Unknown),
        ("169.254.1.1", EndKind::Unknown),
        ("fe80::1", EndKind::Unknown),
    ] {
        assert_eq!(host().end_of(to).0, kind, "{to}");
    }
}

#[test]
fn what_leaves_the_pod_by_another_link_is_not_ours_to_follow() {
    let mut host = host();
    host.in_pod = Ok(Inside {
        by: "net1".to_owned(),
        ..inside(Ok(route(LinkIndex(3), None)))
    });
    let (kind, says) = host.end_of("198.51.100.1");
    assert_eq!(kind, EndKind::Unknown);
    assert!(says.contains("net1"), "{says}");
    host.in_pod = Ok(inside(Ok(Route {
        kind: RouteKind::Blackhole,
        ..route(LinkIndex(2), None)
    })));
    assert_eq!(host.end_of("198.51.100.1").0, EndKind::Dropped);
}
