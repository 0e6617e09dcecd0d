//! A host of the simulation: the real lease protocol, with the simulated world as its port.

use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;

use ipam::{LeaseKey, LeaseRecord, NetConf, Subnets};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::world::{Answer, Ask, Stage, World};
use crate::store::claim::Entry;
use crate::store::etcd::config::EtcdConfig;
use crate::store::etcd::keys::Keys;
use crate::store::etcd::leases::Leases;
use crate::store::etcd::listing::Listing;
use crate::store::etcd::port::{Granted, Limit, Notice, Port, Scope, Watch, Write};
use crate::store::etcd::{acquire, keep, peers};
use crate::store::{OwnEvent, Patience, PeerEvent, StoreError};

/// The world, shared by all hosts of a schedule.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<World>>);

impl Shared {
    pub(super) fn new(world: World) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, World> {
        self.0
            .lock()
            .expect("nobody panicked with the world in hand")
    }
}

/// A host's port to the world.
pub(super) struct SimulatedPort {
    pub(super) world: Shared,
    pub(super) host: usize,
    pub(super) keys: Keys,
    pub(super) config: EtcdConfig,
}

/// A request that is being waited for.
struct Asked<'a> {
    world: &'a Shared,
    request: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.world.lock().forget(self.request);
    }
}

impl SimulatedPort {
    async fn ask(&self, ask: Ask) -> Result<Answer, StoreError> {
        let asked = Asked {
            world: &self.world,
            request: self.world.lock().ask(self.host, ask),
        };
        poll_fn(|_| match asked.world.lock().take_answer(asked.request) {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        })
        .await
    }
}

/// Takes the one kind of answer there can be.
macro_rules! answered {
    ($answer:expr, $kind:path) => {
        match $answer {
            $kind(answer) => answer,
            other => unreachable!("the model answered {other:?}"),
        }
    };
}

impl Port for SimulatedPort {
    type Watch = SimulatedWatch;

    fn keys(&self) -> &Keys {
        &self.keys
    }

    fn config(&self) -> &EtcdConfig {
        &self.config
    }

    async fn list(&self) -> Result<Listing, StoreError> {
        Ok(answered!(self.ask(Ask::List).await?, Answer::List))
    }

    async fn read(&self, key: &LeaseKey) -> Result<Option<Entry>, StoreError> {
        Ok(answered!(self.ask(Ask::Read(*key)).await?, Answer::Read))
    }

    async fn write(&self, write: &Write) -> Result<Option<i64>, StoreError> {
        Ok(answered!(
            self.ask(Ask::Write(write.clone())).await?,
            Answer::Write
        ))
    }

    async fn grant(&self, seconds: i64) -> Result<Granted, StoreError> {
        Ok(answered!(
            self.ask(Ask::Grant(seconds)).await?,
            Answer::Grant
        ))
    }

    async fn limit(&self, id: i64, _with_keys: bool) -> Result<Option<Limit>, StoreError> {
        Ok(answered!(self.ask(Ask::Limit(id)).await?, Answer::Limit))
    }

    async fn keep_alive(&self, id: i64) -> Result<bool, StoreError> {
        Ok(answered!(
            self.ask(Ask::KeepAlive(id)).await?,
            Answer::KeepAlive
        ))
    }

    async fn revoke(&self, id: i64) -> Result<(), StoreError> {
        self.ask(Ask::Revoke(id)).await.map(|_| ())
    }

    async fn watch(&self, scope: Scope) -> Result<SimulatedWatch, StoreError> {
        let watch = answered!(self.ask(Ask::Watch(scope)).await?, Answer::Watch);
        let world = self.world.clone();
        Ok(SimulatedWatch { world, watch })
    }

    async fn abandon(&self, _watch: SimulatedWatch) -> String {
        "the simulated endpoint".to_owned()
    }

    fn now(&self) -> Instant {
        self.world.lock().clock(self.host)
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send {
        poll_fn(move |_| {
            let mut world = self.world.lock();
            if world.clock(self.host) >= at {
                return Poll::Ready(());
            }
            world.hosts[self.host].timers.push(at);
            Poll::Pending
        })
    }

    fn random(&self) -> u64 {
        self.world.lock().random.number()
    }
}

/// A watch on the model.
pub(super) struct SimulatedWatch {
    world: Shared,
    watch: u64,
}

impl Watch for SimulatedWatch {
    async fn next(&mut self) -> Result<Notice, String> {
        poll_fn(|_| match self.world.lock().heard(self.watch) {
            Some(heard) => Poll::Ready(heard),
            None => Poll::Pending,
        })
        .await
    }
}

impl Drop for SimulatedWatch {
    fn drop(&mut self) {
        self.world.lock().close(self.watch);
    }
}

/// The daemon's life as far as leases go. It ends only by being dropped.
pub(super) async fn live(
    port: SimulatedPort,
    conf: NetConf,
    record: watch::Receiver<LeaseRecord>,
    previous: Option<Subnets>,
) {
    let (world, host) = (port.world.clone(), port.host);
    let leases = Leases { port };
    let (peer_events, mut seen) = mpsc::channel(16);
    let (own_events, mut told) = mpsc::channel(16);
    let own = async {
        let mut patience = Patience::new();
        let own = loop {
            let wanted = record.borrow().clone();
            match acquire::acquire(&leases, &conf, &wanted, previous.as_ref()).await {
                Ok(own) => break own,
                Err(error) => {
                    let backoff = patience.after(error).expect("the settings are good");
                    leases.port.pause(backoff).await;
                }
            }
        };
        let stage = Stage::Holding(own.key, own.expires);
        {
            let state = &mut world.lock().hosts[host];
            state.stage = stage;
            state.view.set_own(own.key);
        }
        keep::keep(&leases, own, record.clone(), own_events).await;
    };
    let note = async {
        while let Some(event) = told.recv().await {
            take(&mut world.lock().hosts[host].stage, event);
        }
    };
    let view = async {
        while let Some(event) = seen.recv().await {
            see(&world, host, event);
        }
    };
    tokio::select! {
        biased;
        () = own => {}
        () = note => {}
        () = view => {}
        () = peers::follow(&leases.port, &peer_events) => {}
    }
}

fn take(stage: &mut Stage, event: OwnEvent) {
    match event {
        OwnEvent::Renewed { expires } => {
            if let Stage::Holding(_, until) = stage {
                *until = expires;
            }
        }
        OwnEvent::Reacquired(own) | OwnEvent::Moved(own) => {
            *stage = Stage::Holding(own.key, own.expires)
        }
        OwnEvent::Lost { .. } => {
            if let Stage::Holding(key, _) = stage {
                *stage = Stage::Lost(*key);
            }
        }
        OwnEvent::Published(_) | OwnEvent::Trouble { .. } => {}
    }
}

fn see(world: &Shared, host: usize, event: PeerEvent) {
    world.lock().hosts[host].view.apply(event);
}
