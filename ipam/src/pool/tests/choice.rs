//! Which address is given, and which never is.

use super::*;
use crate::pool::layout::{Free, HEADER_LEN, Header, slot_offset};

#[test]
fn a_clock_that_jumps_changes_no_choice() {
    let bench = Bench::new();
    let sets = [vec![range("10.244.1.0/29")]];
    let all = [
        "10.244.1.2",
        "10.244.1.3",
        "10.244.1.4",
        "10.244.1.5",
        "10.244.1.6",
    ];
    for address in all {
        assert_eq!(bench.reserve(address, &sets), [ip(address)]);
    }
    for address in all {
        bench.release(address).unwrap();
        // Back by a year each time, and forth once: the order of release counts, not what the clock said.
        bench.clock.fetch_sub(31_536_000, Ordering::Relaxed);
    }
    bench.pass(40 * 31_536_000);
    for address in all {
        assert_eq!(bench.reserve(address, &sets), [ip(address)]);
    }
    bench.audit(&sets);
}

#[test]
fn addresses_are_given_in_order_and_come_back_as_late_as_possible() {
    let bench = Bench::new();
    let sets = [vec![range("10.244.1.0/29")]];
    assert_eq!(bench.reserve("a", &sets), [ip("10.244.1.2")]);
    assert_eq!(bench.reserve("b", &sets), [ip("10.244.1.3")]);
    bench.release("a").unwrap();
    bench.pass(3600);
    bench.release("b").unwrap();
    for fresh in ["10.244.1.4", "10.244.1.5", "10.244.1.6"] {
        assert_eq!(bench.reserve(fresh, &sets), [ip(fresh)]);
    }
    assert_eq!(bench.reserve("c", &sets), [ip("10.244.1.2")]);
    // Given back this very moment, but there is no other.
    assert_eq!(bench.reserve("d", &sets), [ip("10.244.1.3")]);
    bench.audit(&sets);
}

#[test]
fn a_requested_address_is_given_if_it_can_be() {
    let bench = Bench::new();
    let sets = [vec![range("10.244.1.0/24")]];
    let given = bench.request("a", &sets, "10.244.1.77").unwrap();
    assert_eq!(addresses(&given), [ip("10.244.1.77")]);
    assert!(matches!(
        bench.request("b", &sets, "10.244.1.77"),
        Err(PoolError::Taken { .. })
    ));
    assert!(matches!(
        bench.request("b", &sets, "10.244.1.1"),
        Err(PoolError::Gateway { .. })
    ));
    for outside in ["10.244.2.7", "10.244.1.255", "10.244.1.0", "fd00::1"] {
        assert!(
            matches!(
                bench.request("b", &sets, outside),
                Err(PoolError::OutOfRange { .. })
            ),
            "{outside}"
        );
    }
    assert_eq!(bench.held().len(), 1);
    bench.audit(&sets);
}

#[test]
fn a_requested_address_that_lies_ahead_is_passed_over_in_its_turn() {
    let bench = Bench::new();
    let sets = [vec![range("10.244.1.0/29")]];
    bench.request("asked", &sets, "10.244.1.3").unwrap();
    assert_eq!(bench.reserve("a", &sets), [ip("10.244.1.2")]);
    assert_eq!(bench.reserve("b", &sets), [ip("10.244.1.4")]);
    bench.release("asked").unwrap();
    // Given back, but so recently that those never given come first.
    assert_eq!(bench.reserve("c", &sets), [ip("10.244.1.5")]);
    // Who asks may have it at once: a pod that moves within the node keeps its address.
    assert_eq!(
        addresses(&bench.request("d", &sets, "10.244.1.3").unwrap()),
        [ip("10.244.1.3")]
    );
    bench.audit(&sets);
}

#[test]
fn many_that_lie_ahead_are_passed_over_too() {
    let bench = Bench::new();
    let sets = [vec![range("10.244.1.0/24")]];
    for last in 3..=140 {
        bench
            .request(&format!("asked{last}"), &sets, &format!("10.244.1.{last}"))
            .unwrap();
    }
    assert_eq!(bench.reserve("a", &sets), [ip("10.244.1.2")]);
    assert_eq!(bench.reserve("b", &sets), [ip("10.244.1.141")]);
    bench.audit(&sets);
}

#[test]
fn one_address_of_every_set_in_their_order() {
    let bench = Bench::new();
    let sets = [vec![range("fd00::/64")], vec![range("10.244.1.0/24")]];
    assert_eq!(bench.reserve("a", &sets), [ip("fd00::2"), ip("10.244.1.2")]);
    let pool = bench.pool();
    let wanted = [ip("10.244.1.9"), ip("fd00::9")];
    let both = pool
        .reserve(&owner("b"), &sets, &wanted, Details::default())
        .unwrap();
    assert_eq!(addresses(&both), [ip("fd00::9"), ip("10.244.1.9")]);
    assert_eq!(
        (both.addresses[1].prefix, both.addresses[1].gateway),
        (24, Some(ip("10.244.1.1")))
    );
    // Two of one set are one too many.
    let wanted = [ip("10.244.1.10"), ip("10.244.1.11")];
    let error = pool
        .reserve(&owner("c"), &sets, &wanted, Details::default())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "10.244.1.11 was asked for but fd00::1 to fd00::ffff:ffff:ffff:ffff, 10.244.1.1 to 10.244.1.254 cannot give it; \
         ask for one of these addresses, and for one of each family only"
    );
    bench.audit(&[sets[1].clone()]);
}

#[test]
fn the_ranges_of_a_set_are_used_one_after_the_other() {
    let bench = Bench::new();
    let low = part("10.244.1.0/24", "10.244.1.10", "10.244.1.11");
    let high = part("10.244.1.0/24", "10.244.1.20", "10.244.1.21");
    let sets = [vec![low, high]];
    let given: Vec<_> = ["a", "b", "c", "d"]
        .iter()
        .flat_map(|name| bench.reserve(name, &sets))
        .collect();
    assert_eq!(
        given,
        ["10.244.1.10", "10.244.1.11", "10.244.1.20", "10.244.1.21"].map(ip)
    );
    bench.release("c").unwrap();
    bench.pass(1);
    bench.release("a").unwrap();
    // The one that was given back first, though it is of the last range.
    assert_eq!(bench.reserve("e", &sets), [ip("10.244.1.20")]);
    bench.audit(&sets);
}

#[test]
fn an_exhausted_pool_says_so_and_stays_as_it_is() {
    let bench = Bench::new();
    let sets = [vec![range("fd00::/64")], vec![range("10.244.1.0/30")]];
    bench.reserve("a", &sets);
    let error = bench
        .pool()
        .reserve(&owner("b"), &sets, &[], Details::default())
        .unwrap_err();
    assert!(matches!(error, PoolError::Exhausted { total: 1, .. }));
    assert_eq!(
        error.to_string(),
        "all 1 addresses of 10.244.1.1 to 10.244.1.2 are taken; delete pods on this node, or give nodes larger subnets (SubnetLen)"
    );
    assert_eq!(bench.pool().usage(&sets[0][0]).unwrap().used, 1);
    bench.release("a").unwrap();
    assert_eq!(bench.reserve("b", &sets).len(), 2);
    bench.audit(&sets[1..]);
}

#[test]
fn routed_pools_may_be_tiny() {
    let bench = Bench::new();
    let sets = [vec![
        RangeSpec::whole("10.244.1.6/31".parse().unwrap())
            .routed()
            .unwrap(),
    ]];
    assert_eq!(bench.reserve("a", &sets), [ip("10.244.1.6")]);
    assert_eq!(bench.reserve("b", &sets), [ip("10.244.1.7")]);
    bench.audit(&sets);
}

#[test]
fn addresses_beyond_the_slots_can_be_asked_for() {
    let mut bench = Bench::new();
    let sets = [vec![range("fd00::/64")]];
    let given = bench.request("a", &sets, "fd00::dead:beef").unwrap();
    assert_eq!(addresses(&given), [ip("fd00::dead:beef")]);
    assert!(matches!(
        bench.request("b", &sets, "fd00::dead:beef"),
        Err(PoolError::Taken { .. })
    ));
    assert_eq!(bench.release("a"), Some(given));
    assert!(bench.request("b", &sets, "fd00::dead:beef").is_ok());
    bench.foreign.push(ip("fd00::beef:dead"));
    assert!(matches!(
        bench.request("c", &sets, "fd00::beef:dead"),
        Err(PoolError::Taken { .. })
    ));
}

#[test]
fn addresses_of_another_program_are_kept_clear_of_until_it_gives_them_back() {
    let mut bench = Bench::new();
    bench.foreign = vec![ip("10.244.1.2"), ip("10.244.1.4")];
    let sets = [vec![range("10.244.1.0/29")]];
    assert_eq!(bench.reserve("a", &sets), [ip("10.244.1.5")]);
    assert!(matches!(
        bench.request("b", &sets, "10.244.1.2"),
        Err(PoolError::Taken { .. })
    ));
    assert!(!bench.pool().release_foreign(ip("10.244.1.5")).unwrap());
    assert!(bench.pool().release_foreign(ip("10.244.1.2")).unwrap());
    assert!(!bench.pool().release_foreign(ip("10.244.1.2")).unwrap());
    bench.foreign.remove(0);
    assert!(bench.request("b", &sets, "10.244.1.2").is_ok());
    // More have come behind our back.
    bench.foreign.push(ip("10.244.1.6"));
    bench.pool().distrust().unwrap();
    assert!(matches!(
        bench.request("c", &sets, "10.244.1.6"),
        Err(PoolError::Taken { .. })
    ));
    bench.audit(&sets);
}

#[test]
fn changed_ranges_keep_what_is_held() {
    let bench = Bench::new();
    let narrow = [vec![part("10.244.1.0/28", "10.244.1.3", "10.244.1.6")]];
    let wide = [vec![range("10.244.1.0/28")]];
    for name in ["a", "b", "c"] {
        bench.reserve(name, &narrow);
    }
    bench.release("a").unwrap();
    bench.audit(&wide);
    // Given back while an index of other addresses is there.
    bench.release("b").unwrap();
    assert_eq!(bench.pool().usage(&wide[0][0]).unwrap().used, 1);
    bench.audit(&narrow);
    bench.audit(&wide);
    // Another gateway is another range, too.
    let moved = RangeSpec {
        gateway: Some(ip("10.244.1.14")),
        ..RangeSpec::whole("10.244.1.0/28".parse().unwrap())
    };
    bench.audit(&[vec![moved.shared_link().unwrap()]]);
    bench.audit(&wide);
    assert_eq!(bench.held(), [ip("10.244.1.5")]);
}

#[test]
fn an_address_that_becomes_the_gateway_is_not_given_again() {
    let bench = Bench::new();
    let subnet = RangeSpec::whole("10.244.1.0/29".parse().unwrap());
    let first = [vec![
        RangeSpec {
            gateway: Some(ip("10.244.1.6")),
            ..subnet
        }
        .shared_link()
        .unwrap(),
    ]];
    assert_eq!(bench.reserve("a", &first), [ip("10.244.1.1")]);
    let moved = [vec![subnet.shared_link().unwrap()]];
    assert_eq!(bench.reserve("b", &moved), [ip("10.244.1.2")]);
    assert!(matches!(
        bench.request("c", &moved, "10.244.1.1"),
        Err(PoolError::Gateway { .. })
    ));
    bench.release("a").unwrap();
    bench.audit(&moved);
    bench.audit(&first);
}

#[test]
fn cool_down_survives_a_new_index() {
    let bench = Bench::new();
    let sets = [vec![range("10.244.1.0/28")]];
    for number in 0..3 {
        bench.reserve(&format!("pod{number}"), &sets);
    }
    for number in [1, 0] {
        bench.pass(1);
        bench.release(&format!("pod{number}")).unwrap();
    }
    bench.pool().distrust().unwrap();
    let given: Vec<_> = (3..15)
        .flat_map(|number| bench.reserve(&format!("pod{number}"), &sets))
        .collect();
    assert_eq!(given[10..], [ip("10.244.1.3"), ip("10.244.1.2")]);
}

#[test]
fn a_lost_slot_does_not_give_the_gateway_away() {
    for lost in [Slot::Fresh, Slot::Free(Free::default())] {
        let bench = Bench::new();
        let range = range("10.244.1.0/29");
        let gateway = range.gateway().unwrap();
        bench.pool().usage(&range).unwrap();
        let pool = bench.pool();
        let file = pool.disk.open(range.window().file_name()).unwrap().unwrap();
        let index = range.window().index(gateway).unwrap();
        pool.disk
            .write_at(&file, &lost.encode(), slot_offset(index))
            .unwrap();
        if lost != Slot::Fresh {
            // Let it be the one that was given back first, and no other be fresh.
            let mut bytes = [0; HEADER_LEN];
            pool.disk.read_at(&file, &mut bytes, 0).unwrap();
            let (header, _) = Header::decode(&bytes).unwrap();
            let header = Header {
                fresh: range.window().len(),
                oldest: Some(index),
                newest: Some(index),
                ..header
            };
            pool.disk.write_at(&file, &header.encode(), 0).unwrap();
        }
        assert_eq!(bench.reserve("a", &[vec![range]]), [ip("10.244.1.2")]);
        bench.inspect(&range);
    }
}
