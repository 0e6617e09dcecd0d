//! Who attaches pods: Loden in both ways, the reference plugins, and the floor; each on a host of its own.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use netns_tests::{Endpoint, Families, Host, Lab, programs};
use serde_json::{Value, json};

use crate::call::Call;
use crate::figure::Name;
use crate::peers;

const ROUTED: Name = Name {
    text: "Loden, routed",
    beside: None,
};
const BRIDGED: Name = Name {
    text: "Loden, bridge",
    beside: Some(ROUTED.text),
};
const FLOOR: Name = Name {
    text: "floor, routed",
    beside: Some(ROUTED.text),
};
const FLOOR_BRIDGED: Name = Name {
    text: "floor, bridge",
    beside: Some(BRIDGED.text),
};
const PTP: Name = Name {
    text: "ptp→host-local",
    beside: Some(ROUTED.text),
};
const BRIDGE: Name = Name {
    text: "bridge→host-local",
    beside: Some(BRIDGED.text),
};
const CHAIN: Name = Name {
    text: "flannel→bridge→host-local",
    beside: Some(BRIDGED.text),
};

/// The bridge of all that have one.
const DEVICE: &str = "cni0";
const MTU: u32 = 1450;
const SUBNET: &str = "10.244.0.0/18";
const GATEWAY: &str = "10.244.0.1";
const SUBNET_V6: &str = "fd00:10:244::/64";
const GATEWAY_V6: &str = "fd00:10:244::1";

/// One of them.
#[derive(Debug)]
pub(super) struct Contender {
    pub(super) name: Name,
    pub(super) host: Host,
    families: Families,
    means: Means,
}

#[derive(Debug)]
enum Means {
    /// A plugin, its `CNI_PATH` and its config.
    Plugin(PathBuf, OsString, String),
    /// The program that sends the messages and does nothing else, and the number of the bridge, 0 without.
    Floor(PathBuf, u32),
}

/// An attachment to be made or taken away.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) netns: &'a Path,
    pub(super) interface: &'a str,
    /// Another one for each attachment of a contender.
    pub(super) number: u32,
}

impl Contender {
    /// All that can be found; `bridges` says whether those with a bridge take part.
    pub(super) fn all(lab: &Lab, families: Families, bridges: bool) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        let mut add = |name: Name, means: Means| -> Result<()> {
            let host = lab.host(&format!("host-{}", all.len()))?;
            give_subnet(&host, families)?;
            all.push(Self {
                name,
                host,
                families,
                means,
            });
            Ok(())
        };
        let ours = programs::find("flannel")?;
        let our_path = OsString::from(programs::directory()?);
        let our = |delegate: Value| {
            Means::Plugin(ours.clone(), our_path.clone(), flannel_config(&delegate))
        };
        let floor = programs::find("loden-floor")?;
        let path = peers::cni_path()?;
        add(ROUTED, our(json!({"type": "ptp"})))?;
        add(FLOOR, Means::Floor(floor.clone(), 0))?;
        if let Some(ptp) = peers::plugin("ptp")? {
            let config = config("ptp", families, json!({}));
            add(PTP, Means::Plugin(ptp, path.clone(), config))?;
        }
        if bridges {
            let bridge = json!({"hairpinMode": true, "isDefaultGateway": true});
            add(BRIDGED, our(bridge.clone()))?;
            // Its number follows when there is one.
            add(FLOOR_BRIDGED, Means::Floor(floor, 0))?;
            if let Some(plugin) = peers::plugin("bridge")? {
                let config = config("bridge", families, bridge.clone());
                add(BRIDGE, Means::Plugin(plugin, path.clone(), config))?;
            }
            if let Some(plugin) = peers::plugin("flannel")? {
                let config = flannel_config(&bridge);
                add(CHAIN, Means::Plugin(plugin, path, config))?;
            }
        }
        for contender in all.iter_mut().filter(|one| one.name == FLOOR_BRIDGED) {
            contender.build_bridge()?;
        }
        Ok(all)
    }

    /// Whether it does nothing but send messages.
    pub(super) fn is_floor(&self) -> bool {
        matches!(self.means, Means::Floor(..))
    }

    pub(super) fn add(&self, target: Target<'_>) -> Call {
        match &self.means {
            Means::Plugin(..) => self.plugin("ADD", target),
            Means::Floor(program, bridge) => {
                let mut words = vec![
                    "add".into(),
                    target.netns.into(),
                    container(target.number).into(),
                    bridge.to_string().into(),
                ];
                words.extend(self.floor_addresses(target.number));
                floor_call(program, words)
            }
        }
    }

    pub(super) fn delete(&self, target: Target<'_>) -> Call {
        match &self.means {
            Means::Plugin(..) => self.plugin("DEL", target),
            Means::Floor(program, _) => {
                floor_call(program, vec!["del".into(), container(target.number).into()])
            }
        }
    }

    fn plugin(&self, verb: &str, target: Target<'_>) -> Call {
        let Means::Plugin(program, path, config) = &self.means else {
            unreachable!("only plugins are called so")
        };
        let name = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-{}",
            target.number
        );
        Call {
            program: program.clone(),
            arguments: Vec::new(),
            environment: vec![
                ("CNI_COMMAND", verb.into()),
                ("CNI_CONTAINERID", container(target.number).into()),
                ("CNI_NETNS", target.netns.into()),
                ("CNI_IFNAME", target.interface.into()),
                ("CNI_ARGS", name.into()),
                ("CNI_PATH", path.clone()),
            ],
            input: config.clone(),
        }
    }

    /// Addresses outside those that plugins choose from, another for each number.
    fn floor_addresses(&self, number: u32) -> Vec<OsString> {
        let number = number + 2;
        let mut addresses = Vec::new();
        if self.families.has_ipv4() {
            let [.., high, low] = number.to_be_bytes();
            let gateway = "10.245.0.1";
            addresses.push(format!("10.245.{high}.{low}/16={gateway}").into());
        }
        if self.families.has_ipv6() {
            addresses.push(format!("fd00:10:245::{number:x}/64=fd00:10:245::1").into());
        }
        addresses
    }

    /// What the first ADD of a plugin makes.
    fn build_bridge(&mut self) -> Result<()> {
        self.host.ip_batch(&format!(
            "link add name {DEVICE} mtu {MTU} address 0a:58:0a:f5:00:01 type bridge\n\
             link set dev {DEVICE} up\naddr add 10.245.0.1/16 dev {DEVICE}\n\
             addr add fd00:10:245::1/64 dev {DEVICE} nodad\n"
        ))?;
        let file = format!("/sys/class/net/{DEVICE}/ifindex");
        let index = self.host.exec(["cat", &file])?;
        if let Means::Floor(_, bridge) = &mut self.means {
            *bridge = index.trim().parse().context("no number of the bridge")?;
        }
        Ok(())
    }
}

fn floor_call(program: &Path, arguments: Vec<OsString>) -> Call {
    Call {
        program: program.to_path_buf(),
        arguments,
        environment: Vec::new(),
        input: String::new(),
    }
}

/// `CNI_CONTAINERID`, of the length that containerd's have.
fn container(number: u32) -> String {
    format!("{number:064x}")
}

fn flannel_config(delegate: &Value) -> String {
    json!({"name": "cbr0", "cniVersion": "1.0.0", "type": "flannel", "delegate": delegate})
        .to_string()
}

/// What flannel would hand on to its delegate.
fn config(plugin: &str, families: Families, others: Value) -> String {
    let (mut ranges, mut routes) = (Vec::new(), Vec::new());
    if families.has_ipv4() {
        ranges.push(json!([{"subnet": SUBNET}]));
        routes.push(json!({"dst": "0.0.0.0/0"}));
    }
    if families.has_ipv6() {
        ranges.push(json!([{"subnet": SUBNET_V6}]));
        routes.push(json!({"dst": "::/0"}));
    }
    // The bridge gives a default route by `isDefaultGateway`.
    if plugin == "bridge" {
        routes.clear();
    }
    let mut config = json!({
        "name": "cbr0", "cniVersion": "1.0.0", "type": plugin, "mtu": MTU, "ipMasq": false,
        "ipam": {"type": "host-local", "ranges": ranges, "routes": routes},
    });
    if plugin == "bridge" {
        config["bridge"] = json!(DEVICE);
        config["isGateway"] = json!(true);
    }
    if let (Some(config), Some(others)) = (config.as_object_mut(), others.as_object()) {
        config.extend(others.clone());
    }
    config.to_string()
}

/// What flanneld writes when it has a lease.
fn give_subnet(host: &Host, families: Families) -> Result<()> {
    let path = host.path("/run/flannel/subnet.env");
    fs::create_dir_all(path.parent().context("no directory")?)?;
    let mut lines = format!("FLANNEL_MTU={MTU}\nFLANNEL_IPMASQ=true\n");
    if families.has_ipv4() {
        lines += &format!("FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET={GATEWAY}/18\n");
    }
    if families.has_ipv6() {
        lines += &format!(
            "FLANNEL_IPV6_NETWORK=fd00:10:244::/48\nFLANNEL_IPV6_SUBNET={GATEWAY_V6}/64\n"
        );
    }
    fs::write(&path, lines).with_context(|| format!("{} cannot be written", path.display()))
}
