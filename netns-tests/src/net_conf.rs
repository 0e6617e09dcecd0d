//! The network configuration of a lab's cluster, built from what a test says of it.

use std::fmt;

use serde_json::{Map, Value, json};

/// The pod network of IPv4.
pub const POD_NETWORK: &str = "10.244.0.0/16";
/// The pod network of IPv6.
pub const POD_NETWORK_V6: &str = "fd00:10:244::/48";

/// Which families pods have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// IPv4 alone.
    Ipv4,
    /// Both.
    Dual,
    /// IPv6 alone, on hosts without any IPv4 address.
    Ipv6,
}

impl Families {
    /// Whether pods have IPv4 addresses.
    pub fn has_ipv4(self) -> bool {
        self != Self::Ipv6
    }

    /// Whether pods have IPv6 addresses.
    pub fn has_ipv6(self) -> bool {
        self != Self::Ipv4
    }
}

/// `net-conf.json`; displayed as its text.
#[derive(Clone, Debug)]
pub struct NetConf {
    families: Families,
    backend: Map<String, Value>,
    others: Map<String, Value>,
}

impl NetConf {
    /// A network of this backend (`vxlan`, `host-gw`, …) and these families.
    pub fn new(backend: &str, families: Families) -> Self {
        let backend = Map::from_iter([("Type".to_owned(), json!(backend))]);
        Self {
            families,
            backend,
            others: Map::new(),
        }
    }

    /// The same with a member of `Backend`, such as `DirectRouting`.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.backend.insert(name.to_owned(), value.into());
        self
    }

    /// The same with a member beside `Backend`, such as `EnableNFTables`.
    #[must_use]
    pub fn and(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.others.insert(name.to_owned(), value.into());
        self
    }

    /// The backend's type.
    pub fn backend(&self) -> &str {
        self.backend["Type"].as_str().unwrap_or_default()
    }

    /// Whether neighbours on the underlay are reached without a tunnel by the backend `vxlan`.
    pub fn routes_directly(&self) -> bool {
        self.backend.get("DirectRouting") == Some(&Value::Bool(true))
    }

    /// Which families pods have.
    pub fn families(&self) -> Families {
        self.families
    }
}

impl fmt::Display for NetConf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut members = self.others.clone();
        members.insert("Backend".to_owned(), json!(self.backend));
        if self.families.has_ipv4() {
            members.insert("Network".to_owned(), json!(POD_NETWORK));
        } else {
            members.insert("EnableIPv4".to_owned(), json!(false));
        }
        if self.families.has_ipv6() {
            members.insert("EnableIPv6".to_owned(), json!(true));
            members.insert("IPv6Network".to_owned(), json!(POD_NETWORK_V6));
        }
        Value::Object(members).fmt(f)
    }
}
