//! What of the things on a node is to be removed: a pure function.

use std::collections::BTreeSet;

use hostnet::{Change, Route};
use ipnetwork::IpNetwork;

use crate::reconcile::{Action, Leftover, Object, ROUTE_PROTOCOL, ROUTE_PROTOCOL_BOOT, Step};

/// What the subnet file says that this node was; nothing if there is none.
#[derive(Clone, Debug, Default)]
pub(super) struct Former {
    pub(super) networks: Vec<IpNetwork>,
    /// Whether it is IPv4, and the length.
    pub(super) subnet_sizes: BTreeSet<(bool, u8)>,
}

/// What there is.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// Devices that are named like ours.
    pub(super) devices: Vec<Leftover>,
    /// The main table of both families.
    pub(super) routes: Vec<Route>,
}

/// What is to go. Routes over devices that go are not among it.
pub(super) fn removals(former: &Former, found: &Found) -> Vec<Step> {
    let devices: Vec<&Leftover> = found
        .devices
        .iter()
        .filter(|device| former.claims_device(device))
        .collect();
    let by_device = |route: &&Route| {
        devices
            .iter()
            .any(|device| route.link == Some(device.link.index))
    };
    let routes = found
        .routes
        .iter()
        .filter(|route| former.claims_route(route))
        .filter(|route| !by_device(route))
        .map(|route| Step {
            object: Object::Route(route.destination),
            action: Action::Kernel(Change::DeleteRoute(route.clone())),
            reason: "it is ours".to_owned(),
        });
    let removals = devices.iter().map(|device| Step {
        object: Object::Device(device.link.name.clone()),
        action: Action::Kernel(Change::DeleteLink(device.link.index)),
        reason: "it is ours".to_owned(),
    });
    routes.chain(removals).collect()
}

impl Former {
    /// With a subnet file only what belongs to its networks: another daemon may serve another network on this node.
    fn claims_device(&self, device: &Leftover) -> bool {
        let mut addresses = device.addresses.iter();
        self.networks.is_empty() || addresses.any(|address| self.claims(address))
    }

    fn claims_route(&self, route: &Route) -> bool {
        let claimed = self.claims(&route.destination);
        match route.protocol {
            ROUTE_PROTOCOL => self.networks.is_empty() || claimed,
            // flannel's host-gw and DirectRouting.
            ROUTE_PROTOCOL_BOOT => {
                let size = (route.destination.is_ipv4(), route.destination.prefix());
                claimed
                    && route.gateway.is_some()
                    && route.link.is_some()
                    && !has_metric(route)
                    && self.subnet_sizes.contains(&size)
            }
            _ => false,
        }
    }

    fn claims(&self, inner: &IpNetwork) -> bool {
        self.networks
            .iter()
            .any(|network| network.prefix() <= inner.prefix() && network.contains(inner.network()))
    }
}

/// Whether somebody chose a metric for the route; 1024 is the kernel's choice for IPv6.
fn has_metric(route: &Route) -> bool {
    match route.priority {
        None | Some(0) => false,
        Some(1024) => route.destination.is_ipv4(),
        Some(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use hostnet::{Link, LinkIndex, RouteKind, Vxlan};

    use super::*;

    fn network(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    fn device(vni: u32, address: &str) -> Leftover {
        let link = Link {
            kind: Some("vxlan".to_owned()),
            mtu: 1450,
            up: true,
            running: true,
            vxlan: Some(Vxlan::new(vni)),
            ..Link::bare(LinkIndex(vni + 100), format!("flannel.{vni}"))
        };
        Leftover {
            link,
            addresses: vec![network(address)],
        }
    }

    fn route(destination: &str, protocol: u8, link: u32) -> Route {
        Route {
            gateway: Some("192.0.2.2".parse().unwrap()),
            link: Some(LinkIndex(link)),
            protocol,
            ..Route::new(network(destination))
        }
    }

    fn former() -> Former {
        Former {
            networks: vec![network("10.244.0.0/16")],
            subnet_sizes: BTreeSet::from([(true, 24)]),
        }
    }

    fn found() -> Found {
        let blackhole = Route {
            kind: RouteKind::Blackhole,
            link: None,
            gateway: None,
            priority: Some(9999),
            ..route("10.244.1.0/24", ROUTE_PROTOCOL, 0)
        };
        let with_metric = Route {
            priority: Some(5),
            ..route("10.244.6.0/24", ROUTE_PROTOCOL_BOOT, 2)
        };
        Found {
            devices: vec![device(1, "10.244.1.0/32"), device(2, "10.9.1.0/32")],
            routes: vec![
                blackhole,
                route("10.244.2.0/24", ROUTE_PROTOCOL, 101),
                route("10.244.3.0/24", ROUTE_PROTOCOL_BOOT, 2),
                route("10.244.4.0/25", ROUTE_PROTOCOL_BOOT, 2),
                route("10.244.5.0/24", 4, 2),
                with_metric,
                route("10.9.3.0/24", ROUTE_PROTOCOL, 2),
                route("0.0.0.0/0", ROUTE_PROTOCOL_BOOT, 2),
            ],
        }
    }

    fn names(steps: &[Step]) -> Vec<String> {
        steps.iter().map(|step| step.object.to_string()).collect()
    }

    #[test]
    fn what_is_of_this_pod_network_goes_and_nothing_else() {
        let expected = [
            "route 10.244.1.0/24",
            "route 10.244.3.0/24",
            "device flannel.1",
        ];
        assert_eq!(names(&removals(&former(), &found())), expected);
    }

    #[test]
    fn without_a_subnet_file_what_bears_our_marks_goes() {
        let expected = [
            "route 10.244.1.0/24",
            "route 10.9.3.0/24",
            "device flannel.1",
            "device flannel.2",
        ];
        assert_eq!(names(&removals(&Former::default(), &found())), expected);
    }

    #[test]
    fn on_a_clean_node_nothing_is_found() {
        let mut clean = found();
        clean.devices.clear();
        clean
            .routes
            .retain(|route| route.protocol != ROUTE_PROTOCOL);
        assert!(removals(&Former::default(), &clean).is_empty());
    }
}
