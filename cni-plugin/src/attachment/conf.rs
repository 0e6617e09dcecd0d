//! The config of the plugin that attaches a pod: members of the reference plugins `bridge`, `ptp` and `host-local`
//! (containernetworking/plugins), read into types.
//!
//! A member that asks for what we do not do is an error that names it, never silently ignored: a pod without its VLAN is
//! worse than no pod.

mod ranges;

use std::net::IpAddr;
use std::path::PathBuf;

use hostnet::Mac;
use ipam::pool::RangeSpec;
use ipnetwork::IpNetwork;

use crate::protocol::args::CniArgs;
use crate::protocol::json::{Object, Section};
use crate::protocol::result::{Dns, Route};
use crate::protocol::{Error, args};

/// What to attach a pod with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachmentConf {
    /// How.
    pub kind: Kind,
    /// `isDefaultGateway`: the pod gets a default route, unless its routes have one.
    pub default_route: bool,
    /// MTU of both ends in bytes; the kernel's default if there is none.
    pub mtu: Option<u32>,
    /// `ipMasq`: whether what pods send out of the pod network is to be masqueraded by us.
    pub ip_masq: bool,
    /// The pod network beside the ranges, within which nothing is masqueraded.
    pub pod_networks: Vec<IpNetwork>,
    /// The pod's MAC if somebody demands one.
    pub mac: Option<Mac>,
    /// Name servers to report, in place of none.
    pub dns: Dns,
    /// Where addresses come from.
    pub ipam: IpamConf,
    /// Whether bridged and routed pods of the host share a subnet, so that the host has to answer on the bridge for pods
    /// that are not on it.
    pub one_segment: bool,
}

/// The kind of attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A veth pair to a port of a bridge.
    Bridge(BridgeConf),
    /// A veth pair with a host route to the pod.
    Routed,
}

/// What the `bridge` plugin calls its config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeConf {
    /// `bridge`: its name.
    pub name: String,
    /// `isGateway`: the bridge has the gateway's address.
    pub is_gateway: bool,
    /// `hairpinMode`: a pod reaches itself through a service address.
    pub hairpin: bool,
    /// `promiscMode`: the bridge takes in what is not for it.
    pub promiscuous: bool,
    /// `portIsolation`: the pod reaches no other pod of the bridge that is isolated too.
    pub isolated: bool,
    /// `macspoofchk`: what the pod sends with another MAC than its own is dropped.
    pub mac_only: bool,
    /// `disableContainerInterface`, the other way round: the pod's end is switched on.
    pub pod_up: bool,
    /// What becomes of addresses of the bridge that stand in the way of the gateway's.
    pub others: OtherAddresses,
}

/// What becomes of addresses of a bridge beside the gateway's: in IPv4 of all, in IPv6 of those whose subnets overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OtherAddresses {
    /// They stay: pods that were attached before the host's subnet changed live on.
    #[default]
    Kept,
    /// They are a reason to fail.
    Refused,
    /// They are taken away (`forceAddress`).
    Replaced,
}

/// What the `host-local` plugin calls its config; of another IPAM plugin only the name, for its members are its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IpamConf {
    /// `type` of the plugin that gives addresses, unless the pool does.
    pub foreign: Option<String>,
    /// `dataDir`: where the node's reservations are kept, if not in the usual place.
    pub data_dir: Option<PathBuf>,
    /// One address comes from each set.
    pub range_sets: Vec<Vec<RangeSpec>>,
    /// Routes for the pod.
    pub routes: Vec<Route>,
    /// Addresses that the pod is to have; for a set without any of them the choice is free.
    pub requested: Vec<IpAddr>,
}

impl Kind {
    /// Whether a plugin of this name is one whose work we do.
    pub fn is_ours(name: &str) -> bool {
        matches!(name, "bridge" | "ptp")
    }
}

impl AttachmentConf {
    /// Reads the config of a plugin of type `bridge` or `ptp`, completed by `CNI_ARGS`.
    ///
    /// # Errors
    ///
    /// [`Error::WrongType`], [`Error::InvalidConfig`], [`Error::MissingKey`] and [`Error::UnsupportedValue`].
    pub fn parse(object: &Object, args: &CniArgs) -> Result<Self, Error> {
        let root = Section::root(object);
        let kind = match root.string("type")?.unwrap_or_default() {
            "bridge" => Kind::Bridge(
                BridgeConf::parse(&root)?
                    .with_addresses(&root)?
                    .with_any_mac(&root)?,
            ),
            "ptp" => Kind::Routed,
            other => {
                return Err(Error::UnsupportedValue {
                    key: "delegate.type".to_owned(),
                    value: format!("{other:?}"),
                    remedy: "use \"bridge\" (a bridge per host) or \"ptp\" (a route per pod)"
                        .to_owned(),
                });
            }
        };
        let ipam = IpamConf::parse(&root, args)?;
        Ok(Self {
            default_route: root.boolean("isDefaultGateway")?.unwrap_or(false),
            one_segment: true,
            ..Self::of(kind, &root, args, ipam)?
        })
    }

    /// Reads what is the same for every kind, and leaves the pod without a default route of its own.
    ///
    /// # Errors
    ///
    /// [`Error::WrongType`] and [`Error::InvalidConfig`].
    pub fn of(
        kind: Kind,
        root: &Section<'_>,
        args: &CniArgs,
        ipam: IpamConf,
    ) -> Result<Self, Error> {
        let dns = root
            .section("dns")?
            .map_or_else(|| Ok(Dns::default()), |dns| Dns::parse(&dns))?;
        Ok(Self {
            kind,
            default_route: false,
            mtu: root.number("mtu")?.filter(|mtu| *mtu != 0),
            ip_masq: root.boolean("ipMasq")?.unwrap_or(false),
            pod_networks: Vec::new(),
            mac: mac(root, args)?,
            dns,
            ipam,
            one_segment: false,
        })
    }
}

impl BridgeConf {
    /// Reads the members of the plugin `bridge`.
    ///
    /// # Errors
    ///
    /// [`Error::WrongType`], [`Error::InvalidConfig`] and [`Error::UnsupportedValue`].
    pub fn parse(root: &Section<'_>) -> Result<Self, Error> {
        let flag = |key| root.boolean(key).map(Option::unwrap_or_default);
        if flag("enabledad")? {
            let remedy = "leave it out: nobody else is given the pod's address";
            return Err(unsupported(root, "enabledad", "true", remedy));
        }
        if let Some(vlan) = root.number("vlan")?.filter(|vlan| *vlan != 0) {
            return Err(unsupported(root, "vlan", &vlan.to_string(), "leave it out"));
        }
        if root
            .list("vlanTrunk")?
            .is_some_and(|trunk| !trunk.is_empty())
        {
            return Err(unsupported(root, "vlanTrunk", "[…]", "leave it out"));
        }

        let name = root.string("bridge")?.filter(|name| !name.is_empty());
        let name = name.unwrap_or("cni0").to_owned();
        let conf = Self {
            name: args::interface_name(name).map_err(|error| in_config(error, root, "bridge"))?,
            is_gateway: flag("isGateway")? || flag("isDefaultGateway")?,
            hairpin: flag("hairpinMode")?,
            promiscuous: flag("promiscMode")?,
            isolated: flag("portIsolation")?,
            mac_only: flag("macspoofchk")?,
            pod_up: !flag("disableContainerInterface")?,
            others: OtherAddresses::default(),
        };
        if conf.hairpin && conf.promiscuous {
            return Err(Error::InvalidConfig {
                key: root.path_of("promiscMode"),
                value: "true".to_owned(),
                reason: "it cannot be combined with hairpinMode: choose one of them".to_owned(),
            });
        }
        Ok(conf)
    }
}

impl BridgeConf {
    /// The same for pods that have addresses, which an interface that is off makes no use of.
    ///
    /// # Errors
    ///
    /// [`Error::UnsupportedValue`].
    pub fn with_addresses(self, root: &Section<'_>) -> Result<Self, Error> {
        if self.pod_up {
            return Ok(self);
        }
        let remedy = "leave it out, or attach without addresses (no `ipam`)";
        Err(unsupported(
            root,
            "disableContainerInterface",
            "true",
            remedy,
        ))
    }
}

impl BridgeConf {
    /// The same for an attachment without rules of its own.
    fn with_any_mac(self, root: &Section<'_>) -> Result<Self, Error> {
        if !self.mac_only {
            return Ok(self);
        }
        let remedy = "use the routed attachment (ptp), where a pod cannot forge its address";
        Err(unsupported(root, "macspoofchk", "true", remedy))
    }
}

impl IpamConf {
    fn parse(root: &Section<'_>, args: &CniArgs) -> Result<Self, Error> {
        let Some(ipam) = root.section("ipam")? else {
            return Err(Error::MissingKey {
                key: root.path_of("ipam"),
            });
        };
        let kind = ipam.string("type")?.unwrap_or_default();
        if kind != "host-local" {
            return Ok(Self {
                foreign: Some(kind.to_owned()),
                ..Self::default()
            });
        }
        Self::of_host_local(root, &ipam, args)
    }

    /// Reads the config of host-local, whatever its type is called.
    ///
    /// # Errors
    ///
    /// [`Error::WrongType`], [`Error::InvalidConfig`] and [`Error::MissingKey`].
    pub fn of_host_local(
        root: &Section<'_>,
        ipam: &Section<'_>,
        args: &CniArgs,
    ) -> Result<Self, Error> {
        Ok(Self {
            foreign: None,
            data_dir: ipam
                .string("dataDir")?
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            range_sets: ranges::sets(root, ipam)?,
            routes: ipam
                .sections("routes")?
                .iter()
                .map(Route::parse)
                .collect::<Result<_, _>>()?,
            requested: requested(root, args)?,
        })
    }
}

/// `CNI_ARGS` `IP=`, `args.cni.ips` and `runtimeConfig.ips` together.
fn requested(root: &Section<'_>, args: &CniArgs) -> Result<Vec<IpAddr>, Error> {
    let mut texts: Vec<(String, String)> = Vec::new();
    if let Some(text) = args.value("IP") {
        texts.push(("CNI_ARGS IP".to_owned(), text.to_owned()));
    }
    for section in [cni_args(root)?, root.section("runtimeConfig")?]
        .into_iter()
        .flatten()
    {
        let key = section.path_of("ips");
        texts.extend(
            section
                .strings("ips")?
                .into_iter()
                .map(|text| (key.clone(), text)),
        );
    }
    texts
        .into_iter()
        .map(|(key, text)| {
            // With or without prefix: both are in use (Multus, nerdctl).
            let address = text.parse::<IpNetwork>().map(|network| network.ip());
            address.map_err(|_| Error::InvalidConfig {
                key,
                value: text,
                reason: "it must be an IP address".to_owned(),
            })
        })
        .collect()
}

/// `CNI_ARGS` `MAC=` gives way to `args.cni.mac`, that to `runtimeConfig.mac`; as in the `bridge` plugin.
fn mac(root: &Section<'_>, args: &CniArgs) -> Result<Option<Mac>, Error> {
    for section in [root.section("runtimeConfig")?, cni_args(root)?]
        .into_iter()
        .flatten()
    {
        if let Some(mac) = section.parsed("mac")? {
            return Ok(Some(mac));
        }
    }
    let Some(text) = args.value("MAC") else {
        return Ok(None);
    };
    text.parse()
        .map(Some)
        .map_err(|reason| Error::InvalidConfig {
            key: "CNI_ARGS MAC".to_owned(),
            value: text.to_owned(),
            reason: format!("{reason}"),
        })
}

fn cni_args<'a>(root: &Section<'a>) -> Result<Option<Section<'a>>, Error> {
    match root.section("args")? {
        Some(args) => args.section("cni"),
        None => Ok(None),
    }
}

fn unsupported(section: &Section<'_>, key: &str, value: &str, remedy: &str) -> Error {
    Error::UnsupportedValue {
        key: section.path_of(key),
        value: value.to_owned(),
        remedy: remedy.to_owned(),
    }
}

/// The complaint about an interface name, made about a config.
fn in_config(error: Error, section: &Section<'_>, key: &str) -> Error {
    match error {
        Error::InvalidVariable { value, rule, .. } => Error::InvalidConfig {
            key: section.path_of(key),
            value,
            reason: rule.to_owned(),
        },
        other => other,
    }
}

#[cfg(test)]
mod tests;
