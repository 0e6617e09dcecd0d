//! A pod: a network namespace on a host, attached by running the CNI plugins of a conflist as a runtime does.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cni::{Attached, Attachment, Network};
use crate::endpoint::{Address, Endpoint};
use crate::host::Host;
use crate::namespaces::Namespaces;
use crate::programs;
use crate::snapshot::Snapshot;

/// A pod to be: how to attach it.
#[derive(Clone, Debug)]
pub struct PodSpec {
    host: Host,
    name: String,
    conflist: String,
    interface: String,
    arguments: Option<String>,
    capabilities: BTreeMap<String, Value>,
    path: Option<OsString>,
}

impl PodSpec {
    pub(crate) fn new(host: &Host, name: &str, conflist: String) -> Self {
        // What containerd passes when the pod has no host ports: an empty list, not nothing.
        let capabilities = BTreeMap::from([("portMappings".to_owned(), json!([]))]);
        Self {
            host: host.clone(),
            name: name.to_owned(),
            conflist,
            interface: "eth0".to_owned(),
            arguments: None,
            capabilities,
            path: None,
        }
    }

    /// Attaches with this conflist instead of the lab's.
    #[must_use]
    pub fn conflist(mut self, conflist: &str) -> Self {
        conflist.clone_into(&mut self.conflist);
        self
    }

    /// Names the interface inside; `eth0` when not said.
    #[must_use]
    pub fn interface(mut self, name: &str) -> Self {
        name.clone_into(&mut self.interface);
        self
    }

    /// `CNI_ARGS`; when not said, what Kubernetes would pass.
    #[must_use]
    pub fn arguments(mut self, arguments: &str) -> Self {
        self.arguments = Some(arguments.to_owned());
        self
    }

    /// A capability argument, such as `portMappings`.
    #[must_use]
    pub fn capability(mut self, name: &str, argument: Value) -> Self {
        self.capabilities.insert(name.to_owned(), argument);
        self
    }

    /// `CNI_PATH`; when not said, our programs and then the reference plugins.
    #[must_use]
    pub fn path(mut self, path: impl Into<OsString>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Makes the namespace without attaching it.
    pub fn create(self) -> Result<Pod> {
        let network = Network::parse(&self.conflist)?;
        let id = container_id(&self.name, self.host.next_number());
        let netns = Path::new("/run/netns").join(&id);
        let namespaces = self
            .host
            .namespaces()
            .with_new_network(|| name_this_network(&netns))?;
        let arguments = self.arguments.unwrap_or_else(|| {
            format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={};K8S_POD_UID={id}",
                self.name
            )
        });
        let attachment = Attachment {
            container: id,
            interface: self.interface,
            netns,
            arguments,
            capabilities: self.capabilities,
            path: self.path.map_or_else(programs::cni_path, Ok)?,
        };
        let pod = Pod {
            name: self.name,
            host: self.host,
            namespaces,
            network,
            attachment,
            result: None,
        };
        // Runtimes bring the loopback up themselves or through its plugin.
        pod.exec(["ip", "link", "set", "dev", "lo", "up"])?;
        Ok(pod)
    }

    /// Makes the namespace and attaches it. When the plugins refuse, runs DEL and removes the namespace, as runtimes do.
    pub fn attach(self) -> Result<Pod> {
        let mut pod = self.create()?;
        let Err(error) = pod.add() else {
            return Ok(pod);
        };
        if let Err(leftover) = pod.delete() {
            return Err(error.context(format!("and after the failed ADD: {leftover:#}")));
        }
        Err(error)
    }
}

/// A pod on a host.
#[derive(Debug)]
pub struct Pod {
    name: String,
    host: Host,
    namespaces: Namespaces,
    network: Network,
    attachment: Attachment,
    result: Option<Value>,
}

impl Pod {
    /// Runs ADD through the conflist.
    pub fn add(&mut self) -> Result<()> {
        let result = self.network.add(self.host.namespaces(), &self.attachment);
        self.result = Some(result.with_context(|| self.title())?);
        Ok(())
    }

    /// From now on its calls go through this conflist and to our programs first, as after the node has got another network.
    pub fn hand_over(&mut self, conflist: &str) -> Result<()> {
        self.network = Network::parse(conflist)?;
        self.attachment.path = programs::cni_path()?;
        Ok(())
    }

    /// Runs CHECK through the conflist.
    pub fn check(&self) -> Result<()> {
        let result = self
            .result
            .as_ref()
            .with_context(|| format!("{} is not attached", self.title()))?;
        self.network
            .check(self.host.namespaces(), &self.attachment, result)
            .with_context(|| self.title())
    }

    /// Runs DEL through the conflist; may be repeated. The namespace stays.
    pub fn detach(&self) -> Result<()> {
        self.network
            .delete(
                self.host.namespaces(),
                &self.attachment,
                self.result.as_ref(),
            )
            .with_context(|| self.title())
    }

    /// Removes the name of the namespace while it is still attached, as when a runtime died; DEL then comes without.
    pub fn lose_netns(&mut self) -> Result<()> {
        let path = std::mem::take(&mut self.attachment.netns);
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        self.host.run(|| {
            umount2(&path, MntFlags::MNT_DETACH)
                .with_context(|| format!("{} cannot be unmounted", path.display()))?;
            fs::remove_file(&path).with_context(|| format!("{} cannot be removed", path.display()))
        })?
    }

    /// Runs DEL and removes the namespace, the latter even when the plugins refuse.
    pub fn delete(mut self) -> Result<()> {
        let detached = self.detach();
        self.lose_netns()?;
        detached
    }

    /// The host it is on.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The CNI result as the last plugin printed it.
    pub fn result(&self) -> &Value {
        self.result.as_ref().unwrap_or(&Value::Null)
    }

    /// The CNI result, parsed.
    pub fn attached(&self) -> Result<Attached> {
        Attached::deserialize(self.result())
            .with_context(|| format!("{} printed {}", self.title(), self.result()))
    }

    /// `CNI_CONTAINERID`.
    pub fn container_id(&self) -> &str {
        &self.attachment.container
    }

    /// `CNI_NETNS`, as seen on its host.
    pub fn netns(&self) -> &Path {
        &self.attachment.netns
    }

    /// Everything the runtime passes to plugins, to run one by hand with [`run_plugin`](crate::cni::run_plugin).
    pub fn attachment(&self) -> &Attachment {
        &self.attachment
    }

    /// Every address of the pod, from the result.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let attached = self.attached().unwrap_or_default();
        attached
            .ips
            .iter()
            .filter_map(|ip| ip.address.split('/').next()?.parse().ok())
            .collect()
    }

    /// The MTU of its interface, as the kernel says.
    pub fn mtu(&self) -> Result<u32> {
        let links = self.exec([
            "ip",
            "-j",
            "link",
            "show",
            "dev",
            &self.attachment.interface,
        ])?;
        let links: Value = serde_json::from_str(&links)?;
        let mtu = links[0]["mtu"].as_u64().and_then(|mtu| mtu.try_into().ok());
        mtu.with_context(|| format!("{} has no MTU", self.title()))
    }

    /// What the kernel holds in the pod's namespace now.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::of_network(self)
    }

    fn title(&self) -> String {
        format!("pod {} on {}", self.name, self.host.name())
    }
}

impl Address for Pod {
    /// The first address of the result; unspecified when the pod has none.
    fn address(&self) -> IpAddr {
        let addresses = self.addresses();
        let first = addresses
            .iter()
            .find(|address| address.is_ipv4())
            .or(addresses.first());
        first.copied().unwrap_or(Ipv4Addr::UNSPECIFIED.into())
    }
}

impl Endpoint for Pod {
    fn name(&self) -> &str {
        &self.name
    }

    fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }
}

/// 64 hexadecimal digits, as containerd's are, another for each pod of a host; the end spells the name.
fn container_id(name: &str, number: u32) -> String {
    let name: String = name
        .bytes()
        .take(28)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{number:08x}{name:0>56}")
}

/// Gives the network namespace of this thread a path, as runtimes do.
pub(crate) fn name_this_network(path: &Path) -> Result<()> {
    let problem = || format!("{} cannot name a network namespace", path.display());
    File::create_new(path).with_context(problem)?;
    let own = PathBuf::from("/proc/thread-self/ns/net");
    mount(
        Some(&own),
        path,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .with_context(problem)
}
