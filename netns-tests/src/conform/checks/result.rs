//! The result of an ADD: its shape in each version, and whether it says what the kernel says.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::conform::catalogue::{Check, Verdict, fails, inapplicable, require};
use crate::conform::kernel::{self, Link};
use crate::conform::result;
use crate::conform::scene::{Attached, Scene};
use crate::conform::spec::{SpecVersion, Verb};
use crate::conform::subject::Kind;

const SUCCESS: &str = "spec: ADD success";
const INTERFACE: &[Kind] = &[Kind::Interface];
const IN_CONTAINER: &[Kind] = &[Kind::Interface, Kind::Loopback];

pub(super) const CHECKS: &[Check] = &[
    Check::must(
        "result.version",
        Verb::Add,
        SUCCESS,
        "cniVersion of the result is that of the config",
        version,
    ),
    Check::must(
        "result.shape",
        Verb::Add,
        SUCCESS,
        "the result has the shape that its version prescribes",
        shape,
    ),
    Check::quality(
        "result.no-foreign-keys",
        Verb::Add,
        SUCCESS,
        "the result has no keys of other versions",
        no_foreign_keys,
    ),
    Check::quality(
        "result.canonical",
        Verb::Add,
        "other plugins compare texts",
        "addresses are written in their canonical form",
        canonical,
    ),
    Check::must(
        "result.interface",
        Verb::Add,
        SUCCESS,
        "the result lists CNI_IFNAME, in the sandbox CNI_NETNS",
        interface,
    )
    .only(IN_CONTAINER),
    Check::expected(
        "result.interface-index",
        Verb::Add,
        "containerd, portmap",
        "every address refers to the interface CNI_IFNAME",
        interface_index,
    )
    .only(INTERFACE),
    Check::expected(
        "result.mac",
        Verb::Add,
        SUCCESS,
        "every interface has the MAC address that the kernel says",
        mac,
    )
    .only(INTERFACE),
    Check::expected(
        "result.mtu",
        Verb::Add,
        "spec 1.1.0",
        "an MTU in the result is the one that the kernel says",
        mtu,
    )
    .only(INTERFACE),
    Check::quality(
        "result.mtu-present",
        Verb::Add,
        "spec 1.1.0",
        "the container's interface has an MTU in the result",
        mtu_present,
    )
    .only(INTERFACE),
    Check::expected(
        "result.host-interfaces",
        Verb::Add,
        "spec, bandwidth",
        "the other end of a veth pair is listed, without a sandbox",
        host_interfaces,
    )
    .only(INTERFACE),
    Check::expected(
        "result.interfaces-exist",
        Verb::Add,
        SUCCESS,
        "every interface without a sandbox exists on the host",
        interfaces_exist,
    )
    .only(INTERFACE),
    Check::must(
        "result.addresses",
        Verb::Add,
        SUCCESS,
        "the addresses in the result are those of the interface in the kernel",
        addresses,
    )
    .only(INTERFACE),
    Check::expected(
        "result.routes",
        Verb::Add,
        SUCCESS,
        "the routes in the result are in the container's kernel",
        routes,
    )
    .only(INTERFACE),
    Check::expected(
        "result.dual-stack",
        Verb::Add,
        "Kubernetes",
        "with ranges of both families, both addresses are in the result and in the kernel",
        dual_stack,
    )
    .only(&[Kind::Interface, Kind::Ipam]),
    Check::expected(
        "result.dns",
        Verb::Add,
        "spec: dns",
        "dns of the config is in the result",
        dns,
    )
    .only(INTERFACE),
];

fn version(scene: &Scene<'_>) -> Verdict {
    let attached = scene.attached()?;
    let said = &attached.result["cniVersion"];
    require(said == scene.version.as_str(), || {
        format!("{said} in the result of a config of {}", scene.version)
    })
}

fn shape(scene: &Scene<'_>) -> Verdict {
    let attached = scene.attached()?;
    let problems = result::problems(&attached.result, scene.version, scene.subject.kind);
    require(problems.is_empty(), || {
        format!("{}; in {}", problems.join("; "), attached.result)
    })
}

fn no_foreign_keys(scene: &Scene<'_>) -> Verdict {
    let attached = scene.attached()?;
    let foreign = result::foreign_keys(&attached.result, scene.version, scene.subject.kind);
    require(foreign.is_empty(), || foreign.join(", "))
}

fn canonical(scene: &Scene<'_>) -> Verdict {
    let attached = scene.attached()?;
    let odd: Vec<_> = result::ips(&attached.result)
        .into_iter()
        .filter(|ip| ip.text != format!("{}/{}", ip.address, ip.prefix))
        .map(|ip| ip.text)
        .collect();
    require(odd.is_empty(), || odd.join(", "))
}

/// An attached container in a version whose results list interfaces.
fn with_interfaces(scene: &Scene<'_>) -> Verdict<Attached> {
    if !scene.version.lists_interfaces() {
        return inapplicable("results list interfaces since 0.3.0");
    }
    scene.attached()
}

fn own_entry(attached: &Attached) -> Verdict<(usize, &Value)> {
    let found = result::interfaces(&attached.result)
        .iter()
        .enumerate()
        .find(|(_, entry)| {
            entry["name"] == attached.container.ifname.as_str() && !is_on_host(entry)
        });
    match found {
        Some(found) => Ok(found),
        None => fails(format!(
            "{} is not listed with a sandbox: {}",
            attached.container.ifname, attached.result
        )),
    }
}

fn is_on_host(entry: &Value) -> bool {
    entry["sandbox"].as_str().unwrap_or_default().is_empty()
}

fn interface(scene: &Scene<'_>) -> Verdict {
    let attached = with_interfaces(scene)?;
    let (_, entry) = own_entry(&attached)?;
    let netns = attached.container.netns.display().to_string();
    require(entry["sandbox"] == netns.as_str(), || {
        format!("{entry} names another sandbox than {netns}")
    })
}

fn interface_index(scene: &Scene<'_>) -> Verdict {
    let attached = with_interfaces(scene)?;
    let (own, _) = own_entry(&attached)?;
    let strays: Vec<_> = result::ips(&attached.result)
        .into_iter()
        .filter(|ip| ip.interface != Some(own))
        .map(|ip| format!("{} at index {:?}", ip.text, ip.interface))
        .collect();
    require(strays.is_empty(), || {
        format!(
            "{} is at index {own}, but {}",
            attached.container.ifname,
            strays.join(", ")
        )
    })
}

/// Each interface of the result with the link of the same name where the result says it is, if there is one.
fn with_links(scene: &Scene<'_>, attached: &Attached) -> Verdict<Vec<(Value, Option<Link>)>> {
    let host = kernel::links(&scene.host)?;
    let inside = kernel::links(&attached.container)?;
    let pairs = result::interfaces(&attached.result).iter().map(|entry| {
        let links = if is_on_host(entry) { &host } else { &inside };
        let link = links
            .iter()
            .find(|link| entry["name"] == link.name.as_str());
        (entry.clone(), link.cloned())
    });
    Ok(pairs.collect())
}

fn mac(scene: &Scene<'_>) -> Verdict {
    let attached = with_interfaces(scene)?;
    for (entry, link) in with_links(scene, &attached)? {
        let Some(link) = link else { continue };
        let said = entry["mac"].as_str().unwrap_or_default();
        require(said.eq_ignore_ascii_case(&link.mac), || {
            format!("{entry}, but the kernel says {}", link.mac)
        })?;
    }
    Ok(())
}

fn mtu(scene: &Scene<'_>) -> Verdict {
    let attached = with_interfaces(scene)?;
    let mut seen = false;
    for (entry, link) in with_links(scene, &attached)? {
        let (Some(link), Some(said)) = (link, entry["mtu"].as_u64()) else {
            continue;
        };
        seen = true;
        require(said == link.mtu, || {
            format!("{entry}, but the kernel says {}", link.mtu)
        })?;
    }
    match seen {
        true => Ok(()),
        false => inapplicable("the result has no MTU"),
    }
}

fn mtu_present(scene: &Scene<'_>) -> Verdict {
    if scene.version < SpecVersion::V110 {
        return inapplicable("results have MTUs since 1.1.0");
    }
    let attached = with_interfaces(scene)?;
    let (_, entry) = own_entry(&attached)?;
    require(entry["mtu"].is_u64(), || format!("no mtu: {entry}"))
}

/// The host's end of the container's interface.
pub(super) fn host_end(scene: &Scene<'_>, attached: &Attached) -> Verdict<Link> {
    let ifname = &attached.container.ifname;
    let inside = kernel::link_named(&attached.container, ifname)?;
    let Some(inside) = inside.filter(|link| link.kind == "veth") else {
        return inapplicable("the interface is no end of a veth pair");
    };
    let found = kernel::links(&scene.host)?
        .into_iter()
        .find(|link| link.kind == "veth" && Some(link.index) == inside.lower);
    match found {
        Some(link) => Ok(link),
        None => inapplicable("the other end of the veth pair is not on the host"),
    }
}

fn host_interfaces(scene: &Scene<'_>) -> Verdict {
    let attached = with_interfaces(scene)?;
    let end = host_end(scene, &attached)?;
    let listed = result::interfaces(&attached.result)
        .iter()
        .any(|entry| entry["name"] == end.name.as_str() && is_on_host(entry));
    require(listed, || {
        format!("{} is not listed: {}", end.name, attached.result)
    })
}

fn interfaces_exist(scene: &Scene<'_>) -> Verdict {
    let attached = with_interfaces(scene)?;
    let gone: Vec<_> = with_links(scene, &attached)?
        .into_iter()
        .filter(|(entry, link)| is_on_host(entry) && link.is_none())
        .map(|(entry, _)| entry.to_string())
        .collect();
    require(gone.is_empty(), || {
        format!("not on the host: {}", gone.join(", "))
    })
}

fn addresses(scene: &Scene<'_>) -> Verdict {
    addresses_are_real(&scene.attached()?)
}

fn addresses_are_real(attached: &Attached) -> Verdict {
    let ifname = &attached.container.ifname;
    let link = kernel::link_named(&attached.container, ifname)?;
    let real = link.map(|link| link.addresses).unwrap_or_default();
    let said: BTreeSet<_> = result::ips(&attached.result)
        .into_iter()
        .map(|ip| (ip.address, ip.prefix))
        .collect();
    require(said == real, || {
        format!("the result says {said:?}, the kernel has {real:?} on {ifname}")
    })
}

fn routes(scene: &Scene<'_>) -> Verdict {
    let attached = scene.attached()?;
    let real = kernel::routes(&attached.container)?;
    for (destination, gateway) in result::routes(&attached.result) {
        let found = real.iter().any(|route| {
            route.destination == destination
                && route.device.as_ref() == Some(&attached.container.ifname)
                && (gateway.is_none() || route.gateway == gateway)
        });
        require(found, || {
            format!("no route to {destination} via {gateway:?} among {real:?}")
        })?;
    }
    Ok(())
}

fn dual_stack(scene: &Scene<'_>) -> Verdict {
    let scene = scene.dual_stack()?;
    let attached = scene.attached()?;
    let ips = result::ips(&attached.result);
    let families: BTreeSet<_> = ips.iter().map(|ip| ip.address.is_ipv4()).collect();
    require(families.len() == 2, || {
        format!("not both families: {}", attached.result)
    })?;
    let problems = result::problems(&attached.result, scene.version, scene.subject.kind);
    require(problems.is_empty(), || problems.join("; "))?;
    match scene.subject.kind {
        Kind::Interface => addresses_are_real(&attached),
        Kind::Loopback | Kind::Ipam => Ok(()),
    }
}

fn dns(scene: &Scene<'_>) -> Verdict {
    let container = scene.container()?;
    let wanted = json!({"nameservers": ["192.0.2.53"], "search": ["example.net"]});
    let call = scene.call(Verb::Add, &container).key("dns", wanted.clone());
    let result = crate::conform::call::needed("ADD", call.run()?.document())?;
    let said = &result["dns"];
    let same = ["nameservers", "search"]
        .iter()
        .all(|key| said[key] == wanted[key]);
    require(same, || format!("dns is {said}, not {wanted}"))
}
