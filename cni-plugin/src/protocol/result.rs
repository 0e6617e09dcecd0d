//! The result of an ADD: one type here, and its spelling in every spec version.
//!
//! Reading goes by the shape of the document rather than by its version, because chained plugins and caches are known
//! to mix them; writing is strict: a key appears only in the versions that define it.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::{IpNetwork, Ipv4Network};

use super::error::Error;
use super::json::{Json, Object, Section};
use super::version::SpecVersion;

/// What an ADD has made, or what the plugin before us in the chain has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddResult {
    /// Interfaces on the host (without sandbox) and in the container.
    pub interfaces: Vec<Interface>,
    /// The addresses the container got.
    pub ips: Vec<Ip>,
    /// The routes it got.
    pub routes: Vec<Route>,
    /// Name servers; we only pass them on.
    pub dns: Dns,
}

/// An entry of `interfaces`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name, in its namespace.
    pub name: String,
    /// Link-layer address in text.
    pub mac: Option<String>,
    /// Bytes (1.1.0).
    pub mtu: Option<u32>,
    /// The netns path for an interface of the container, nothing for one of the host.
    pub sandbox: Option<String>,
    /// Path of a socket (1.1.0); never ours.
    pub socket_path: Option<String>,
    /// PCI address (1.1.0); never ours.
    pub pci_id: Option<String>,
}

/// An entry of `ips`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Index into `interfaces`; results of IPAM plugins have none.
    pub interface: Option<usize>,
    /// The address with its prefix, host bits kept.
    pub address: IpNetwork,
    /// The next hop for what lies outside the prefix.
    pub gateway: Option<IpAddr>,
}

/// An entry of `routes`. Absent and zero differ for all numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub dst: IpNetwork,
    /// Next hop; nothing means the gateway of the address.
    pub gw: Option<IpAddr>,
    /// Bytes (1.1.0)
    pub mtu: Option<u32>,
    /// Bytes (1.1.0)
    pub advmss: Option<u32>,
    /// Metric (1.1.0)
    pub priority: Option<u32>,
    /// Routing table (1.1.0)
    pub table: Option<u32>,
    /// Scope number of rtnetlink (1.1.0)
    pub scope: Option<u32>,
}

impl Route {
    /// A route to `dst` with nothing else said.
    pub fn to(dst: IpNetwork) -> Self {
        Self {
            dst,
            gw: None,
            mtu: None,
            advmss: None,
            priority: None,
            table: None,
            scope: None,
        }
    }

    /// Reads an entry of a `routes` list, in a config or in a result.
    pub fn parse(section: &Section<'_>) -> Result<Self, Error> {
        let dst = network(section, "dst")?.ok_or_else(|| Error::MissingKey {
            key: section.path_of("dst"),
        })?;
        Ok(Self {
            dst,
            gw: section.parsed("gw")?,
            mtu: section.number("mtu")?,
            advmss: section.number("advmss")?,
            priority: section.number("priority")?,
            table: section.number("table")?,
            scope: section.number("scope")?,
        })
    }

    fn render(&self, version: SpecVersion) -> Object {
        let mut object = Object::default();
        object.set("dst", self.dst.to_string());
        if let Some(gw) = self.gw {
            object.set("gw", gw.to_string());
        }
        if version >= SpecVersion::V1_1_0 {
            for (key, value) in [
                ("mtu", self.mtu),
                ("advmss", self.advmss),
                ("priority", self.priority),
                ("table", self.table),
                ("scope", self.scope),
            ] {
                if let Some(value) = value {
                    object.set(key, value);
                }
            }
        }
        object
    }
}

/// `dns`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Addresses of servers.
    pub nameservers: Vec<String>,
    /// The local domain.
    pub domain: Option<String>,
    /// Search list.
    pub search: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

impl Dns {
    /// Reads a `dns` object, in a config or in a result.
    pub fn parse(section: &Section<'_>) -> Result<Self, Error> {
        Ok(Self {
            nameservers: section.strings("nameservers")?,
            domain: section
                .string("domain")?
                .filter(|text| !text.is_empty())
                .map(str::to_owned),
            search: section.strings("search")?,
            options: section.strings("options")?,
        })
    }

    fn render(&self) -> Object {
        let mut object = Object::default();
        set_strings(&mut object, "nameservers", &self.nameservers);
        if let Some(domain) = self.domain.as_deref() {
            object.set("domain", domain);
        }
        set_strings(&mut object, "search", &self.search);
        set_strings(&mut object, "options", &self.options);
        object
    }
}

impl AddResult {
    /// Reads a result of any version. `fallback` is the version of one that does not say its own.
    pub fn parse(section: &Section<'_>, fallback: SpecVersion) -> Result<Self, Error> {
        let version = match section.string("cniVersion")? {
            Some(text) if !text.is_empty() => text
                .parse()
                .map_err(|unknown| Error::UnsupportedVersion { unknown })?,
            _ => fallback,
        };
        let old = section.has("ip4") || section.has("ip6");
        if old || (version <= SpecVersion::V0_2_0 && !section.has("ips")) {
            return Self::parse_old(section);
        }
        let interfaces = section
            .sections("interfaces")?
            .iter()
            .map(parse_interface)
            .collect::<Result<_, _>>()?;
        let ips = section
            .sections("ips")?
            .iter()
            .map(parse_ip)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            interfaces,
            ips,
            routes: parse_routes(section)?,
            dns: parse_dns(section)?,
        })
    }

    /// 0.1.0 and 0.2.0: one object per family, no interfaces.
    fn parse_old(section: &Section<'_>) -> Result<Self, Error> {
        let mut result = Self {
            dns: parse_dns(section)?,
            ..Self::default()
        };
        for key in ["ip4", "ip6"] {
            let Some(family) = section.section(key)? else {
                continue;
            };
            let address = network(&family, "ip")?.ok_or_else(|| Error::MissingKey {
                key: family.path_of("ip"),
            })?;
            result.ips.push(Ip {
                interface: None,
                address,
                gateway: family.parsed("gateway")?,
            });
            result.routes.extend(parse_routes(&family)?);
        }
        Ok(result)
    }

    /// The document in the shape of `version`, members in the customary order.
    pub fn render(&self, version: SpecVersion) -> Result<Object, Error> {
        let mut object = Object::default();
        object.set("cniVersion", version.as_str());
        if version <= SpecVersion::V0_2_0 {
            self.render_families(&mut object, version)?;
            object.set("dns", self.dns.render());
            return Ok(object);
        }
        set_list(&mut object, "interfaces", &self.interfaces, |interface| {
            render_interface(interface, version)
        });
        set_list(&mut object, "ips", &self.ips, |ip| render_ip(ip, version));
        set_list(&mut object, "routes", &self.routes, |route| {
            route.render(version)
        });
        if version < SpecVersion::V1_0_0 || self.dns != Dns::default() {
            object.set("dns", self.dns.render());
        }
        Ok(object)
    }

    fn render_families(&self, object: &mut Object, version: SpecVersion) -> Result<(), Error> {
        if self.ips.is_empty() {
            return Err(Error::NoAddressToReport { version });
        }
        for (key, v4) in [("ip4", true), ("ip6", false)] {
            let Some(ip) = self.ips.iter().find(|ip| ip.address.is_ipv4() == v4) else {
                continue;
            };
            let mut family = Object::default();
            family.set("ip", ip.address.to_string());
            if let Some(gateway) = ip.gateway {
                family.set("gateway", gateway.to_string());
            }
            let routes: Vec<_> = self
                .routes
                .iter()
                .filter(|route| route.dst.is_ipv4() == v4)
                .cloned()
                .collect();
            set_list(&mut family, "routes", &routes, |route| {
                route.render(version)
            });
            object.set(key, family);
        }
        Ok(())
    }
}

/// An address with its mandatory prefix, host bits kept. IPv4 written as mapped IPv6 is IPv4.
pub fn network(section: &Section<'_>, key: &str) -> Result<Option<IpNetwork>, Error> {
    let Some(text) = section.string(key)?.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    parse_network(text)
        .map(Some)
        .ok_or_else(|| Error::InvalidConfig {
            key: section.path_of(key),
            value: text.to_owned(),
            reason: "it must be an address and a prefix length, such as 10.244.1.7/24".to_owned(),
        })
}

fn parse_network(text: &str) -> Option<IpNetwork> {
    let (address, prefix) = text.split_once('/')?;
    // `u8` would also take a leading plus sign.
    if !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let prefix: u8 = prefix.parse().ok()?;
    match address.parse().ok()? {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => mapped(v4, prefix),
            None => IpNetwork::new(v6.into(), prefix).ok(),
        },
        v4 => IpNetwork::new(v4, prefix).ok(),
    }
}

fn mapped(address: Ipv4Addr, prefix: u8) -> Option<IpNetwork> {
    let prefix = prefix.checked_sub(96)?;
    Ipv4Network::new(address, prefix).ok().map(IpNetwork::V4)
}

fn parse_interface(section: &Section<'_>) -> Result<Interface, Error> {
    let text = |key| -> Result<Option<String>, Error> {
        let text = section.string(key)?.filter(|text| !text.is_empty());
        Ok(text.map(str::to_owned))
    };
    Ok(Interface {
        name: text("name")?.unwrap_or_default(),
        mac: text("mac")?,
        mtu: section.number("mtu")?.filter(|mtu| *mtu != 0),
        sandbox: text("sandbox")?,
        socket_path: text("socketPath")?,
        pci_id: text("pciID")?,
    })
}

fn parse_ip(section: &Section<'_>) -> Result<Ip, Error> {
    let address = network(section, "address")?.ok_or_else(|| Error::MissingKey {
        key: section.path_of("address"),
    })?;
    // More interfaces than a pointer can count do not exist; the index is checked by whoever follows it.
    let interface = section.number("interface")?.map(|index| index as usize);
    Ok(Ip {
        interface,
        address,
        gateway: section.parsed("gateway")?,
    })
}

fn parse_routes(section: &Section<'_>) -> Result<Vec<Route>, Error> {
    section
        .sections("routes")?
        .iter()
        .map(Route::parse)
        .collect()
}

fn parse_dns(section: &Section<'_>) -> Result<Dns, Error> {
    section
        .section("dns")?
        .map_or_else(|| Ok(Dns::default()), |dns| Dns::parse(&dns))
}

fn render_interface(interface: &Interface, version: SpecVersion) -> Object {
    let mut object = Object::default();
    object.set("name", interface.name.as_str());
    let mut text = |key, value: &Option<String>| {
        if let Some(value) = value {
            object.set(key, value.as_str());
        }
    };
    text("mac", &interface.mac);
    text("sandbox", &interface.sandbox);
    if version >= SpecVersion::V1_1_0 {
        text("socketPath", &interface.socket_path);
        text("pciID", &interface.pci_id);
        if let Some(mtu) = interface.mtu {
            object.set("mtu", mtu);
        }
    }
    object
}

fn render_ip(ip: &Ip, version: SpecVersion) -> Object {
    let mut object = Object::default();
    if version < SpecVersion::V1_0_0 {
        object.set("version", if ip.address.is_ipv4() { "4" } else { "6" });
    }
    if let Some(index) = ip.interface {
        object.set("interface", Json::Number(index.into()));
    }
    object.set("address", ip.address.to_string());
    if let Some(gateway) = ip.gateway {
        object.set("gateway", gateway.to_string());
    }
    object
}

/// An empty list is left out.
fn set_list<T>(object: &mut Object, key: &str, items: &[T], render: impl Fn(&T) -> Object) {
    if !items.is_empty() {
        let list: Vec<Json> = items.iter().map(|item| render(item).into()).collect();
        object.set(key, list);
    }
}

fn set_strings(object: &mut Object, key: &str, items: &[String]) {
    if !items.is_empty() {
        let list: Vec<Json> = items.iter().map(|item| item.as_str().into()).collect();
        object.set(key, list);
    }
}

#[cfg(test)]
mod tests;
