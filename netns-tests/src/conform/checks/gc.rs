//! GC: it frees what nobody lists, keeps what is listed, and takes no list for no order.

use serde_json::{Value, json};

use crate::conform::call::{Answer, needed};
use crate::conform::catalogue::{Check, Verdict, require};
use crate::conform::kernel;
use crate::conform::scene::{Attached, Scene, VALID};
use crate::conform::spec::Verb;
use crate::conform::subject::Kind;

const GC: &str = "spec: GC";
const ADDRESSES: &[Kind] = &[Kind::Interface, Kind::Ipam];

pub(super) const CHECKS: &[Check] = &[
    Check::must("gc.succeeds", Verb::Gc, GC, "GC with every attachment listed ends with status 0", succeeds),
    Check::expected("gc.silent", Verb::Gc, "libcni", "GC prints nothing to standard output", silent),
    Check::must("gc.valid-kept", Verb::Gc, GC, "GC leaves listed attachments alone", valid_kept),
    Check::expected("gc.stale-removed", Verb::Gc, GC, "GC frees what a container left that died without DEL", stale_removed).only(ADDRESSES),
    Check::expected("gc.empty-list", Verb::Gc, "spec: GC; an empty list is a list", "GC with an empty list frees what dead containers left", empty_list).only(ADDRESSES),
    Check::expected("gc.no-list", Verb::Gc, "cnitool, calico#5044", "GC without a list does nothing", no_list).only(ADDRESSES),
    Check::expected("gc.twice", Verb::Gc, GC, "GC may be repeated", twice),
    Check::expected("gc.interface-matters", Verb::Gc, GC, "an attachment is the container and the interface: another interface of a listed container is stale", interface_matters).only(&[Kind::Ipam]),
    Check::must("gc.other-network", Verb::Gc, GC, "GC of one network leaves another network alone", other_network).only(ADDRESSES),
    Check::must("gc.no-container-variables", Verb::Gc, "spec: GC", "GC needs no variable about a container", no_container_variables),
];

fn entry(attached: &Attached) -> Value {
    json!({"containerID": attached.container.id, "ifname": attached.container.ifname})
}

fn collect(scene: &Scene<'_>, valid: &[&Attached]) -> Verdict<Answer> {
    let list: Vec<_> = valid.iter().map(|attached| entry(attached)).collect();
    Ok(scene.bare(Verb::Gc).key(VALID, list.into()).run()?)
}

fn succeeds(scene: &Scene<'_>) -> Verdict {
    let attached = scene.attached()?;
    collect(scene, &[&attached])?.success()
}

fn silent(scene: &Scene<'_>) -> Verdict {
    let answer = collect(scene, &[])?;
    needed("GC", answer.success())?;
    answer.silent()
}

fn valid_kept(scene: &Scene<'_>) -> Verdict {
    let (first, second) = (scene.attached()?, scene.attached()?);
    let before = (scene.host.state()?, first.container.state()?);
    collect(scene, &[&first, &second])?.success()?;
    scene.host.state()?.same_as(&before.0)?;
    first.container.state()?.same_as(&before.1)?;
    let check = scene.call(Verb::Check, &first.container);
    check.previous(&first.result).run()?.success()
}

/// Two containers; the second died without DEL. Returns the first and the host's state with the first alone.
fn one_dead(scene: &Scene<'_>) -> Verdict<(Attached, crate::conform::place::State)> {
    scene.settled()?;
    let first = scene.attached()?;
    let before = scene.host.state()?;
    scene.attached()?.container.die(&scene.host)?;
    Ok((first, before))
}

fn stale_removed(scene: &Scene<'_>) -> Verdict {
    let (first, before) = one_dead(scene)?;
    collect(scene, &[&first])?.success()?;
    scene.becomes(&before)
}

fn empty_list(scene: &Scene<'_>) -> Verdict {
    let before = scene.settled()?;
    for _ in 0..2 {
        scene.attached()?.container.die(&scene.host)?;
    }
    collect(scene, &[])?.success()?;
    scene.becomes(&before)
}

fn no_list(scene: &Scene<'_>) -> Verdict {
    let attached = scene.attached()?;
    let before = (scene.host.state()?, attached.container.state()?);
    scene.bare(Verb::Gc).run()?.success()?;
    scene.host.state()?.same_as(&before.0)?;
    attached.container.state()?.same_as(&before.1)
}

fn twice(scene: &Scene<'_>) -> Verdict {
    let attached = scene.attached()?;
    needed("GC", collect(scene, &[&attached])?.success())?;
    collect(scene, &[&attached])?.success()
}

fn interface_matters(scene: &Scene<'_>) -> Verdict {
    scene.settled()?;
    let first = scene.attached()?;
    let before = scene.host.state()?;
    scene.attach(&first.container.interface("net1"))?;
    collect(scene, &[&first])?.success()?;
    scene.host.state()?.same_as(&before)
}

fn other_network(scene: &Scene<'_>) -> Verdict {
    let attached = scene.attached()?;
    let before = (scene.host.state()?, attached.container.state()?);
    let call = scene.bare(Verb::Gc).key("name", json!("another"));
    call.key(VALID, json!([])).run()?.success()?;
    attached.container.state()?.same_as(&before.1)?;
    // What the other network's own housekeeping makes, such as a directory, does not count.
    let lost = before.0.gone_in(&scene.host.state()?);
    require(lost.is_empty(), || lost.join("; "))?;
    let links = kernel::links(&attached.container)?;
    let there = links
        .iter()
        .any(|link| link.name == attached.container.ifname);
    require(there || scene.subject.kind == Kind::Ipam, || {
        "the interface is gone".to_owned()
    })
}

fn no_container_variables(scene: &Scene<'_>) -> Verdict {
    // Neither is set by `bare`.
    scene.bare(Verb::Gc).key(VALID, json!([])).run()?.success()
}
