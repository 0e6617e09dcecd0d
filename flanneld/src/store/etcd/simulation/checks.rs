//! What has to be true in a schedule.

use super::faults::Temper;
use super::run::Schedule;
use super::world::{Stage, World};
use crate::store::claim::{self, Claim};

impl Schedule {
    /// At every moment.
    pub(super) fn check_always(&self) -> Result<(), String> {
        let world = self.world.lock();
        // Etcd never had two leases in each other's way, and no reservation was taken or removed by a host.
        if let Some(wrong) = world.model.wrongs.first() {
            return Err(wrong.clone());
        }
        if self.temper != Temper::Meddled {
            beliefs_are_disjoint(&world)?;
        }
        Ok(())
    }

    /// Before hosts do anything, for a belief that has just run out may be renewed then: in a gentle schedule nobody loses.
    pub(super) fn check_patience(&self) -> Result<(), String> {
        if self.temper != Temper::Gentle {
            return Ok(());
        }
        nobody_loses(&self.world.lock())
    }

    /// When everything has worked for long enough.
    pub(super) fn check_calm(&self) -> Result<(), String> {
        let world = self.world.lock();
        beliefs_are_disjoint(&world)?;
        for (at, host) in self.hosts.iter().enumerate() {
            let said = |text: String| format!("after all is calm host {at} {text}");
            match world.hosts[at].stage {
                Stage::Holding(key, _) => {
                    let entry = world.model.entry(&key);
                    let entry = entry.ok_or_else(|| {
                        said(format!("believes to hold {key}, which is not there"))
                    })?;
                    if entry.record.as_ref() != Ok(&host.record) {
                        let says = &entry.record;
                        return Err(said(format!(
                            "holds {key}, which says {says:?} and not {}",
                            host.record
                        )));
                    }
                    if !holds(&world, at) {
                        return Err(said(format!("does not know that its {key} lasts")));
                    }
                }
                Stage::Lost(key) => {
                    let listing = world.model.listing();
                    let taken = world.model.entry(&key).is_some_and(|entry| {
                        entry.record.as_ref().map(|record| record.public) != Ok(host.record.public)
                    });
                    if !taken && claim::overlapping(&listing.entries, &key.subnets()).is_none() {
                        return Err(said(format!("waits for {key}, which it could have")));
                    }
                }
                Stage::Acquiring => {
                    let plan = host.conf.subnet_plan().map_err(|error| error.to_string())?;
                    let entries = world.model.listing().entries;
                    let decided = claim::decide(&plan, &entries, &host.record, None, || 0);
                    if let Ok(decision) = decided {
                        let could = match decision.claim {
                            Claim::Reuse(entry) => entry.key,
                            Claim::Create(key, _) => key,
                        };
                        return Err(said(format!("waits for a subnet, it could have {could}")));
                    }
                }
                Stage::Down => return Err(said("does not run".to_owned())),
            }
            let own = world.model.entries().filter(|entry| {
                !entry.is_reservation()
                    && entry.record.as_ref().map(|record| record.public) == Ok(host.record.public)
            });
            let own: Vec<String> = own.map(|entry| entry.key.to_string()).collect();
            if own.len() > 1 {
                return Err(said(format!("has several leases: {}", own.join(", "))));
            }
            self.check_view(&world, at).map_err(said)?;
        }
        Ok(())
    }

    /// What a host knows of the others is what etcd says.
    fn check_view(&self, world: &World, at: usize) -> Result<(), String> {
        let view = &world.hosts[at].view;
        let own = match world.hosts[at].stage {
            Stage::Holding(key, _) | Stage::Lost(key) => Some(key),
            Stage::Acquiring | Stage::Down => None,
        };
        let there = world.model.entries().filter(|entry| Some(entry.key) != own);
        let there: Vec<_> = there
            .map(|entry| (entry.key, entry.record.clone().ok(), entry.created))
            .collect();
        let seen: Vec<_> = view
            .peers()
            .map(|peer| (peer.key, Some(peer.record.clone()), peer.created))
            .collect();
        if there == seen && view.known() {
            return Ok(());
        }
        Err(format!("sees {seen:?}\nwhile there is {there:?}"))
    }
}

/// Whether the host believes, by its own clock, to hold its lease.
fn holds(world: &World, at: usize) -> bool {
    match world.hosts[at].stage {
        Stage::Holding(_, until) => until.is_none_or(|until| world.clock(at) < until),
        _ => false,
    }
}

fn beliefs_are_disjoint(world: &World) -> Result<(), String> {
    let held: Vec<_> = world
        .hosts
        .iter()
        .enumerate()
        .filter_map(|(at, host)| match host.stage {
            Stage::Holding(key, _) if holds(world, at) => Some((at, key)),
            _ => None,
        })
        .collect();
    for (index, (one, key)) in held.iter().enumerate() {
        for (other, its) in &held[index + 1..] {
            if key.subnets().overlap(&its.subnets()) {
                return Err(format!(
                    "host {one} holds {key} while host {other} holds {its}"
                ));
            }
        }
    }
    Ok(())
}

fn nobody_loses(world: &World) -> Result<(), String> {
    for (at, host) in world.hosts.iter().enumerate() {
        let over = matches!(host.stage, Stage::Holding(..)) && !holds(world, at);
        if over || matches!(host.stage, Stage::Lost(_)) {
            return Err(format!(
                "host {at} lost its lease though no outage was long: {:?}",
                host.stage
            ));
        }
    }
    Ok(())
}
