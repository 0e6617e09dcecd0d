//! The daemon's life: configuration, uplink, device, lease, and then the leases of the others until it is told to stop.
//!
//! Everything with a decision in it lives elsewhere; here the parts are started in order and their news passed on. Stopping, for
//! whatever reason, leaves the kernel as it is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hostnet::{Mac, Netlink};
use ipam::{
    Backend, Cidr, HostNetwork, LeaseKey, LeaseRecord, NetConf, PerFamily, SubnetEnv, Subnets,
};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::{debug, error, info, warn};

use crate::args::Args;
use crate::desired::{Alteration, Hop};
use crate::firewall::Firewall;
use crate::firewall::mode::Keeping;
use crate::health;
use crate::kernel::{Kernel, KernelError, KernelState};
use crate::leases::{Change, Leases};
use crate::network::claims::Claims;
use crate::network::peers::Skipped;
use crate::network::{self, Network, NetworkError, vxlan};
use crate::notify;
use crate::store::{self, LeaseStore, OwnEvent, OwnLease, PeerEvent, StoreError};
use crate::uplink::{self, HostView, Uplink, UplinkError, Wanted};

/// Events that may wait for the daemon; a store that is quicker waits too.
const QUEUE: usize = 1024;
/// So many changed leases are taken in one by one.
const SINGLY: usize = 64;
/// How long the device may take before the log says that it does.
const SLOW_START: Duration = Duration::from_secs(5);

/// What the flags and the network configuration come to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which interface and which addresses are asked for. Whether a family is used is for the network configuration to say.
    pub uplink: Wanted,
    /// The file for the CNI program.
    pub subnet_file: PathBuf,
    /// Which firewall rules are wanted.
    pub firewall: Firewall,
    /// How often the rules are looked at where nothing tells of changes.
    pub firewall_resync: Duration,
    /// Whether packets for pods of this node that do not exist end here.
    pub blackhole: bool,
    /// Where probes are answered.
    pub health: Option<SocketAddr>,
}

/// Why the daemon ends by itself. A supervisor may start it again: each of these can pass.
#[derive(Debug, Error)]
pub enum Fatal {
    /// Nobody could be told how the daemon does.
    #[error(
        "health probes cannot be answered on {address}: {reason}; give another --healthz-port, or 0 for none"
    )]
    Health {
        /// Where.
        address: SocketAddr,
        /// The system's words.
        reason: std::io::Error,
    },
    /// The kernel gives no socket.
    #[error("the kernel cannot be spoken to: {0}; flanneld needs root or the capability NET_ADMIN")]
    Kernel(#[from] KernelError),
    /// A part that should never end did.
    #[error("{part} ended, which it never should; this is a defect of flanneld")]
    Ended {
        /// Which.
        part: &'static str,
    },
    /// The configured network cannot be had over this uplink.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The operating system gives no signals.
    #[error("signals cannot be received: {0}")]
    Signals(std::io::Error),
    /// The store's settings are wrong.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no uplink.
    #[error(transparent)]
    Uplink(#[from] UplinkError),
}

impl Settings {
    /// Takes from the flags what the daemon itself needs.
    pub fn from_args(args: &Args) -> Self {
        Self {
            uplink: Wanted {
                ifaces: args.iface.clone(),
                patterns: args.iface_regex.clone(),
                reach: args.iface_can_reach.0,
                public: PerFamily {
                    v4: args.public_ip.0,
                    v6: args.public_ipv6.0,
                },
                ..Wanted::default()
            },
            subnet_file: args.subnet_file.clone(),
            blackhole: args.ip_blackhole_route,
            health: (args.healthz_port != 0)
                .then(|| SocketAddr::new(args.healthz_ip, args.healthz_port)),
            firewall: Firewall {
                masquerade: args.ip_masq,
                fully_random: !args.ip_masq_fully_random_disable,
                forward_accept: args.iptables_forward_rules,
                // For the network configuration to say.
                untracked: None,
            },
            firewall_resync: Duration::from_secs(args.iptables_resync),
        }
    }
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// What cannot be mended by waiting here; see [`Fatal`].
pub async fn run<S: LeaseStore>(settings: Settings, store: S) -> Result<(), Fatal> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Fatal::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Fatal::Signals)?;
    let (ready, is_ready) = watch::channel(false);
    if let Some(address) = settings.health {
        let listener = health::listen(address)
            .await
            .map_err(|reason| Fatal::Health { address, reason })?;
        tokio::spawn(health::serve(listener, is_ready));
    }
    tokio::select! {
        result = serve(settings, store, ready) => return result,
        _ = terminate.recv() => tell_stop("SIGTERM"),
        _ = interrupt.recv() => tell_stop("SIGINT"),
    }
    Ok(())
}

fn tell_stop(signal: &str) {
    info!("stopping on {signal}; tunnels, routes and rules stay, pods go on talking");
    if let Err(error) = notify::stopping() {
        debug!("the service manager was not told: {error}");
    }
}

async fn serve<S: LeaseStore>(
    settings: Settings,
    store: S,
    ready: watch::Sender<bool>,
) -> Result<(), Fatal> {
    let conf = store.net_conf().await?;
    if conf.backend_defaulted {
        warn!(
            "the network configuration names no Backend; Loden takes vxlan, as flannel's documentation has it (flannel's code takes udp)"
        );
    }
    let mut netlink = Netlink::open().map_err(KernelError::from)?;
    let wanted = wanted_uplink(&settings, &conf);
    let uplink = HostView::observe(&mut netlink, &wanted)?.choose(&wanted)?;
    tell_uplink(&uplink);
    let network = Network::new(&conf, &uplink, &present_macs(&mut netlink, &conf)?)?;

    // The device comes first, so that what the lease tells the others is what the kernel has.
    let mut kernel = Kernel::start()?;
    let bare = kernel.desire(network.desired(None, std::iter::empty()).0);
    wait_until_in_line(&mut kernel.state(), bare).await;

    let record = network.record(&uplink);
    let former = Former::read(&settings.subnet_file);
    let previous = Some(former.subnets).filter(|previous| !previous.is_empty());
    let own = store::wait_for_lease(&store, &conf, &record, previous.as_ref()).await?;
    info!(
        "leased {} ({}), published as {}",
        network::describe(&own.key),
        own.origin,
        public(&uplink)
    );

    let uplinks = uplink::follow(wanted, uplink).map_err(KernelError::from)?;
    let (record_out, record_in) = watch::channel(record);
    let (own_out, own_in) = mpsc::channel(QUEUE);
    let (peers_out, peers_in) = mpsc::channel(QUEUE);
    let firewall = Keeping::decide(
        &conf,
        &own.key.subnets(),
        settings.firewall,
        settings.firewall_resync,
    )
    .map_err(KernelError::from)?;
    let mut node = Node::new(settings, conf, network, firewall, kernel, &own, record_out);
    node.former = former;
    node.ready = Some(ready);
    let keep = store.keep(own, record_in, own_out);
    let watch_peers = store.watch_peers(peers_out);
    let part = tokio::select! {
        () = node.run(own_in, peers_in, uplinks) => "the kernel's thread",
        () = keep => "the lease's keeper",
        () = watch_peers => "the watch of the other nodes' leases",
    };
    Err(Fatal::Ended { part })
}

fn wanted_uplink(settings: &Settings, conf: &NetConf) -> Wanted {
    Wanted {
        ipv4: conf.networks.v4.is_some(),
        ipv6: conf.networks.v6.is_some(),
        ..settings.uplink.clone()
    }
}

fn tell_uplink(uplink: &Uplink) {
    info!(
        "uplink {} with MTU {}, public address {}",
        uplink.name,
        uplink.mtu,
        public(uplink)
    );
}

fn public(uplink: &Uplink) -> String {
    let v4 = uplink.public.v4.map(|address| address.to_string());
    let v6 = uplink.public.v6.map(|address| address.to_string());
    v4.into_iter().chain(v6).collect::<Vec<_>>().join(" and ")
}

/// The MACs of the devices that a predecessor left; the peers know them.
fn present_macs(netlink: &mut Netlink, conf: &NetConf) -> Result<PerFamily<Mac, Mac>, Fatal> {
    let names = match &conf.backend {
        Backend::Vxlan(backend) => vxlan::device_names(backend.vni),
        Backend::Alloc | Backend::HostGw => PerFamily { v4: None, v6: None },
    };
    let mut mac_of = |name: Option<String>| -> Result<Option<Mac>, Fatal> {
        let Some(name) = name else { return Ok(None) };
        let link = netlink.link_by_name(&name).map_err(KernelError::from)?;
        Ok(link
            .filter(|link| link.vxlan.is_some())
            .and_then(|link| link.mac))
    };
    Ok(PerFamily {
        v4: mac_of(names.v4)?,
        v6: mac_of(names.v6)?,
    })
}

async fn wait_until_in_line(state: &mut watch::Receiver<KernelState>, generation: u64) {
    let reached = |state: &KernelState| state.generation >= generation && state.in_line;
    if tokio::time::timeout(SLOW_START, state.wait_for(reached))
        .await
        .is_err()
    {
        warn!("the kernel does not take the device yet; waiting");
        // The thread lives as long as the process, so the wait ends only by success.
        let _ = state.wait_for(reached).await;
    }
}

/// The daemon once it has a lease.
struct Node {
    settings: Settings,
    conf: NetConf,
    network: Network,
    firewall: Keeping,
    kernel: Kernel,
    own: Subnets,
    /// What our lease tells the others; the store publishes it anew when it changes.
    record: watch::Sender<LeaseRecord>,
    leases: Leases,
    /// What they claim, as far as it has been handed to the kernel thread.
    claims: Claims,
    /// The leases left out and why, as last logged.
    skipped: BTreeMap<LeaseKey, String>,
    /// The number of what the kernel thread was last told to want.
    wanted: Option<u64>,
    /// What the subnet file says since the kernel was last found in line.
    ready_env: Option<SubnetEnv>,
    /// What this node was before, until what may be left of that is gone.
    former: Former,
    /// Whom to tell that the network works.
    ready: Option<watch::Sender<bool>>,
}

/// The networks and subnets that the subnet file names when the daemon starts.
#[derive(Clone, Debug, Default)]
struct Former {
    networks: Vec<Cidr>,
    subnets: Subnets,
}

impl Former {
    fn read(path: &std::path::Path) -> Self {
        Self {
            networks: SubnetEnv::previous_networks(path),
            subnets: SubnetEnv::previous_subnets(path),
        }
    }
}

impl Node {
    fn new(
        settings: Settings,
        conf: NetConf,
        network: Network,
        firewall: Keeping,
        kernel: Kernel,
        own: &OwnLease,
        record: watch::Sender<LeaseRecord>,
    ) -> Self {
        let mut leases = Leases::default();
        leases.set_own(own.key);
        Self {
            settings,
            conf,
            network,
            firewall,
            kernel,
            own: own.key.subnets(),
            record,
            leases,
            claims: Claims::default(),
            skipped: BTreeMap::new(),
            wanted: None,
            ready_env: None,
            former: Former::default(),
            ready: None,
        }
    }

    async fn run(
        &mut self,
        mut own: mpsc::Receiver<OwnEvent>,
        mut peers: mpsc::Receiver<PeerEvent>,
        mut uplinks: watch::Receiver<Result<Uplink, UplinkError>>,
    ) {
        let mut state = self.kernel.state();
        loop {
            tokio::select! {
                event = peers.recv() => {
                    let Some(event) = event else { return };
                    self.on_peers(event, &mut peers);
                }
                event = own.recv() => {
                    let Some(event) = event else { return };
                    tell_own(&event);
                }
                Ok(()) = uplinks.changed() => {
                    let uplink = uplinks.borrow_and_update().clone();
                    self.on_uplink(uplink);
                }
                changed = state.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = state.borrow_and_update();
                    if now.in_line && self.wanted.is_some_and(|wanted| now.generation >= wanted) {
                        drop(now);
                        self.be_ready();
                    }
                }
            }
        }
    }

    /// Takes this event and all that wait behind it, and hands the outcome to the kernel thread once.
    fn on_peers(&mut self, first: PeerEvent, more: &mut mpsc::Receiver<PeerEvent>) {
        let first_time = !self.leases.known();
        let mut changes = Vec::new();
        let mut next = Some(first);
        while let Some(event) = next {
            tell_unreadable(&event);
            changes.extend(self.leases.apply(event));
            next = more.try_recv().ok();
        }
        for change in &changes {
            tell_change(change);
        }
        if !self.leases.known() {
            return;
        }
        // Of many changes at once the whole is the quicker way.
        if first_time || changes.len() > SINGLY || !self.take_singly(&changes) {
            self.claims = Claims::of(self.leases.peers());
            self.desire();
        }
    }

    /// Hands on what each change comes to by itself. Returns whether none of them had to do with other leases.
    fn take_singly(&mut self, changes: &[Change]) -> bool {
        let mut alteration = Alteration::default();
        let mut alone = Vec::new();
        for change in changes {
            let Some(taken) = self.claims.take(change, &self.network, &self.own) else {
                return false;
            };
            alteration.extend(taken.alteration);
            alone.push((taken.key, taken.skipped));
        }
        for (key, skipped) in alone {
            let mut now = self.skipped.clone();
            now.remove(&key);
            now.extend(reasons(&skipped));
            self.tell_skipped(now);
        }
        if !alteration.is_empty() {
            self.wanted = Some(self.kernel.alter(alteration));
        }
        true
    }

    /// The uplink is another one, or has changed. Without one everything stays as it is.
    fn on_uplink(&mut self, uplink: Result<Uplink, UplinkError>) {
        let network = uplink
            .map_err(|error| error.to_string())
            .and_then(|uplink| {
                tell_uplink(&uplink);
                let network = self.network.over(&self.conf, &uplink);
                network
                    .map(|network| (network, uplink))
                    .map_err(|error| error.to_string())
            });
        let (network, uplink) = match network {
            Ok(found) => found,
            Err(reason) => {
                error!("the uplink cannot be used, nothing is changed until it can: {reason}");
                return;
            }
        };
        let (before, now) = (self.network.pod_mtu(), network.pod_mtu());
        if before != now {
            warn!(
                "pods attached from now on get an MTU of {now} bytes; those that are there keep {before}"
            );
        }
        self.network = network;
        self.record.send_replace(self.network.record(&uplink));
        // Written anew when the kernel has followed.
        self.ready_env = None;
        if self.leases.known() {
            self.desire();
        }
    }

    /// Hands what is wanted now to the kernel thread.
    fn desire(&mut self) {
        let (mut desired, skipped) = self.network.desired(Some(&self.own), self.leases.peers());
        self.tell_skipped(reasons(&skipped).collect());
        let former = self.former.networks.iter().copied();
        desired.former = former.map(network::as_network).collect();
        let sizes = self.former.subnets.each();
        let sizes = sizes.map(|subnet: Cidr| (subnet.is_v4(), subnet.prefix()));
        desired.subnet_sizes.extend(sizes);
        if self.settings.blackhole {
            let own = self.own.each::<Cidr>().map(network::as_network);
            let caught = own.map(|subnet| (subnet, Hop::Blackhole));
            desired.routes.extend(caught);
        }
        self.firewall
            .add_to(&mut desired, &self.conf.networks, &self.own);
        let mut forward = |setting: &str| {
            desired.sysctls.insert(setting.to_owned(), "1".to_owned());
        };
        if self.conf.networks.v4.is_some() {
            forward("net/ipv4/ip_forward");
        }
        if self.conf.networks.v6.is_some() {
            forward("net/ipv6/conf/all/forwarding");
        }
        self.wanted = Some(self.kernel.desire(desired));
    }

    /// One warning for each lease that is left out, and again only when the reason changes.
    fn tell_skipped(&mut self, now: BTreeMap<LeaseKey, String>) {
        for (key, reason) in &now {
            if self.skipped.get(key) != Some(reason) {
                warn!("the lease {} is left out: {reason}", network::describe(key));
            }
        }
        self.skipped = now;
    }

    /// The network works: tells the CNI program, and the first time the service manager.
    fn be_ready(&mut self) {
        let env = self.subnet_env();
        if self.ready_env.as_ref() == Some(&env) {
            return;
        }
        if let Err(error) = env.write_atomic(&self.settings.subnet_file) {
            error!("pods cannot be attached: {error}");
            return;
        }
        self.ready_env = Some(env);
        // What was left of it is gone, so from now on it is no more ours than anybody's.
        let former = std::mem::take(&mut self.former);
        if !former.networks.is_empty() {
            self.desire();
        }
        info!(
            "ready: {} peers, pods are attached by {}",
            self.leases.peers().count(),
            self.settings.subnet_file.display()
        );
        if let Some(ready) = &self.ready {
            ready.send_replace(true);
        }
        if let Err(error) = notify::ready() {
            warn!("the service manager was not told that the network works: {error}");
        }
    }

    fn subnet_env(&self) -> SubnetEnv {
        let networks = self.conf.networks;
        SubnetEnv {
            families: PerFamily {
                v4: networks.v4.zip(self.own.v4).map(host_network),
                v6: networks.v6.zip(self.own.v6).map(host_network),
            },
            mtu: self.network.pod_mtu(),
            ip_masq: self.settings.firewall.masquerade,
        }
    }
}

fn reasons(skipped: &[Skipped]) -> impl Iterator<Item = (LeaseKey, String)> {
    skipped
        .iter()
        .map(|skip| (skip.key, skip.reason.to_string()))
}

fn host_network<C>((network, subnet): (C, C)) -> HostNetwork<C> {
    HostNetwork {
        networks: vec![network],
        subnet,
    }
}

fn tell_change(change: &Change) {
    match change {
        Change::Joined(lease) => info!(
            "peer {} joined at {}",
            network::describe(&lease.key),
            reach(lease)
        ),
        Change::Altered { now, .. } => info!(
            "peer {} is now reached at {}",
            network::describe(&now.key),
            reach(now)
        ),
        Change::Left(lease) => info!(
            "peer {} left: its lease is gone",
            network::describe(&lease.key)
        ),
    }
}

fn reach(lease: &store::PeerLease) -> String {
    let public = lease.record.public;
    let v4 = public.v4.map(|address| address.to_string());
    let v6 = public.v6.map(|address| address.to_string());
    let mut text = v4.into_iter().chain(v6).collect::<Vec<_>>().join(" and ");
    if let ipam::LeaseBackend::Vxlan(data) = &lease.record.backend {
        let macs: Vec<String> = data
            .v4
            .iter()
            .chain(&data.v6)
            .map(|data| data.mac.to_string())
            .collect();
        text = format!("{text} (VTEP {})", macs.join(", "));
    }
    text
}

fn tell_unreadable(event: &PeerEvent) {
    let entries = match event {
        PeerEvent::Snapshot { skipped, .. } => skipped.as_slice(),
        PeerEvent::Unreadable(entry) => std::slice::from_ref(entry),
        PeerEvent::Changed(_) | PeerEvent::Removed(_) => &[],
    };
    for entry in entries {
        warn!(
            "{} is no lease and is left out: {}",
            entry.key, entry.reason
        );
    }
}

fn tell_own(event: &OwnEvent) {
    match event {
        OwnEvent::Renewed { .. } => debug!("our lease was renewed"),
        OwnEvent::Published(_) => info!("our lease was published anew"),
        OwnEvent::Lost { reason } => error!("our lease is lost, forwarding goes on: {reason}"),
        OwnEvent::Reacquired(_) => info!("our lease is ours again, with the same subnet"),
        OwnEvent::Trouble { reason } => warn!("our lease is not being renewed: {reason}"),
    }
}
