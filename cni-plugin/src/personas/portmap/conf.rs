//! What a runtime asks for: the mappings, and how the config wants them done.

use std::net::IpAddr;

use ipam::host_ports::{Mapping, Masqueraded, PodAddress, PortRecord, Transport};

use crate::protocol::json::{Object, Section};
use crate::protocol::result::AddResult;
use crate::protocol::{Config, Error, Target};
use crate::request;

/// The values of `backend`. Either is fulfilled by nf_tables.
const BACKENDS: [&str; 2] = ["iptables", "nftables"];

/// The bit of the packet mark when the config names none: the reference plugin's.
const MARK_BIT: u8 = 13;

/// The config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conf {
    pub(super) mappings: Vec<Mapping>,
    pub(super) masqueraded: Masqueraded,
    pub(super) mark_bit: u8,
}

impl Conf {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// Code 7 for what cannot be, code 2 for what this program does not do, code 6 for wrong types.
    pub(super) fn parse(config: &Config) -> Result<Self, Error> {
        let root = config.root();
        if let Some(backend) = root.string("backend")?
            && !BACKENDS.contains(&backend)
        {
            return Err(Error::UnsupportedValue {
                key: root.path_of("backend"),
                value: format!("{backend:?}"),
                remedy: "use \"nftables\" or \"iptables\", or leave it out".to_owned(),
            });
        }
        for key in ["conditionsV4", "conditionsV6"] {
            let conditions = root.strings(key)?;
            if conditions.iter().any(|part| !part.is_empty()) {
                return Err(Error::UnsupportedValue {
                    key: root.path_of(key),
                    value: format!("{conditions:?}"),
                    remedy: "leave it out, and limit who may come by hostIP or by a firewall"
                        .to_owned(),
                });
            }
        }
        // The chain of iptables it names could mark packets only for rules of iptables; ours do without.
        let chain = root.string("externalSetMarkChain")?;
        let mark_bit = mark_bit(&root, chain.is_some())?;
        let all = root.boolean("masqAll")?.unwrap_or(false);
        let mappings = match root.section("runtimeConfig")? {
            Some(runtime) => mappings(&runtime)?,
            None => Vec::new(),
        };
        Ok(Self {
            mappings,
            masqueraded: match (root.boolean("snat")?.unwrap_or(true), all) {
                (false, _) => Masqueraded::Nobody,
                (true, true) => Masqueraded::All,
                (true, false) => Masqueraded::Near,
            },
            mark_bit,
        })
    }

    /// What to put on record; nothing if no port leads to the pod. `host` is asked for the namespace of the host only then.
    pub(super) fn record(
        self,
        result: &AddResult,
        config: &Config,
        target: &Target,
        host: impl FnOnce() -> Result<u64, Error>,
    ) -> Result<Option<PortRecord>, Error> {
        let addresses = addresses(result, &target.ifname);
        if self.mappings.is_empty() || addresses.is_empty() {
            return Ok(None);
        }
        let netns = target.netns.as_deref().unwrap_or("".as_ref());
        Ok(Some(PortRecord {
            owner: request::owner(target)?,
            network: config.name.clone(),
            order: 0,
            host: host()?,
            netns: netns.to_string_lossy().into_owned(),
            addresses,
            mappings: self.mappings,
            masqueraded: self.masqueraded,
            mark_bit: self.mark_bit,
            localnet: None,
        }))
    }
}

/// The result of the plugin before, and how it is passed on.
///
/// # Errors
///
/// [`Error::MissingKey`] without one: alone the plugin has no pod to lead to.
pub(super) fn previous(config: &Config) -> Result<(AddResult, Object), Error> {
    let missing = || Error::MissingKey {
        key: "prevResult (portmap is called behind the plugin that attaches the pod, so it)"
            .to_owned(),
    };
    let result = config.previous_result()?.ok_or_else(missing)?;
    let root = config.root();
    let section = root.section("prevResult")?.ok_or_else(missing)?;
    // As it came, with members that we do not know, unless the runtime expects another version's form.
    let document = match section.string("cniVersion")? {
        Some(version) if version == config.version.as_str() => section.object().clone(),
        _ => result.render(config.version)?,
    };
    Ok((result, document))
}

fn mark_bit(root: &Section<'_>, has_chain: bool) -> Result<u8, Error> {
    let Some(bit) = root.number("markMasqBit")? else {
        return Ok(MARK_BIT);
    };
    let invalid = |reason: &str| Error::InvalidConfig {
        key: root.path_of("markMasqBit"),
        value: bit.to_string(),
        reason: reason.to_owned(),
    };
    if has_chain {
        return Err(invalid("it cannot be given beside externalSetMarkChain"));
    }
    match u8::try_from(bit) {
        Ok(bit @ 0..=31) => Ok(bit),
        _ => Err(invalid("it must be from 0 to 31")),
    }
}

fn mappings(runtime: &Section<'_>) -> Result<Vec<Mapping>, Error> {
    let mut mappings = Vec::new();
    for entry in runtime.sections("portMappings")? {
        let host_port = port(&entry, "hostPort")?;
        let protocol = protocol(&entry)?;
        let host_ip: Option<IpAddr> = entry.parsed("hostIP")?;
        // Kubernetes' way to say that the container's port is to be known only.
        if host_port == 0 {
            continue;
        }
        let container_port = match port(&entry, "containerPort")? {
            0 => return Err(not_a_port(&entry, "containerPort", "0")),
            port => port,
        };
        mappings.push(Mapping {
            protocol,
            host_port,
            container_port,
            host_ip,
        });
    }
    Ok(mappings)
}

fn port(entry: &Section<'_>, key: &str) -> Result<u16, Error> {
    let number = entry.number(key)?.unwrap_or(0);
    u16::try_from(number).map_err(|_| not_a_port(entry, key, &number.to_string()))
}

fn not_a_port(entry: &Section<'_>, key: &str, value: &str) -> Error {
    Error::InvalidConfig {
        key: entry.path_of(key),
        value: value.to_owned(),
        reason: "a port is a number from 1 to 65535".to_owned(),
    }
}

/// Kubernetes takes TCP for granted.
fn protocol(entry: &Section<'_>) -> Result<Transport, Error> {
    let text = entry.string("protocol")?.unwrap_or_default();
    match text.to_ascii_lowercase().as_str() {
        "" | "tcp" => Ok(Transport::Tcp),
        "udp" => Ok(Transport::Udp),
        "sctp" => Ok(Transport::Sctp),
        _ => Err(Error::InvalidConfig {
            key: entry.path_of("protocol"),
            value: text.to_owned(),
            reason: "it must be tcp, udp or sctp".to_owned(),
        }),
    }
}

/// The first address of each family that is not said to be of another interface.
fn addresses(result: &AddResult, ifname: &str) -> Vec<PodAddress> {
    let of_pod = result.ips.iter().filter(|ip| {
        let interface = ip.interface.and_then(|index| result.interfaces.get(index));
        interface.is_none_or(|interface| {
            let inside = interface.sandbox.as_deref().unwrap_or_default();
            interface.name == ifname && !inside.is_empty()
        })
    });
    let mut addresses: Vec<PodAddress> = Vec::new();
    for ip in of_pod {
        let address = ip.address.ip();
        let known = addresses
            .iter()
            .any(|known| known.address.is_ipv4() == address.is_ipv4());
        if !known {
            addresses.push(PodAddress {
                address,
                prefix: ip.address.prefix(),
            });
        }
    }
    addresses
}

#[cfg(test)]
mod tests;
