//! The configs of `bridge` and `ptp`, read with their own defaults.

use super::Persona;
use super::addresses::Addresses;
use crate::attachment::conf::{AttachmentConf, BridgeConf, IpamConf, Kind, OtherAddresses};
use crate::protocol::args::CniArgs;
use crate::protocol::json::Section;
use crate::protocol::result::Dns;
use crate::protocol::{Config, Error};

/// The values of `ipMasqBackend`. Both are fulfilled by the same static rules, which stand beside either.
const BACKENDS: [&str; 2] = ["iptables", "nftables"];

/// Reads what is to be attached and how.
///
/// # Errors
///
/// [`Error::WrongType`], [`Error::InvalidConfig`], [`Error::MissingKey`] and [`Error::UnsupportedValue`].
pub(super) fn read(
    persona: Persona,
    config: &Config,
    args: &CniArgs,
) -> Result<AttachmentConf, Error> {
    let root = config.root();
    let addresses = Addresses::of(config)?;
    let ipam = match (&addresses, root.section("ipam")?) {
        (Addresses::HostLocal, Some(ipam)) => IpamConf::of_host_local(&root, &ipam, args)?,
        _ => IpamConf::default(),
    };
    if let Some(backend) = root.string("ipMasqBackend")?
        && !BACKENDS.contains(&backend)
    {
        return Err(Error::UnsupportedValue {
            key: root.path_of("ipMasqBackend"),
            value: format!("{backend:?}"),
            remedy: "use \"nftables\" or \"iptables\", or leave it out".to_owned(),
        });
    }
    if persona == Persona::Bridge {
        let bridge = bridge(&root, &addresses)?;
        let default_route = root.boolean("isDefaultGateway")?.unwrap_or(false);
        return Ok(AttachmentConf {
            default_route,
            ..AttachmentConf::of(Kind::Bridge(bridge), &root, args, ipam)?
        });
    }
    if addresses == Addresses::None {
        return Err(Error::MissingKey {
            key: "ipam.type".to_owned(),
        });
    }
    Ok(AttachmentConf {
        // The plugin has no such key.
        mac: None,
        ..AttachmentConf::of(Kind::Routed, &root, args, ipam)?
    })
}

fn bridge(root: &Section<'_>, addresses: &Addresses) -> Result<BridgeConf, Error> {
    let bridge = BridgeConf {
        others: match root.boolean("forceAddress")? {
            Some(true) => OtherAddresses::Replaced,
            _ => OtherAddresses::Refused,
        },
        ..BridgeConf::parse(root)?
    };
    if *addresses == Addresses::None {
        return Ok(bridge);
    }
    bridge.with_addresses(root)
}

/// Whether the container's end is to be on.
///
/// # Errors
///
/// [`Error::WrongType`]
pub(super) fn is_on(config: &Config) -> Result<bool, Error> {
    let off = config.root().boolean("disableContainerInterface")?;
    Ok(!off.unwrap_or(false))
}

/// The name servers of the config, which take the place of the IPAM plugin's: even if there is no more of them than an empty
/// list, as with the reference plugins.
///
/// # Errors
///
/// [`Error::WrongType`]
pub(super) fn name_servers(config: &Config) -> Result<Option<Dns>, Error> {
    let Some(section) = config.root().section("dns")? else {
        return Ok(None);
    };
    let domain = section.string("domain")?.unwrap_or_default();
    let lists = ["nameservers", "search", "options"];
    if domain.is_empty() && !lists.iter().any(|key| section.has(key)) {
        return Ok(None);
    }
    Dns::parse(&section).map(Some)
}

#[cfg(test)]
mod tests;
