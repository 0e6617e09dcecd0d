//! Routes: those of peers, what stands in their way, and those that nobody asks for any more.

use std::collections::BTreeMap;

use hostnet::{Change, LinkIndex, Route, RouteKind};
use ipnetwork::IpNetwork;

use super::{BLACKHOLE_METRIC, IPV6_DEFAULT_METRIC, Object, Planner};
use super::{ROUTE_PROTOCOL, ROUTE_PROTOCOL_BOOT};
use crate::desired::Hop;

impl Planner<'_> {
    pub(super) fn routes(&mut self) {
        let desired = self.desired;
        let mut held: BTreeMap<IpNetwork, Vec<&Route>> = BTreeMap::new();
        for route in &self.observed.routes {
            held.entry(route.destination).or_default().push(route);
        }
        let mut removals = Vec::new();
        for (destination, hop) in &desired.routes {
            let found = held.remove(destination).unwrap_or_default();
            let Some(wanted) = self.route(*destination, hop) else {
                continue;
            };
            let (right, wrong): (Vec<&Route>, Vec<&Route>) =
                found.into_iter().partition(|route| is_same(route, &wanted));
            if right.is_empty() {
                let reason = wrong.first().map_or_else(
                    || "it is missing".to_owned(),
                    |route| format!("it was {route}"),
                );
                self.replace(&wanted, reason);
            }
            for route in wrong {
                // What has the wanted route's metric is replaced by it; another one beside it must go.
                let replaced = right.is_empty() && metric(route) == metric(&wanted);
                if replaced {
                    continue;
                }
                if is_in_the_way(route, &wanted) {
                    removals.push((route, "it is in the way of the route to a peer"));
                } else if self.is_ours(route) {
                    removals.push((route, UNWANTED));
                }
            }
        }
        let unasked = held.into_values().flatten();
        removals.extend(
            unasked
                .filter(|route| self.is_ours(route))
                .map(|route| (route, UNWANTED)),
        );
        if desired.complete {
            for (route, reason) in removals {
                let object = Object::Route(route.destination);
                self.step(object, Change::DeleteRoute(route.clone()), reason);
            }
        }
    }

    /// The kernel refuses an IPv6 gateway that a route it has leads to by another link, `onlink` or not (`ip6_route_check_nh_onlink`,
    /// net/ipv6/route.c), and looks only while the route is added. So the gateway gets a route of its own for that moment.
    fn replace(&mut self, wanted: &Route, reason: String) {
        let object = Object::Route(wanted.destination);
        let aid = self.misled_gateway(wanted).map(|gateway| Route {
            link: wanted.link,
            protocol: ROUTE_PROTOCOL,
            ..Route::new(gateway)
        });
        if let Some(aid) = &aid {
            let because = "another route leads to the gateway by another link";
            self.step(object.clone(), Change::ReplaceRoute(aid.clone()), because);
        }
        self.step(object.clone(), Change::ReplaceRoute(wanted.clone()), reason);
        if let Some(aid) = aid {
            self.step(
                object,
                Change::DeleteRoute(aid),
                "it has served its purpose",
            );
        }
    }

    /// The IPv6 gateway of the route if one of the routes found leads to it by another link. The kernel does not mind a default route.
    fn misled_gateway(&self, wanted: &Route) -> Option<IpNetwork> {
        let gateway = wanted.gateway.filter(|gateway| gateway.is_ipv6())?;
        let misleads = |route: &Route| {
            let destination = route.destination;
            route.link != wanted.link && destination.prefix() > 0 && destination.contains(gateway)
        };
        let misled = wanted.onlink && self.observed.routes.iter().any(misleads);
        misled.then(|| IpNetwork::from(gateway))
    }

    /// The route as the kernel is told it, or `None` while its device is not ready.
    fn route(&self, destination: IpNetwork, hop: &Hop) -> Option<Route> {
        as_route(destination, hop, |device| {
            Some(self.ready.get(device)?.link.index)
        })
    }

    fn is_ours(&self, route: &Route) -> bool {
        let claimed = self.desired.networks.iter().chain(&self.desired.former);
        if !claimed
            .into_iter()
            .any(|network| contains(network, &route.destination))
        {
            return false;
        }
        let devices = &self.observed.devices;
        let on_our_device = route
            .link
            .is_some_and(|link| devices.values().any(|found| found.link.index == link));
        match route.protocol {
            ROUTE_PROTOCOL => true,
            ROUTE_PROTOCOL_BOOT => on_our_device || self.is_flannels_direct(route),
            _ => false,
        }
    }

    /// Whether flannel's host-gw or DirectRouting left it: a plain route to a subnet of a node's size over the uplink.
    fn is_flannels_direct(&self, route: &Route) -> bool {
        let sizes = &self.desired.subnet_sizes;
        route.link.is_some()
            && route.link == self.desired.uplink
            && route.gateway.is_some()
            && route.nexthops <= 1
            && metric(route) == metric(&Route::new(route.destination))
            && sizes.contains(&(route.destination.is_ipv4(), route.destination.prefix()))
    }
}

const UNWANTED: &str = "no lease asks for it";

/// The route as the kernel is told it; `None` if it needs a device of which `index_of` knows no index.
pub fn as_route(
    destination: IpNetwork,
    hop: &Hop,
    index_of: impl Fn(&str) -> Option<LinkIndex>,
) -> Option<Route> {
    let base = Route {
        protocol: ROUTE_PROTOCOL,
        ..Route::new(destination)
    };
    Some(match hop {
        Hop::Tunnel { device, gateway } => Route {
            gateway: Some(*gateway),
            link: Some(index_of(device)?),
            onlink: true,
            ..base
        },
        Hop::Uplink { link, gateway } => Route {
            gateway: Some(*gateway),
            link: Some(*link),
            ..base
        },
        Hop::Blackhole => Route {
            kind: RouteKind::Blackhole,
            priority: Some(BLACKHOLE_METRIC),
            ..base
        },
    })
}

/// Whether the kernel would take a foreign route to the same destination before (or instead of) ours.
fn is_in_the_way(route: &Route, wanted: &Route) -> bool {
    wanted.kind != RouteKind::Blackhole && metric(route) <= metric(wanted)
}

/// Whether the route found is the wanted one. Flannel's mark on it is as good as ours.
pub fn is_same(found: &Route, wanted: &Route) -> bool {
    found.kind == wanted.kind
        && found.gateway == wanted.gateway
        && found.onlink == wanted.onlink
        && found.nexthops <= 1
        && (found.link == wanted.link || wanted.kind == RouteKind::Blackhole)
        && metric(found) == metric(wanted)
        && (found.protocol == ROUTE_PROTOCOL || found.protocol == ROUTE_PROTOCOL_BOOT)
}

pub(super) fn metric(route: &Route) -> u32 {
    let default = if route.destination.is_ipv6() {
        IPV6_DEFAULT_METRIC
    } else {
        0
    };
    route
        .priority
        .filter(|metric| *metric != 0)
        .unwrap_or(default)
}

fn contains(network: &IpNetwork, inner: &IpNetwork) -> bool {
    network.prefix() <= inner.prefix() && network.contains(inner.network())
}
