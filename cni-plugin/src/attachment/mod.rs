//! Attachments as plans: pure functions from what is wanted to the changes that [`hostnet`] makes.
//!
//! [`routed`] and [`bridge`] differ in what the host does; the veth pair and most of the pod's side are here. Nothing here
//! touches the kernel; the order in which the pieces are applied, and undone, is the business of [`crate::verbs`].

pub mod bridge;
pub mod conf;
pub mod routed;

pub use hostnet::pod_link as name;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::RawFd;

use hostnet::{
    Address, Change, LinkChange, LinkIndex, Mac, NewLink, NewLinkKind, Route, Scope, VethPeer,
};
use ipnetwork::IpNetwork;

use crate::attachment::name::Identity;
use crate::protocol::result::{self, Interface};

/// Transmit and receive queues of each end. The kernel's default is one per possible CPU, which costs 0.8 MB per pod
/// on large hosts; veth transmits without a lock, so that one is enough.
const QUEUES: u32 = 1;

/// Everything about one attachment that is known before the kernel is touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whose it is.
    pub identity: Identity,
    /// The pod as `namespace/name`, for the reader of `ip link`.
    pub pod: Option<String>,
    /// The host end's name.
    pub host_name: String,
    /// The pod end's MAC.
    pub pod_mac: Mac,
    /// MTU of both ends in bytes.
    pub mtu: Option<u32>,
    /// The pod's addresses.
    pub addresses: Vec<PodAddress>,
    /// The pod's routes; one without gateway goes through the gateway of its family.
    pub routes: Vec<result::Route>,
}

/// An address of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodAddress {
    /// The address.
    pub address: IpAddr,
    /// The prefix it has on the pod's interface.
    pub prefix: u8,
    /// The pod's way out.
    pub gateway: Option<IpAddr>,
}

impl PodAddress {
    /// The address as a network of its own.
    pub fn host_network(&self) -> IpNetwork {
        self.address.into()
    }

    fn network(&self) -> IpNetwork {
        network(self.address, self.prefix)
    }

    /// Whether the prefix says more than the address alone.
    fn has_subnet(&self) -> bool {
        self.prefix < self.host_network().prefix()
    }
}

impl Plan {
    /// The veth pair: the host end up, the pod end born in its namespace with its final name.
    ///
    /// `IFF_UP` for the peer would be refused here (it has no carrier yet).
    pub fn veth(&self, netns: RawFd, master: Option<LinkIndex>) -> NewLink {
        let peer = VethPeer {
            name: self.identity.ifname.clone(),
            index: None,
            mac: Some(self.pod_mac),
            mtu: self.mtu,
            netns: Some(netns),
            queues: Some(QUEUES),
        };
        NewLink {
            mac: Some(self.identity.host_mac()),
            mtu: self.mtu,
            master,
            up: true,
            queues: Some(QUEUES),
            ..NewLink::new(&self.host_name, NewLinkKind::Veth { peer })
        }
    }

    /// Marks the host end as ours, for whoever looks at links. Its MAC does so from the beginning; the kernel takes no alias
    /// from the message that makes a link.
    pub fn mark(&self, link: LinkIndex) -> LinkChange {
        LinkChange {
            alias: Some(self.identity.alias(self.pod.as_deref())),
            ..LinkChange::new(link)
        }
    }

    /// The beginning of the pod's side: addresses while the link is down, so that going up announces them.
    fn pod_links(&self, link: LinkIndex, alone_on_link: bool) -> Vec<Change> {
        let mut changes = vec![Change::SetLink(LinkChange::up("lo"))];
        changes.extend(self.addresses.iter().map(|pod| {
            Change::AddAddress(Address {
                noprefixroute: alone_on_link && pod.has_subnet(),
                ..without_detection(Address::new(link, pod.address, pod.prefix))
            })
        }));
        changes.push(Change::SetLink(LinkChange {
            // Whoever knew the address from an earlier pod learns at once.
            arp_notify: self.addresses.iter().any(|pod| pod.address.is_ipv4()),
            ..LinkChange::up(link)
        }));
        changes
    }

    /// The pod's routes in their order, each destination once.
    fn pod_routes(&self, link: LinkIndex) -> Vec<Change> {
        let mut routes: Vec<Route> = Vec::with_capacity(self.routes.len());
        for route in &self.routes {
            let route = self.pod_route(route, link);
            let taken = routes.iter().any(|earlier| {
                earlier.destination == route.destination
                    && earlier.table == route.table
                    && earlier.priority == route.priority
            });
            if !taken {
                routes.push(route);
            }
        }
        routes.into_iter().map(Change::AddRoute).collect()
    }

    fn pod_route(&self, route: &result::Route, link: LinkIndex) -> Route {
        let gateway = route.gw.or_else(|| self.gateway(route.dst.is_ipv4()));
        let way = match gateway {
            Some(gateway) => Route {
                onlink: true,
                ..Route::via(masked(route.dst), gateway, link)
            },
            None => Route::direct(masked(route.dst), link),
        };
        Route {
            table: route.table.filter(|table| *table != 0).unwrap_or(way.table),
            scope: route.scope.and_then(scope).unwrap_or(way.scope),
            priority: route.priority.filter(|priority| *priority != 0),
            mtu: route.mtu.filter(|mtu| *mtu != 0),
            advmss: route.advmss.filter(|advmss| *advmss != 0),
            ..way
        }
    }

    /// The gateways of all addresses.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().filter_map(|pod| pod.gateway)
    }

    /// The gateway of a family: that of its first address.
    fn gateway(&self, v4: bool) -> Option<IpAddr> {
        let mut family = self
            .addresses
            .iter()
            .filter(|pod| pod.address.is_ipv4() == v4);
        family.find_map(|pod| pod.gateway)
    }

    /// The pod's end in the result.
    pub fn pod_interface(&self, netns: &str, mtu: u32) -> Interface {
        Interface {
            name: self.identity.ifname.clone(),
            mac: Some(self.pod_mac.to_string()),
            mtu: Some(mtu),
            sandbox: Some(netns.to_owned()),
            ..Interface::default()
        }
    }

    /// The host's end in the result.
    pub fn host_interface(&self, mtu: u32) -> Interface {
        Interface {
            name: self.host_name.clone(),
            mac: Some(self.identity.host_mac().to_string()),
            mtu: Some(mtu),
            ..Interface::default()
        }
    }

    /// The addresses in the result, belonging to the interface with this index there.
    pub fn ips(&self, interface: usize) -> Vec<result::Ip> {
        let ip = |pod: &PodAddress| result::Ip {
            interface: Some(interface),
            address: pod.network(),
            gateway: pod.gateway,
        };
        self.addresses.iter().map(ip).collect()
    }
}

/// The pool gives every address once; asking the neighbours first would cost the pod a second (IPv6 only).
fn without_detection(address: Address) -> Address {
    Address {
        nodad: address.address.is_ipv6(),
        ..address
    }
}

/// The default route of each family that has a gateway, for families that `routes` does not give one.
pub fn default_routes(addresses: &[PodAddress], routes: &[result::Route]) -> Vec<result::Route> {
    let mut defaults: Vec<result::Route> = Vec::new();
    for pod in addresses {
        let everything = everything(pod.address.is_ipv4());
        let given = |list: &[result::Route]| {
            list.iter().any(|route| {
                masked(route.dst) == everything && route.table.is_none_or(|table| table == 0)
            })
        };
        if pod.gateway.is_some() && !given(routes) && !given(&defaults) {
            defaults.push(result::Route {
                gw: pod.gateway,
                ..result::Route::to(everything)
            });
        }
    }
    defaults
}

fn everything(v4: bool) -> IpNetwork {
    let unspecified: IpAddr = if v4 {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    network(unspecified, 0)
}

/// `address/prefix`; of full length where the prefix does not fit, which none of ours does.
fn network(address: IpAddr, prefix: u8) -> IpNetwork {
    IpNetwork::new(address, prefix).unwrap_or(address.into())
}

/// The same without host bits.
fn masked(given: IpNetwork) -> IpNetwork {
    network(given.network(), given.prefix())
}

/// The subnet that an address of a pod is of.
pub(crate) fn subnet_of(pod: &PodAddress) -> IpNetwork {
    masked(pod.network())
}

/// The scope with this number in rtnetlink (linux/rtnetlink.h, `enum rt_scope_t`).
fn scope(number: u32) -> Option<Scope> {
    match u8::try_from(number).ok()? {
        0 => Some(Scope::Universe),
        253 => Some(Scope::Link),
        254 => Some(Scope::Host),
        other => Some(Scope::Other(other)),
    }
}

#[cfg(test)]
mod tests;
