//! Which of the two modes the firewall is kept in, and what of it the host can do.

use std::time::Duration;

use hostnet::nft::{self, Nftables, Table};
use ipam::{Backend, NetConf, Subnets};
use tracing::{info, warn};

use super::{Firewall, OWNED, Tunnels, ranges, tables};
use crate::desired::Desired;
use crate::iptables::programs::Programs;
use crate::iptables::{Variant, Wanted};
use crate::reconcile::DEFAULT_PORT;

/// Where the rules are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In iptables' tables, written by its programs.
    Iptables(Variant),
    /// In nf_tables' own tables, over netlink.
    Nftables,
}

/// What a host can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Why nf_tables cannot hold the rules, if it cannot.
    pub nftables: Result<(), String>,
    /// The variant of iptables to use, if there are programs.
    pub iptables: Option<Variant>,
}

/// The mode for a host: as `EnableNFTables` says if it can; where it says nothing nf_tables, if the kernel can.
///
/// The sentence is for the log, where the mode is not the one asked for or none was.
pub fn choose(asked: Option<bool>, abilities: &Abilities) -> (Mode, Option<String>) {
    match (asked, &abilities.nftables, abilities.iptables) {
        (Some(true) | None, Ok(()), _) => (Mode::Nftables, None),
        (Some(false), _, Some(variant)) => (Mode::Iptables(variant), None),
        (Some(false), Ok(()), None) => (
            Mode::Nftables,
            Some(
                "EnableNFTables is false, but no iptables programs are on PATH: the rules are kept in nf_tables; install iptables to have them there"
                    .to_owned(),
            ),
        ),
        (None, Err(reason), Some(variant)) => (
            Mode::Iptables(variant),
            Some(format!("the rules are kept by iptables, because nf_tables cannot: {reason}")),
        ),
        (Some(true), Err(reason), Some(variant)) => (
            Mode::Iptables(variant),
            Some(format!(
                "EnableNFTables is true, but nf_tables cannot hold the rules ({reason}): they are kept by iptables"
            )),
        ),
        (_, Err(reason), None) => (
            Mode::Nftables,
            Some(format!(
                "neither nf_tables nor iptables can hold the rules ({reason}, and no iptables programs are on PATH); trying nf_tables again and again"
            )),
        ),
    }
}

/// The rules to be kept in this process's life, and where: what the flags ask for as far as the host can do it.
#[derive(Clone, Debug)]
pub struct Keeping {
    mode: Mode,
    firewall: Firewall,
    resync: Duration,
}

impl Keeping {
    /// Asks the kernel and looks for programs, tells the log what is found, and decides.
    ///
    /// # Errors
    /// The kernel gives no netfilter socket.
    pub fn decide(
        conf: &NetConf,
        own: &Subnets,
        firewall: Firewall,
        resync: Duration,
    ) -> Result<Self, nft::Error> {
        let mut nftables = Nftables::open()?;
        let programs = Programs::find();
        let mut firewall = Firewall {
            untracked: tunnels(conf),
            ..firewall
        };
        let mut ability = check(&mut nftables, &tables(&conf.networks, own, &firewall));
        if let (Err(reason), Some(_)) = (&ability, firewall.untracked) {
            let tracked = Firewall {
                untracked: None,
                ..firewall
            };
            if check(&mut nftables, &tables(&conf.networks, own, &tracked)).is_ok() {
                warn!("the outer packets of tunnels go through connection tracking: {reason}");
                (firewall, ability) = (tracked, Ok(()));
            }
        }
        let families: Vec<_> = ranges(&conf.networks, own).into_keys().collect();
        let abilities = Abilities {
            nftables: ability,
            iptables: programs.variant(&mut nftables, &families),
        };
        let (mode, remark) = choose(conf.enable_nftables, &abilities);
        if let Some(remark) = remark {
            warn!("{remark}");
        }
        match mode {
            Mode::Nftables => info!("firewall rules are kept in nf_tables"),
            Mode::Iptables(Variant::Nft) => {
                info!("firewall rules are kept by iptables (nf_tables)")
            }
            Mode::Iptables(Variant::Legacy) => {
                info!("firewall rules are kept by iptables (legacy)")
            }
        }
        // Looking all the time would be all that is done.
        let resync = resync.max(Duration::from_secs(1));
        if let Mode::Iptables(variant) = mode {
            firewall.untracked = tunnels(conf);
            firewall.fully_random &= programs.can_randomise(variant);
            let wanted = |firewall| Wanted {
                active: Some(variant),
                ranges: ranges(&conf.networks, own),
                firewall,
                resync,
            };
            let tracked = Firewall {
                untracked: None,
                ..firewall
            };
            if let Err(reason) = programs.test(&wanted(firewall))
                && programs.test(&wanted(tracked)).is_ok()
            {
                warn!("the outer packets of tunnels go through connection tracking: {reason}");
                firewall = tracked;
            }
        }
        Ok(Self {
            mode,
            firewall,
            resync,
        })
    }

    /// Where the rules are kept.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Adds to `desired` the rules for these ranges, and that those of the other mode are to go.
    pub fn add_to(&self, desired: &mut Desired, networks: &Subnets, own: &Subnets) {
        let (wanted, active) = match self.mode {
            Mode::Nftables => (tables(networks, own, &self.firewall), None),
            Mode::Iptables(variant) => (Vec::new(), Some(variant)),
        };
        let is_wanted = |name: &str| wanted.iter().any(|table: &Table| table.name == name);
        desired.no_firewall = OWNED
            .into_iter()
            .filter(|(_, name)| !is_wanted(name))
            .map(|(family, name)| (family, name.to_owned()))
            .collect();
        desired.firewall = wanted;
        desired.iptables = Some(Wanted {
            active,
            ranges: ranges(networks, own),
            firewall: self.firewall,
            resync: self.resync,
        });
    }
}

fn check(nftables: &mut Nftables, tables: &[Table]) -> Result<(), String> {
    nftables.check(tables).map_err(|error| error.to_string())
}

/// The tunnels of this network.
fn tunnels(conf: &NetConf) -> Option<Tunnels> {
    match &conf.backend {
        Backend::Vxlan(backend) => Some(Tunnels {
            port: if backend.port == 0 {
                DEFAULT_PORT
            } else {
                backend.port
            },
            vni: backend.vni.number(),
        }),
        Backend::Alloc | Backend::HostGw => None,
    }
}

#[cfg(test)]
mod tests;
