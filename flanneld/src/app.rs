//! The daemon's life: configuration, uplink, device, lease, and then the leases of the others until it is told to stop.
//!
//! Everything with a decision in it lives elsewhere; here the parts are started in order and their news passed on. Stopping, for
//! whatever reason, leaves the kernel as it is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hostnet::{Mac, Netlink};
use ipam::{Backend, HostNetwork, LeaseKey, NetConf, PerFamily, SubnetEnv, Subnets, VxlanBackend};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::{debug, error, info, warn};

use crate::args::Args;
use crate::firewall::{self, Firewall};
use crate::kernel::{Kernel, KernelError, KernelState};
use crate::leases::{Change, Leases};
use crate::network::peers::Skipped;
use crate::network::vxlan::{self, VxlanError, VxlanNetwork};
use crate::notify;
use crate::store::{self, LeaseStore, OwnEvent, OwnLease, PeerEvent, StoreError};
use crate::uplink::{HostView, Uplink, UplinkError, Wanted};

/// Events that may wait for the daemon; a store that is quicker waits too.
const QUEUE: usize = 1024;
/// How long the device may take before the log says that it does.
const SLOW_START: Duration = Duration::from_secs(5);

/// What the flags and the network configuration come to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which interface and which addresses are asked for.
    pub ifaces: Vec<String>,
    /// Addresses to publish.
    pub public: PerFamily<std::net::Ipv4Addr, std::net::Ipv6Addr>,
    /// The file for the CNI program.
    pub subnet_file: PathBuf,
    /// Whether to masquerade.
    pub ip_masq: bool,
    /// Whether masqueraded ports are chosen at random.
    pub fully_random: bool,
    /// Whether to accept forwarding for the pod network.
    pub forward_accept: bool,
}

/// Why the daemon ends by itself. A supervisor may start it again: each of these can pass.
#[derive(Debug, Error)]
pub enum Fatal {
    /// The kernel gives no socket.
    #[error("the kernel cannot be spoken to: {0}; flanneld needs root or the capability NET_ADMIN")]
    Kernel(#[from] KernelError),
    /// A part that should never end did.
    #[error("{part} ended, which it never should; this is a defect of flanneld")]
    Ended {
        /// Which.
        part: &'static str,
    },
    /// The network configuration names a backend that is not there yet.
    #[error(
        "the network configuration asks for backend {backend}, which this version cannot do; use vxlan"
    )]
    NoSuchBackend {
        /// The backend.
        backend: String,
    },
    /// The operating system gives no signals.
    #[error("signals cannot be received: {0}")]
    Signals(std::io::Error),
    /// The store's settings are wrong.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no uplink.
    #[error(transparent)]
    Uplink(#[from] UplinkError),
    /// The tunnel cannot be had.
    #[error(transparent)]
    Vxlan(#[from] VxlanError),
}

impl Settings {
    /// Takes from the flags what the daemon itself needs.
    pub fn from_args(args: &Args) -> Self {
        Self {
            ifaces: args.iface.clone(),
            public: PerFamily {
                v4: args.public_ip.0,
                v6: args.public_ipv6.0,
            },
            subnet_file: args.subnet_file.clone(),
            ip_masq: args.ip_masq,
            fully_random: !args.ip_masq_fully_random_disable,
            forward_accept: args.iptables_forward_rules,
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
    tokio::select! {
        result = serve(settings, store) => return result,
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

async fn serve<S: LeaseStore>(settings: Settings, store: S) -> Result<(), Fatal> {
    let conf = store.net_conf().await?;
    let backend = vxlan_backend(&conf)?;
    let mut netlink = Netlink::open().map_err(KernelError::from)?;
    let uplink = choose_uplink(&mut netlink, &settings, &conf)?;
    let macs = present_macs(&mut netlink, backend.vni)?;
    let network = VxlanNetwork::new(&conf, &backend, &uplink, &macs)?;

    // The device comes first, so that what the lease tells the others is what the kernel has.
    let mut kernel = Kernel::start()?;
    let bare = kernel.desire(network.desired(None, std::iter::empty()).0);
    wait_until_in_line(&mut kernel.state(), bare).await;

    let record = network.record(&uplink);
    let previous = Some(SubnetEnv::previous_subnets(&settings.subnet_file))
        .filter(|previous| !previous.is_empty());
    let own = store::wait_for_lease(&store, &conf, &record, previous.as_ref()).await?;
    info!(
        "leased {} ({}), published as {}",
        vxlan::describe(&own.key),
        own.origin,
        public(&uplink)
    );

    let (record_out, record_in) = watch::channel(record);
    let (own_out, own_in) = mpsc::channel(QUEUE);
    let (peers_out, peers_in) = mpsc::channel(QUEUE);
    let mut node = Node::new(settings, conf, network, kernel, &own);
    let keep = store.keep(own, record_in, own_out);
    let watch_peers = store.watch_peers(peers_out);
    let part = tokio::select! {
        () = node.run(own_in, peers_in) => "the kernel's thread",
        () = keep => "the lease's keeper",
        () = watch_peers => "the watch of the other nodes' leases",
    };
    drop(record_out);
    Err(Fatal::Ended { part })
}

fn vxlan_backend(conf: &NetConf) -> Result<VxlanBackend, Fatal> {
    if conf.backend_defaulted {
        warn!(
            "the network configuration names no Backend; Loden takes vxlan, as flannel's documentation has it (flannel's code takes udp)"
        );
    }
    match &conf.backend {
        Backend::Vxlan(backend) => Ok(*backend),
        other => Err(Fatal::NoSuchBackend {
            backend: other.name().to_owned(),
        }),
    }
}

fn choose_uplink(
    netlink: &mut Netlink,
    settings: &Settings,
    conf: &NetConf,
) -> Result<Uplink, Fatal> {
    let wanted = Wanted {
        ifaces: settings.ifaces.clone(),
        public: settings.public,
        ipv4: conf.networks.v4.is_some(),
        ipv6: conf.networks.v6.is_some(),
    };
    let uplink = HostView::observe(netlink)?.choose(&wanted)?;
    info!(
        "uplink {} with MTU {}, public address {}",
        uplink.name,
        uplink.mtu,
        public(&uplink)
    );
    Ok(uplink)
}

fn public(uplink: &Uplink) -> String {
    let v4 = uplink.public.v4.map(|address| address.to_string());
    let v6 = uplink.public.v6.map(|address| address.to_string());
    v4.into_iter().chain(v6).collect::<Vec<_>>().join(" and ")
}

/// The MACs of the devices that a predecessor left; the peers know them.
fn present_macs(netlink: &mut Netlink, vni: ipam::Vni) -> Result<PerFamily<Mac, Mac>, Fatal> {
    let names = vxlan::device_names(vni);
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
    network: VxlanNetwork,
    kernel: Kernel,
    own: Subnets,
    leases: Leases,
    /// The leases left out and why, as last logged.
    skipped: BTreeMap<LeaseKey, String>,
    ready: bool,
}

impl Node {
    fn new(
        settings: Settings,
        conf: NetConf,
        network: VxlanNetwork,
        kernel: Kernel,
        own: &OwnLease,
    ) -> Self {
        let mut leases = Leases::default();
        leases.set_own(own.key);
        Self {
            settings,
            conf,
            network,
            kernel,
            own: own.key.subnets(),
            leases,
            skipped: BTreeMap::new(),
            ready: false,
        }
    }

    async fn run(
        &mut self,
        mut own: mpsc::Receiver<OwnEvent>,
        mut peers: mpsc::Receiver<PeerEvent>,
    ) {
        let mut state = self.kernel.state();
        let mut wanted = u64::MAX;
        loop {
            tokio::select! {
                event = peers.recv() => {
                    let Some(event) = event else { return };
                    if let Some(generation) = self.on_peers(event, &mut peers) {
                        wanted = generation;
                    }
                }
                event = own.recv() => {
                    let Some(event) = event else { return };
                    tell_own(&event);
                }
                changed = state.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let reached = { let now = state.borrow_and_update(); now.in_line && now.generation >= wanted };
                    if reached && !self.ready {
                        self.ready = self.become_ready();
                    }
                }
            }
        }
    }

    /// Takes this event and all that wait behind it, and hands the outcome to the kernel thread once.
    fn on_peers(&mut self, first: PeerEvent, more: &mut mpsc::Receiver<PeerEvent>) -> Option<u64> {
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
        if !self.leases.known() || (changes.is_empty() && !first_time) {
            return None;
        }
        let (mut desired, skipped) = self.network.desired(Some(&self.own), self.leases.peers());
        self.tell_skipped(&skipped);
        let firewall = Firewall {
            masquerade: self.settings.ip_masq,
            fully_random: self.settings.fully_random,
            forward_accept: self.settings.forward_accept,
        };
        desired.firewall = firewall::tables(&self.conf.networks, &self.own, &firewall);
        let wanted = |(family, name): &(_, &str)| {
            desired
                .firewall
                .iter()
                .any(|table| (table.family, table.name.as_str()) == (*family, *name))
        };
        desired.no_firewall = firewall::OWNED
            .into_iter()
            .filter(|table| !wanted(table))
            .map(|(family, name)| (family, name.to_owned()))
            .collect();
        if self.conf.networks.v4.is_some() {
            desired
                .sysctls
                .insert("net/ipv4/ip_forward".to_owned(), "1".to_owned());
        }
        if self.conf.networks.v6.is_some() {
            desired
                .sysctls
                .insert("net/ipv6/conf/all/forwarding".to_owned(), "1".to_owned());
        }
        Some(self.kernel.desire(desired))
    }

    /// One warning for each lease that is left out, and again only when the reason changes.
    fn tell_skipped(&mut self, skipped: &[Skipped]) {
        let now: BTreeMap<LeaseKey, String> = skipped
            .iter()
            .map(|skip| (skip.key, skip.reason.to_string()))
            .collect();
        for (key, reason) in &now {
            if self.skipped.get(key) != Some(reason) {
                warn!("the lease {} is left out: {reason}", vxlan::describe(key));
            }
        }
        self.skipped = now;
    }

    /// The network works: tells the CNI program and the service manager.
    fn become_ready(&self) -> bool {
        let env = SubnetEnv {
            families: PerFamily {
                v4: self
                    .conf
                    .networks
                    .v4
                    .zip(self.own.v4)
                    .map(|(network, subnet)| HostNetwork {
                        networks: vec![network],
                        subnet,
                    }),
                v6: self
                    .conf
                    .networks
                    .v6
                    .zip(self.own.v6)
                    .map(|(network, subnet)| HostNetwork {
                        networks: vec![network],
                        subnet,
                    }),
            },
            mtu: self.network.pod_mtu(),
            ip_masq: self.settings.ip_masq,
        };
        if let Err(error) = env.write_atomic(&self.settings.subnet_file) {
            error!("pods cannot be attached: {error}");
            return false;
        }
        info!(
            "ready: {} peers, pods are attached by {}",
            self.leases.peers().count(),
            self.settings.subnet_file.display()
        );
        if let Err(error) = notify::ready() {
            warn!("the service manager was not told that the network works: {error}");
        }
        true
    }
}

fn tell_change(change: &Change) {
    match change {
        Change::Joined(lease) => info!(
            "peer {} joined at {}",
            vxlan::describe(&lease.key),
            reach(lease)
        ),
        Change::Altered(lease) => info!(
            "peer {} is now reached at {}",
            vxlan::describe(&lease.key),
            reach(lease)
        ),
        Change::Left(lease) => info!(
            "peer {} left: its lease is gone",
            vxlan::describe(&lease.key)
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
