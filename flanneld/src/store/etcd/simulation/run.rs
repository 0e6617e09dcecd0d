//! One schedule: hosts, what happens to them, and the checks. The same seed gives the same schedule, event by event.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use ipam::{LeaseRecord, NetConf, Subnets};
use tokio::sync::watch;

use super::daemon::{Shared, SimulatedPort, live};
use super::faults::{Fault, Temper};
use super::model::{Millis, Model};
use super::random::Random;
use super::scene::{config, confs, record};
use super::world::{Event, Stage, World};
use crate::store::etcd::keys::Keys;

/// The time of a lease.
pub(super) const LEASE: Millis = 60_000;

/// How long things go wrong, and how long everything works afterwards until all must be well.
const TROUBLE: Millis = 3 * LEASE;
const CALM: Millis = 4 * LEASE;

/// More events than that in one of these times are a storm.
const STORM: usize = 100_000;

/// What is demanded beside everything else; see [`super::checks`].
pub(super) struct Schedule {
    pub(super) world: Shared,
    pub(super) temper: Temper,
    pub(super) hosts: Vec<Host>,
    pub(super) random: Random,
    pub(super) keys: Keys,
    /// What happened, for whoever has to find out why.
    pub(super) log: Vec<String>,
    pub(super) backup: Option<Model>,
}

/// A host and the daemon on it.
pub(super) struct Host {
    pub(super) conf: NetConf,
    pub(super) record: LeaseRecord,
    pub(super) desired: Option<watch::Sender<LeaseRecord>>,
    /// What its subnet file says.
    previous: Option<Subnets>,
    daemon: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// Notes that a future wants to be polled again.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Schedule {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let temper = match random.below(3) {
            0 => Temper::Gentle,
            1 => Temper::Rough,
            _ => Temper::Meddled,
        };
        let count = 2 + random.below(4);
        let confs = confs(&mut random, count);
        let hosts: Vec<Host> = (0..count)
            .map(|number| {
                let conf = random.pick(&confs).cloned();
                let conf = conf.expect("there are configurations");
                Host {
                    record: record(number, &conf),
                    conf,
                    desired: None,
                    previous: None,
                    daemon: None,
                }
            })
            .collect();
        let keys = Keys::new("/coreos.com/network");
        let model = Model::new(keys.clone());
        let mut world = World::new(random.number(), hosts.len(), model);
        world.noise = match temper {
            Temper::Gentle => random.below(60),
            Temper::Rough | Temper::Meddled => random.below(250),
        };
        Self {
            world: Shared::new(world),
            temper,
            hosts,
            random,
            keys,
            log: Vec::new(),
            backup: None,
        }
    }

    /// Runs it.
    pub(super) fn run(&mut self) -> Result<(), String> {
        for host in 0..self.hosts.len() {
            // Most at once.
            let delay = if self.random.one_in(4) {
                self.random.below(TROUBLE)
            } else {
                self.random.below(20)
            };
            let start = Fault::Start {
                host,
                forgets: false,
            };
            self.world.lock().after(delay, Event::Fault(start));
        }
        for _ in 0..2 {
            self.plan_faults();
            self.advance(TROUBLE)?;
            self.heal();
            self.advance(CALM)?;
            self.check_calm()?;
        }
        Ok(())
    }

    fn advance(&mut self, length: Millis) -> Result<(), String> {
        let until = self.world.lock().now + length;
        for _ in 0..STORM {
            // Nobody's belief grows while no host runs.
            if self.world.lock().anybody_stirs() {
                self.check_patience()?;
                self.poll_hosts()?;
                self.check_always()?;
            }
            let event = self.world.lock().step(until);
            let Some(event) = event else {
                return Ok(());
            };
            self.handle(event);
        }
        Err(format!("a storm: more than {STORM} events"))
    }

    fn handle(&mut self, event: Event) {
        let mut world = self.world.lock();
        match event {
            Event::Arrive { request, ask } => world.arrive(request, ask),
            Event::Answer { request, answer } => world.answer(request, answer),
            Event::GiveUp { request, tried } => world.give_up(request, tried),
            Event::Tell(watch) => world.tell(watch),
            Event::Probe { host, silent_since } => world.probe(host, silent_since),
            Event::Due(host) => world.wake(host),
            Event::Expire => world.expire(),
            Event::Fault(fault) => {
                drop(world);
                self.happen(fault);
            }
        }
    }

    fn poll_hosts(&mut self) -> Result<(), String> {
        for at in 0..self.hosts.len() {
            {
                let state = &mut self.world.lock().hosts[at];
                if state.paused || !std::mem::take(&mut state.stirred) {
                    continue;
                }
            }
            let Some(daemon) = &mut self.hosts[at].daemon else {
                continue;
            };
            if poll(daemon.as_mut(), || {
                self.world.lock().hosts[at].timers.clear()
            })? {
                return Err(format!("the daemon of host {at} ended by itself"));
            }
            let mut world = self.world.lock();
            world.set_alarm(at);
            if let Stage::Holding(key, _) = world.hosts[at].stage {
                self.hosts[at].previous = Some(key.subnets());
            }
        }
        Ok(())
    }

    /// Starts the daemon of a host.
    pub(super) fn start(&mut self, at: usize, forgets: bool) {
        let host = &mut self.hosts[at];
        if host.daemon.is_some() {
            return;
        }
        if forgets {
            host.previous = None;
        }
        let (desired, record) = watch::channel(host.record.clone());
        host.desired = Some(desired);
        let port = SimulatedPort {
            world: self.world.clone(),
            host: at,
            keys: self.keys.clone(),
            config: config(),
        };
        let daemon = live(port, host.conf.clone(), record, host.previous);
        host.daemon = Some(Box::pin(daemon));
        let state = &mut self.world.lock().hosts[at];
        state.stage = Stage::Acquiring;
        state.stirred = true;
    }

    /// Ends the daemon of a host without a word.
    pub(super) fn kill(&mut self, at: usize) {
        self.hosts[at].daemon = None;
        let state = &mut self.world.lock().hosts[at];
        state.stage = Stage::Down;
        state.view = crate::leases::Leases::default();
    }
}

/// Polls a future until it waits for the world; true when it is over.
fn poll(
    mut future: Pin<&mut (dyn Future<Output = ()> + Send)>,
    mut before: impl FnMut(),
) -> Result<bool, String> {
    let flag = Arc::new(Flag(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&flag));
    for _ in 0..1000 {
        flag.0.store(false, Ordering::Relaxed);
        before();
        if let Poll::Ready(()) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Ok(true);
        }
        if !flag.0.load(Ordering::Relaxed) {
            return Ok(false);
        }
    }
    Err("a daemon turns in a circle without waiting".to_owned())
}
