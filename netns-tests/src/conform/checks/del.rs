//! DEL: it undoes the ADD, may come at any time and any number of times, and needs little.

use serde_json::{Value, json};

use crate::conform::call::{Call, needed};
use crate::conform::catalogue::{Check, Verdict, inapplicable, require};
use crate::conform::checks::failure::ordinary_file;
use crate::conform::kernel;
use crate::conform::place::HOST_NETNS;
use crate::conform::scene::{Attached, Scene};
use crate::conform::spec::Verb;
use crate::conform::subject::Kind;
use crate::endpoint::Endpoint;

const DEL: &str = "spec: DEL";
const INTERFACE: &[Kind] = &[Kind::Interface];
const ADDRESSES: &[Kind] = &[Kind::Interface, Kind::Ipam];

pub(super) const CHECKS: &[Check] = &[
    Check::must(
        "del.succeeds",
        Verb::Del,
        DEL,
        "DEL after ADD ends with status 0",
        succeeds,
    ),
    Check::expected(
        "del.silent",
        Verb::Del,
        "libcni",
        "DEL prints nothing to standard output",
        silent,
    ),
    Check::must(
        "del.removes-interface",
        Verb::Del,
        DEL,
        "DEL removes the interface from the container",
        removes_interface,
    )
    .only(INTERFACE),
    Check::must(
        "del.leaves-nothing",
        Verb::Del,
        DEL,
        "DEL leaves nothing on the host",
        leaves_nothing,
    ),
    Check::must("del.twice", Verb::Del, DEL, "a second DEL succeeds", twice),
    Check::must(
        "del.before-add",
        Verb::Del,
        DEL,
        "DEL of what was never added succeeds and changes nothing",
        before_add,
    ),
    Check::must(
        "del.empty-netns",
        Verb::Del,
        DEL,
        "DEL with an empty CNI_NETNS succeeds",
        empty_netns,
    ),
    Check::must(
        "del.no-netns",
        Verb::Del,
        DEL,
        "DEL without CNI_NETNS succeeds",
        no_netns,
    ),
    Check::expected(
        "del.empty-netns-leaves-nothing",
        Verb::Del,
        "containerd, plugins#810",
        "DEL with an empty CNI_NETNS leaves nothing on the host",
        empty_netns_leaves_nothing,
    )
    .only(ADDRESSES),
    Check::must(
        "del.missing-netns",
        Verb::Del,
        DEL,
        "DEL succeeds when CNI_NETNS is gone",
        missing_netns,
    ),
    Check::expected(
        "del.missing-netns-leaves-nothing",
        Verb::Del,
        DEL,
        "DEL leaves nothing when CNI_NETNS is gone",
        missing_netns_leaves_nothing,
    )
    .only(ADDRESSES),
    Check::expected(
        "del.ordinary-file",
        Verb::Del,
        "sriov-cni#447",
        "DEL succeeds when CNI_NETNS is an ordinary file",
        file_for_netns,
    ),
    Check::expected(
        "del.ordinary-file-leaves-nothing",
        Verb::Del,
        "sriov-cni#447",
        "DEL leaves nothing when CNI_NETNS is an ordinary file",
        file_leaves_nothing,
    )
    .only(ADDRESSES),
    Check::expected(
        "del.own-netns-harmless",
        Verb::Del,
        "cri-o#2849, kubernetes#100648",
        "DEL leaves the host's interfaces alone when CNI_NETNS leads to the host",
        own_netns_harmless,
    )
    .only(&[Kind::Interface, Kind::Loopback]),
    Check::must(
        "del.other-container-stays",
        Verb::Del,
        DEL,
        "DEL of one container leaves another alone",
        other_stays,
    ),
    Check::must(
        "del.no-prev-result",
        Verb::Del,
        "spec: DEL, libcni",
        "DEL without prevResult succeeds",
        no_previous,
    ),
    Check::expected(
        "del.no-prev-result-leaves-nothing",
        Verb::Del,
        "spec: DEL, libcni",
        "DEL without prevResult leaves nothing",
        no_previous_leaves_nothing,
    ),
    Check::expected(
        "del.corrupt-prev-result",
        Verb::Del,
        "cni#1171",
        "DEL with a corrupt prevResult succeeds and leaves nothing",
        corrupt_previous,
    ),
    Check::expected(
        "del.gone-interface",
        Verb::Del,
        DEL,
        "DEL succeeds and leaves nothing when the interface is gone already",
        gone_interface,
    )
    .only(INTERFACE),
    Check::quality(
        "del.no-args",
        Verb::Del,
        "spec: parameters",
        "DEL needs no CNI_ARGS",
        no_args,
    ),
];

fn deleted(scene: &Scene<'_>, change: impl FnOnce(Call) -> Call) -> Verdict {
    let attached = scene.attached()?;
    let call = scene.own_call(&attached.container);
    change(call.previous(&attached.result)).run()?.success()
}

/// DEL leaves the host as it was before ADD; that it succeeds is another check's business.
fn nothing_left(scene: &Scene<'_>, delete: impl FnOnce(Attached) -> Verdict<Call>) -> Verdict {
    let before = scene.settled()?;
    let call = delete(scene.attached()?)?;
    call.run()?;
    scene.host.state()?.same_as(&before)
}

fn del(scene: &Scene<'_>, attached: &Attached) -> Call {
    let call = scene.own_call(&attached.container);
    call.previous(&attached.result)
}

fn succeeds(scene: &Scene<'_>) -> Verdict {
    deleted(scene, |call| call)
}

fn silent(scene: &Scene<'_>) -> Verdict {
    let attached = scene.attached()?;
    let answer = scene.detach(&attached)?;
    needed("DEL", answer.success())?;
    answer.silent()
}

fn removes_interface(scene: &Scene<'_>) -> Verdict {
    let attached = scene.attached()?;
    scene.detach(&attached)?;
    let link = kernel::link_named(&attached.container, &attached.container.ifname)?;
    require(link.is_none(), || {
        format!("{} is still there", attached.container.ifname)
    })
}

fn leaves_nothing(scene: &Scene<'_>) -> Verdict {
    nothing_left(scene, |attached| Ok(del(scene, &attached)))
}

fn twice(scene: &Scene<'_>) -> Verdict {
    let attached = scene.attached()?;
    needed("DEL", scene.detach(&attached)?.success())?;
    scene.detach(&attached)?.success()
}

fn before_add(scene: &Scene<'_>) -> Verdict {
    // Another container is there, and with it what stays for good, such as a bridge.
    scene.attached()?;
    let container = scene.container()?;
    let before = scene.host.state()?;
    scene.own_call(&container).run()?.success()?;
    scene.host.state()?.same_as(&before)
}

fn empty_netns(scene: &Scene<'_>) -> Verdict {
    deleted(scene, |call| call.with("CNI_NETNS", ""))
}

fn no_netns(scene: &Scene<'_>) -> Verdict {
    deleted(scene, |call| call.without("CNI_NETNS"))
}

fn empty_netns_leaves_nothing(scene: &Scene<'_>) -> Verdict {
    let before = scene.settled()?;
    // The container lives on: only its path is unknown.
    let attached = scene.attached()?;
    del(scene, &attached).with("CNI_NETNS", "").run()?;
    scene.host.state()?.same_as(&before)
}

fn missing_netns(scene: &Scene<'_>) -> Verdict {
    let attached = scene.attached()?;
    let call = del(scene, &attached);
    attached.container.die(&scene.host)?;
    call.run()?.success()
}

fn missing_netns_leaves_nothing(scene: &Scene<'_>) -> Verdict {
    let before = scene.settled()?;
    let attached = scene.attached()?;
    let call = del(scene, &attached);
    // The container lives on, as when something holds its namespace: a kernel that tidies up does not help.
    let held = attached.container.clone();
    attached.container.die(&scene.host)?;
    call.run()?;
    let after = scene.host.state()?;
    drop(held);
    after.same_as(&before)
}

fn file_for_netns(scene: &Scene<'_>) -> Verdict {
    let path = ordinary_file(scene)?;
    deleted(scene, |call| call.with("CNI_NETNS", path))
}

fn file_leaves_nothing(scene: &Scene<'_>) -> Verdict {
    let path = ordinary_file(scene)?;
    let before = scene.settled()?;
    let attached = scene.attached()?;
    del(scene, &attached).with("CNI_NETNS", path).run()?;
    scene.host.state()?.same_as(&before)
}

fn own_netns_harmless(scene: &Scene<'_>) -> Verdict {
    let attached = scene.attached()?;
    // The host has interfaces of these names too.
    del(scene, &attached).with("CNI_NETNS", HOST_NETNS).run()?;
    let links = kernel::links(&scene.host)?;
    for name in ["lo", "eth0"] {
        let link = links.iter().find(|link| link.name == name);
        require(link.is_some_and(|link| link.up), || {
            let state = if link.is_some() { "down" } else { "gone" };
            format!("the host's {name} is {state}")
        })?;
    }
    Ok(())
}

fn other_stays(scene: &Scene<'_>) -> Verdict {
    let (first, second) = (scene.attached()?, scene.attached()?);
    let before = second.container.state()?;
    scene.detach(&first)?.success()?;
    second.container.state()?.same_as(&before)
}

fn no_previous(scene: &Scene<'_>) -> Verdict {
    deleted(scene, |call| call.without_key("prevResult"))
}

fn no_previous_leaves_nothing(scene: &Scene<'_>) -> Verdict {
    nothing_left(scene, |attached| {
        Ok(del(scene, &attached).without_key("prevResult"))
    })
}

fn corrupt_previous(scene: &Scene<'_>) -> Verdict {
    if !scene.version.passes_previous_result() {
        return inapplicable("DEL gets a prevResult since 0.4.0");
    }
    let corrupt = |attached: &Attached| -> [Value; 4] {
        let mut other_version = attached.result.clone();
        other_version["cniVersion"] = json!("99.0.0");
        let mut bad_address = attached.result.clone();
        bad_address["ips"] = json!([{"address": "nonsense", "interface": 99}]);
        [json!("text"), json!({"ips": 7}), other_version, bad_address]
    };
    let before = scene.settled()?;
    for number in 0..4 {
        let attached = scene.attached()?;
        let previous = corrupt(&attached)[number].clone();
        let call = scene.own_call(&attached.container);
        let answer = call.key("prevResult", previous.clone()).run()?;
        require(answer.succeeded(), || {
            format!("prevResult {previous}: {}", answer.shown())
        })?;
        scene.host.state()?.same_as(&before)?;
    }
    Ok(())
}

fn gone_interface(scene: &Scene<'_>) -> Verdict {
    let before = scene.settled()?;
    let attached = scene.attached()?;
    let name = &attached.container.ifname;
    attached
        .container
        .exec(["ip", "link", "delete", "dev", name])?;
    scene.detach(&attached)?.success()?;
    scene.host.state()?.same_as(&before)
}

fn no_args(scene: &Scene<'_>) -> Verdict {
    deleted(scene, |call| call.without("CNI_ARGS"))
}
