//! Which faults a schedule has, and how it is made whole again.

use super::faults::{Fault, Temper};
use super::model::Millis;
use super::run::{LEASE, Schedule};
use super::world::{Event, Link};

/// The longest outage of a gentle schedule. A renewal is tried for half of a lease's time; a request that hangs costs ten seconds
/// of it, and one that follows too.
const SHORT: Millis = LEASE / 12;

impl Schedule {
    /// Puts faults into the time to come.
    pub(super) fn plan_faults(&mut self) {
        let count = match self.temper {
            // Far from each other, so that outages do not add up.
            Temper::Gentle => 3,
            Temper::Rough | Temper::Meddled => 2 + self.random.below(12),
        };
        for number in 0..count {
            let at = match self.temper {
                Temper::Gentle => number * LEASE + self.random.below(LEASE / 6),
                Temper::Rough | Temper::Meddled => self.random.below(3 * LEASE),
            };
            let fault = self.draw();
            self.world.lock().after(at, Event::Fault(fault));
        }
    }

    fn draw(&mut self) -> Fault {
        let hosts = self.hosts.len() as u64;
        let host = usize::try_from(self.random.below(hosts)).unwrap_or(0);
        let length = match self.temper {
            Temper::Gentle => self.random.below(SHORT),
            Temper::Rough | Temper::Meddled if self.random.one_in(2) => self.random.below(LEASE),
            Temper::Rough | Temper::Meddled => self.random.below(3 * LEASE),
        };
        let kinds = match self.temper {
            Temper::Gentle => 8,
            Temper::Rough => 11,
            Temper::Meddled => 16,
        };
        // A write that comes late or twice finds what another host wrote meanwhile.
        if self.temper != Temper::Gentle && self.random.one_in(4) {
            return Fault::Publish { host };
        }
        match self.random.below(kinds) {
            0 | 1 => Fault::Unlink {
                host,
                silent: self.random.one_in(2),
                length,
            },
            2 => Fault::StopEtcd { length },
            3 => Fault::Elect,
            4 => Fault::Compact,
            5 => Fault::Publish { host },
            6 => Fault::Renew {
                host,
                seconds: 60 + i64::from(self.random.one_in(3)) * 60,
            },
            7 => Fault::Pause {
                host,
                length,
                frozen: false,
            },
            8 => Fault::Kill {
                host,
                length,
                forgets: self.random.one_in(3),
            },
            9 => Fault::Jump { host, by: length },
            10 => Fault::Reserve {
                for_host: usize::try_from(self.random.below(hosts + 1)).unwrap_or(0),
            },
            11 => Fault::Pause {
                host,
                length,
                frozen: true,
            },
            12 => Fault::Delete,
            13 => Fault::Overwrite,
            14 => Fault::Backup,
            _ => Fault::Restore,
        }
    }

    /// Makes everything whole; what is on its way gets lost.
    pub(super) fn heal(&mut self) {
        let hosts = self.hosts.len();
        {
            let mut world = self.world.lock();
            world.lose_what_is_late();
            world.noise = 0;
            for host in 0..hosts {
                world.set_link(host, Link::Whole);
            }
        }
        self.happen(Fault::StartEtcd);
        for host in 0..hosts {
            // One whose clock stood still for how long nobody knows now: it goes on from there.
            self.happen(Fault::Resume { host, missed: 0 });
            self.happen(Fault::Start {
                host,
                forgets: false,
            });
        }
    }
}
