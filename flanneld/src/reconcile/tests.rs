//! The planner against a model of the kernel: whatever is there at first, the same state is reached, and nothing foreign is touched.

mod model;

use proptest::prelude::*;

use self::model::{DEVICE, Model, UPLINK, damage, desired, mac, public, subnet};
use super::*;
use crate::desired::{Alteration, Hop};

#[test]
fn an_empty_kernel_gets_everything_and_then_nothing_more() {
    let desired = desired(&BTreeSet::from([2, 3]));
    let mut model = Model::default();
    model.reach(&desired);
    assert_eq!(model.observed.routes.len(), 2);
    assert_eq!(plan(&desired, &model.observed), Plan::default());
}

#[test]
fn a_device_of_another_vni_is_made_anew() {
    let desired = desired(&BTreeSet::from([2]));
    let mut model = Model::default();
    model.reach(&desired);
    let fresh = model.essence();
    model
        .observed
        .devices
        .get_mut(DEVICE)
        .unwrap()
        .link
        .vxlan
        .as_mut()
        .unwrap()
        .vni = 7;
    let plan = plan(&desired, &model.observed);
    assert!(
        plan.steps[0]
            .to_string()
            .contains("its VNI is 7 instead of 1"),
        "{}",
        plan.steps[0]
    );
    model.reach(&desired);
    assert_eq!(model.essence(), fresh);
}

#[test]
fn flannels_own_routes_are_taken_over_as_they_are() {
    let desired = desired(&BTreeSet::from([2]));
    let mut model = Model::default();
    model.reach(&desired);
    model.observed.routes[0].protocol = ROUTE_PROTOCOL_BOOT;
    assert_eq!(plan(&desired, &model.observed), Plan::default());
}

#[test]
fn nothing_is_taken_away_before_the_leases_are_known() {
    let mut model = Model::default();
    model.reach(&desired(&BTreeSet::from([2, 3])));
    let before = model.clone();
    let mut early = desired(&BTreeSet::new());
    early.complete = false;
    early.devices.get_mut(DEVICE).unwrap().addresses.clear();
    model.reach(&early);
    assert_eq!(model, before);
}

#[test]
fn what_is_not_ours_stays() {
    let mut model = Model::default();
    model.reach(&desired(&BTreeSet::from([2])));
    let link = model.observed.devices[DEVICE].link.index;
    let foreign = [
        // Another program's route through our device to a place outside the pod network.
        Route {
            protocol: 4,
            link: Some(link),
            ..Route::new("198.51.100.0/24".parse().unwrap())
        },
        // The kernel's own.
        Route {
            protocol: 2,
            link: Some(link),
            ..Route::new("10.244.9.0/24".parse().unwrap())
        },
    ];
    model.observed.routes.extend(foreign.iter().cloned());
    let mut learned = model.observed.devices[DEVICE].fdb[0].clone();
    (learned.mac, learned.permanent) = (mac(99), false);
    model
        .observed
        .devices
        .get_mut(DEVICE)
        .unwrap()
        .fdb
        .push(learned);
    assert_eq!(
        plan(&desired(&BTreeSet::from([2])), &model.observed),
        Plan::default()
    );
}

#[test]
fn a_blackhole_stands_behind_every_other_route_and_goes_when_unwanted() {
    let without = desired(&BTreeSet::from([2]));
    let mut with = without.clone();
    with.routes.insert(subnet(1), Hop::Blackhole);
    let mut model = Model::default();
    model.reach(&without);
    let before = model.essence();
    model.reach(&with);
    let route = model.observed.routes.last().unwrap();
    assert_eq!(
        (route.destination, route.priority),
        (subnet(1), Some(BLACKHOLE_METRIC))
    );
    model.reach(&without);
    assert_eq!(model.essence(), before);
}

#[test]
fn a_device_over_another_uplink_is_altered_while_it_stands() {
    let before = desired(&BTreeSet::from([2]));
    let mut after = before.clone();
    let vxlan = &mut after.devices.get_mut(DEVICE).unwrap().vxlan;
    (vxlan.lower, vxlan.local) = (Some(LinkIndex(9)), Some(public(9)));
    let mut model = Model::default();
    model.reach(&before);
    let index = model.observed.devices[DEVICE].link.index;
    model.reach(&after);
    assert_eq!(model.observed.devices[DEVICE].link.index, index);

    // A kernel that refuses that.
    model.observed.unalterable.insert(index);
    model.reach(&before);
    assert_ne!(model.observed.devices[DEVICE].link.index, index);
    let mut fresh = Model::default();
    fresh.reach(&before);
    assert_eq!(model.essence(), fresh.essence());
}

/// What a former configuration of this node left, and what only looks like it.
#[test]
fn devices_left_over_go_and_those_of_others_stay() {
    let wanted = desired(&BTreeSet::from([2]));
    let mut model = Model::default();
    model.reach(&wanted);
    let sample = model.observed.devices[DEVICE].link.clone();
    let leftover = |name: &str, vni: u32, address: &str| {
        let mut link = sample.clone();
        link.index = LinkIndex(1000 + vni);
        link.name = name.to_owned();
        link.vxlan.as_mut().unwrap().vni = vni;
        Leftover {
            link,
            addresses: vec![address.parse().unwrap()],
        }
    };
    let mut wireguard = leftover("flannel-wg", 5, "10.244.1.0/32");
    (wireguard.link.kind, wireguard.link.vxlan) = (Some("wireguard".to_owned()), None);
    let ours = [
        leftover("flannel.2", 2, "10.244.1.0/32"),
        leftover("flannel-v6.3", 3, "fd00::/128"),
        wireguard,
    ];
    let foreign = [
        // Another daemon's on the same host, for another pod network.
        leftover("flannel.6", 6, "10.9.1.0/32"),
        // Not named by its VNI.
        leftover("flannel.7", 8, "10.244.1.0/32"),
        leftover("vxlan.calico", 9, "10.244.1.0/32"),
        leftover("flannel.1", 1, "10.244.1.0/32"),
    ];
    model.observed.leftovers = ours.iter().chain(&foreign).cloned().collect();
    let mut after = wanted.clone();
    after.former = vec!["fd00::/48".parse().unwrap()];
    let mut early = after.clone();
    early.complete = false;
    assert_eq!(plan(&early, &model.observed), Plan::default());
    model.reach(&after);
    assert_eq!(model.observed.leftovers, foreign);
}

#[test]
fn what_was_ours_in_a_former_network_goes() {
    let mut wanted = desired(&BTreeSet::from([2]));
    let mut model = Model::default();
    model.reach(&wanted);
    let fresh = model.essence();
    let link = model.observed.devices[DEVICE].link.index;
    let stale = Route {
        gateway: Some("10.9.3.0".parse().unwrap()),
        link: Some(link),
        onlink: true,
        ..Route::new("10.9.3.0/24".parse().unwrap())
    };
    model.observed.routes.push(stale);
    let device = model.observed.devices.get_mut(DEVICE).unwrap();
    let former = "10.9.1.0".parse().unwrap();
    device.addresses.push(Address::new(link, former, 32));
    assert_eq!(plan(&wanted, &model.observed), Plan::default());
    wanted.former = vec!["10.9.0.0/16".parse().unwrap()];
    model.reach(&wanted);
    assert_eq!(model.essence(), fresh);
}

#[test]
fn what_stands_in_the_way_of_a_route_goes_and_what_does_not_stays() {
    let wanted = desired(&BTreeSet::from([2]));
    let mut model = Model::default();
    model.reach(&wanted);
    let beside = |metric| Route {
        gateway: Some(public(99)),
        link: Some(UPLINK),
        protocol: 4,
        priority: metric,
        ..Route::new(subnet(2))
    };
    model
        .observed
        .routes
        .extend([beside(None), beside(Some(7))]);
    let plan = plan(&wanted, &model.observed);
    let deleted: Vec<&Change> = plan.steps.iter().map(kernel_change).collect();
    assert_eq!(deleted, [&Change::DeleteRoute(beside(None))]);
}

#[test]
fn an_ipv6_gateway_that_another_route_leads_astray_is_helped_for_a_moment() {
    let destination: IpNetwork = "fd00:10:244:2::/64".parse().unwrap();
    let mut wanted = desired(&BTreeSet::new());
    wanted.networks.push("fd00:10:244::/48".parse().unwrap());
    let hop = Hop::Tunnel {
        device: DEVICE.to_owned(),
        gateway: destination.network(),
    };
    wanted.routes.insert(destination, hop);
    let vtep = (DEVICE.to_owned(), destination.network());
    wanted.neighbours.insert(vtep, mac(2));
    wanted.fdb.insert((DEVICE.to_owned(), mac(2)), public(2));
    let mut model = Model::default();
    model.reach(&wanted);
    let ours = model.observed.routes[0].clone();
    let aid = Route {
        link: ours.link,
        protocol: ROUTE_PROTOCOL,
        ..Route::new(destination.network().into())
    };
    let [ours, first, last] = [
        Change::ReplaceRoute(ours),
        Change::ReplaceRoute(aid.clone()),
        Change::DeleteRoute(aid),
    ];
    for (astray, expected) in [
        ("fd00:10:244::/48", vec![&first, &ours, &last]),
        ("fd00:10:245::/48", vec![&ours]),
        ("::/0", vec![&ours]),
    ] {
        model.observed.routes = vec![Route {
            link: Some(UPLINK),
            protocol: 4,
            ..Route::new(astray.parse().unwrap())
        }];
        let plan = plan(&wanted, &model.observed);
        let changes: Vec<&Change> = plan.steps.iter().map(kernel_change).collect();
        assert_eq!(changes, expected, "beside {astray}");
    }
}

fn kernel_change(step: &Step) -> &Change {
    match &step.action {
        Action::Kernel(change) => change,
        other => panic!("{other:?} is no change over netlink"),
    }
}

#[test]
fn a_step_names_the_object_and_the_reason() {
    let wanted = desired(&BTreeSet::from([2]));
    let mut model = Model::default();
    model.reach(&wanted);
    let device = model.observed.devices.get_mut(DEVICE).unwrap();
    device.fdb[0].detour = true;
    let told = plan(&wanted, &model.observed).steps[0].to_string();
    let expected = "FDB entry 02:00:00:00:00:02 of flannel.1: it leads to another port";
    assert!(told.starts_with(expected), "{told}");
}

#[test]
fn a_changed_mac_leaves_no_old_entry() {
    let before = desired(&BTreeSet::from([2]));
    let mut after = before.clone();
    after.fdb = BTreeMap::from([((DEVICE.to_owned(), mac(77)), public(2))]);
    after
        .neighbours
        .insert((DEVICE.to_owned(), subnet(2).network()), mac(77));
    let mut model = Model::default();
    model.reach(&before);
    model.reach(&after);
    let device = &model.observed.devices[DEVICE];
    assert_eq!(
        device.fdb.iter().map(|entry| entry.mac).collect::<Vec<_>>(),
        [mac(77)]
    );
    assert_eq!(device.neighbours[0].mac, Some(mac(77)));
}

/// How `after` differs from `before`.
fn difference(before: &Desired, after: &Desired) -> Alteration {
    fn of<K: Ord + Clone, V: Clone + PartialEq>(
        before: &BTreeMap<K, V>,
        after: &BTreeMap<K, V>,
    ) -> BTreeMap<K, Option<V>> {
        let gone = before.keys().filter(|key| !after.contains_key(key));
        let gone = gone.map(|key| (key.clone(), None));
        let new = after
            .iter()
            .filter(|(key, value)| before.get(key) != Some(value));
        gone.chain(new.map(|(key, value)| (key.clone(), Some(value.clone()))))
            .collect()
    }
    Alteration {
        routes: of(&before.routes, &after.routes),
        neighbours: of(&before.neighbours, &after.neighbours),
        fdb: of(&before.fdb, &after.fdb),
    }
}

fn peers() -> impl Strategy<Value = BTreeSet<u8>> {
    proptest::collection::btree_set(2u8..60, 0..12)
}

proptest! {
    #[test]
    fn whatever_happened_the_state_of_a_fresh_start_is_reached(
        before in peers(),
        after in peers(),
        damages in proptest::collection::vec(damage(), 0..12),
    ) {
        let mut fresh = Model::default();
        fresh.reach(&desired(&after));

        let mut model = Model::default();
        model.reach(&desired(&before));
        for damage in &damages {
            model.suffer(damage);
        }
        model.reach(&desired(&after));
        prop_assert_eq!(model.essence(), fresh.essence());
    }

    #[test]
    fn an_alteration_leads_where_a_comparison_does(
        before in peers(),
        after in peers(),
        moved in 2u8..60,
        blackhole: bool,
    ) {
        let before = desired(&before);
        let mut after = desired(&after);
        if let Some(destination) = after.fdb.values_mut().next() {
            *destination = public(moved);
        }
        if blackhole {
            after.routes.insert(subnet(1), Hop::Blackhole);
        }
        let mut model = Model::default();
        model.reach(&before);
        let alteration = difference(&before, &after);
        let plan = alter(&before, &model.observed, &alteration);
        prop_assert!(!plan.unfinished);
        for step in plan.steps {
            model.apply(step);
        }
        let mut altered = before.clone();
        alteration.apply_to(&mut altered);
        prop_assert_eq!(&altered, &after);
        prop_assert_eq!(super::plan(&after, &model.observed), Plan::default());
    }
}
