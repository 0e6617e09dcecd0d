//! Two sides that have plugins of the same names, and what they make of a host and a pod.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use netns_tests::cni::{Attachment, CniError, run_plugin};
use netns_tests::{Endpoint, Host, Lab, programs, skip};
use serde_json::{Value, json};

/// Where Debian has the reference plugins.
const REFERENCE: &str = "/usr/lib/cni";

/// Where host-local keeps the addresses of the network `net`.
pub(crate) const RESERVATIONS: &str = "/var/lib/cni/networks/net";

/// Whose plugins are run.
#[derive(Clone, Debug)]
pub(crate) struct Side(OsString);

/// Our program under all its names, with no other plugin beside it.
pub(crate) fn ours() -> Result<Side> {
    Ok(Side(programs::by_all_names()?.into()))
}

/// Debian's plugins.
pub(crate) fn theirs() -> Result<Side> {
    if !Path::new(REFERENCE).join("host-local").is_file() {
        return skip(format!("there are no plugins in {REFERENCE}"));
    }
    Ok(Side(REFERENCE.into()))
}

/// Ours, with the other plugins of Debian behind it.
pub(crate) fn ours_and_more() -> Result<Side> {
    let directories = [ours()?.0, theirs()?.0];
    Ok(Side(std::env::join_paths(directories)?))
}

/// A host without pods, and a lab to keep it.
pub(crate) fn host() -> Result<(Lab, Host)> {
    let lab = Lab::new()?;
    let host = lab.host("node")?;
    Ok((lab, host))
}

/// A host for each side.
pub(crate) fn both() -> Result<(Lab, [(Host, Side); 2])> {
    let lab = Lab::new()?;
    let [one, other] = lab.hosts(["ours", "theirs"])?;
    Ok((lab, [(one, ours()?), (other, theirs()?)]))
}

/// An attachment of this container in this namespace.
pub(crate) fn target(id: &str, netns: &Path) -> Attachment {
    Attachment {
        container: id.to_owned(),
        interface: "eth0".to_owned(),
        netns: netns.to_owned(),
        arguments: String::new(),
        capabilities: BTreeMap::new(),
        path: OsString::new(),
    }
}

/// The same for a plugin that looks at no namespace.
pub(crate) fn nowhere(id: &str) -> Attachment {
    target(id, Path::new("/run/netns/none"))
}

/// The config with its network's name, and with a version unless it has one.
fn complete(config: &Value) -> String {
    let mut config = config.clone();
    config["name"] = json!("net");
    if config["cniVersion"].is_null() {
        config["cniVersion"] = json!("1.0.0");
    }
    config.to_string()
}

impl Side {
    /// Runs the plugin that the config is for; what it printed.
    pub(crate) fn call(
        &self,
        host: &Host,
        verb: &str,
        target: &Attachment,
        config: &Value,
    ) -> Result<String> {
        let kind = config["type"].as_str().context("no type")?;
        let target = Attachment {
            path: self.0.clone(),
            ..target.clone()
        };
        run_plugin(host.namespaces(), kind, verb, &target, &complete(config))
    }

    /// ADD; the result.
    pub(crate) fn add(&self, host: &Host, target: &Attachment, config: &Value) -> Result<Value> {
        let said = self.call(host, "ADD", target, config)?;
        let mut result: Value =
            serde_json::from_str(&said).with_context(|| format!("no JSON: {said}"))?;
        // Debian's plugins are of a time when nothing was told as an empty object.
        if let Some(members) = result.as_object_mut()
            && members.get("dns") == Some(&json!({}))
        {
            members.remove("dns");
        }
        Ok(result)
    }

    /// A verb that has nothing to say.
    pub(crate) fn silent(
        &self,
        host: &Host,
        verb: &str,
        target: &Attachment,
        config: &Value,
    ) -> Result<()> {
        let said = self.call(host, verb, target, config)?;
        ensure!(said.is_empty(), "{verb} said {said}");
        Ok(())
    }

    /// A call that must be refused.
    pub(crate) fn refusal(
        &self,
        host: &Host,
        verb: &str,
        target: &Attachment,
        config: &Value,
    ) -> Result<CniError> {
        CniError::expected_in(self.call(host, verb, target, config))
    }
}

/// The config with the result of its ADD.
pub(crate) fn after(config: &Value, result: &Value) -> Value {
    let mut config = config.clone();
    config["prevResult"] = result.clone();
    config
}

/// An error that shows the first thing in which two stories differ.
pub(crate) fn same(stories: &[Vec<Value>], of: &Value) -> Result<()> {
    let [ours, theirs] = stories else {
        bail!("{} stories", stories.len());
    };
    ensure!(ours.len() == theirs.len(), "{of}: one is shorter");
    for (ours, theirs) in ours.iter().zip(theirs) {
        ensure!(ours == theirs, "{of}:\nours   {ours}\ntheirs {theirs}");
    }
    Ok(())
}

/// The first address of a result, without its prefix.
pub(crate) fn address(result: &Value) -> Result<String> {
    let first = &result["ips"][0]["address"];
    let text = first
        .as_str()
        .with_context(|| format!("no address in {result}"))?;
    Ok(text.split('/').next().unwrap_or_default().to_owned())
}

/// The files of host-local with what stands in them; none if there is no directory.
pub(crate) fn reservations(host: &Host) -> Result<BTreeMap<String, String>> {
    let Ok(entries) = fs::read_dir(host.path(RESERVATIONS)) else {
        return Ok(BTreeMap::new());
    };
    let mut files = BTreeMap::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        files.insert(name, fs::read_to_string(entry.path())?);
    }
    Ok(files)
}

/// What `ip` tells with these arguments.
pub(crate) fn ip(place: &impl Endpoint, arguments: &str) -> Result<Vec<Value>> {
    let said = place.sh(&format!("ip -j -d {arguments}"))?;
    match serde_json::from_str(&said) {
        Ok(Value::Array(list)) => Ok(list),
        _ => bail!("ip {arguments} said {said}"),
    }
}

/// The addresses and routes of an interface as one would note them down, in order, without the kernel's own.
pub(crate) fn layout(place: &impl Endpoint, ifname: &str) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for link in ip(place, &format!("address show dev {ifname}"))? {
        for known in link["addr_info"].as_array().into_iter().flatten() {
            if known["scope"] != "link" {
                lines.push(format!("address {}/{}", known["local"], known["prefixlen"]));
            }
        }
    }
    for family in ["-4", "-6"] {
        for route in ip(place, &format!("{family} route show dev {ifname}"))? {
            if route["dst"] != "fe80::/64" {
                lines.push(format!("route {} via {}", route["dst"], route["gateway"]));
            }
        }
    }
    lines.sort();
    Ok(lines)
}
