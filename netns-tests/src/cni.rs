//! The part of a container runtime that runs CNI plugins, done as libcni does it.
//!
//! A conflist's plugins run in order for ADD and CHECK and in reverse for DEL; each gets its own object with `name` and
//! `cniVersion` copied in, `prevResult` from the plugin before it (on CHECK and DEL the final result, from 0.4.0 on), and
//! under `runtimeConfig` the capability arguments it declares.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::command;
use crate::namespaces::Namespaces;

/// A plugin's refusal, as its error document tells it.
#[derive(Clone, Debug)]
pub struct CniError {
    /// Which plugin.
    pub plugin: String,
    /// Asked to do what.
    pub verb: String,
    /// The specification's error code.
    pub code: u64,
    /// The short message.
    pub message: String,
    /// The long one.
    pub details: String,
}

impl fmt::Display for CniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of plugin {}: {} (code {})",
            self.verb, self.plugin, self.message, self.code
        )?;
        if self.details.is_empty() {
            Ok(())
        } else {
            write!(f, "; {}", self.details)
        }
    }
}

impl std::error::Error for CniError {}

impl CniError {
    /// The refusal in the result of something that should have been refused.
    pub fn expected_in<T>(result: Result<T>) -> Result<Self> {
        let Err(error) = result else {
            bail!("no plugin refused")
        };
        error.downcast()
    }
}

/// The result of an attachment (spec 0.3.0 and later).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Attached {
    /// `cniVersion`.
    #[serde(rename = "cniVersion")]
    pub cni_version: String,
    /// `interfaces`.
    pub interfaces: Vec<Interface>,
    /// `ips`.
    pub ips: Vec<Ip>,
    /// `routes`.
    pub routes: Vec<Route>,
}

/// One of a result's `interfaces`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// `name`.
    pub name: String,
    /// `mac`.
    pub mac: String,
    /// `mtu`, from 1.1.0 on.
    pub mtu: Option<u32>,
    /// `sandbox`: the netns path of an interface inside, empty outside.
    pub sandbox: String,
}

/// One of a result's `ips`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Ip {
    /// `address`, with its prefix length.
    pub address: String,
    /// `gateway`.
    pub gateway: Option<String>,
    /// `interface`: an index into the interfaces.
    pub interface: Option<usize>,
}

/// One of a result's `routes`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Route {
    /// `dst`.
    pub dst: String,
    /// `gw`.
    pub gw: Option<String>,
}

/// A network: a parsed conflist.
#[derive(Clone, Debug)]
pub struct Network {
    name: String,
    version: String,
    plugins: Vec<Map<String, Value>>,
}

/// One attachment of a container to a network, as the runtime knows it.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// `CNI_CONTAINERID`.
    pub container: String,
    /// `CNI_IFNAME`.
    pub interface: String,
    /// `CNI_NETNS`; empty when the namespace is gone.
    pub netns: PathBuf,
    /// `CNI_ARGS`.
    pub arguments: String,
    /// Capability arguments by capability.
    pub capabilities: BTreeMap<String, Value>,
    /// `CNI_PATH`.
    pub path: OsString,
}

impl Network {
    /// Reads a conflist.
    pub fn parse(conflist: &str) -> Result<Self> {
        let list: Value = serde_json::from_str(conflist).context("the conflist is not JSON")?;
        let text = |key: &str| list[key].as_str().map(str::to_owned);
        let plugins = list["plugins"]
            .as_array()
            .context("the conflist has no plugins")?;
        let objects = plugins.iter().map(|plugin| {
            plugin
                .as_object()
                .cloned()
                .context("a plugin is not an object")
        });
        Ok(Self {
            name: text("name").context("the conflist has no name")?,
            version: text("cniVersion").unwrap_or_else(|| "0.1.0".to_owned()),
            plugins: objects.collect::<Result<_>>()?,
        })
    }

    /// The network's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs ADD through the chain; the last plugin's result.
    pub fn add(&self, place: &Namespaces, attachment: &Attachment) -> Result<Value> {
        let mut previous = None;
        for plugin in &self.plugins {
            let output = self.invoke(place, plugin, "ADD", attachment, previous.as_ref())?;
            let result = serde_json::from_str(&output).with_context(|| {
                format!(
                    "ADD of plugin {} printed no JSON: {output}",
                    type_of(plugin)
                )
            })?;
            previous = Some(result);
        }
        previous.context("the conflist has no plugins")
    }

    /// Runs CHECK through the chain.
    pub fn check(&self, place: &Namespaces, attachment: &Attachment, result: &Value) -> Result<()> {
        self.plugins.iter().try_for_each(|plugin| {
            self.invoke(place, plugin, "CHECK", attachment, Some(result))
                .map(drop)
        })
    }

    /// Runs DEL backwards through the chain; stops at the first error, as libcni does.
    pub fn delete(
        &self,
        place: &Namespaces,
        attachment: &Attachment,
        result: Option<&Value>,
    ) -> Result<()> {
        let result = result.filter(|_| self.knows_previous_results());
        self.plugins.iter().rev().try_for_each(|plugin| {
            self.invoke(place, plugin, "DEL", attachment, result)
                .map(drop)
        })
    }

    /// From 0.4.0 on, CHECK and DEL get the result of the ADD.
    fn knows_previous_results(&self) -> bool {
        !["0.1.0", "0.2.0", "0.3.0", "0.3.1"].contains(&self.version.as_str())
    }

    fn invoke(
        &self,
        place: &Namespaces,
        plugin: &Map<String, Value>,
        verb: &str,
        attachment: &Attachment,
        previous: Option<&Value>,
    ) -> Result<String> {
        let mut config = plugin.clone();
        config.insert("name".to_owned(), json!(self.name));
        config.insert("cniVersion".to_owned(), json!(self.version));
        if let Some(previous) = previous {
            config.insert("prevResult".to_owned(), previous.clone());
        }
        let runtime_config = declared(plugin, &attachment.capabilities);
        if !runtime_config.is_empty() {
            config.insert("runtimeConfig".to_owned(), runtime_config.into());
        }
        run_plugin(
            place,
            &type_of(plugin),
            verb,
            attachment,
            &Value::from(config).to_string(),
        )
    }
}

/// Runs one plugin with this standard input; its standard output, or a [`CniError`] when it refuses.
pub fn run_plugin(
    place: &Namespaces,
    plugin: &str,
    verb: &str,
    attachment: &Attachment,
    input: &str,
) -> Result<String> {
    let mut command = command::command([find(plugin, &attachment.path)?])?;
    command
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", &attachment.container)
        .env("CNI_NETNS", &attachment.netns)
        .env("CNI_IFNAME", &attachment.interface)
        .env("CNI_ARGS", &attachment.arguments)
        .env("CNI_PATH", &attachment.path);
    let finished = command::finish(place, command, input.as_bytes())?;
    if finished.status.success() {
        return Ok(finished.stdout);
    }
    let Ok(document) = serde_json::from_str::<Value>(&finished.stdout) else {
        bail!(
            "{verb} of plugin {plugin} ended with {} and no error document\n{}{}",
            finished.status,
            finished.stdout,
            finished.stderr
        );
    };
    let text = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
    Err(CniError {
        plugin: plugin.to_owned(),
        verb: verb.to_owned(),
        code: document["code"].as_u64().unwrap_or_default(),
        message: text("msg"),
        details: text("details"),
    }
    .into())
}

fn type_of(plugin: &Map<String, Value>) -> String {
    plugin
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn find(plugin: &str, path: &OsString) -> Result<PathBuf> {
    let mut candidates = std::env::split_paths(path).map(|directory| directory.join(plugin));
    let found = candidates.find(|candidate| candidate.is_file() && plugin_name_is_plain(plugin));
    found.with_context(|| format!("plugin {plugin:?} is not in {}", Path::new(path).display()))
}

fn plugin_name_is_plain(plugin: &str) -> bool {
    !plugin.is_empty() && !plugin.contains('/')
}

/// The capability arguments that the plugin declares.
fn declared(plugin: &Map<String, Value>, given: &BTreeMap<String, Value>) -> Map<String, Value> {
    let wants = |capability: &str| {
        plugin
            .get("capabilities")
            .and_then(|wanted| wanted[capability].as_bool())
    };
    let known = given
        .iter()
        .filter(|(capability, _)| wants(capability) == Some(true));
    known
        .map(|(capability, argument)| (capability.clone(), argument.clone()))
        .collect()
}
