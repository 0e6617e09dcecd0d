//! What the kernel holds in one network namespace, asked through `ip`, `bridge` and `nft`.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::endpoint::Endpoint;

/// Kind-specific attributes of a link that are configuration; the others are counters and timers.
const LINK_DATA: [&str; 6] = ["id", "local", "link", "port", "learning", "gbp"];

/// Members of a route that are shown elsewhere in its line, or are not its meaning.
const ROUTE_NOISE: [&str; 5] = ["dev", "dst", "flags", "expires", "cache"];

pub(super) fn lines(place: &impl Endpoint) -> Result<BTreeSet<String>> {
    let mut lines = BTreeSet::new();
    for link in objects(place, &["ip", "-j", "-d", "address", "show"])? {
        lines.insert(link_line(&link));
        lines.extend(address_lines(&link));
    }
    for family in ["-4", "-6"] {
        let routes = objects(
            place,
            &["ip", "-j", family, "route", "show", "table", "all"],
        )?;
        lines.extend(
            routes
                .iter()
                .filter(|route| !follows_from_address(route))
                .map(|route| route_line(family, route)),
        );
        let rules = objects(place, &["ip", "-j", family, "rule", "show"])?;
        lines.extend(
            rules
                .iter()
                .map(|rule| format!("rule{}{}", suffix(family), members(rule, &[]))),
        );
    }
    for neighbour in objects(
        place,
        &["ip", "-j", "neighbour", "show", "nud", "permanent"],
    )? {
        lines.insert(format!("neighbour{}", members(&neighbour, &[])));
    }
    let fdb = objects(place, &["bridge", "-j", "fdb", "show"])?;
    lines.extend(
        fdb.iter()
            .filter(|entry| is_lasting(entry))
            .map(|entry| format!("fdb{}", members(entry, &[]))),
    );
    lines.extend(nft_lines(&place.exec(["nft", "-s", "list", "ruleset"])?));
    for sysctl in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        let value = place.sh(&format!(
            "cat /proc/sys/{sysctl} 2>/dev/null || echo absent"
        ))?;
        lines.insert(format!(
            "sysctl {} {}",
            sysctl.replace('/', "."),
            value.trim()
        ));
    }
    Ok(lines)
}

fn objects(place: &impl Endpoint, command: &[&str]) -> Result<Vec<Value>> {
    let output = place.exec(command)?;
    // `ip` prints nothing at all for an empty list.
    if output.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(&output)
        .with_context(|| format!("`{}` printed no JSON: {output}", command.join(" ")))
}

fn suffix(family: &str) -> &'static str {
    if family == "-6" { "6" } else { "" }
}

fn link_line(link: &Value) -> String {
    let text = |value: &Value| value.as_str().map(str::to_owned).unwrap_or_default();
    let kind = text(&link["linkinfo"]["info_kind"]);
    let has = |flag: &str| {
        link["flags"]
            .as_array()
            .is_some_and(|flags| flags.iter().any(|known| known == flag))
    };
    let mut line = format!("link {}", text(&link["ifname"]));
    for word in [kind.as_str(), if has("UP") { "up" } else { "down" }] {
        if !word.is_empty() {
            line.push(' ');
            line.push_str(word);
        }
    }
    line.push_str(
        &members(&keep(link, &["mtu", "address", "master", "ifalias"]), &[])
            .replace("address", "mac"),
    );
    let data = keep(&link["linkinfo"]["info_data"], &LINK_DATA);
    let port = keep(
        &link["linkinfo"]["info_slave_data"],
        &["hairpin", "isolated"],
    );
    for part in [members(&data, &[]), members(&port, &[])] {
        line.push_str(&part);
    }
    line
}

fn address_lines(link: &Value) -> Vec<String> {
    let name = link["ifname"].as_str().unwrap_or_default();
    let addresses = link["addr_info"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let lasting = addresses.iter().filter(|address| !is_link_local(address));
    let line = |address: &Value| {
        let kept = keep(
            address,
            &["local", "prefixlen", "scope", "label", "nodad", "broadcast"],
        );
        format!("address {name}{}", members(&kept, &[]))
    };
    lasting.map(line).collect()
}

fn route_line(family: &str, route: &Value) -> String {
    let device = route["dev"]
        .as_str()
        .map(|name| format!(" dev {name}"))
        .unwrap_or_default();
    let target = route["dst"].as_str().unwrap_or_default();
    // The other flags (dead, linkdown) follow the state of the link.
    let onlink = route["flags"]
        .as_array()
        .is_some_and(|flags| flags.iter().any(|flag| flag == "onlink"));
    let onlink = if onlink { " onlink" } else { "" };
    format!(
        "route{}{device} {target}{}{onlink}",
        suffix(family),
        members(route, &ROUTE_NOISE)
    )
}

/// What the kernel adds to table `local` for each address, in its own time.
fn follows_from_address(route: &Value) -> bool {
    (route["table"] == "local" && route["protocol"] == "kernel") || is_link_local(route)
}

/// IPv6 link-local addresses, multicast and their routes come and go with the link's state.
fn is_link_local(object: &Value) -> bool {
    let text = object["dst"]
        .as_str()
        .or(object["local"].as_str())
        .unwrap_or_default();
    ["fe80:", "ff00:", "multicast ff00:"]
        .iter()
        .any(|prefix| text.starts_with(prefix))
}

/// An FDB entry somebody configured, not one that was learned or that every link has for multicast.
fn is_lasting(entry: &Value) -> bool {
    let multicast = entry["mac"]
        .as_str()
        .is_some_and(|mac| mac.starts_with("33:33") || mac.starts_with("01:00:5e"));
    !multicast && (entry["state"] == "permanent" || entry["state"] == "static")
}

fn keep(object: &Value, wanted: &[&str]) -> Value {
    let members = object.as_object().into_iter().flatten();
    members
        .filter(|(name, _)| wanted.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// ` name value name value`, sorted by name, without these.
fn members(object: &Value, without: &[&str]) -> String {
    let members = object.as_object().into_iter().flatten();
    let shown = members.filter(|(name, value)| {
        !without.contains(&name.as_str()) && **value != Value::Array(vec![])
    });
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    shown
        .map(|(name, value)| format!(" {name} {}", text(value)))
        .collect()
}

/// Each rule with the table and chain it stands in before it.
fn nft_lines(ruleset: &str) -> Vec<String> {
    let mut context: Vec<&str> = Vec::new();
    let mut lines = Vec::new();
    for line in ruleset
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        if line == "}" {
            context.pop();
            continue;
        }
        let opened = line.strip_suffix('{').map(str::trim);
        let shown = opened.unwrap_or(line);
        lines.push(format!(
            "nft {}",
            context
                .iter()
                .copied()
                .chain([shown])
                .collect::<Vec<_>>()
                .join(" / ")
        ));
        context.extend(opened);
    }
    lines
}
