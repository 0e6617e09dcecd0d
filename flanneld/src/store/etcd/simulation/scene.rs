//! What a schedule is set up from: hosts' records, network configurations, subnets an operator may choose.

use std::time::Duration;

use ipam::{LeaseBackend, LeaseKey, LeaseRecord, Mac, NetConf, PerFamily, Vni, VxlanLease};

use super::model::Model;
use super::random::Random;
use super::run::LEASE;
use crate::store::claim::{self, Claim};
use crate::store::etcd::config::EtcdConfig;
use crate::store::etcd::port::Write;

/// The times of the simulated hosts.
pub(super) fn config() -> EtcdConfig {
    let mut config = EtcdConfig::default();
    config.timing.lease = Duration::from_millis(LEASE);
    config.timing.grace = Duration::from_millis(LEASE / 2);
    config.timing.relist = Duration::from_millis(2 * LEASE);
    config.renew_margin = Duration::from_millis(LEASE / 6);
    config
}

/// A host's record; the family that the network lacks has no address.
pub(super) fn record(number: u64, conf: &NetConf) -> LeaseRecord {
    let number = u8::try_from(number + 1).unwrap_or(u8::MAX);
    let vtep = |family| VxlanLease {
        vni: Some(Vni::DEFAULT),
        mac: Mac([0x0e, family, 0, 0, 0, number]),
    };
    let (v4, v6) = (conf.networks.v4.is_some(), conf.networks.v6.is_some());
    LeaseRecord {
        public: PerFamily {
            v4: v4.then(|| [192, 0, 2, number].into()),
            v6: v6.then(|| [0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(number)].into()),
        },
        backend: LeaseBackend::Vxlan(PerFamily {
            v4: v4.then(|| vtep(4)),
            v6: v6.then(|| vtep(6)),
        }),
    }
}

/// A host that does not take part.
pub(super) fn stranger(number: u8) -> LeaseRecord {
    LeaseRecord {
        public: PerFamily::v4([198, 51, 100, number].into()),
        backend: LeaseBackend::HostGw,
    }
}

/// The network configurations of the hosts: mostly one, with as many subnets as hosts, a few less or more; sometimes two that
/// differ in the length of the subnets, as while an operator changes it.
pub(super) fn confs(random: &mut Random, hosts: u64) -> Vec<NetConf> {
    let subnets = (hosts + random.below(4)).saturating_sub(1).max(1);
    let v4 = format!(
        r#""Network": "10.5.0.0/16", "SubnetMin": "10.5.10.0", "SubnetMax": "10.5.{}.0""#,
        9 + subnets
    );
    let v6 = format!(
        r#""EnableIPv6": true, "IPv6Network": "fd00::/48", "IPv6SubnetMin": "fd00:0:0:10::",
           "IPv6SubnetMax": "fd00:0:0:{:x}::""#,
        15 + subnets
    );
    let texts = match random.below(6) {
        0 => vec![format!("{{{v4}, {v6}}}")],
        1 => vec![format!(r#"{{"EnableIPv4": false, {v6}}}"#)],
        2 => vec![
            r#"{"Network": "10.5.0.0/21", "SubnetLen": 25}"#.to_owned(),
            r#"{"Network": "10.5.0.0/21", "SubnetLen": 23}"#.to_owned(),
        ],
        _ => vec![format!("{{{v4}}}")],
    };
    texts
        .iter()
        .map(|text| NetConf::parse(text.as_bytes()).expect("a network configuration"))
        .collect()
}

/// A write as anybody does it, without comparing anything.
pub(super) fn plain(key: LeaseKey, record: &LeaseRecord, grant: i64) -> Write {
    Write {
        key,
        value: record.to_json(),
        grant,
        conditions: Vec::new(),
        withdraw: Vec::new(),
    }
}

/// A key that a host of `conf` could have and nobody has.
pub(super) fn free_key(
    model: &Model,
    conf: &NetConf,
    record: &LeaseRecord,
    random: &mut Random,
) -> Option<LeaseKey> {
    let plan = conf.subnet_plan().ok()?;
    let listing = model.listing();
    if listing.entries.iter().any(|entry| {
        entry.is_reservation()
            && entry
                .record
                .as_ref()
                .is_ok_and(|one| one.public == record.public)
    }) {
        return None;
    }
    // As a host nobody knows: so nothing is reused.
    let unknown = LeaseRecord {
        public: PerFamily::v4([203, 0, 113, 1].into()),
        backend: LeaseBackend::HostGw,
    };
    let decided = claim::decide(&plan, &listing.entries, &unknown, None, || random.number());
    match decided.ok()?.claim {
        Claim::Create(key, _) => Some(key),
        Claim::Reuse(_) => None,
    }
}

/// One of the keys there are.
pub(super) fn any_key(model: &Model, random: &mut Random) -> Option<LeaseKey> {
    let all: Vec<LeaseKey> = model.entries().map(|entry| entry.key).collect();
    random.pick(&all).copied()
}
