//! An ADD that cannot succeed: it is refused, and leaves nothing behind, whatever was done before.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::conform::call::Call;
use crate::conform::catalogue::{Check, Verdict, inapplicable, require};
use crate::conform::kernel;
use crate::conform::place::{Container, HOST_NETNS};
use crate::conform::scene::Scene;
use crate::conform::spec::Verb;
use crate::conform::subject::Kind;
use crate::endpoint::Endpoint;

const CLEAN: &str = "spec: ADD; nomad, kubelet retry without DEL";
const INTERFACE: &[Kind] = &[Kind::Interface];
const IN_CONTAINER: &[Kind] = &[Kind::Interface, Kind::Loopback];

pub(super) const CHECKS: &[Check] = &[
    Check::must(
        "add.existing-ifname-refused",
        Verb::Add,
        "spec: ADD",
        "ADD is refused when the interface name is taken in the container",
        existing_refused,
    )
    .only(INTERFACE),
    Check::expected(
        "add.existing-ifname-untouched",
        Verb::Add,
        "spec: ADD",
        "the interface that had the name stays as it is",
        existing_untouched,
    )
    .only(INTERFACE),
    Check::expected(
        "add.existing-ifname-leaves-nothing",
        Verb::Add,
        CLEAN,
        "ADD refused for a taken name leaves nothing on the host",
        existing_leaves_nothing,
    )
    .only(INTERFACE),
    Check::must(
        "add.missing-netns-refused",
        Verb::Add,
        "spec: ADD",
        "ADD is refused when there is no CNI_NETNS",
        missing_netns_refused,
    )
    .only(IN_CONTAINER),
    Check::expected(
        "add.missing-netns-leaves-nothing",
        Verb::Add,
        CLEAN,
        "ADD refused for a missing CNI_NETNS leaves nothing",
        missing_netns_leaves_nothing,
    )
    .only(IN_CONTAINER),
    Check::expected(
        "add.no-netns-refused",
        Verb::Add,
        "sriov-cni#447",
        "ADD is refused when CNI_NETNS is an ordinary file",
        no_netns_refused,
    )
    .only(IN_CONTAINER),
    Check::expected(
        "add.no-netns-leaves-nothing",
        Verb::Add,
        CLEAN,
        "ADD refused for an ordinary file as CNI_NETNS leaves nothing",
        no_netns_leaves_nothing,
    )
    .only(IN_CONTAINER),
    Check::expected(
        "add.twice-refused",
        Verb::Add,
        "spec: ADD",
        "a second ADD of the same interface without DEL is refused",
        twice_refused,
    )
    .only(INTERFACE),
    Check::expected(
        "add.twice-harmless",
        Verb::Add,
        "Nomad",
        "a second ADD of the same interface does not disturb the first",
        twice_harmless,
    )
    .only(INTERFACE),
    Check::expected(
        "add.retry",
        Verb::Add,
        "Nomad",
        "after a refused ADD the same ADD succeeds once its cause is gone, without DEL",
        retry,
    )
    .only(INTERFACE),
    Check::expected(
        "add.ipam-fails",
        Verb::Add,
        "spec: delegation",
        "ADD is refused, and leaves nothing, when its IPAM plugin is not there",
        ipam_fails,
    )
    .only(INTERFACE),
    Check::expected(
        "add.bad-ipam-config",
        Verb::Add,
        "spec: error codes",
        "ADD is refused, and leaves nothing, when no address can be had from its ranges",
        bad_ranges,
    )
    .only(&[Kind::Interface, Kind::Ipam]),
    Check::expected(
        "add.own-netns-refused",
        Verb::Add,
        "reference skeleton",
        "ADD into the plugin's own network namespace is refused with code 8",
        own_netns_refused,
    )
    .only(&[Kind::Interface]),
    Check::expected(
        "add.own-netns-untouched",
        Verb::Add,
        "host safety",
        "ADD into the plugin's own network namespace changes nothing",
        own_netns_untouched,
    )
    .only(&[Kind::Interface]),
    Check::quality(
        "add.own-netns-override",
        Verb::Add,
        "reference skeleton",
        "with CNI_NETNS_OVERRIDE=1 the own network namespace is no reason to refuse",
        own_netns_override,
    )
    .only(&[Kind::Interface]),
];

/// Calls ADD, which has to be refused; what it leaves is not looked at.
fn refused(call: &Call) -> Verdict {
    let start = Instant::now();
    call.run()?.refusal()?;
    let elapsed = start.elapsed();
    require(elapsed < Duration::from_secs(30), || {
        format!("refused after {} s only", elapsed.as_secs())
    })
}

/// Calls ADD, which has to leave the host as it was; that it is refused is another check's business.
fn leaves_nothing(scene: &Scene<'_>, call: impl FnOnce(&Container) -> Verdict<Call>) -> Verdict {
    let before = scene.settled()?;
    let container = scene.container()?;
    let answer = call(&container)?.run()?;
    if answer.succeeded() {
        return inapplicable("ADD is not refused");
    }
    scene.host.state()?.same_as(&before)
}

/// A container in which somebody else's interface has the name.
fn with_taken_name(container: &Container) -> Verdict {
    let name = &container.ifname;
    container.ip_batch(&format!(
        "link add name {name} type veth peer name other\n\
         link set dev {name} mtu 1400 up\n\
         addr add 203.0.113.9/24 dev {name}\n"
    ))?;
    Ok(())
}

fn existing_refused(scene: &Scene<'_>) -> Verdict {
    let container = scene.container()?;
    with_taken_name(&container)?;
    refused(&scene.own_call(&container))
}

fn existing_untouched(scene: &Scene<'_>) -> Verdict {
    let container = scene.container()?;
    with_taken_name(&container)?;
    let before = container.state()?;
    scene.own_call(&container).run()?;
    container.state()?.same_as(&before)
}

fn existing_leaves_nothing(scene: &Scene<'_>) -> Verdict {
    leaves_nothing(scene, |container| {
        with_taken_name(container)?;
        Ok(scene.own_call(container))
    })
}

const NO_PATH: &str = "/run/netns/there-is-none";

fn missing_netns_refused(scene: &Scene<'_>) -> Verdict {
    let container = scene.container()?;
    refused(&scene.own_call(&container).with("CNI_NETNS", NO_PATH))
}

fn missing_netns_leaves_nothing(scene: &Scene<'_>) -> Verdict {
    leaves_nothing(scene, |container| {
        Ok(scene.own_call(container).with("CNI_NETNS", NO_PATH))
    })
}

/// What remains of a name whose mount is gone.
pub(super) fn ordinary_file(scene: &Scene<'_>) -> Verdict<&'static str> {
    let path = "/run/netns/ordinary";
    scene.host.exec(["touch", path])?;
    Ok(path)
}

fn no_netns_refused(scene: &Scene<'_>) -> Verdict {
    let container = scene.container()?;
    let path = ordinary_file(scene)?;
    refused(&scene.own_call(&container).with("CNI_NETNS", path))
}

fn no_netns_leaves_nothing(scene: &Scene<'_>) -> Verdict {
    leaves_nothing(scene, |container| {
        let path = ordinary_file(scene)?;
        Ok(scene.own_call(container).with("CNI_NETNS", path))
    })
}

fn twice_refused(scene: &Scene<'_>) -> Verdict {
    let attached = scene.attached()?;
    refused(&scene.own_call(&attached.container))
}

fn twice_harmless(scene: &Scene<'_>) -> Verdict {
    let attached = scene.attached()?;
    let before = (attached.container.state()?, scene.host.state()?);
    scene.own_call(&attached.container).run()?;
    attached.container.state()?.same_as(&before.0)?;
    scene.host.state()?.same_as(&before.1)
}

fn retry(scene: &Scene<'_>) -> Verdict {
    let container = scene.container()?;
    with_taken_name(&container)?;
    for _ in 0..2 {
        if scene.own_call(&container).run()?.succeeded() {
            return inapplicable("ADD is not refused");
        }
    }
    container.exec(["ip", "link", "delete", "dev", &container.ifname])?;
    scene.own_call(&container).run()?.success()?;
    let link = kernel::link_named(&container, &container.ifname)?;
    require(link.is_some(), || "the interface is not there".to_owned())
}

fn ipam_fails(scene: &Scene<'_>) -> Verdict {
    if !scene.config().contains_key("ipam") {
        return inapplicable("the config has no ipam");
    }
    let no_ipam = |container: &Container| {
        let call = scene.own_call(container);
        call.key("ipam", json!({"type": "there-is-no-such-plugin"}))
    };
    refused(&no_ipam(&scene.container()?))?;
    leaves_nothing(scene, |container| Ok(no_ipam(container)))
}

fn bad_ranges(scene: &Scene<'_>) -> Verdict {
    let mut config = scene.config();
    let Some(ipam) = config
        .get_mut("ipam")
        .filter(|ipam| ipam["type"] == "host-local")
    else {
        return inapplicable("the config does not have ranges of host-local's");
    };
    // Host bits in a subnet.
    ipam["ranges"] = json!([[{"subnet": "10.1.2.3/24"}]]);
    let ipam = ipam.clone();
    let bad = |container: &Container| scene.own_call(container).key("ipam", ipam.clone());
    refused(&bad(&scene.container()?))?;
    leaves_nothing(scene, |container| Ok(bad(container)))
}

fn own_netns_refused(scene: &Scene<'_>) -> Verdict {
    let container = scene.container()?.interface("other0");
    let call = scene.own_call(&container).with("CNI_NETNS", HOST_NETNS);
    let answer = call.run()?;
    answer.refused_with(&[8])?;
    answer.one_document().map(drop)
}

fn own_netns_untouched(scene: &Scene<'_>) -> Verdict {
    let container = scene.container()?.interface("other0");
    // What a working ADD leaves for good, such as a bridge, does not count.
    let before = scene.settled()?;
    let call = scene.own_call(&container).with("CNI_NETNS", HOST_NETNS);
    call.run()?;
    scene.host.state()?.same_as(&before)
}

fn own_netns_override(scene: &Scene<'_>) -> Verdict {
    let container = scene.container()?.interface("other0");
    let call = scene.own_call(&container).with("CNI_NETNS", HOST_NETNS);
    let answer = call.with("CNI_NETNS_OVERRIDE", "1").run()?;
    if answer.succeeded() {
        return Ok(());
    }
    // A gateway that is the container's own address may make it impossible all the same.
    require(answer.refusal()?.code != Some(8), || answer.shown())
}
