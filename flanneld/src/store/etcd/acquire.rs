//! How our lease comes to be: list, decide, write under comparison, and again when another node was quicker.

use std::time::Duration;

use ipam::{LeaseRecord, NetConf, SubnetPlan, Subnets};
use tracing::{info, warn};

use super::leases::{Held, Leases};
use super::port::Port;
use crate::store::backoff::Backoff;
use crate::store::claim::{self, Claim, Decision, Full};
use crate::store::{Origin, OwnLease, StoreError};

/// Lost races in a row after which the caller hears about it. Each means that another node got its lease.
const RACES: usize = 50;

/// Delays between lost races: enough to come out of step with the other nodes.
const RACE_DELAY: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));

/// See [`crate::store::LeaseStore::acquire`].
pub(super) async fn acquire<P: Port>(
    leases: &Leases<P>,
    conf: &NetConf,
    record: &LeaseRecord,
    previous: Option<&Subnets>,
) -> Result<OwnLease, StoreError> {
    let plan = conf.subnet_plan().map_err(|error| StoreError::Settings {
        setting: leases.port.keys().config(),
        reason: error.to_string(),
    })?;
    let mut backoff = Backoff::new(RACE_DELAY.0, RACE_DELAY.1);
    for _ in 0..RACES {
        if let Some(own) = try_once(leases, &plan, record, previous).await? {
            return Ok(own);
        }
        leases.port.pause(&mut backoff).await;
    }
    Err(StoreError::Contended { tries: RACES })
}

/// None when the leases changed between the listing and our write.
async fn try_once<P: Port>(
    leases: &Leases<P>,
    plan: &SubnetPlan,
    record: &LeaseRecord,
    previous: Option<&Subnets>,
) -> Result<Option<OwnLease>, StoreError> {
    let listing = leases.port.list().await?;
    let decided = claim::decide(plan, &listing.entries, record, previous, || {
        leases.port.random()
    });
    let decision = decided.map_err(|Full(range)| StoreError::NoSubnetFree {
        range,
        leases: listing.entries.len(),
    })?;
    report_misfits(leases, &decision);
    let (key, origin, held) = match &decision.claim {
        Claim::Reuse(entry) => (entry.key, Origin::Reused, leases.hold(entry, record).await?),
        Claim::Create(key, origin) => {
            let held = leases
                .create(key, record, &decision.withdraw, &listing)
                .await?;
            (*key, *origin, held)
        }
    };
    Ok(held.map(|Held { expires, .. }| OwnLease {
        key,
        record: record.clone(),
        expires,
        origin,
    }))
}

fn report_misfits<P: Port>(leases: &Leases<P>, decision: &Decision) {
    for entry in &decision.unfit {
        let key = leases.port.keys().lease(&entry.key);
        warn!(
            "the reservation {key} for this host does not fit the network configuration and is not used; \
             remove it with `etcdctl del '{key}'` or correct it"
        );
    }
    if matches!(decision.claim, Claim::Create(..)) {
        for entry in &decision.withdraw {
            let key = leases.port.keys().lease(&entry.key);
            info!(
                "the lease {key} of this host does not fit the network configuration any more; replacing it"
            );
        }
    }
}
