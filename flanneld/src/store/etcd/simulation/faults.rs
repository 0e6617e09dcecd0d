//! What may happen in a schedule.

use ipam::{LeaseBackend, LeaseRecord};

use super::model::{By, Millis};
use super::run::{Host, Schedule};
use super::scene::{any_key, free_key, plain, stranger};
use super::world::{Event, Link, Stage};

/// How rough a schedule is, which says what may be demanded of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Temper {
    /// No outage is longer than a fraction of a lease's time: nobody may ever lose a lease.
    Gentle,
    /// Outages and pauses of any length, kills, restarts: what a host believes to hold it holds.
    Rough,
    /// Somebody meddles besides: deletes and overwrites leases, restores backups, stops the clocks of hosts. What a host believes
    /// is then out of date until it hears of it, but what etcd says is never wrong.
    Meddled,
}

/// One thing that happens.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// The network of a host refuses or swallows everything for a time.
    Unlink {
        host: usize,
        silent: bool,
        length: Millis,
    },
    Relink {
        host: usize,
    },
    /// Etcd is away for a time.
    StopEtcd {
        length: Millis,
    },
    StartEtcd,
    /// Another leader: watches break, etcd leases get their full time again.
    Elect,
    Compact,
    Backup,
    Restore,
    /// A daemon dies and is started again; its subnet file may be gone by then.
    Kill {
        host: usize,
        length: Millis,
        forgets: bool,
    },
    Start {
        host: usize,
        forgets: bool,
    },
    /// A host stands still for a time; its clock may stand still with it, as on a suspended machine.
    Pause {
        host: usize,
        length: Millis,
        frozen: bool,
    },
    Resume {
        host: usize,
        missed: Millis,
    },
    /// A host's clock jumps ahead.
    Jump {
        host: usize,
        by: Millis,
    },
    /// A host has something new to publish.
    Publish {
        host: usize,
    },
    /// An operator reserves a free subnet, for a host or (the number after the last) for nobody here.
    Reserve {
        for_host: usize,
    },
    /// Somebody renews a lease as flannel does: the same content under another etcd lease.
    Renew {
        host: usize,
        seconds: i64,
    },
    /// Somebody deletes an entry.
    Delete,
    /// Somebody writes another host into an entry.
    Overwrite,
}

impl Schedule {
    /// Lets something of the schedule happen.
    pub(super) fn happen(&mut self, fault: Fault) {
        let now = self.world.lock().now;
        self.log.push(format!("{now} {fault:?}"));
        match fault {
            Fault::Kill {
                host,
                length,
                forgets,
            } => {
                let start = Event::Fault(Fault::Start { host, forgets });
                self.world.lock().after(length, start);
                self.kill(host);
            }
            Fault::Start { host, forgets } => self.start(host, forgets),
            fault => self.happen_to_world(fault, now),
        }
        self.world.lock().stir_watches();
    }

    fn happen_to_world(&mut self, fault: Fault, now: Millis) {
        let mut world = self.world.lock();
        match fault {
            Fault::Unlink {
                host,
                silent,
                length,
            } => {
                let link = if silent { Link::Silent(now) } else { Link::Cut };
                world.set_link(host, link);
                world.after(length, Event::Fault(Fault::Relink { host }));
            }
            Fault::Relink { host } => world.set_link(host, Link::Whole),
            Fault::StopEtcd { length } => {
                world.etcd_runs = false;
                world.break_watches(|_| true);
                world.after(length, Event::Fault(Fault::StartEtcd));
            }
            Fault::StartEtcd => {
                if !world.etcd_runs {
                    world.etcd_runs = true;
                    world.model.elect(now);
                    world.watch_the_clock();
                }
            }
            Fault::Elect => {
                world.model.elect(now);
                world.break_watches(|host| host % 2 == 0);
            }
            Fault::Compact => world.model.compact(),
            Fault::Backup => self.backup = Some(world.model.clone()),
            Fault::Restore => {
                if let Some(backup) = self.backup.clone() {
                    world.model.restore(backup, now);
                    world.break_watches(|_| true);
                    world.watch_the_clock();
                }
            }
            Fault::Pause {
                host,
                length,
                frozen,
            } => {
                if !world.hosts[host].paused {
                    world.hosts[host].paused = true;
                    let missed = if frozen { length } else { 0 };
                    world.after(length, Event::Fault(Fault::Resume { host, missed }));
                }
            }
            Fault::Resume { host, missed } => {
                let state = &mut world.hosts[host];
                if std::mem::take(&mut state.paused) {
                    state.ahead = state.ahead.saturating_sub_unsigned(missed);
                    state.stirred = true;
                }
            }
            Fault::Jump { host, by } => {
                let state = &mut world.hosts[host];
                state.ahead = state.ahead.saturating_add_unsigned(by);
                state.stirred = true;
            }
            Fault::Publish { host } => {
                let Host {
                    record, desired, ..
                } = &mut self.hosts[host];
                if let LeaseBackend::Vxlan(vteps) = &mut record.backend {
                    let number = self.random.number().to_le_bytes()[0];
                    let vteps = [vteps.v4.as_mut(), vteps.v6.as_mut()];
                    for vtep in vteps.into_iter().flatten() {
                        vtep.mac.0[4] = number;
                    }
                }
                if let Some(desired) = desired {
                    desired.send_replace(record.clone());
                }
                world.hosts[host].stirred = true;
            }
            Fault::Reserve { for_host } => {
                let stranger = stranger(7);
                let record = match self.hosts.get(for_host) {
                    Some(host) => &host.record,
                    None => &stranger,
                };
                // As an operator writes it, who knows nothing of MACs.
                let record = LeaseRecord {
                    public: record.public,
                    backend: LeaseBackend::Unnamed,
                };
                let conf = &self.hosts[for_host % self.hosts.len()].conf;
                let free = free_key(&world.model, conf, &record, &mut self.random);
                if let Some(key) = free {
                    world.model.write(&plain(key, &record, 0), By::Other);
                }
            }
            Fault::Renew { host, seconds } => {
                let Stage::Holding(key, _) = world.hosts[host].stage else {
                    return;
                };
                let known = world.model.entry(&key).cloned();
                let Some(entry) = known.filter(|entry| !entry.is_reservation()) else {
                    return;
                };
                if let Ok(record) = &entry.record {
                    let id = i64::try_from(self.random.number() >> 2).unwrap_or(1) | 1;
                    world.model.grant(seconds, id, now);
                    world.model.write(&plain(key, record, id), By::Other);
                    world.watch_the_clock();
                }
            }
            Fault::Delete => {
                if let Some(key) = any_key(&world.model, &mut self.random) {
                    world.model.delete(&key);
                }
            }
            Fault::Overwrite => {
                if let Some(key) = any_key(&world.model, &mut self.random) {
                    let id = i64::try_from(self.random.number() >> 2).unwrap_or(1) | 1;
                    world.model.grant(60, id, now);
                    world.model.write(&plain(key, &stranger(9), id), By::Other);
                    world.watch_the_clock();
                }
            }
            Fault::Kill { .. } | Fault::Start { .. } => {}
        }
    }
}
