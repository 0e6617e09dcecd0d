//! The plugin `portmap`: ports of the host that lead to pods.
//!
//! Called behind the plugin that attaches the pod, whose result it passes on. What it knows of a pod is one record on disk
//! ([`ipam::host_ports`]); `rules` makes tables of all of them, which are written as a whole at each change. So whatever a kill
//! or somebody else has done to them is put right at the next one. `conf` reads what the runtime asks for, `kernel` sees to
//! what is not in the tables.

mod conf;
mod kernel;
mod rules;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use hostnet::nft::{Nftables, Table};
use ipam::host_ports::{DEFAULT_DIRECTORY, Locked, PortRecord, TABLE};
use ipam::{HostPorts, Owner};

use self::conf::Conf;
use crate::deadline::Deadline;
use crate::protocol::{Config, Error, Invocation, Request, Target};
use crate::verbs::gc;
use crate::{print, request};

/// How long GC spares a new record whose pod is still there: the runtime's list may be older.
const GRACE: Duration = Duration::from_secs(10);

/// Carries a call out.
pub(crate) fn run(
    call: &Invocation,
    config: &Config,
    stdout: &mut impl Write,
) -> Result<(), Error> {
    match &call.request {
        Request::Add(target) => add(config, target, stdout),
        Request::Check(target) => check(config, target),
        Request::Del(target) => del(target),
        Request::Gc => collect(config),
        Request::Status => status(config),
        Request::Version => Ok(()),
    }
}

fn store() -> HostPorts {
    HostPorts::new(DEFAULT_DIRECTORY)
}

/// Has the ports lead to the pod. Without any, nothing is looked at but the config.
fn add(config: &Config, target: &Target, stdout: &mut impl Write) -> Result<(), Error> {
    let conf = Conf::parse(config)?;
    let (result, document) = conf::previous(config)?;
    let record = conf.record(&result, config, target, kernel::namespace)?;
    let Some(record) = record else {
        return print(stdout, &document);
    };
    let owner = record.owner.clone();
    let deadline = Deadline::of_add();
    let store = store();
    let made = store
        .lock(deadline.lock_wait())
        .map_err(Error::from)
        .and_then(|locked| open_ports(&locked, record));
    let told = made.and_then(|()| print(stdout, &document));
    told.map_err(|error| error.after_undoing(close_ports(&store, &owner, deadline)))
}

fn open_ports(locked: &Locked<'_>, mut record: PortRecord) -> Result<(), Error> {
    let mut records = locked.records()?;
    // An ADD of the same attachment that was killed may have opened the link.
    record.localnet = kernel::localnet(&record, &records)?;
    records.retain(|other| other.owner != record.owner);
    // Who had the pod's address before it is gone, whether a DEL came or not.
    let has_address = |other: &PortRecord| {
        let mut addresses = other.addresses.iter().map(|pod| pod.address);
        let is_taken = addresses.any(|had| record.addresses.iter().any(|pod| pod.address == had));
        is_taken && other.host == record.host && other.owner != record.owner
    };
    if records.iter().any(has_address) {
        forget(locked, has_address)?;
        records.retain(|other| !has_address(other));
    }
    record.order = records.last().map_or(1, |last| last.order + 1);
    locked.write(&record)?;
    records.push(record.clone());
    write_tables(&records)?;
    kernel::let_loopback_through(&record)?;
    // What a runtime can do nothing about: at worst such a flow goes on for half a minute after its last packet.
    let _ = kernel::forget_flows_elsewhere(&record);
    Ok(())
}

/// Writes the tables that these records make, or removes those of which nothing is left.
fn write_tables(records: &[PortRecord]) -> Result<(), Error> {
    let here = kernel::namespace()?;
    let here: Vec<_> = records
        .iter()
        .filter(|record| record.host == here)
        .collect();
    replace(&rules::tables(&here)).map_err(Error::HostPortRules)
}

fn replace(tables: &[Table]) -> Result<(), hostnet::nft::Error> {
    let mut nftables = Nftables::open()?;
    nftables.replace(tables)?;
    for family in rules::FAMILIES {
        let needed = tables.iter().any(|table| table.family == family);
        // A kernel may lack the family, and then has no table to be deleted.
        if !needed && nftables.observe(family, TABLE)?.is_some() {
            nftables.delete(&[(family, TABLE)])?;
        }
    }
    Ok(())
}

/// Takes the ports away. Goes by the record alone, so that it works without config, result and namespace.
fn del(target: &Target) -> Result<(), Error> {
    let owner = request::owner(target)?;
    let store = store();
    if !store.has(&owner) {
        return Ok(());
    }
    close_ports(&store, &owner, Deadline::of_del())
}

fn close_ports(store: &HostPorts, owner: &Owner, deadline: Deadline) -> Result<(), Error> {
    let locked = store.lock(deadline.lock_wait())?;
    forget(&locked, |record| record.owner == *owner)?;
    // A file that cannot be read is no record, but it must not stay for ever either.
    Ok(locked.remove(owner)?)
}

/// Removes these records, first from the kernel: a kill in between leaves them to the next DEL.
fn forget(locked: &Locked<'_>, is_stale: impl Fn(&PortRecord) -> bool) -> Result<(), Error> {
    let (stale, mut left): (Vec<_>, Vec<_>) = locked.records()?.into_iter().partition(is_stale);
    write_tables(&left)?;
    for record in &stale {
        if let Some(heir) = kernel::give_loopback_up(record, &mut left)? {
            locked.write(heir)?;
        }
        let _ = kernel::forget_flows_to(record);
        locked.remove(&record.owner)?;
    }
    Ok(())
}

/// Finds out whether the ports lead to the pod, and all is there that this takes.
fn check(config: &Config, target: &Target) -> Result<(), Error> {
    let conf = Conf::parse(config)?;
    let (result, _) = conf::previous(config)?;
    let record = conf.record(&result, config, target, kernel::namespace)?;
    let Some(wanted) = record else {
        return Ok(());
    };
    let store = store();
    let damaged = |what: String| Err(Error::Damaged { what });
    if !store.has(&wanted.owner) {
        return damaged("its host ports are not on record".to_owned());
    }
    let locked = store.lock(Deadline::of_del().lock_wait())?;
    let mut records = locked.records()?;
    records.retain(|record| record.host == wanted.host);
    let known = records.iter().find(|record| record.owner == wanted.owner);
    if known.is_none_or(|known| !rules::is_same(known, &wanted)) {
        return damaged("other host ports than these are on record for it".to_owned());
    }
    let mut nftables = Nftables::open().map_err(Error::HostPortRules)?;
    // What others need is no fault of this pod's: somebody may have killed their calls half-way.
    for table in rules::share(&records.iter().collect::<Vec<_>>(), &wanted) {
        let observed = nftables.observe(table.family, &table.name);
        let observed = observed.map_err(Error::HostPortRules)?;
        let wanted = table.compile().map_err(Error::HostPortRules)?;
        if let Some(drift) = wanted.lacking(observed.as_ref()).first() {
            return damaged(format!("of the rules for host ports, {drift}"));
        }
    }
    Ok(())
}

/// Removes what the runtime no longer knows of this network, and puts the rest right.
fn collect(config: &Config) -> Result<(), Error> {
    let store = store();
    let Some(gc::Order { valid, young }) = gc::Order::of(config, GRACE)? else {
        return Ok(());
    };
    if store.is_unused() {
        return Ok(());
    }
    let locked = store.lock(Deadline::of_del().lock_wait())?;
    forget(&locked, |record| {
        let spared = || {
            let written = store.written(&record.owner).unwrap_or(UNIX_EPOCH);
            written > young && Path::new(&record.netns).exists()
        };
        record.network == config.name && !valid.contains(&record.owner) && !spared()
    })
}

/// Whether the kernel could hold the rules of a pod, of either family at least.
fn status(config: &Config) -> Result<(), Error> {
    Conf::parse(config)?;
    let mut nftables = Nftables::open().map_err(Error::HostPortRules)?;
    let mut check = |table| nftables.check(&[table]);
    let [ipv4, ipv6] = rules::FAMILIES.map(rules::empty);
    match check(ipv4).or_else(|error| check(ipv6).map_err(|_| error)) {
        Ok(()) => Ok(()),
        Err(error) => Err(Error::NotReady {
            limited: false,
            reason: format!("host ports need nf_tables with address translation: {error}"),
        }),
    }
}
