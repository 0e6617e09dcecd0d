//! Addresses that are few: which ones are handed out, what happens when there are none, and that they come back.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::conform::call::needed;
use crate::conform::catalogue::{Check, Verdict, inapplicable, require};
use crate::conform::place::Container;
use crate::conform::result;
use crate::conform::scene::{Attached, Scene};
use crate::conform::spec::Verb;
use crate::conform::subject::{Kind, SMALL_POOL, SMALL_POOL_HOSTS, SMALL_POOL_SIZE};

const ADDRESSES: &[Kind] = &[Kind::Interface, Kind::Ipam];

/// An ADD that cannot be served says so at once: runtimes try again by themselves.
const QUICK: Duration = Duration::from_secs(5);

pub(super) const CHECKS: &[Check] = &[
    Check::expected(
        "pool.whole",
        Verb::Add,
        "host-local",
        "every address of the range but network, gateway and broadcast is handed out once",
        whole,
    )
    .only(ADDRESSES),
    Check::must(
        "pool.exhausted",
        Verb::Add,
        "spec: error",
        "ADD is refused when there is no address left",
        exhausted,
    )
    .only(ADDRESSES),
    Check::expected(
        "pool.exhausted-quick",
        Verb::Add,
        "plugins#561",
        "that refusal takes less than five seconds and has a message",
        exhausted_quick,
    )
    .only(ADDRESSES),
    Check::expected(
        "pool.exhausted-leaves-nothing",
        Verb::Add,
        "spec: delegation",
        "an ADD that gets no address leaves nothing",
        exhausted_leaves_nothing,
    )
    .only(ADDRESSES),
    Check::must(
        "pool.freed",
        Verb::Del,
        "spec: DEL",
        "DEL frees the address: a full range has room again",
        freed,
    )
    .only(ADDRESSES),
    Check::expected(
        "pool.freed-without-netns",
        Verb::Del,
        "containerd",
        "DEL with an empty CNI_NETNS frees the address",
        freed_without_netns,
    )
    .only(ADDRESSES),
    Check::expected(
        "pool.not-leaked",
        Verb::Del,
        "plugins#252, #426",
        "many ADDs and DELs one after another never run out of addresses",
        not_leaked,
    )
    .only(ADDRESSES),
    Check::quality(
        "pool.not-reused-at-once",
        Verb::Add,
        "amazon-vpc-cni-k8s#2378",
        "a freed address is not the next one handed out while others are free",
        not_reused,
    )
    .only(ADDRESSES),
];

fn fill(scene: &Scene<'_>) -> Verdict<Vec<Attached>> {
    (0..SMALL_POOL_SIZE).map(|_| scene.attached()).collect()
}

fn addresses(attached: &[Attached]) -> BTreeSet<IpAddr> {
    attached
        .iter()
        .flat_map(|attached| result::ips(&attached.result))
        .map(|ip| ip.address)
        .collect()
}

fn whole(scene: &Scene<'_>) -> Verdict {
    let scene = scene.small_pool()?;
    let mut given = Vec::new();
    for _ in 0..SMALL_POOL_SIZE {
        let container = scene.container()?;
        let result = scene.call(Verb::Add, &container).run()?.document()?;
        given.push(Attached { container, result });
    }
    let given = addresses(&given);
    let wanted: BTreeSet<IpAddr> = SMALL_POOL_HOSTS
        .map(|host| IpAddr::from([10, 99, 0, host]))
        .collect();
    require(given == wanted, || {
        format!("of {SMALL_POOL} were given {given:?}")
    })
}

/// The refusal of an ADD for which there is no address, with the container it was for.
fn refused(scene: &Scene<'_>, container: &Container) -> Verdict<crate::conform::call::Answer> {
    Ok(scene.call(Verb::Add, container).run()?)
}

fn exhausted(scene: &Scene<'_>) -> Verdict {
    let scene = scene.small_pool()?;
    fill(&scene)?;
    let answer = refused(&scene, &scene.container()?)?;
    answer.refusal().map(drop)
}

fn exhausted_quick(scene: &Scene<'_>) -> Verdict {
    let scene = scene.small_pool()?;
    fill(&scene)?;
    let answer = refused(&scene, &scene.container()?)?;
    let refusal = needed("the refusal", answer.refusal())?;
    require(answer.elapsed < QUICK, || {
        format!("it took {} ms", answer.elapsed.as_millis())
    })?;
    require(!refusal.message.is_empty(), || {
        format!("no msg: {}", answer.shown())
    })
}

fn exhausted_leaves_nothing(scene: &Scene<'_>) -> Verdict {
    let scene = scene.small_pool()?;
    fill(&scene)?;
    let container = scene.container()?;
    let before = (scene.host.state()?, container.state()?);
    if refused(&scene, &container)?.succeeded() {
        return inapplicable("ADD is not refused");
    }
    scene.host.state()?.same_as(&before.0)?;
    container.state()?.same_as(&before.1)
}

fn frees(scene: &Scene<'_>, netns: Option<&str>) -> Verdict {
    let scene = scene.small_pool()?;
    let attached = fill(&scene)?;
    let last = &attached[SMALL_POOL_SIZE / 2];
    let call = scene
        .call(Verb::Del, &last.container)
        .previous(&last.result);
    let call = match netns {
        Some(path) => call.with("CNI_NETNS", path),
        None => call,
    };
    needed("DEL", call.run()?.success())?;
    let container = scene.container()?;
    scene.call(Verb::Add, &container).run()?.success()
}

fn freed(scene: &Scene<'_>) -> Verdict {
    frees(scene, None)
}

fn freed_without_netns(scene: &Scene<'_>) -> Verdict {
    frees(scene, Some(""))
}

fn not_leaked(scene: &Scene<'_>) -> Verdict {
    let scene = scene.small_pool()?;
    for _ in 0..3 * SMALL_POOL_SIZE {
        let container = scene.container()?;
        let result = scene.call(Verb::Add, &container).run()?.document()?;
        let attached = Attached { container, result };
        needed("DEL", scene.detach(&attached)?.success())?;
        attached.container.die(&scene.host)?;
    }
    Ok(())
}

fn not_reused(scene: &Scene<'_>) -> Verdict {
    let first = scene.attached()?;
    needed("DEL", scene.detach(&first)?.success())?;
    let second = scene.attached()?;
    let (first, second) = (addresses(&[first]), addresses(&[second]));
    if first.is_empty() {
        return inapplicable("the container has no address");
    }
    require(first.is_disjoint(&second), || {
        format!("{second:?} was given again at once")
    })
}
