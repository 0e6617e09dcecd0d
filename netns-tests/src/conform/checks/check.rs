//! CHECK: it finds what is broken, and lets pass what others may change.

use serde_json::{Value, json};

use crate::conform::call::needed;
use crate::conform::catalogue::{Check, Verdict, inapplicable, require};
use crate::conform::checks::result::host_end;
use crate::conform::kernel;
use crate::conform::result;
use crate::conform::scene::{Attached, Scene};
use crate::conform::spec::Verb;
use crate::conform::subject::Kind;
use crate::endpoint::Endpoint;

const CHECK: &str = "spec: CHECK";
const INTERFACE: &[Kind] = &[Kind::Interface];

pub(super) const CHECKS: &[Check] = &[
    Check::must(
        "check.after-add",
        Verb::Check,
        CHECK,
        "CHECK right after ADD succeeds",
        after_add,
    ),
    Check::expected(
        "check.silent",
        Verb::Check,
        "libcni",
        "CHECK prints nothing to standard output",
        silent,
    ),
    Check::expected(
        "check.changes-nothing",
        Verb::Check,
        CHECK,
        "CHECK changes nothing",
        changes_nothing,
    ),
    Check::expected(
        "check.interface-gone",
        Verb::Check,
        CHECK,
        "CHECK fails when the interface is gone",
        interface_gone,
    )
    .only(INTERFACE),
    Check::expected(
        "check.address-gone",
        Verb::Check,
        CHECK,
        "CHECK fails when an address of the result is gone",
        address_gone,
    )
    .only(INTERFACE),
    Check::expected(
        "check.route-gone",
        Verb::Check,
        CHECK,
        "CHECK fails when a route of the result is gone",
        route_gone,
    )
    .only(INTERFACE),
    Check::expected(
        "check.netns-gone",
        Verb::Check,
        CHECK,
        "CHECK fails when CNI_NETNS is gone",
        netns_gone,
    )
    .only(&[Kind::Interface, Kind::Loopback]),
    Check::expected(
        "check.reservation-gone",
        Verb::Check,
        CHECK,
        "CHECK fails when the address is no longer reserved",
        reservation_gone,
    )
    .only(&[Kind::Ipam]),
    Check::expected(
        "check.loopback-down",
        Verb::Check,
        CHECK,
        "CHECK fails when the loopback is down",
        loopback_down,
    )
    .only(&[Kind::Loopback]),
    Check::quality(
        "check.host-end-down",
        Verb::Check,
        "spec: CHECK",
        "CHECK fails when the host's end of the veth pair is down",
        host_end_down,
    )
    .only(INTERFACE),
    Check::must(
        "check.mac-changed",
        Verb::Check,
        "spec: CHECK; tuning",
        "CHECK succeeds when a later plugin changed the MAC address and said so in the result",
        mac_changed,
    )
    .only(INTERFACE),
    Check::must(
        "check.mtu-changed",
        Verb::Check,
        "spec: CHECK; tuning",
        "CHECK succeeds when a later plugin changed the MTU",
        mtu_changed,
    )
    .only(INTERFACE),
    Check::expected(
        "check.host-mac-changed",
        Verb::Check,
        "cri-o#3437, systemd#3374",
        "CHECK succeeds when udev gave the host's end another MAC address",
        host_mac_changed,
    )
    .only(INTERFACE),
    Check::expected(
        "check.routes-moved",
        Verb::Check,
        "spec: CHECK; sbr",
        "CHECK succeeds when a later plugin moved the routes to another table",
        routes_moved,
    )
    .only(INTERFACE),
    Check::must(
        "check.route-added",
        Verb::Check,
        CHECK,
        "CHECK succeeds when a later plugin added a route and an address",
        route_added,
    )
    .only(INTERFACE),
];

fn run(scene: &Scene<'_>, attached: &Attached, previous: &Value) -> Verdict {
    let call = scene.call(Verb::Check, &attached.container);
    call.previous(previous).run()?.success()
}

/// An attached container for which CHECK succeeds, so that its failure means something.
fn checked(scene: &Scene<'_>) -> Verdict<Attached> {
    let attached = scene.attached()?;
    needed("CHECK", run(scene, &attached, &attached.result))?;
    Ok(attached)
}

/// CHECK fails now.
fn finds(scene: &Scene<'_>, attached: &Attached) -> Verdict {
    let call = scene.call(Verb::Check, &attached.container);
    let answer = call.previous(&attached.result).run()?;
    answer.refusal().map(drop)
}

fn after_add(scene: &Scene<'_>) -> Verdict {
    let attached = scene.attached()?;
    run(scene, &attached, &attached.result)
}

fn silent(scene: &Scene<'_>) -> Verdict {
    let attached = checked(scene)?;
    let call = scene.own_call(&attached.container);
    call.previous(&attached.result).run()?.silent()
}

fn changes_nothing(scene: &Scene<'_>) -> Verdict {
    let attached = scene.attached()?;
    let before = (scene.host.state()?, attached.container.state()?);
    needed("CHECK", run(scene, &attached, &attached.result))?;
    scene.host.state()?.same_as(&before.0)?;
    attached.container.state()?.same_as(&before.1)
}

fn interface_gone(scene: &Scene<'_>) -> Verdict {
    let attached = checked(scene)?;
    let name = &attached.container.ifname;
    attached
        .container
        .exec(["ip", "link", "delete", "dev", name])?;
    finds(scene, &attached)
}

fn address_gone(scene: &Scene<'_>) -> Verdict {
    let attached = checked(scene)?;
    let ips = result::ips(&attached.result);
    let Some(ip) = ips.first() else {
        return inapplicable("the container has no address");
    };
    let name = &attached.container.ifname;
    attached
        .container
        .exec(["ip", "address", "delete", &ip.text, "dev", name])?;
    finds(scene, &attached)
}

fn route_gone(scene: &Scene<'_>) -> Verdict {
    let attached = checked(scene)?;
    let routes = result::routes(&attached.result);
    let Some((destination, _)) = routes.first() else {
        return inapplicable("the result has no route");
    };
    attached
        .container
        .exec(["ip", "route", "delete", destination])?;
    finds(scene, &attached)
}

fn netns_gone(scene: &Scene<'_>) -> Verdict {
    let attached = checked(scene)?;
    attached.container.clone().die(&scene.host)?;
    finds(scene, &attached)
}

fn reservation_gone(scene: &Scene<'_>) -> Verdict {
    let attached = checked(scene)?;
    needed("DEL", scene.detach(&attached)?.success())?;
    finds(scene, &attached)
}

fn loopback_down(scene: &Scene<'_>) -> Verdict {
    let attached = checked(scene)?;
    let container = &attached.container;
    container.exec(["ip", "link", "set", "dev", "lo", "down"])?;
    finds(scene, &attached)
}

fn host_end_down(scene: &Scene<'_>) -> Verdict {
    let attached = checked(scene)?;
    let end = host_end(scene, &attached)?;
    let command = ["ip", "link", "set", "dev", end.name.as_str(), "down"];
    scene.host.exec(command)?;
    finds(scene, &attached)
}

const OTHER_MAC: &str = "02:aa:bb:cc:dd:ee";

fn mac_changed(scene: &Scene<'_>) -> Verdict {
    let attached = checked(scene)?;
    let name = &attached.container.ifname;
    let command = ["ip", "link", "set", "dev", name, "address", OTHER_MAC];
    if attached.container.attempt(command)?.status.success() {
        // tuning tells the new address in the result that every plugin gets on CHECK.
        let mut previous = attached.result.clone();
        let entries = previous["interfaces"].as_array_mut();
        for entry in entries.into_iter().flatten() {
            if entry["name"] == name.as_str() {
                entry["mac"] = json!(OTHER_MAC);
            }
        }
        return run(scene, &attached, &previous);
    }
    inapplicable("the kernel does not let the MAC address change")
}

fn mtu_changed(scene: &Scene<'_>) -> Verdict {
    let attached = checked(scene)?;
    let name = &attached.container.ifname;
    attached
        .container
        .exec(["ip", "link", "set", "dev", name, "mtu", "1300"])?;
    run(scene, &attached, &attached.result)
}

fn host_mac_changed(scene: &Scene<'_>) -> Verdict {
    let attached = checked(scene)?;
    let end = host_end(scene, &attached)?;
    let name = end.name.as_str();
    scene
        .host
        .exec(["ip", "link", "set", "dev", name, "address", OTHER_MAC])?;
    run(scene, &attached, &attached.result)
}

fn routes_moved(scene: &Scene<'_>) -> Verdict {
    let attached = checked(scene)?;
    let container = &attached.container;
    let routes = kernel::routes(container)?;
    let Some(route) = routes
        .iter()
        .find(|route| route.destination == "0.0.0.0/0" && route.gateway.is_some())
    else {
        return inapplicable("the container has no default route with a gateway");
    };
    let gateway = route.gateway.map(|ip| ip.to_string()).unwrap_or_default();
    let (name, ips) = (&container.ifname, result::ips(&attached.result));
    let source = ips.first().map(|ip| ip.address.to_string());
    container.ip_batch(&format!(
        "rule add from {} table 100\n\
         route add default via {gateway} dev {name} table 100 onlink\n\
         route delete default\n",
        source.unwrap_or_default()
    ))?;
    run(scene, &attached, &attached.result)
}

fn route_added(scene: &Scene<'_>) -> Verdict {
    let attached = checked(scene)?;
    let name = &attached.container.ifname;
    attached.container.ip_batch(&format!(
        "addr add 203.0.113.77/24 dev {name}\n\
         route add 198.51.100.0/24 dev {name}\n"
    ))?;
    let end = kernel::link_named(&attached.container, name)?;
    require(end.is_some(), || "the interface is gone".to_owned())?;
    run(scene, &attached, &attached.result)
}
