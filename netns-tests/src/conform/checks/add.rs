//! ADD: what it makes in the container, and attachments beside each other.

use crate::conform::call::needed;
use crate::conform::catalogue::{Check, Verdict, inapplicable, require};
use crate::conform::kernel;
use crate::conform::place::HOST_ADDRESS;
use crate::conform::result;
use crate::conform::scene::{Attached, Scene};
use crate::conform::spec::Verb;
use crate::conform::subject::Kind;
use crate::endpoint::Endpoint;
use crate::traffic::Traffic;

const ADD: &str = "spec: ADD";
const INTERFACE: &[Kind] = &[Kind::Interface];
const IN_CONTAINER: &[Kind] = &[Kind::Interface, Kind::Loopback];

pub(super) const CHECKS: &[Check] = &[
    Check::must(
        "add.succeeds",
        Verb::Add,
        ADD,
        "ADD ends with status 0",
        succeeds,
    ),
    Check::must(
        "add.interface",
        Verb::Add,
        ADD,
        "the interface CNI_IFNAME is in the container and up",
        interface,
    )
    .only(IN_CONTAINER),
    Check::expected(
        "add.longest-ifname",
        Verb::Add,
        "spec: parameters",
        "an interface name may have 15 bytes",
        longest_ifname,
    )
    .only(INTERFACE),
    Check::must(
        "add.two-interfaces",
        Verb::Add,
        "spec: ADD, Multus",
        "one container can have two interfaces, with different addresses",
        two_interfaces,
    )
    .only(INTERFACE),
    Check::expected(
        "add.two-containers",
        Verb::Add,
        ADD,
        "two containers have different addresses",
        two_containers,
    )
    .only(&[Kind::Interface, Kind::Ipam]),
    Check::expected(
        "add.gateway-answers",
        Verb::Add,
        "connectivity",
        "a gateway on the host answers the container",
        gateway_answers,
    )
    .only(INTERFACE),
    Check::quality(
        "add.containers-talk",
        Verb::Add,
        "connectivity",
        "two containers of the host reach each other",
        containers_talk,
    )
    .only(INTERFACE),
    Check::quality(
        "add.host-reaches",
        Verb::Add,
        "kubelet's probes",
        "the host reaches the container",
        host_reaches,
    )
    .only(INTERFACE),
    Check::must(
        "add.no-interface-by-ipam",
        Verb::Add,
        "spec: IPAM",
        "an IPAM plugin changes nothing in host and container",
        kernel_untouched,
    )
    .only(&[Kind::Ipam]),
    Check::quality(
        "add.bridge-mac-stays",
        Verb::Add,
        "plugins#620, cni#285",
        "a bridge keeps its MAC address when another container comes",
        bridge_mac_stays,
    )
    .only(INTERFACE),
];

fn succeeds(scene: &Scene<'_>) -> Verdict {
    let container = scene.container()?;
    scene.own_call(&container).run()?.success()
}

fn interface(scene: &Scene<'_>) -> Verdict {
    let attached = scene.attached()?;
    let ifname = &attached.container.ifname;
    let link = kernel::link_named(&attached.container, ifname)?;
    let up = link.as_ref().is_some_and(|link| link.up);
    require(up, || match &link {
        Some(_) => format!("{ifname} is down"),
        None => format!("there is no {ifname}"),
    })
}

fn longest_ifname(scene: &Scene<'_>) -> Verdict {
    let container = scene.container()?.interface("fifteen-bytes-x");
    scene.own_call(&container).run()?.success()?;
    let link = kernel::link_named(&container, "fifteen-bytes-x")?;
    require(link.is_some(), || "the interface is not there".to_owned())
}

/// No address is in two results.
pub(super) fn unique<'r>(results: impl IntoIterator<Item = &'r serde_json::Value>) -> Verdict {
    let mut addresses: Vec<_> = results
        .into_iter()
        .flat_map(result::ips)
        .map(|ip| ip.address)
        .collect();
    addresses.sort_unstable();
    let twice = addresses.windows(2).find(|pair| pair[0] == pair[1]);
    require(twice.is_none(), || {
        format!("{} was given twice", addresses_text(twice))
    })
}

fn addresses_text(pair: Option<&[std::net::IpAddr]>) -> String {
    pair.map(|pair| pair[0].to_string()).unwrap_or_default()
}

fn two_interfaces(scene: &Scene<'_>) -> Verdict {
    let first = scene.attached()?;
    let second = first.container.interface("net1");
    let answer = scene.own_call(&second).run()?;
    let result = answer.document()?;
    unique([&first.result, &result])?;
    for name in [&first.container.ifname, &second.ifname] {
        let link = kernel::link_named(&second, name)?;
        require(link.is_some(), || format!("{name} is not there"))?;
    }
    // One goes, the other stays.
    let second = Attached {
        container: second,
        result,
    };
    scene.detach(&second)?.success()?;
    let left = kernel::link_named(&first.container, &first.container.ifname)?;
    require(left.is_some(), || {
        format!("DEL of net1 removed {}", first.container.ifname)
    })?;
    let link = kernel::link_named(&first.container, "net1")?;
    require(link.is_none(), || "DEL of net1 left it".to_owned())
}

fn two_containers(scene: &Scene<'_>) -> Verdict {
    let (first, second) = (scene.attached()?, scene.attached()?);
    unique([&first.result, &second.result])
}

fn gateway_answers(scene: &Scene<'_>) -> Verdict {
    let attached = scene.attached()?;
    let host: Vec<_> = kernel::links(&scene.host)?
        .into_iter()
        .flat_map(|link| link.addresses)
        .map(|(address, _)| address)
        .collect();
    let gateways = result::ips(&attached.result)
        .into_iter()
        .filter_map(|ip| ip.gateway);
    let local: Vec<_> = gateways.filter(|gateway| host.contains(gateway)).collect();
    if local.is_empty() {
        return inapplicable("no gateway of the result is an address of the host");
    }
    for gateway in local {
        let answer = attached.container.ping(&gateway);
        require(answer.is_ok(), || {
            no_answer(&attached, &gateway.to_string())
        })?;
    }
    Ok(())
}

fn no_answer(attached: &Attached, what: &str) -> String {
    let routes = attached.container.exec(["ip", "route"]).unwrap_or_default();
    format!("{what} does not answer; routes in the container: {routes}")
}

fn first_address(attached: &Attached) -> Verdict<std::net::IpAddr> {
    let ips = result::ips(&attached.result);
    match ips.first() {
        Some(ip) => Ok(ip.address),
        None => inapplicable("the container has no address"),
    }
}

fn containers_talk(scene: &Scene<'_>) -> Verdict {
    let (first, second) = (scene.attached()?, scene.attached()?);
    let to = first_address(&second)?;
    let answer = first.container.ping(&to);
    require(answer.is_ok(), || {
        no_answer(&first, &format!("the other container, {to},"))
    })
}

fn host_reaches(scene: &Scene<'_>) -> Verdict {
    let attached = scene.attached()?;
    let link = kernel::link_named(&attached.container, &attached.container.ifname)?;
    if link.is_some_and(|link| ["macvlan", "ipvlan"].contains(&link.kind.as_str())) {
        return inapplicable(
            "the kernel keeps macvlan and ipvlan apart from the host of their parent",
        );
    }
    let to = first_address(&attached)?;
    let answer = scene.host.ping(&to);
    require(answer.is_ok(), || {
        format!("{to} does not answer the host {HOST_ADDRESS}")
    })
}

fn kernel_untouched(scene: &Scene<'_>) -> Verdict {
    let container = scene.container()?;
    let before = (scene.settled()?, container.state()?);
    let answer = scene.own_call(&container).run()?;
    let result = needed("ADD", answer.document())?;
    let attached = Attached { container, result };
    attached.container.state()?.same_as(&before.1)?;
    scene.detach(&attached)?.success()?;
    scene.host.state()?.same_as(&before.0)
}

fn bridge_mac_stays(scene: &Scene<'_>) -> Verdict {
    let bridge = || -> anyhow::Result<_> {
        let links = kernel::links(&scene.host)?;
        Ok(links.into_iter().find(|link| link.kind == "bridge"))
    };
    // Port addresses are random: the bridge would follow the lowest, so several have to come.
    scene.attached()?;
    let Some(first) = bridge()? else {
        return inapplicable("there is no bridge on the host");
    };
    for _ in 0..8 {
        scene.attached()?;
        let now = bridge()?.map(|link| link.mac).unwrap_or_default();
        require(now == first.mac, || {
            format!("{} changed from {} to {now}", first.name, first.mac)
        })?;
    }
    Ok(())
}
