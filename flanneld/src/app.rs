//! The daemon's life: configuration, uplink, device, lease, and then the leases of the others until it is told to stop.
//!
//! Everything with a decision in it lives elsewhere; here the parts are started in order and their news passed on. Stopping, for
//! whatever reason, leaves the kernel as it is.

mod node;
mod settle;
mod tell;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use hostnet::{Mac, Netlink};
use ipam::{Backend, NetConf, PerFamily};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

use self::node::{Former, Node};
use self::tell::{public, tell_uplink};
use crate::args::Args;
use crate::firewall::Firewall;
use crate::firewall::mode::Keeping;
use crate::http::{self, socket::Socket};
use crate::kernel::{Kernel, KernelError, KernelState};
use crate::metrics::probes;
use crate::network::{self, Network, NetworkError, vxlan};
use crate::notify;
use crate::pods;
use crate::status::Board;
use crate::store::{self, LeaseStore, StoreError, ThisNode};
use crate::uplink::{self, HostView, UplinkError, Wanted};

/// Events that may wait for the daemon; a store that is quicker waits too.
const QUEUE: usize = 1024;
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
    /// How many peers are asked from time to time whether they answer.
    pub probe_peers: usize,
    /// Whether packets for pods of this node that do not exist end here.
    pub blackhole: bool,
    /// Where probes are answered.
    pub health: Option<SocketAddr>,
    /// Where this daemon is asked for its report.
    pub socket: Option<PathBuf>,
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
                // Templates leave these flags empty where nothing is asked for.
                ifaces: args
                    .iface
                    .iter()
                    .filter(|iface| !iface.is_empty())
                    .cloned()
                    .collect(),
                patterns: args
                    .iface_regex
                    .iter()
                    .filter(|pattern| !pattern.as_str().is_empty())
                    .cloned()
                    .collect(),
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
            socket: Some(args.status_socket.clone()).filter(|path| !path.as_os_str().is_empty()),
            firewall: Firewall {
                masquerade: args.ip_masq,
                fully_random: !args.ip_masq_fully_random_disable,
                forward_accept: args.iptables_forward_rules,
                // For the network configuration to say.
                untracked: None,
            },
            firewall_resync: Duration::from_secs(args.iptables_resync),
            probe_peers: usize::from(args.probe_peers),
        }
    }
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// What cannot be mended by waiting here; see [`Fatal`].
pub async fn run<S: LeaseStore>(mut settings: Settings, store: S) -> Result<(), Fatal> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Fatal::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Fatal::Signals)?;
    let board = Board::new(store.health());
    if let Some(address) = settings.health {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|reason| Fatal::Health { address, reason })?;
        tokio::spawn(http::serve(listener, board.clone()));
    }
    match settings.socket.as_deref().map(Socket::bind) {
        Some(Ok(socket)) => drop(tokio::spawn(http::serve(socket, board.clone()))),
        Some(Err(error)) => {
            warn!("`flanneld status` cannot ask this daemon: {error}");
            settings.socket = None;
        }
        None => {}
    }
    tokio::spawn(probes::run(board.clone(), settings.probe_peers));
    let socket = settings.socket.clone();
    tokio::select! {
        result = serve(settings, store, board) => return result,
        _ = terminate.recv() => tell_stop("SIGTERM"),
        _ = interrupt.recv() => tell_stop("SIGINT"),
    }
    if let Some(socket) = &socket {
        http::socket::note_stop(socket);
    }
    Ok(())
}

fn tell_stop(signal: &str) {
    info!("stopping on {signal}; tunnels, routes and rules stay, pods go on talking");
    if let Err(error) = notify::stopping() {
        debug!("the service manager was not told: {error}");
    }
}

async fn serve<S: LeaseStore>(settings: Settings, store: S, board: Board) -> Result<(), Fatal> {
    let conf = store.net_conf().await?;
    if conf.backend_defaulted {
        warn!(
            "the network configuration names no Backend; Loden takes vxlan, as flannel's documentation has it (flannel's code takes udp)"
        );
    }
    {
        let mut facts = board.facts();
        facts.conf = Some(conf.clone());
        facts.masquerade = settings.firewall.masquerade;
    }
    let mut netlink = Netlink::open().map_err(KernelError::from)?;
    let known = store.this_node(&conf).await?;
    let wanted = wanted_uplink(&settings, &conf, &known);
    let uplink = HostView::observe(&mut netlink, &wanted)?.choose(&wanted)?;
    tell_uplink(&uplink);
    let network = Network::new(&conf, &uplink, &vtep_macs(&mut netlink, &conf, &known)?)?;
    {
        let mut facts = board.facts();
        facts.uplink = Some(uplink.clone());
        facts.pod_mtu = Some(network.pod_mtu());
    }

    // The device comes first, so that what the lease tells the others is what the kernel has.
    let mut kernel = Kernel::start()?;
    board.facts().connect(&kernel);
    let bare = kernel.desire(network.desired(None, std::iter::empty()).0);
    wait_until_in_line(&board, &mut kernel.state(), bare).await;

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
    board.facts().take_own(own.clone());

    pods::keep_clean(pods::Places::default());
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
    board.facts().firewall = Some(firewall.mode());
    let (ready, is_ready) = watch::channel(false);
    let announce = store.announce(is_ready);
    let mut node = Node::new(settings, conf, network, firewall, kernel, record_out, board);
    node.former = former;
    node.ready = Some(ready);
    let keep = store.keep(own, record_in, own_out);
    let watch_peers = store.watch_peers(peers_out);
    let part = tokio::select! {
        () = node.run(own_in, peers_in, uplinks) => "the kernel's thread",
        () = keep => "the lease's keeper",
        () = announce => "the news that the network works",
        () = watch_peers => "the watch of the other nodes' leases",
    };
    Err(Fatal::Ended { part })
}

fn wanted_uplink(settings: &Settings, conf: &NetConf, known: &ThisNode) -> Wanted {
    let flags = settings.uplink.public;
    Wanted {
        public: PerFamily {
            v4: known.public.v4.or(flags.v4),
            v6: known.public.v6.or(flags.v6),
        },
        ipv4: conf.networks.v4.is_some(),
        ipv6: conf.networks.v6.is_some(),
        ..settings.uplink.clone()
    }
}

/// The MACs that the peers know: of the devices that a predecessor left, else those last published.
fn vtep_macs(
    netlink: &mut Netlink,
    conf: &NetConf,
    known: &ThisNode,
) -> Result<PerFamily<Mac, Mac>, Fatal> {
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
        v4: mac_of(names.v4)?.or(known.macs.v4.map(|mac| Mac(mac.0))),
        v6: mac_of(names.v6)?.or(known.macs.v6.map(|mac| Mac(mac.0))),
    })
}

async fn wait_until_in_line(
    board: &Board,
    state: &mut watch::Receiver<KernelState>,
    generation: u64,
) {
    let mut slow = pin!(tokio::time::sleep(SLOW_START));
    let mut told = false;
    loop {
        let now = state.borrow_and_update().clone();
        let reached = now.generation >= generation && now.in_line;
        // `flanneld status` says what the kernel refuses.
        board.facts().on_kernel(now);
        if reached {
            return;
        }
        tokio::select! {
            // The thread lives as long as the process, so the wait ends only by success.
            changed = state.changed() => if changed.is_err() {
                return;
            },
            () = &mut slow, if !told => {
                warn!("the kernel does not take the device yet; waiting");
                told = true;
            }
        }
    }
}
