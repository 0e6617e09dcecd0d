//! The daemon once it has a lease: takes in what changes, hands on what is wanted, and says when the node is ready.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ipam::{Cidr, HostNetwork, LeaseKey, LeaseRecord, NetConf, PerFamily, SubnetEnv, Subnets};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use super::Settings;
use super::settle::settle;
use super::tell::{tell_change, tell_mtu, tell_own, tell_unreadable, tell_uplink};
use crate::desired::{Alteration, Hop};
use crate::firewall::mode::Keeping;
use crate::kernel::Kernel;
use crate::leases::Change;
use crate::network::claims::Claims;
use crate::network::peers::LeftOut;
use crate::network::{self, Network};
use crate::notify;
use crate::status::Board;
use crate::store::{OwnEvent, PeerEvent};
use crate::uplink::{Uplink, UplinkError};

/// How often the file for the CNI program is looked at.
const SUBNET_FILE_LOOK: Duration = Duration::from_secs(2);
/// So many changed leases are taken in one by one.
const SINGLY: usize = 64;

/// The daemon once it has a lease.
pub(super) struct Node {
    settings: Settings,
    conf: NetConf,
    network: Network,
    firewall: Keeping,
    kernel: Kernel,
    own: Subnets,
    /// What our lease tells the others; the store publishes it anew when it changes.
    record: watch::Sender<LeaseRecord>,
    /// What is known, the leases among it.
    board: Board,
    /// What the leases claim, as far as it has been handed to the kernel thread.
    claims: Claims,
    /// The number of what the kernel thread was last told to want.
    wanted: Option<u64>,
    /// Whether the kernel holds what is wanted now, as far as it was told.
    in_line: bool,
    /// What the subnet file says since the kernel was last found in line.
    ready_env: Option<SubnetEnv>,
    /// What this node was before, until what may be left of that is gone.
    pub(super) former: Former,
    /// Whom to tell that the network works.
    pub(super) ready: Option<watch::Sender<bool>>,
}

/// The networks and subnets that the subnet file names when the daemon starts.
#[derive(Clone, Debug, Default)]
pub(super) struct Former {
    networks: Vec<Cidr>,
    pub(super) subnets: Subnets,
    /// What pods that are there have been given.
    mtu: Option<u32>,
}

impl Former {
    pub(super) fn read(path: &Path) -> Self {
        Self {
            networks: SubnetEnv::previous_networks(path),
            subnets: SubnetEnv::previous_subnets(path),
            mtu: SubnetEnv::read(path).ok().map(|before| before.mtu),
        }
    }
}

impl Node {
    pub(super) fn new(
        settings: Settings,
        conf: NetConf,
        network: Network,
        firewall: Keeping,
        kernel: Kernel,
        record: watch::Sender<LeaseRecord>,
        board: Board,
    ) -> Self {
        let own = board
            .facts()
            .own
            .as_ref()
            .map(|own| own.lease.key.subnets());
        Self {
            settings,
            conf,
            network,
            firewall,
            kernel,
            own: own.unwrap_or_default(),
            record,
            board,
            claims: Claims::default(),
            wanted: None,
            in_line: false,
            ready_env: None,
            former: Former::default(),
            ready: None,
        }
    }

    pub(super) async fn run(
        &mut self,
        mut own: mpsc::Receiver<OwnEvent>,
        mut peers: mpsc::Receiver<PeerEvent>,
        mut uplinks: watch::Receiver<Result<Uplink, UplinkError>>,
    ) {
        let mut state = self.kernel.state();
        let mut looks = tokio::time::interval(SUBNET_FILE_LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => self.keep_subnet_file(),
                event = peers.recv() => {
                    let Some(event) = event else { return };
                    self.on_peers(event, &mut peers);
                }
                event = own.recv() => {
                    let Some(event) = event else { return };
                    self.on_own(&event);
                }
                Ok(()) = uplinks.changed() => {
                    let uplink = uplinks.borrow_and_update().clone();
                    self.on_uplink(uplink);
                }
                changed = state.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = state.borrow_and_update().clone();
                    self.in_line = self.wanted.is_some_and(|wanted| now.generation >= wanted) && now.in_line;
                    self.board.facts().on_kernel(now);
                    if self.in_line {
                        self.be_ready();
                    }
                }
            }
        }
    }

    /// Takes this event and all that wait behind it, and hands the outcome to the kernel thread once.
    fn on_peers(&mut self, first: PeerEvent, more: &mut mpsc::Receiver<PeerEvent>) {
        let (first_time, changes, known) = {
            let mut facts = self.board.facts();
            let first_time = !facts.leases.known();
            let mut changes = Vec::new();
            let mut next = Some(first);
            while let Some(event) = next {
                tell_unreadable(&event);
                facts.hear(&event);
                changes.extend(facts.leases.apply(event));
                next = more.try_recv().ok();
            }
            (first_time, changes, facts.leases.known())
        };
        for change in &changes {
            tell_change(change);
        }
        if !known {
            return;
        }
        // Of many changes at once the whole is the quicker way.
        if first_time || changes.len() > SINGLY || !self.take_singly(&changes) {
            self.desire_all();
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
            let mut now = self.board.facts().skipped.clone();
            now.remove(&key);
            now.extend(LeftOut::of(&skipped));
            self.tell_skipped(now);
        }
        if !alteration.is_empty() {
            let number = self.kernel.alter(alteration);
            self.ordered(number);
        }
        true
    }

    /// The kernel's thread has been told to bring this about.
    fn ordered(&mut self, number: u64) {
        self.wanted = Some(number);
        self.in_line = false;
        self.board.facts().ordered(number);
    }

    /// News of our lease.
    fn on_own(&mut self, event: &OwnEvent) {
        let mut facts = self.board.facts();
        let lost = facts.own.as_ref().is_some_and(|own| own.lost.is_some());
        tell_own(event, lost);
        facts.on_own(event);
        drop(facts);
        let OwnEvent::Moved(own) = event else { return };
        self.own = own.key.subnets();
        self.write_anew();
        if self.board.facts().leases.known() {
            self.desire_all();
        }
    }

    /// The file for the CNI program is to be written when the kernel has followed.
    fn write_anew(&mut self) {
        self.ready_env = None;
        self.board.facts().subnet_file_written = false;
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
                self.board.facts().uplink_trouble = Some(reason.clone());
                error!("the uplink cannot be used, nothing is changed until it can: {reason}");
                return;
            }
        };
        tell_mtu(self.network.pod_mtu(), network.pod_mtu());
        self.network = network;
        self.record.send_replace(self.network.record(&uplink));
        let known = {
            let mut facts = self.board.facts();
            facts.uplink = Some(uplink);
            facts.uplink_trouble = None;
            facts.pod_mtu = Some(self.network.pod_mtu());
            facts.leases.known()
        };
        self.write_anew();
        if known {
            self.desire();
        }
    }

    /// Takes all leases in anew.
    fn desire_all(&mut self) {
        self.claims = Claims::of(self.board.facts().leases.peers());
        self.desire();
    }

    /// Hands what is wanted now to the kernel thread.
    fn desire(&mut self) {
        let (mut desired, skipped) = {
            let facts = self.board.facts();
            self.network.desired(Some(&self.own), facts.leases.peers())
        };
        self.tell_skipped(LeftOut::of(&skipped));
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
        let number = self.kernel.desire(desired);
        self.ordered(number);
    }

    /// One warning for each lease that is left out, and again only when the reason changes.
    fn tell_skipped(&mut self, now: BTreeMap<LeaseKey, LeftOut>) {
        let mut facts = self.board.facts();
        for (key, left_out) in &now {
            if facts.skipped.get(key) == Some(left_out) {
                continue;
            }
            let (lease, reason) = (network::describe(key), &left_out.reason);
            match left_out.part {
                None => warn!("the lease {lease} is left out: {reason}"),
                Some(part) => warn!("{part} of the lease {lease} is left out: {reason}"),
            }
        }
        facts.skipped = now;
    }

    /// Puts the file for the CNI program back when somebody has removed or changed it, and tries again to write it. Without it no
    /// pod can be attached.
    fn keep_subnet_file(&mut self) {
        let path = &self.settings.subnet_file;
        let Some(env) = &self.ready_env else {
            if self.in_line {
                self.be_ready();
            }
            return;
        };
        let wrong = match std::fs::read_to_string(path) {
            Ok(text) if text == env.to_string() => return,
            Ok(_) => "somebody has changed it".to_owned(),
            Err(error) => error.to_string(),
        };
        match env.write_atomic(path) {
            Ok(()) => warn!("repaired: {}: {wrong}", path.display()),
            Err(error) => error!("pods cannot be attached: {error}"),
        }
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
        let mtu = env.mtu;
        self.ready_env = Some(env);
        let peers = {
            let mut facts = self.board.facts();
            facts.subnet_file_written = true;
            facts.leases.peers().count()
        };
        // What was left of it is gone, so from now on it is no more ours than anybody's.
        let former = std::mem::take(&mut self.former);
        if let Some(before) = former.mtu {
            tell_mtu(before, mtu);
        }
        if !former.networks.is_empty() {
            self.desire();
        }
        info!(
            "ready: {peers} peers, pods are attached by {}",
            self.settings.subnet_file.display()
        );
        if let Some(ready) = &self.ready {
            ready.send_replace(true);
        }
        if let Err(error) = notify::ready() {
            warn!("the service manager was not told that the network works: {error}");
        }
        settle();
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

fn host_network<C>((network, subnet): (C, C)) -> HostNetwork<C> {
    HostNetwork {
        networks: vec![network],
        subnet,
    }
}
