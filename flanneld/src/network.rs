//! Networks (flannel says backends): how leases become what this node's kernel should hold.
//!
//! Pure: no I/O, no clock. A new network is one file beside [`vxlan`] and [`host_gw`], and one arm here.

pub mod claims;
pub mod host_gw;
pub mod peers;
pub mod vxlan;

use std::net::IpAddr;

use hostnet::Mac;
use ipam::{Backend, Cidr, LeaseBackend, LeaseKey, LeaseRecord, NetConf, PerFamily, Subnets};
use ipnetwork::IpNetwork;
use thiserror::Error;

use self::host_gw::HostGwNetwork;
use self::peers::{Skipped, Unusable};
use self::vxlan::{VxlanError, VxlanNetwork};
use crate::desired::Desired;
use crate::store::PeerLease;
use crate::uplink::Uplink;

/// Why the configured network cannot be had on this node.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NetworkError {
    /// The tunnel cannot be had.
    #[error(transparent)]
    Vxlan(#[from] VxlanError),
}

/// The network of this node.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one network in a process"
)]
pub enum Network {
    /// Only a subnet is leased; something else carries the packets.
    Alloc {
        /// The pod networks.
        networks: Vec<IpNetwork>,
        /// The uplink's MTU in bytes.
        mtu: u32,
    },
    /// A plain route per peer.
    HostGw(HostGwNetwork),
    /// Packets travel inside UDP.
    Vxlan(VxlanNetwork),
}

impl Network {
    /// The network of `conf` over `uplink`. `macs` are those of devices that are there already; a device that is not gets a
    /// derived one.
    ///
    /// # Errors
    /// The uplink does not suffice.
    pub fn new(
        conf: &NetConf,
        uplink: &Uplink,
        macs: &PerFamily<Mac, Mac>,
    ) -> Result<Self, NetworkError> {
        Ok(match &conf.backend {
            Backend::Alloc => Self::Alloc {
                networks: pod_networks(conf),
                mtu: uplink.mtu,
            },
            Backend::HostGw => Self::HostGw(HostGwNetwork::new(conf, uplink)),
            Backend::Vxlan(backend) => Self::Vxlan(VxlanNetwork::new(conf, backend, uplink, macs)?),
        })
    }

    /// The same network over another uplink, or over one that changed; the devices keep their MACs, which the peers know.
    ///
    /// # Errors
    /// The uplink does not suffice.
    pub fn over(&self, conf: &NetConf, uplink: &Uplink) -> Result<Self, NetworkError> {
        let macs = match self {
            Self::Vxlan(network) => network.macs(),
            Self::Alloc { .. } | Self::HostGw(_) => PerFamily { v4: None, v6: None },
        };
        Self::new(conf, uplink, &macs)
    }

    /// The MTU for pods in bytes.
    pub fn pod_mtu(&self) -> u32 {
        match self {
            Self::Alloc { mtu, .. } => *mtu,
            Self::HostGw(network) => network.pod_mtu(),
            Self::Vxlan(network) => network.pod_mtu(),
        }
    }

    /// What our lease tells the others.
    pub fn record(&self, uplink: &Uplink) -> LeaseRecord {
        let backend = match self {
            Self::Alloc { .. } => LeaseBackend::Unnamed,
            Self::HostGw(_) => LeaseBackend::HostGw,
            Self::Vxlan(network) => network.lease_data(),
        };
        LeaseRecord {
            public: uplink.public,
            backend,
        }
    }

    /// What the kernel should hold for these leases, and the leases that are left out. Without `own` (not leased yet) it is
    /// what needs no lease, marked incomplete.
    pub fn desired<'a>(
        &self,
        own: Option<&Subnets>,
        leases: impl Iterator<Item = &'a PeerLease> + Clone,
    ) -> (Desired, Vec<Skipped>) {
        let (mut desired, mut skipped) = match self {
            Self::Alloc { networks, .. } => {
                let networks = networks.clone();
                (
                    Desired {
                        networks,
                        ..Desired::default()
                    },
                    Vec::new(),
                )
            }
            Self::HostGw(network) => network.desired(own, leases),
            Self::Vxlan(network) => network.desired(own, leases),
        };
        desired.complete = own.is_some();
        let sizes = own.into_iter().flat_map(|own| own.each());
        desired.subnet_sizes = sizes
            .map(|subnet: Cidr| (subnet.is_v4(), subnet.prefix()))
            .collect();
        // One reason a lease is enough, and the families often share it.
        skipped.dedup_by(|later, earlier| later == earlier);
        (desired, skipped)
    }
}

/// One family of this node: what every network needs to know of it.
#[derive(Clone, Copy, Debug)]
struct Family {
    /// The pod network.
    network: Cidr,
    /// What we publish.
    public: IpAddr,
}

impl Family {
    fn name(&self) -> &'static str {
        if self.network.is_v4() { "IPv4" } else { "IPv6" }
    }

    fn subnet_of(&self, subnets: &Subnets) -> Option<Cidr> {
        self.pick(subnets.v4.map(Cidr::V4), subnets.v6.map(Cidr::V6))
    }

    /// The lease's subnet and public address of this family; nothing if it has no subnet of it.
    fn reach(&self, lease: &PeerLease) -> Result<Option<(Cidr, IpAddr)>, Unusable> {
        let Some(subnet) = self.subnet_of(&lease.key.subnets()) else {
            return Ok(None);
        };
        let public = lease.record.public;
        match self.pick(public.v4.map(IpAddr::V4), public.v6.map(IpAddr::V6)) {
            Some(public) => Ok(Some((subnet, public))),
            None => Err(Unusable::Lacks {
                what: "a public address",
                family: self.name(),
            }),
        }
    }

    fn pick<T>(&self, v4: Option<T>, v6: Option<T>) -> Option<T> {
        if self.network.is_v4() { v4 } else { v6 }
    }
}

/// Names a lease's key the way the log does.
pub fn describe(key: &LeaseKey) -> String {
    let subnets = key.subnets();
    let texts: Vec<String> = subnets
        .each()
        .map(|subnet: Cidr| subnet.to_string())
        .collect();
    texts.join(" and ")
}

fn pod_networks(conf: &NetConf) -> Vec<IpNetwork> {
    conf.networks.each().map(as_network).collect()
}

/// The subnet in the type that [`hostnet`] takes.
pub fn as_network(cidr: Cidr) -> IpNetwork {
    match cidr {
        Cidr::V4(cidr) => cidr.into(),
        Cidr::V6(cidr) => cidr.into(),
    }
}

#[cfg(test)]
mod tests;
