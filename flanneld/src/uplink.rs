//! The uplink: the interface that carries the traffic between hosts, and the address on it that the others send to.
//!
//! Choosing is a pure function of what the host has and what the flags ask for; [`HostView::observe`] is the only I/O.

mod follow;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hostnet::{Address, AddressFamily, Link, LinkIndex, Netlink, Route, RouteFilter, Scope};
use ipam::PerFamily;
use ipnetwork::IpNetwork;
use regex_lite::Regex;
use thiserror::Error;

/// So many interfaces are named to whoever asked for one that is not there.
const SHOWN: usize = 8;

pub use self::follow::follow;

/// The uplink as chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// The interface's index in this namespace.
    pub link: LinkIndex,
    /// The interface's name, for people.
    pub name: String,
    /// The interface's MTU in bytes.
    pub mtu: u32,
    /// This host's own address on it in each family that the network uses.
    pub local: PerFamily<Ipv4Addr, Ipv6Addr>,
    /// The networks that it is directly connected to.
    pub networks: Vec<IpNetwork>,
    /// What is published to the others: the local address unless a flag names another.
    pub public: PerFamily<Ipv4Addr, Ipv6Addr>,
}

impl Uplink {
    /// Whether the host with this address is reached over the uplink without a router between.
    pub fn is_neighbour(&self, host: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(host))
    }
}

/// What the flags and the network configuration ask of the uplink.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Names or addresses (`--iface`), the first that fits is taken.
    pub ifaces: Vec<String>,
    /// Patterns for addresses or names (`--iface-regex`), taken when no `ifaces` fits.
    pub patterns: Vec<Regex>,
    /// An address that is reached over the uplink (`--iface-can-reach`), taken last.
    pub reach: Option<IpAddr>,
    /// Addresses to publish (`--public-ip`, `--public-ipv6`).
    pub public: PerFamily<Ipv4Addr, Ipv6Addr>,
    /// Whether the network carries IPv4 and so needs an IPv4 address here.
    pub ipv4: bool,
    /// The same for IPv6.
    pub ipv6: bool,
}

impl Wanted {
    /// Whether a flag says which interface it should be.
    fn names_one(&self) -> bool {
        !self.ifaces.is_empty() || !self.patterns.is_empty() || self.reach.is_some()
    }

    fn flags(&self) -> String {
        let ifaces = self.ifaces.iter().map(|name| format!("--iface={name}"));
        let patterns = self.patterns.iter().map(|p| format!("--iface-regex={p}"));
        let reach = self
            .reach
            .iter()
            .map(|to| format!("--iface-can-reach={to}"));
        ifaces
            .chain(patterns)
            .chain(reach)
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// What this host has to choose from.
#[derive(Clone, Debug, Default)]
pub struct HostView {
    /// Every interface.
    pub links: Vec<Link>,
    /// Every address.
    pub addresses: Vec<Address>,
    /// The main table's default routes of both families.
    pub default_routes: Vec<Route>,
    /// The way to [`Wanted::reach`], if that was asked for and there is one.
    pub way: Option<Route>,
}

/// Why there is no uplink.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum UplinkError {
    /// The kernel was not to be asked.
    #[error("cannot look at this host's interfaces: {0}")]
    Observe(String),
    /// No `--iface`, `--iface-regex` or `--iface-can-reach` fits.
    #[error("no interface here fits {wanted}; name one that is here: {present}")]
    NoSuchIface {
        /// What was asked for, as flags.
        wanted: String,
        /// What there is.
        present: String,
    },
    /// No route to the world and nothing named.
    #[error(
        "there is no {family} default route in the main table to tell the uplink by; name the interface with --iface"
    )]
    NoDefaultRoute {
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// A default route over several next hops names no single interface.
    #[error(
        "the {family} default route has several next hops, so it does not tell the uplink; name the interface with --iface"
    )]
    MultipathDefaultRoute {
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// The chosen interface has no usable address of a family that the network carries.
    #[error(
        "the uplink {name} has no usable {family} address, but the network configuration turns {family} on; give it one or name another interface with --iface"
    )]
    NoAddress {
        /// The interface.
        name: String,
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// The kernel named an interface that is not in its list (it just went away).
    #[error("interface number {0} went away while it was looked at; trying again may help")]
    Gone(u32),
}

impl HostView {
    /// Asks the kernel.
    ///
    /// # Errors
    /// [`UplinkError::Observe`] with the kernel's reason.
    pub fn observe(netlink: &mut Netlink, wanted: &Wanted) -> Result<Self, UplinkError> {
        let links = netlink.links().map_err(observe_error)?;
        let addresses = netlink.addresses(None).map_err(observe_error)?;
        let mut default_routes = Vec::new();
        for family in [AddressFamily::Ipv4, AddressFamily::Ipv6] {
            let filter = RouteFilter {
                family: Some(family),
                table: Some(Route::MAIN_TABLE),
                ..RouteFilter::default()
            };
            let routes = netlink.routes(&filter).map_err(observe_error)?;
            default_routes.extend(
                routes
                    .into_iter()
                    .filter(|route| route.destination.prefix() == 0),
            );
        }
        let way = match wanted.reach {
            Some(address) => netlink.route_to(address).map_err(observe_error)?,
            None => None,
        };
        Ok(Self {
            links,
            addresses,
            default_routes,
            way,
        })
    }

    /// Chooses the uplink in flannel's order: each `--iface`, each `--iface-regex`, `--iface-can-reach`; without any of them the
    /// interface that holds the public address, else the one that the default route leaves by.
    ///
    /// # Errors
    /// A sentence that says what is missing and which flag helps.
    pub fn choose(&self, wanted: &Wanted) -> Result<Uplink, UplinkError> {
        let (link, named) = if wanted.names_one() {
            self.by_flag(wanted)?
        } else {
            (self.by_public_or_default_route(wanted)?, None)
        };
        let local = self.local_addresses(link, wanted, named)?;
        let public = PerFamily {
            v4: wanted.public.v4.or(local.v4),
            v6: wanted.public.v6.or(local.v6),
        };
        Ok(Uplink {
            link: link.index,
            name: link.name.clone(),
            mtu: link.mtu,
            networks: self.networks(link.index),
            local,
            public,
        })
    }

    /// The interface, and the address if it was chosen by one.
    fn by_flag(&self, wanted: &Wanted) -> Result<(&Link, Option<IpAddr>), UplinkError> {
        let by_name = wanted.ifaces.iter().find_map(|iface| self.by_name(iface));
        by_name
            .or_else(|| {
                wanted
                    .patterns
                    .iter()
                    .find_map(|p| self.by_pattern(p, wanted))
            })
            .or_else(|| self.by_way())
            .ok_or_else(|| UplinkError::NoSuchIface {
                wanted: wanted.flags(),
                present: self.present(),
            })
    }

    fn by_name(&self, iface: &str) -> Option<(&Link, Option<IpAddr>)> {
        if let Ok(address) = iface.parse::<IpAddr>() {
            return Some((self.holder_of(address)?, Some(address)));
        }
        let link = self.links.iter().find(|link| link.name == iface)?;
        Some((link, None))
    }

    /// The first interface with a fitting address, in both families if both are wanted; else the first with a fitting name.
    fn by_pattern(&self, pattern: &Regex, wanted: &Wanted) -> Option<(&Link, Option<IpAddr>)> {
        let fits = |link: &&Link, v4: bool| {
            self.addresses.iter().any(|held| {
                held.link == link.index
                    && held.address.is_ipv4() == v4
                    && pattern.is_match(&held.address.to_string())
            })
        };
        let by_address = self
            .links
            .iter()
            .find(|link| (!wanted.ipv4 || fits(link, true)) && (!wanted.ipv6 || fits(link, false)));
        let by_name = || self.links.iter().find(|link| pattern.is_match(&link.name));
        by_address.or_else(by_name).map(|link| (link, None))
    }

    fn by_way(&self) -> Option<(&Link, Option<IpAddr>)> {
        let way = self.way.as_ref()?;
        let link = self
            .links
            .iter()
            .find(|link| Some(link.index) == way.link)?;
        Some((link, way.source))
    }

    fn by_public_or_default_route(&self, wanted: &Wanted) -> Result<&Link, UplinkError> {
        let public = wanted
            .public
            .v4
            .map(IpAddr::V4)
            .or(wanted.public.v6.map(IpAddr::V6));
        if let Some(link) = public.and_then(|address| self.holder_of(address)) {
            return Ok(link);
        }
        let (family, is_family): (_, fn(&Route) -> bool) = if wanted.ipv4 {
            ("IPv4", |route| route.destination.is_ipv4())
        } else {
            ("IPv6", |route| route.destination.is_ipv6())
        };
        // The kernel takes the lowest metric, so the same route must be taken here.
        let route = self
            .default_routes
            .iter()
            .filter(|route| is_family(route))
            .min_by_key(|route| route.priority.unwrap_or(0))
            .ok_or(UplinkError::NoDefaultRoute { family })?;
        let index = route
            .link
            .ok_or(UplinkError::MultipathDefaultRoute { family })?;
        self.links
            .iter()
            .find(|link| link.index == index)
            .ok_or(UplinkError::Gone(index.0))
    }

    fn holder_of(&self, address: IpAddr) -> Option<&Link> {
        let held = self.addresses.iter().find(|held| held.address == address)?;
        self.links.iter().find(|link| link.index == held.link)
    }

    fn local_addresses(
        &self,
        link: &Link,
        wanted: &Wanted,
        named: Option<IpAddr>,
    ) -> Result<PerFamily<Ipv4Addr, Ipv6Addr>, UplinkError> {
        let missing = |family| UplinkError::NoAddress {
            name: link.name.clone(),
            family,
        };
        let mut local = PerFamily { v4: None, v6: None };
        if wanted.ipv4 {
            let preferred = [named, wanted.public.v4.map(IpAddr::V4)];
            local.v4 = self.best_address(link.index, &preferred, as_v4);
            local.v4.ok_or_else(|| missing("IPv4"))?;
        }
        if wanted.ipv6 {
            let preferred = [named, wanted.public.v6.map(IpAddr::V6)];
            local.v6 = self.best_address(link.index, &preferred, as_v6);
            local.v6.ok_or_else(|| missing("IPv6"))?;
        }
        Ok(local)
    }

    /// The named or published address when the interface holds it, else the best by flannel's order: global before
    /// link-local, permanent before dynamic, lasting before temporary; deprecated ones never.
    fn best_address<T>(
        &self,
        link: LinkIndex,
        preferred: &[Option<IpAddr>],
        family: fn(IpAddr) -> Option<T>,
    ) -> Option<T> {
        let held = || {
            self.addresses
                .iter()
                .filter(move |held| held.link == link && family(held.address).is_some())
        };
        let named = held().find(|held| preferred.contains(&Some(held.address)));
        let best = || {
            held()
                .filter(|held| !held.deprecated && held.scope != Scope::Host)
                .min_by_key(|held| (held.scope != Scope::Universe, held.dynamic, held.temporary))
        };
        named.or_else(best).and_then(|held| family(held.address))
    }

    /// The networks of the link's addresses; one of full length connects to nobody.
    fn networks(&self, link: LinkIndex) -> Vec<IpNetwork> {
        let held = self.addresses.iter().filter(|held| {
            held.link == link
                && held.scope == Scope::Universe
                && held.prefix < AddressFamily::of(held.address).bits()
        });
        held.filter_map(|held| IpNetwork::new(held.address, held.prefix).ok())
            .collect()
    }

    /// The first interfaces, in the kernel's order: those of pods come late and are many.
    fn present(&self) -> String {
        let described = self.links.iter().take(SHOWN).map(|link| {
            let addresses: Vec<String> = self
                .addresses
                .iter()
                .filter(|held| held.link == link.index && held.scope != Scope::Link)
                .map(|held| held.address.to_string())
                .collect();
            if addresses.is_empty() {
                link.name.clone()
            } else {
                format!("{} ({})", link.name, addresses.join(", "))
            }
        });
        let text = described.collect::<Vec<_>>().join(", ");
        match self.links.len().saturating_sub(SHOWN) {
            0 => text,
            more => format!("{text} and {more} more"),
        }
    }
}

fn observe_error(error: hostnet::Error) -> UplinkError {
    UplinkError::Observe(error.to_string())
}

fn as_v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

fn as_v6(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(address),
    }
}

#[cfg(test)]
mod tests;
