//! `flanneld cleanup`: takes away everything that Loden (or flannel) put on this node's kernel, and nothing of others.
//!
//! What is ours is known by the marks that the daemon knows it by, so neither a running daemon nor etcd is needed. `rules` decides,
//! here it is looked, asked and done.

mod pods;
mod rules;

use std::fs;
use std::io::{self, BufRead, IsTerminal};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Parser;
use hostnet::nft::Nftables;
use hostnet::{AddressFamily, Netlink, Refusals, Route, RouteFilter};
use ipam::{Cidr, SubnetEnv};
use ipnetwork::IpNetwork;
use thiserror::Error;

use self::rules::{Former, Found};
use crate::firewall::removal::{Leftovers, RemovalError};
use crate::http::socket;
use crate::iptables::programs::Programs;
use crate::network::as_network;
use crate::reconcile::{self, Leftover};

/// `flanneld cleanup`
#[derive(Clone, Debug, Parser)]
#[command(
    bin_name = "flanneld cleanup",
    about = "Removes from this node what Loden or flannel put there: devices, routes, firewall rules, the subnet file. Pods lose \
             their way to other nodes",
    disable_version_flag = true,
    after_help = "The lease in etcd stays: it ends by itself a day after its last renewal. Kernel settings stay as they are.\n\
                  Exit status: 0 done, or nothing to do; 1 something could not be removed; 2 wrong flags, or not allowed to go on."
)]
pub struct Cleanup {
    /// File that tells the CNI program the subnet; tells this command what the pod network was
    #[arg(long, value_name = "FILE", default_value = crate::args::SUBNET_FILE)]
    subnet_file: PathBuf,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Go on although a daemon is running, which will put everything back
    #[arg(long)]
    force: bool,
    /// Remove what the CNI program has recorded of pods, and the ports of this node that lead to them, too; only when no pod is
    /// left
    #[arg(long)]
    cni_state: bool,
}

/// Why not everything was removed.
#[derive(Debug, Error)]
pub enum CleanupError {
    /// Nobody said yes.
    #[error("nothing was removed: {0}")]
    NotAllowed(String),
    /// The kernel cannot be looked at.
    #[error("cannot look at what there is: {0}")]
    Look(#[from] hostnet::Error),
    /// The kernel refuses.
    #[error("not everything was removed: {0}")]
    Refused(#[from] Refusals),
    /// The firewall.
    #[error("firewall rules of ours may be left: {0}")]
    Firewall(#[from] RemovalError),
    /// Some rules cannot be read.
    #[error("firewall rules of ours may be left where they cannot be looked for: {0}")]
    Unreadable(String),
    /// A file.
    #[error("cannot remove {}: {reason}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        reason: io::Error,
    },
}

/// What will be removed.
struct Work {
    steps: Vec<reconcile::Step>,
    firewall: Leftovers,
    paths: Vec<PathBuf>,
}

impl CleanupError {
    /// Whether it was the caller who did not want it.
    pub fn is_not_allowed(&self) -> bool {
        matches!(self, Self::NotAllowed(_))
    }
}

impl Cleanup {
    /// Does it. Sentences about it go to `tell`.
    ///
    /// # Errors
    /// [`CleanupError`]; what could be removed is gone.
    pub fn run(&self, tell: &mut dyn FnMut(String)) -> Result<(), CleanupError> {
        if let Some(pid) = running_daemon().filter(|_| !self.force) {
            return Err(CleanupError::NotAllowed(format!(
                "flanneld is running (process {pid}) and would put everything back; stop it, or give --force"
            )));
        }
        let mut netlink = Netlink::open()?;
        let mut nftables = Nftables::open().map_err(RemovalError::from)?;
        let programs = Programs::find();
        let work = self.look(&mut netlink, &mut nftables, &programs)?;
        let lines = work.describe();
        if lines.is_empty() {
            tell("nothing of Loden or flannel is on this node".to_owned());
            return work.told_unreadable();
        }
        tell("to be removed:".to_owned());
        for line in &lines {
            tell(format!("  {line}"));
        }
        if !self.yes {
            ask(tell)?;
        }
        work.remove(&mut netlink, &mut nftables, &programs)?;
        tell("removed".to_owned());
        Ok(())
    }

    fn look(
        &self,
        netlink: &mut Netlink,
        nftables: &mut Nftables,
        programs: &Programs,
    ) -> Result<Work, CleanupError> {
        let found = observe(netlink)?;
        let mut paths = vec![self.subnet_file.clone()];
        if running_daemon().is_none() {
            paths.extend(socket::files(Path::new(socket::DEFAULT_PATH)));
        }
        if self.cni_state {
            let pools = Path::new(ipam::pool::DEFAULT_DIRECTORY);
            let theirs = Path::new(ipam::host_local::DEFAULT_DIRECTORY);
            paths.extend(pods::of_host_local(pools, theirs));
            paths.push(pools.to_owned());
            paths.push(PathBuf::from(ipam::operations::DEFAULT_DIRECTORY));
            paths.push(PathBuf::from(ipam::host_ports::DEFAULT_DIRECTORY));
        }
        paths.retain(|path| path.exists());
        let mut firewall = Leftovers::find(nftables, programs)?;
        if self.cni_state {
            firewall.include_host_ports(nftables)?;
        }
        Ok(Work {
            steps: rules::removals(&former(&self.subnet_file), &found),
            firewall,
            paths,
        })
    }
}

impl Work {
    fn describe(&self) -> Vec<String> {
        let steps = self.steps.iter().map(|step| step.object.to_string());
        let paths = self.paths.iter().map(|path| path.display().to_string());
        steps.chain(self.firewall.describe()).chain(paths).collect()
    }

    /// What stands on others goes last, so that a second run finds all that a first one could not remove.
    fn remove(
        self,
        netlink: &mut Netlink,
        nftables: &mut Nftables,
        programs: &Programs,
    ) -> Result<(), CleanupError> {
        let changes: Vec<_> = self
            .steps
            .iter()
            .filter_map(reconcile::Step::change)
            .collect();
        let mut refused = netlink.apply(&changes).err();
        // A route is gone with its device.
        if refused
            .as_ref()
            .is_some_and(|refused| refused.iter().all(hostnet::Refused::is_not_found))
        {
            refused = None;
        }
        let unreadable = self.told_unreadable();
        self.firewall.remove(nftables, programs)?;
        if let Some(refused) = refused {
            return Err(refused.into());
        }
        for path in self.paths {
            let removed = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            if let Err(reason) = removed
                && reason.kind() != io::ErrorKind::NotFound
            {
                return Err(CleanupError::File { path, reason });
            }
        }
        unreadable
    }

    fn told_unreadable(&self) -> Result<(), CleanupError> {
        match self.firewall.unreadable().first() {
            None => Ok(()),
            Some(error) => Err(CleanupError::Unreadable(error.to_string())),
        }
    }
}

fn ask(tell: &mut dyn FnMut(String)) -> Result<(), CleanupError> {
    let not_allowed = |reason: &str| Err(CleanupError::NotAllowed(reason.to_owned()));
    if !io::stdin().is_terminal() {
        return not_allowed("there is no terminal to ask at; give --yes");
    }
    tell("Pods on this node lose their way to other nodes. Go on? [y/N]".to_owned());
    let mut answer = String::new();
    if io::stdin().lock().read_line(&mut answer).is_err() {
        return not_allowed("the answer could not be read");
    }
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => not_allowed("the answer was no"),
    }
}

fn former(subnet_file: &Path) -> Former {
    let networks = SubnetEnv::previous_networks(subnet_file);
    let sizes = SubnetEnv::previous_subnets(subnet_file).each();
    Former {
        networks: networks.into_iter().map(as_network).collect(),
        subnet_sizes: sizes
            .map(|subnet: Cidr| (subnet.is_v4(), subnet.prefix()))
            .collect(),
    }
}

fn observe(netlink: &mut Netlink) -> Result<Found, hostnet::Error> {
    let mut devices = Vec::new();
    for link in netlink.links()? {
        if reconcile::is_named_as_ours(&link) {
            let addresses = netlink.addresses(Some(link.index))?;
            let addresses = addresses
                .iter()
                .filter_map(|held| IpNetwork::new(held.address, held.prefix).ok());
            let addresses = addresses.collect();
            devices.push(Leftover { link, addresses });
        }
    }
    let mut routes = Vec::new();
    for family in [AddressFamily::Ipv4, AddressFamily::Ipv6] {
        routes.extend(netlink.routes(&RouteFilter {
            family: Some(family),
            table: Some(Route::MAIN_TABLE),
            ..RouteFilter::default()
        })?);
    }
    Ok(Found { devices, routes })
}

/// The process ID of another flanneld in this network namespace, as far as it can be seen from here.
fn running_daemon() -> Option<u32> {
    let namespace = |pid: &str| {
        let file = fs::metadata(format!("/proc/{pid}/ns/net")).ok()?;
        Some((file.dev(), file.ino()))
    };
    let own = namespace("self")?;
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_daemon = |pid: &u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"));
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        // A command such as `flanneld status --watch` bears the same name.
        let word = words.split(|byte| *byte == 0).nth(1).unwrap_or_default();
        *pid != std::process::id()
            && name.is_ok_and(|name| name.trim_end() == "flanneld")
            && (word.is_empty() || word.starts_with(b"-"))
            && namespace(&pid.to_string()) == Some(own)
    };
    let mut pids = pids;
    pids.find(is_daemon)
}
