//! The shape of a result in each version of the specification, and the addresses, interfaces and routes in it.
//!
//! Pure: a document in, a list of what is wrong with it out. What the kernel holds is compared elsewhere.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::conform::spec::SpecVersion;
use crate::conform::subject::Kind;

/// Everything in the result that the version's specification does not allow.
pub fn problems(document: &Value, version: SpecVersion, kind: Kind) -> Vec<String> {
    let mut look = Look::new(version, kind);
    look.result(document);
    look.problems
}

/// Keys in the result that the version's specification does not know.
pub fn foreign_keys(document: &Value, version: SpecVersion, kind: Kind) -> Vec<String> {
    let mut look = Look::new(version, kind);
    look.result(document);
    look.foreign
}

/// An address of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ip {
    /// As it stands there.
    pub(crate) text: String,
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) interface: Option<usize>,
}

/// The addresses of a result of any version; those that make no sense are left out.
pub(crate) fn ips(document: &Value) -> Vec<Ip> {
    let entry = |entry: &Value, key: &str| {
        let text = entry[key].as_str()?.to_owned();
        let (address, prefix) = cidr(&text)?;
        let gateway = entry["gateway"].as_str().and_then(|text| text.parse().ok());
        let interface = entry["interface"]
            .as_u64()
            .and_then(|index| index.try_into().ok());
        Some(Ip {
            text,
            address,
            prefix,
            gateway,
            interface,
        })
    };
    let listed = document["ips"].as_array().into_iter().flatten();
    let old = ["ip4", "ip6"].map(|family| &document[family]);
    listed
        .filter_map(|ip| entry(ip, "address"))
        .chain(old.into_iter().filter_map(|ip| entry(ip, "ip")))
        .collect()
}

/// The routes of a result of any version, as destination and gateway.
pub(crate) fn routes(document: &Value) -> Vec<(String, Option<IpAddr>)> {
    let lists = [
        &document["routes"],
        &document["ip4"]["routes"],
        &document["ip6"]["routes"],
    ];
    let routes = lists.into_iter().filter_map(Value::as_array).flatten();
    routes
        .filter_map(|route| {
            let gateway = route["gw"].as_str().and_then(|text| text.parse().ok());
            Some((route["dst"].as_str()?.to_owned(), gateway))
        })
        .collect()
}

/// The interfaces of a result.
pub(crate) fn interfaces(document: &Value) -> &[Value] {
    document["interfaces"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// An address with its prefix length.
pub(crate) fn cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let prefix: u8 = prefix.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    (prefix <= longest).then_some((address, prefix))
}

struct Look {
    version: SpecVersion,
    kind: Kind,
    problems: Vec<String>,
    foreign: Vec<String>,
}

impl Look {
    fn new(version: SpecVersion, kind: Kind) -> Self {
        Self {
            version,
            kind,
            problems: Vec::new(),
            foreign: Vec::new(),
        }
    }

    fn result(&mut self, document: &Value) {
        let known: &[&str] = match self.version.lists_interfaces() {
            true => &["cniVersion", "interfaces", "ips", "routes", "dns"],
            false => &["cniVersion", "ip4", "ip6", "dns"],
        };
        let Some(result) = self.object(document, "the result", known) else {
            return;
        };
        // libcni takes an absent version for the config's, but asks for it from 0.3.0 on in its documents.
        self.string(result, "cniVersion", "the result", true);
        if self.version.lists_interfaces() {
            self.listed(result);
        } else {
            for family in ["ip4", "ip6"] {
                if let Some(entry) = present(result, family) {
                    self.old_family(entry, family);
                }
            }
        }
        if let Some(dns) = present(result, "dns") {
            self.dns(dns);
        }
    }

    fn listed(&mut self, result: &Map<String, Value>) {
        let interfaces = self.list(result, "interfaces");
        if self.kind == Kind::Ipam && !interfaces.is_empty() {
            self.problem("interfaces: an IPAM plugin knows none");
        }
        for (number, interface) in interfaces.iter().enumerate() {
            self.interface(interface, &format!("interfaces[{number}]"));
        }
        for (number, ip) in self.list(result, "ips").iter().enumerate() {
            self.ip(ip, &format!("ips[{number}]"), interfaces.len());
        }
        for (number, route) in self.list(result, "routes").iter().enumerate() {
            self.route(route, &format!("routes[{number}]"));
        }
    }

    fn interface(&mut self, interface: &Value, at: &str) {
        let known: &[&str] = match self.version >= SpecVersion::V110 {
            true => &["name", "mac", "mtu", "sandbox", "socketPath", "pciID"],
            false => &["name", "mac", "sandbox"],
        };
        let Some(interface) = self.object(interface, at, known) else {
            return;
        };
        self.string(interface, "name", at, true);
        self.string(interface, "sandbox", at, false);
        if let Some(mac) = self.string(interface, "mac", at, false)
            && !mac.is_empty()
            && !is_mac(&mac)
        {
            self.problem(format!("{at}.mac: {mac:?} is no MAC address"));
        }
        if self.version >= SpecVersion::V110 {
            self.number(interface, "mtu", at);
            self.string(interface, "socketPath", at, false);
            self.string(interface, "pciID", at, false);
        }
    }

    fn ip(&mut self, ip: &Value, at: &str, interfaces: usize) {
        let known: &[&str] = match self.version >= SpecVersion::V100 {
            true => &["address", "gateway", "interface"],
            false => &["version", "address", "gateway", "interface"],
        };
        let Some(ip) = self.object(ip, at, known) else {
            return;
        };
        let address = self.cidr(ip, "address", at);
        self.gateway(ip, "gateway", at, address);
        if self.version < SpecVersion::V100 {
            let version = self.string(ip, "version", at, true).unwrap_or_default();
            let right = address.is_none_or(|address| version == family(address));
            if !right {
                self.problem(format!(
                    "{at}.version: {version:?} is not that of the address"
                ));
            }
        }
        let Some(index) = present(ip, "interface") else {
            return;
        };
        if self.kind == Kind::Ipam {
            self.problem(format!("{at}.interface: an IPAM plugin knows none"));
        }
        let valid = index
            .as_u64()
            .is_some_and(|index| usize::try_from(index).is_ok_and(|index| index < interfaces));
        if !valid {
            self.problem(format!(
                "{at}.interface: {index} is no index into {interfaces} interfaces"
            ));
        }
    }

    fn route(&mut self, route: &Value, at: &str) {
        let known: &[&str] = match self.version >= SpecVersion::V110 {
            true => &["dst", "gw", "mtu", "advmss", "priority", "table", "scope"],
            false => &["dst", "gw"],
        };
        let Some(route) = self.object(route, at, known) else {
            return;
        };
        let destination = self.cidr(route, "dst", at);
        self.gateway(route, "gw", at, destination);
        if self.version >= SpecVersion::V110 {
            for key in ["mtu", "advmss", "priority", "table", "scope"] {
                self.number(route, key, at);
            }
        }
    }

    fn old_family(&mut self, entry: &Value, at: &str) {
        let Some(entry) = self.object(entry, at, &["ip", "gateway", "routes"]) else {
            return;
        };
        let address = self.cidr(entry, "ip", at);
        if let Some(address) = address
            && (at == "ip4") != address.is_ipv4()
        {
            self.problem(format!("{at}.ip: {address} is of the other family"));
        }
        self.gateway(entry, "gateway", at, address);
        for (number, route) in self.list(entry, "routes").iter().enumerate() {
            let at = format!("{at}.routes[{number}]");
            let Some(route) = self.object(route, &at, &["dst", "gw"]) else {
                continue;
            };
            let destination = self.cidr(route, "dst", &at);
            self.gateway(route, "gw", &at, destination);
        }
    }

    fn dns(&mut self, dns: &Value) {
        let known = ["nameservers", "domain", "search", "options"];
        let Some(dns) = self.object(dns, "dns", &known) else {
            return;
        };
        self.string(dns, "domain", "dns", false);
        for key in ["nameservers", "search", "options"] {
            for value in self.list(dns, key) {
                match value.as_str() {
                    None => self.problem(format!("dns.{key}: {value} is no string")),
                    Some(text) if key == "nameservers" && text.parse::<IpAddr>().is_err() => {
                        self.problem(format!("dns.nameservers: {text:?} is no IP address"));
                    }
                    Some(_) => {}
                }
            }
        }
    }

    fn cidr(&mut self, object: &Map<String, Value>, key: &str, at: &str) -> Option<IpAddr> {
        let text = self.string(object, key, at, true)?;
        let Some((address, _)) = cidr(&text) else {
            self.problem(format!(
                "{at}.{key}: {text:?} is no address with a prefix length"
            ));
            return None;
        };
        Some(address)
    }

    /// A gateway, if there is one, is an address of the same family.
    fn gateway(&mut self, object: &Map<String, Value>, key: &str, at: &str, of: Option<IpAddr>) {
        let Some(text) = self.string(object, key, at, false) else {
            return;
        };
        match text.parse::<IpAddr>() {
            // An empty text is how some libraries write "none".
            Err(_) if text.is_empty() => {}
            Err(_) => self.problem(format!("{at}.{key}: {text:?} is no IP address")),
            Ok(gateway) if of.is_some_and(|of| of.is_ipv4() != gateway.is_ipv4()) => {
                self.problem(format!("{at}.{key}: {gateway} is of the other family"));
            }
            Ok(_) => {}
        }
    }

    fn object<'v>(
        &mut self,
        value: &'v Value,
        at: &str,
        known: &[&str],
    ) -> Option<&'v Map<String, Value>> {
        let Some(object) = value.as_object() else {
            self.problem(format!("{at}: not an object but {value}"));
            return None;
        };
        let foreign = object.keys().filter(|key| !known.contains(&key.as_str()));
        self.foreign
            .extend(foreign.map(|key| format!("{at}.{key}")));
        Some(object)
    }

    fn list<'v>(&mut self, object: &'v Map<String, Value>, key: &str) -> &'v [Value] {
        let Some(value) = present(object, key) else {
            return &[];
        };
        let Some(list) = value.as_array() else {
            self.problem(format!("{key}: not a list but {value}"));
            return &[];
        };
        list
    }

    fn string(
        &mut self,
        object: &Map<String, Value>,
        key: &str,
        at: &str,
        needed: bool,
    ) -> Option<String> {
        match present(object, key) {
            None if needed => {
                self.problem(format!("{at}: {key} is missing"));
                None
            }
            None => None,
            Some(Value::String(text)) => {
                if needed && text.is_empty() {
                    self.problem(format!("{at}: {key} is empty"));
                }
                Some(text.clone())
            }
            Some(other) => {
                self.problem(format!("{at}.{key}: not a string but {other}"));
                None
            }
        }
    }

    fn number(&mut self, object: &Map<String, Value>, key: &str, at: &str) {
        if let Some(value) = present(object, key)
            && value.as_u64().is_none()
        {
            self.problem(format!("{at}.{key}: {value} is no number from 0 up"));
        }
    }

    fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }
}

/// `null` is nothing.
fn present<'v>(object: &'v Map<String, Value>, key: &str) -> Option<&'v Value> {
    object.get(key).filter(|value| !value.is_null())
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "4" } else { "6" }
}

/// Six or more bytes with colons between them.
fn is_mac(text: &str) -> bool {
    let bytes: Vec<_> = text.split(':').collect();
    bytes.len() >= 6
        && bytes
            .iter()
            .all(|byte| byte.len() == 2 && u8::from_str_radix(byte, 16).is_ok())
}
