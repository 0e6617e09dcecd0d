//! What the kernel holds in a namespace, asked through `ip`, in the terms of a CNI result.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::endpoint::Endpoint;

/// A link.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) name: String,
    pub(crate) mac: String,
    pub(crate) mtu: u64,
    pub(crate) up: bool,
    pub(crate) kind: String,
    /// Index of the lower link or of the other end of a pair.
    pub(crate) lower: Option<u64>,
    pub(crate) index: u64,
    /// Its addresses, without IPv6 link-local ones.
    pub(crate) addresses: BTreeSet<(IpAddr, u8)>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) destination: String,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) device: Option<String>,
}

/// The links of this place.
pub(crate) fn links(place: &impl Endpoint) -> Result<Vec<Link>> {
    let output = place.exec(["ip", "-j", "-d", "address", "show"])?;
    Ok(objects(&output)?.iter().map(link).collect())
}

/// One link of this place.
pub(crate) fn link_named(place: &impl Endpoint, name: &str) -> Result<Option<Link>> {
    Ok(links(place)?.into_iter().find(|link| link.name == name))
}

/// The unicast routes of this place in every table but the kernel's own.
pub(crate) fn routes(place: &impl Endpoint) -> Result<Vec<Route>> {
    let mut routes = Vec::new();
    for family in ["-4", "-6"] {
        let command = ["ip", "-j", family, "route", "show", "table", "all"];
        let output = place.exec(command)?;
        let all = objects(&output)?;
        let unicast = all
            .iter()
            .filter(|route| route["table"] != "local" && route["type"].is_null());
        routes.extend(unicast.map(|found| route(found, family)));
    }
    Ok(routes)
}

fn objects(output: &str) -> Result<Vec<Value>> {
    // `ip` prints nothing at all for an empty list.
    if output.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(output).with_context(|| format!("`ip -j` printed no JSON: {output}"))
}

fn link(object: &Value) -> Link {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let flags = object["flags"].as_array().map(Vec::as_slice);
    let addresses = object["addr_info"].as_array().map(Vec::as_slice);
    Link {
        name: text(&object["ifname"]),
        mac: text(&object["address"]),
        mtu: object["mtu"].as_u64().unwrap_or_default(),
        up: flags.unwrap_or_default().iter().any(|flag| flag == "UP"),
        kind: text(&object["linkinfo"]["info_kind"]),
        lower: object["link_index"].as_u64(),
        index: object["ifindex"].as_u64().unwrap_or_default(),
        addresses: addresses
            .unwrap_or_default()
            .iter()
            .filter_map(address)
            .collect(),
    }
}

fn address(object: &Value) -> Option<(IpAddr, u8)> {
    let local: IpAddr = object["local"].as_str()?.parse().ok()?;
    let automatic = matches!(local, IpAddr::V6(local) if local.is_unicast_link_local());
    let prefix = object["prefixlen"].as_u64()?.try_into().ok()?;
    (!automatic).then_some((local, prefix))
}

fn route(object: &Value, family: &str) -> Route {
    let destination = match (object["dst"].as_str().unwrap_or_default(), family) {
        ("default", "-4") => "0.0.0.0/0".to_owned(),
        ("default", _) => "::/0".to_owned(),
        (prefix, _) if prefix.contains('/') => prefix.to_owned(),
        (address, "-4") => format!("{address}/32"),
        (address, _) => format!("{address}/128"),
    };
    Route {
        destination,
        gateway: object["gateway"]
            .as_str()
            .and_then(|gateway| gateway.parse().ok()),
        device: object["dev"].as_str().map(str::to_owned),
    }
}
