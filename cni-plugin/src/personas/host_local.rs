//! The plugin `host-local`: addresses out of ranges, reserved in a directory of this host.
//!
//! The directory is the reference plugin's, file for file, so that the two can take turns at any moment, even in one chain.
//! What differs: an ADD changes either all range sets or none, reservations from before the last reboot do not
//! fill a range up, GC frees what the runtime no longer knows, and STATUS tells when there is no address left.

use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ipam::host_local::{Given, HostLocal, PluginRanges};
use ipam::pool::RangeError;
use ipam::{Owner, PoolError};
use ipnetwork::IpNetwork;

use super::resolv_conf;
use crate::attachment::conf::IpamConf;
use crate::mirror::{self, boot};
use crate::protocol::args::CniArgs;
use crate::protocol::result::{AddResult, Dns, Ip};
use crate::protocol::{Config, Error, Invocation, Request, SpecVersion, Target};
use crate::verbs::gc;
use crate::{Made, request, tell};

/// Carries a call out.
pub(crate) fn run(
    call: &Invocation,
    config: &Config,
    stdout: &mut impl Write,
) -> Result<(), Error> {
    match &call.request {
        Request::Add(target) => tell(add(config, &call.args, target)?, config, stdout, || {}),
        Request::Check(target) => check(config, target),
        Request::Del(target) => del(config, target),
        Request::Gc => gc(config),
        Request::Status => status(config),
        Request::Version => Ok(()),
    }
}

/// What the config says.
struct Conf {
    ranges: PluginRanges,
    requested: Vec<IpAddr>,
    result: AddResult,
}

impl Conf {
    fn parse(config: &Config, args: &CniArgs) -> Result<Self, Error> {
        let root = config.root();
        let ipam = root.section("ipam")?.ok_or_else(|| Error::MissingKey {
            key: "ipam".to_owned(),
        })?;
        let conf = IpamConf::of_host_local(&root, &ipam, args)?;
        let ranges = PluginRanges::new(&conf.range_sets).map_err(invalid)?;
        let (v4, v6) = ranges.families();
        if config.version < SpecVersion::V0_3_0 && (v4 > 1 || v6 > 1) {
            let version = config.version;
            return Err(Error::TooManyAddresses { version });
        }
        let resolv_conf = ipam.string("resolvConf")?.filter(|path| !path.is_empty());
        let dns = match resolv_conf {
            Some(path) => resolv_conf::read(path.as_ref())?,
            None => Dns::default(),
        };
        Ok(Self {
            ranges,
            requested: conf.requested,
            result: AddResult {
                routes: conf.routes,
                dns,
                ..AddResult::default()
            },
        })
    }
}

fn invalid(error: RangeError) -> Error {
    PoolError::from(error).into()
}

/// Addresses that were reserved a moment ago.
#[derive(Debug)]
pub(crate) struct Reserved {
    result: AddResult,
    given: Vec<IpAddr>,
    owner: Owner,
    store: HostLocal,
}

impl Made for Reserved {
    fn result(&self) -> &AddResult {
        &self.result
    }

    fn undo(self) -> Result<(), Error> {
        let locked = self.store.lock()?;
        for address in &self.given {
            locked.release(*address, &self.owner)?;
        }
        Ok(())
    }
}

/// Reserves an address from each range set.
pub(crate) fn add(config: &Config, args: &CniArgs, target: &Target) -> Result<Reserved, Error> {
    let conf = Conf::parse(config, args)?;
    let owner = request::owner(target)?;
    let store = store(config)?;
    let given = store.allocate(&owner, &conf.ranges, &conf.requested, boot())?;
    let result = AddResult {
        ips: given.iter().map(ip).collect(),
        ..conf.result
    };
    Ok(Reserved {
        result,
        given: given.iter().map(|given| given.address).collect(),
        owner,
        store,
    })
}

fn ip(given: &Given) -> Ip {
    let network = IpNetwork::new(given.address, given.subnet.prefix());
    Ip {
        interface: None,
        address: network.unwrap_or(given.address.into()),
        gateway: Some(given.gateway),
    }
}

/// Finds out whether the target has any address: which one it was given is for whoever asked for it to know.
pub(crate) fn check(config: &Config, target: &Target) -> Result<(), Error> {
    if store(config)?.held_by(&request::owner(target)?)?.is_empty() {
        let container_id = target.container_id.clone();
        return Err(Error::NoReservation { container_id });
    }
    Ok(())
}

/// Releases what the target has. Only the directory has to be known for it, so it works when the rest of the config is broken.
///
/// A config of which no ADD can have made anything is refused as by the reference plugin, whose suite asks for it.
pub(crate) fn del(config: &Config, target: &Target) -> Result<(), Error> {
    let released = store(config)?.release_all(&request::owner(target)?)?;
    if !released.is_empty() {
        return Ok(());
    }
    match Conf::parse(config, &CniArgs::default()) {
        Err(error @ Error::TooManyAddresses { .. }) => Err(error),
        _ => Ok(()),
    }
}

/// Releases what none of the valid attachments has. Whether a container still stands cannot be told here, so the young are
/// spared only if the config says so.
pub(crate) fn gc(config: &Config) -> Result<(), Error> {
    match gc::Order::of(config, Duration::ZERO)? {
        Some(order) => release_others(config, &order.valid, order.young),
        None => Ok(()),
    }
}

/// Releases what was reserved before this time for others than these.
pub(super) fn release_others(
    config: &Config,
    owners: &[Owner],
    young: SystemTime,
) -> Result<(), Error> {
    Ok(store(config)?.release_others(owners, young)?)
}

/// Who has got an address after this time.
pub(super) fn younger(config: &Config, time: SystemTime) -> Result<Vec<Owner>, Error> {
    let held = store(config)?.reservations_since(time)?;
    let owners = held.iter().filter_map(|held| held.holder.as_ref()?.owner());
    Ok(owners.collect())
}

/// Whether there is an address for one more.
pub(crate) fn status(config: &Config) -> Result<(), Error> {
    let conf = Conf::parse(config, &CniArgs::default())?;
    match store(config)?.room(&conf.ranges, boot())? {
        (0, total) => Err(Error::NotReady {
            limited: false,
            reason: format!(
                "all {total} addresses of a range set are reserved; remove pods, or give the network a larger range"
            ),
        }),
        _ => Ok(()),
    }
}

fn store(config: &Config) -> Result<HostLocal, Error> {
    Ok(HostLocal::new(
        &mirror::data_dir(&config.root()),
        &config.name,
    )?)
}
