//! Which address is given, and what is refused.

use super::*;

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
