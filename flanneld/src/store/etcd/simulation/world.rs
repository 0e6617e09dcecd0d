//! The world of the simulation: true time, the hosts' clocks, the network between the hosts and the model of etcd, with all that
//! can happen to a request. Everything follows from the seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use ipam::LeaseKey;
use tokio::time::Instant;

use super::model::{By, Millis, Model};
use super::random::Random;
use super::watches::Watching;
use crate::leases::Leases;
use crate::store::StoreError;
use crate::store::claim::Entry;
use crate::store::etcd::listing::Listing;
use crate::store::etcd::port::{Granted, Limit, Scope, Write};

/// How long one endpoint is waited for, and how many there are.
const LIMIT: Millis = 5_000;
const ENDPOINTS: usize = 2;

/// A request.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    List,
    Read(LeaseKey),
    Write(Write),
    Grant(i64),
    Limit(i64),
    KeepAlive(i64),
    Revoke(i64),
    Watch(Scope),
}

/// What etcd answers.
#[derive(Debug)]
pub(super) enum Answer {
    List(Listing),
    Read(Option<Entry>),
    Write(Option<i64>),
    Grant(Granted),
    Limit(Option<Limit>),
    KeepAlive(bool),
    Revoke,
    Watch(u64),
}

/// What is to happen at a certain time.
#[derive(Debug)]
pub(super) enum Event {
    /// A request arrives at etcd.
    Arrive { request: u64, ask: Ask },
    /// An answer arrives at the host.
    Answer { request: u64, answer: Answer },
    /// An endpoint was waited for long enough.
    GiveUp { request: u64, tried: usize },
    /// A watch may have something to tell.
    Tell(u64),
    /// The network of a host has been silent for long: its watches break unless it speaks again.
    Probe { host: usize, silent_since: Millis },
    /// Something a host waits for is due by its clock.
    Due(usize),
    /// An etcd lease may be over.
    Expire,
    /// Something of the schedule.
    Fault(super::faults::Fault),
}

/// What the network of a host does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Whole,
    /// Refuses at once.
    Cut,
    /// Swallows; what is on the way may arrive much later.
    Silent(Millis),
}

/// A host as the world sees it.
#[derive(Debug)]
pub(super) struct HostState {
    /// What its clock is ahead of true time.
    pub(super) ahead: i64,
    /// It stands still.
    pub(super) paused: bool,
    pub(super) link: Link,
    /// What it waits for, by its clock; renewed with each poll.
    pub(super) timers: Vec<Instant>,
    /// When it is to be woken for the first of them.
    pub(super) due: Option<Millis>,
    /// It has something to do.
    pub(super) stirred: bool,
    /// What its daemon believes.
    pub(super) stage: Stage,
    /// The leases as it follows them.
    pub(super) view: Leases,
}

/// How far a daemon is, by what it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    /// It does not run.
    Down,
    /// It wants a lease.
    Acquiring,
    /// It has one, until the time told by its own clock; None for ever.
    Holding(LeaseKey, Option<Instant>),
    /// It was told that the lease is lost, and waits for it.
    Lost(LeaseKey),
}

#[derive(Debug)]
struct Request {
    host: usize,
    ask: Ask,
    answer: Option<Result<Answer, StoreError>>,
}

/// See the module.
pub(super) struct World {
    pub(super) now: Millis,
    pub(super) random: Random,
    pub(super) model: Model,
    pub(super) hosts: Vec<HostState>,
    pub(super) etcd_runs: bool,
    /// Of a thousand requests and answers so many get lost, late or doubled.
    pub(super) noise: u64,
    start: Instant,
    queue: BinaryHeap<Reverse<(Millis, u64)>>,
    events: BTreeMap<u64, Event>,
    number: u64,
    requests: BTreeMap<u64, Request>,
    pub(super) watches: BTreeMap<u64, Watching>,
    /// Up to which revision the watches were stirred.
    pub(super) told: i64,
    /// The end of an etcd lease that is waited for.
    expiry: Option<Millis>,
}

impl World {
    pub(super) fn new(seed: u64, hosts: usize, model: Model) -> Self {
        let host = |_| HostState {
            ahead: 0,
            paused: false,
            link: Link::Whole,
            timers: Vec::new(),
            due: None,
            stirred: true,
            stage: Stage::Down,
            view: Leases::default(),
        };
        Self {
            now: 1_000_000,
            random: Random::new(seed),
            model,
            hosts: (0..hosts).map(host).collect(),
            etcd_runs: true,
            noise: 0,
            // Only differences matter.
            start: Instant::now(),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            number: 0,
            requests: BTreeMap::new(),
            watches: BTreeMap::new(),
            told: 0,
            expiry: None,
        }
    }

    pub(super) fn number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// Lets something happen after `delay`.
    pub(super) fn after(&mut self, delay: Millis, event: Event) {
        let number = self.number();
        self.queue.push(Reverse((self.now + delay, number)));
        self.events.insert(number, event);
    }

    /// The next event, unless it is later than `until`; the time is then what it says.
    pub(super) fn step(&mut self, until: Millis) -> Option<Event> {
        let Reverse((at, number)) = *self.queue.peek()?;
        if at > until {
            self.now = until;
            return None;
        }
        self.queue.pop();
        self.now = self.now.max(at);
        self.events.remove(&number)
    }

    /// A host's clock.
    pub(super) fn clock(&self, host: usize) -> Instant {
        let millis = self.now.saturating_add_signed(self.hosts[host].ahead);
        self.start + std::time::Duration::from_millis(millis)
    }

    /// Whether a host has something to do and can.
    pub(super) fn anybody_stirs(&self) -> bool {
        self.hosts.iter().any(|host| host.stirred && !host.paused)
    }

    /// Wakes a host when its clock shows the first of the times it waits for.
    pub(super) fn set_alarm(&mut self, host: usize) {
        let Some(first) = self.hosts[host].timers.iter().min() else {
            return;
        };
        let wait = first.saturating_duration_since(self.clock(host));
        let wait = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(Millis::MAX / 4);
        let due = Some(self.now + wait);
        if self.hosts[host].due != due {
            self.hosts[host].due = due;
            self.after(wait, Event::Due(host));
        }
    }

    /// What a host waits for may be due.
    pub(super) fn wake(&mut self, host: usize) {
        let state = &mut self.hosts[host];
        if state.due.is_some_and(|due| due <= self.now) {
            state.due = None;
            state.stirred = true;
        }
    }

    fn lucky(&mut self) -> bool {
        self.random.below(1000) >= self.noise
    }

    /// A host sends a request.
    pub(super) fn ask(&mut self, host: usize, ask: Ask) -> u64 {
        let number = self.number();
        let request = Request {
            host,
            ask,
            answer: None,
        };
        self.requests.insert(number, request);
        self.attempt(number, 1);
        number
    }

    fn attempt(&mut self, request: u64, tried: usize) {
        let Some(Request { host, ask, .. }) = self.requests.get(&request) else {
            return;
        };
        let (host, ask) = (*host, ask.clone());
        let delay = 1 + self.random.below(8);
        if self.hosts[host].link == Link::Cut || !self.etcd_runs {
            self.after(delay, Event::GiveUp { request, tried });
            return;
        }
        if !self.lucky() {
            match self.random.below(3) {
                // It gets lost, comes late or comes twice.
                0 => {}
                1 => self.late(request, ask),
                _ => {
                    self.after(
                        delay,
                        Event::Arrive {
                            request,
                            ask: ask.clone(),
                        },
                    );
                    self.late(request, ask);
                }
            }
        } else {
            self.after(delay, Event::Arrive { request, ask });
        }
        self.after(LIMIT, Event::GiveUp { request, tried });
    }

    fn late(&mut self, request: u64, ask: Ask) {
        let delay = self.random.below(70_000);
        self.after(delay, Event::Arrive { request, ask });
    }

    pub(super) fn arrive(&mut self, request: u64, ask: Ask) {
        let host = self.requests.get(&request).map(|request| request.host);
        if let Some(Link::Silent(_)) = host.map(|host| self.hosts[host].link) {
            if self.random.below(4) == 0 {
                self.late(request, ask);
            }
            return;
        }
        let cut = host.is_some_and(|host| self.hosts[host].link == Link::Cut);
        let nobody_listens = host.is_none() && matches!(ask, Ask::Watch(_));
        if !self.etcd_runs || cut || nobody_listens {
            return;
        }
        let answer = self.serve(host, ask);
        self.stir_watches();
        if self.lucky() {
            // On a bad network some answers come only just in time.
            let slow = self.noise > 60 && self.random.one_in(8);
            let delay = 1 + self.random.below(if slow { LIMIT } else { 8 });
            self.after(delay, Event::Answer { request, answer });
        }
    }

    fn serve(&mut self, host: Option<usize>, ask: Ask) -> Answer {
        let now = self.now;
        match ask {
            Ask::List => Answer::List(self.model.listing()),
            Ask::Read(key) => Answer::Read(self.model.entry(&key).cloned()),
            Ask::Write(write) => Answer::Write(self.model.write(&write, By::Host)),
            Ask::Grant(seconds) => {
                let id = i64::try_from(self.random.number() >> 2).unwrap_or(1) | 1;
                let granted = self.model.grant(seconds, id, now);
                self.watch_the_clock();
                Answer::Grant(granted)
            }
            Ask::Limit(id) => Answer::Limit(self.model.limit(id)),
            Ask::KeepAlive(id) => Answer::KeepAlive(self.model.keep_alive(id, now)),
            Ask::Revoke(id) => {
                self.model.revoke(id, By::Host);
                Answer::Revoke
            }
            Ask::Watch(scope) => Answer::Watch(self.open(host.unwrap_or(0), scope)),
        }
    }

    /// Lets etcd leases end in time, or a little later, as etcd does.
    pub(super) fn watch_the_clock(&mut self) {
        if let Some(ends) = self.model.next_end()
            && self.expiry.is_none_or(|expiry| ends < expiry)
        {
            self.expiry = Some(ends);
            let delay = ends.saturating_sub(self.now) + self.random.below(600);
            self.after(delay, Event::Expire);
        }
    }

    pub(super) fn expire(&mut self) {
        self.expiry = None;
        // An etcd that is down ends nothing.
        if self.etcd_runs {
            self.model.expire(self.now);
            self.stir_watches();
            self.watch_the_clock();
        }
    }

    pub(super) fn answer(&mut self, request: u64, answer: Answer) {
        if let Some(asked) = self.requests.get_mut(&request)
            && self.hosts[asked.host].link == Link::Whole
            && asked.answer.is_none()
        {
            asked.answer = Some(Ok(answer));
            self.hosts[asked.host].stirred = true;
        }
    }

    pub(super) fn give_up(&mut self, request: u64, tried: usize) {
        let Some(asked) = self.requests.get_mut(&request) else {
            return;
        };
        if asked.answer.is_some() {
            return;
        }
        if tried < ENDPOINTS {
            self.attempt(request, tried + 1);
            return;
        }
        asked.answer = Some(Err(StoreError::Unreachable {
            store: "etcd",
            action: "ask",
            object: format!("{:?}", std::mem::discriminant(&asked.ask)),
            reasons: "the simulation".to_owned(),
        }));
        self.hosts[asked.host].stirred = true;
    }

    /// The answer to a request, once.
    pub(super) fn take_answer(&mut self, request: u64) -> Option<Result<Answer, StoreError>> {
        let answer = self.requests.get_mut(&request)?.answer.take()?;
        self.requests.remove(&request);
        Some(answer)
    }

    /// Nobody waits for it any more.
    pub(super) fn forget(&mut self, request: u64) {
        self.requests.remove(&request);
    }

    /// All that is on its way gets lost, so that nothing of a time of trouble comes later.
    pub(super) fn lose_what_is_late(&mut self) {
        let noise = |event: &Event| matches!(event, Event::Arrive { .. } | Event::Fault(_));
        self.events.retain(|_, event| !noise(event));
        let known = &self.events;
        self.queue
            .retain(|Reverse((_, number))| known.contains_key(number));
    }
}
