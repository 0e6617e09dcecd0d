//! The plugin under test: where its program is, what kind it is, which configs it gets and what its host looks like.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::conform::spec::SpecVersion;

/// What a plugin does, which decides which checks mean something for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Makes an interface in the container.
    Interface,
    /// Sets up the container's loopback, which is there already.
    Loopback,
    /// Hands out addresses and touches no interface.
    Ipam,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Interface, Self::Loopback, Self::Ipam];

    /// The word shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interface => "interface",
            Self::Loopback => "loopback",
            Self::Ipam => "ipam",
        }
    }

    /// What a plugin of this type is.
    pub(crate) fn of_type(name: &str) -> Self {
        match name {
            "loopback" => Self::Loopback,
            "host-local" | "static" | "dhcp" | "whereabouts" => Self::Ipam,
            _ => Self::Interface,
        }
    }
}

/// A config, without `name` and `cniVersion`, and the shell lines that prepare the host for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Staging {
    pub(crate) config: Map<String, Value>,
    pub(crate) setup: String,
}

/// A pool of few addresses: [`SMALL_POOL`], of which [`SMALL_POOL_SIZE`] can be handed out.
pub(crate) const SMALL_POOL: &str = "10.99.0.0/29";
/// Its network address, gateway and broadcast address are not for containers.
pub(crate) const SMALL_POOL_SIZE: usize = 5;
/// The addresses of the small pool that can be handed out end with these.
pub(crate) const SMALL_POOL_HOSTS: std::ops::RangeInclusive<u8> = 2..=6;

/// The network of the built-in configs.
const NETWORK: &str = "10.88.0.0/24";
const NETWORK_V6: &str = "fd00:88::/64";

/// The plugin under test.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) program: PathBuf,
    pub(crate) kind: Kind,
    pub(crate) cni_path: Vec<PathBuf>,
    /// The versions its VERSION names, as far as they are known ones.
    pub(crate) supported: Vec<SpecVersion>,
    /// What every check begins with.
    pub(crate) usual: Staging,
    /// With a small pool of addresses, where the runner knows how to make one.
    pub(crate) small: Option<Staging>,
    /// With addresses of both families, where the runner knows how.
    pub(crate) dual: Option<Staging>,
    /// Shell that makes an ADD impossible, where the runner knows one.
    pub(crate) unready: Option<&'static str>,
    /// Whether a particular address can be asked for in host-local's ways.
    pub(crate) requests: bool,
}

impl Subject {
    /// What the runner knows about plugins of this type; `config` replaces the built-in one.
    pub(crate) fn new(
        program: &Path,
        kind: Kind,
        name: &str,
        config: Option<Map<String, Value>>,
        setup: &str,
    ) -> Option<Self> {
        let config = config.or_else(|| built_in(name))?;
        let flannel = name == "flannel";
        let pool = config["type"] == "host-local" || config_ipam_is_host_local(&config);
        let staged = |config: &Map<String, Value>, environment: &str| Staging {
            config: config.clone(),
            setup: match flannel {
                true => format!("{}\n{setup}", subnet_env(environment)),
                false => setup.to_owned(),
            },
        };
        let ranges = |ranges: Value| staged(&with_ranges(&config, ranges), "");
        let subnet = |line: &str| staged(&config, line);
        let (small, dual) = if flannel {
            (
                Some(subnet(
                    "FLANNEL_NETWORK=10.99.0.0/16\\nFLANNEL_SUBNET=10.99.0.1/29",
                )),
                Some(subnet(
                    "FLANNEL_NETWORK=10.88.0.0/16\\nFLANNEL_SUBNET=10.88.0.1/24\\n\
                     FLANNEL_IPV6_NETWORK=fd00:88::/48\\nFLANNEL_IPV6_SUBNET=fd00:88::1/64",
                )),
            )
        } else if pool {
            let both = json!([[{"subnet": NETWORK}], [{"subnet": NETWORK_V6}]]);
            (
                Some(ranges(json!([[{"subnet": SMALL_POOL}]]))),
                Some(ranges(both)),
            )
        } else {
            (None, None)
        };
        Some(Self {
            program: program.to_owned(),
            kind,
            cni_path: Vec::new(),
            supported: Vec::new(),
            usual: subnet("FLANNEL_NETWORK=10.88.0.0/16\\nFLANNEL_SUBNET=10.88.0.1/24"),
            small,
            dual,
            unready: flannel.then_some("rm /run/flannel/subnet.env"),
            requests: flannel || pool,
        })
    }

    /// The name of the interface that containers get.
    pub(crate) fn ifname(&self) -> &'static str {
        match self.kind {
            Kind::Loopback => "lo",
            Kind::Interface | Kind::Ipam => "eth0",
        }
    }
}

/// What the daemon would write.
fn subnet_env(lines: &str) -> String {
    format!(
        "mkdir -p /run/flannel && printf '{lines}\\nFLANNEL_MTU=1450\\nFLANNEL_IPMASQ=true\\n' > /run/flannel/subnet.env"
    )
}

fn config_ipam_is_host_local(config: &Map<String, Value>) -> bool {
    config
        .get("ipam")
        .is_some_and(|ipam| ipam["type"] == "host-local")
}

/// The same config with these address ranges for host-local.
fn with_ranges(config: &Map<String, Value>, ranges: Value) -> Map<String, Value> {
    let mut config = config.clone();
    if let Some(ipam) = config.get_mut("ipam").and_then(Value::as_object_mut) {
        for legacy in ["subnet", "rangeStart", "rangeEnd", "gateway"] {
            ipam.remove(legacy);
        }
        ipam.insert("ranges".to_owned(), ranges);
    }
    config
}

/// The types that need no config of the user's.
pub(crate) const BUILT_IN: [&str; 6] = [
    "bridge",
    "flannel",
    "host-local",
    "loopback",
    "macvlan",
    "ptp",
];

fn built_in(name: &str) -> Option<Map<String, Value>> {
    let ipam = json!({
        "type": "host-local",
        "ranges": [[{"subnet": NETWORK}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    });
    let config = match name {
        "bridge" => json!({"type": name, "bridge": "cni0", "isGateway": true, "ipam": ipam}),
        "ptp" | "host-local" => json!({"type": name, "ipam": ipam}),
        "macvlan" => json!({"type": name, "master": "eth0", "mode": "bridge", "ipam": ipam}),
        "loopback" => json!({"type": name}),
        // As flannel's manifest has it.
        "flannel" => json!({
            "type": name,
            "delegate": {"hairpinMode": true, "isDefaultGateway": true},
        }),
        _ => return None,
    };
    config.as_object().cloned()
}
