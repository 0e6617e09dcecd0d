//! The vxlan network: a device per family, and for each peer a neighbour, an FDB entry and a route.
//!
//! What goes over the wire is flannel's: the inner destination MAC is the peer's VTEP MAC, the outer destination its public address, and
//! the device carries its subnet's first number as address, which host traffic takes as its source.

use std::net::IpAddr;

use hostnet::{Mac, Vxlan};
use ipam::{Cidr, LeaseBackend, NetConf, PerFamily, Subnets, VxlanBackend, VxlanLease};
use ipnetwork::IpNetwork;
use thiserror::Error;

use super::peers::{self, Ours, Peer, Skipped, Unusable};
use super::{Family, as_network, host_gw};
use crate::desired::{Desired, Device, Hop};
use crate::store::PeerLease;
use crate::uplink::Uplink;

/// Outer Ethernet (14), IPv4 (20), UDP (8) and VXLAN (8) headers, in bytes.
const IPV4_OVERHEAD: u32 = 50;
/// The same with an outer IPv6 header (40).
const IPV6_OVERHEAD: u32 = 70;
/// The smallest MTU an IPv4 host must take (RFC 791) …
const IPV4_LEAST_MTU: u32 = 68;
/// … and an IPv6 link must carry (RFC 8200, section 5).
const IPV6_LEAST_MTU: u32 = 1280;

/// Why a vxlan network cannot be had on this node.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum VxlanError {
    /// The tunnel would be too narrow.
    #[error(
        "an MTU of {outer} leaves {inner} bytes for {family} packets inside the tunnel, which needs at least {least}; raise the MTU of {uplink} or of the Backend"
    )]
    MtuTooSmall {
        /// What the outer packets may have.
        outer: u32,
        /// What is left of it.
        inner: u32,
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The least that works.
        least: u32,
        /// The interface.
        uplink: String,
    },
    /// The uplink lacks an address of a family.
    #[error("the uplink {uplink} has no {family} address for the tunnel")]
    NoAddress {
        /// The interface.
        uplink: String,
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
}

/// One family's tunnel.
#[derive(Clone, Debug)]
struct Tunnel {
    name: String,
    device: Device,
    family: Family,
}

/// The vxlan network of this node.
#[derive(Clone, Debug)]
pub struct VxlanNetwork {
    vni: ipam::Vni,
    v4: Option<Tunnel>,
    v6: Option<Tunnel>,
    /// Present if neighbours on it are reached without a tunnel (`DirectRouting`).
    direct: Option<Uplink>,
}

/// The names of the devices for a VNI, as flannel has them.
pub fn device_names(vni: ipam::Vni) -> PerFamily<String, String> {
    PerFamily::both(
        format!("flannel.{}", vni.number()),
        format!("flannel-v6.{}", vni.number()),
    )
}

/// The MAC of a VTEP that has none yet: derived from what identifies it, so that it is the same after a reboot and no peer has to
/// learn another.
pub fn derived_mac(public: IpAddr, vni: ipam::Vni) -> Mac {
    let address = match public {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    // FNV-1a (64 bit), then the finalizer of MurmurHash3, since only 46 bits are kept and the input is short.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in address.into_iter().chain(vni.number().to_be_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    let [_, _, mut bytes @ ..] = (hash ^ (hash >> 33)).to_be_bytes();
    // Locally administered (IEEE 802, bit 1 of the first byte) and unicast (bit 0 clear).
    bytes[0] = (bytes[0] & 0xfc) | 0x02;
    Mac(bytes)
}

impl VxlanNetwork {
    /// The network of `conf` over `uplink`. `macs` are those of devices that are there already; a device that is not gets a derived one.
    ///
    /// # Errors
    /// The uplink is too narrow or lacks an address.
    pub fn new(
        conf: &NetConf,
        backend: &VxlanBackend,
        uplink: &Uplink,
        macs: &PerFamily<Mac, Mac>,
    ) -> Result<Self, VxlanError> {
        let names = device_names(backend.vni);
        let tunnel = |name: Option<String>,
                      network: Option<Cidr>,
                      local: Option<IpAddr>,
                      public: Option<IpAddr>,
                      mac: Option<Mac>| {
            let (Some(name), Some(network)) = (name, network) else {
                return Ok(None);
            };
            Tunnel::new(name, network, backend, uplink, local.zip(public), mac).map(Some)
        };
        let (local, public) = (&uplink.local, &uplink.public);
        Ok(Self {
            vni: backend.vni,
            direct: backend.direct_routing.then(|| uplink.clone()),
            v4: tunnel(
                names.v4,
                conf.networks.v4.map(Cidr::V4),
                local.v4.map(IpAddr::V4),
                public.v4.map(IpAddr::V4),
                macs.v4,
            )?,
            v6: tunnel(
                names.v6,
                conf.networks.v6.map(Cidr::V6),
                local.v6.map(IpAddr::V6),
                public.v6.map(IpAddr::V6),
                macs.v6,
            )?,
        })
    }

    /// The MTU for pods in bytes: what every tunnel carries.
    pub fn pod_mtu(&self) -> u32 {
        self.tunnels()
            .map(|tunnel| tunnel.device.mtu)
            .min()
            .unwrap_or(0)
    }

    /// The MACs of our VTEPs.
    pub(super) fn macs(&self) -> PerFamily<Mac, Mac> {
        let mac = |tunnel: &Tunnel| tunnel.device.mac;
        PerFamily {
            v4: self.v4.as_ref().map(mac),
            v6: self.v6.as_ref().map(mac),
        }
    }

    /// What our lease tells the others about our VTEPs.
    pub(super) fn lease_data(&self) -> LeaseBackend {
        let data = |tunnel: &Tunnel| VxlanLease {
            vni: Some(self.vni),
            mac: ipam::Mac(tunnel.device.mac.0),
        };
        LeaseBackend::Vxlan(PerFamily {
            v4: self.v4.as_ref().map(data),
            v6: self.v6.as_ref().map(data),
        })
    }

    pub(super) fn desired<'a>(
        &self,
        own: Option<&Subnets>,
        leases: impl Iterator<Item = &'a PeerLease> + Clone,
    ) -> (Desired, Vec<Skipped>) {
        let mut desired = Desired {
            uplink: self.tunnels().find_map(|tunnel| tunnel.device.vxlan.lower),
            ..Desired::default()
        };
        let mut skipped = Vec::new();
        for tunnel in self.tunnels() {
            desired.networks.push(as_network(tunnel.family.network));
            let mut device = tunnel.device.clone();
            let subnet = own.and_then(|own| tunnel.family.subnet_of(own));
            device
                .addresses
                .extend(subnet.map(|subnet| IpNetwork::from(subnet.network())));
            desired.devices.insert(tunnel.name.clone(), device);
            // A device that takes router advertisements would get routes that are nobody's.
            desired.sysctls.insert(
                format!("net/ipv6/conf/{}/accept_ra", tunnel.name),
                "0".to_owned(),
            );
            // Follows from `ip_forward`, except where two programs wrote that at the same moment: then the kernel may leave
            // devices out, and writing it again changes nothing.
            if tunnel.family.network.is_v4() {
                desired.sysctls.insert(
                    format!("net/ipv4/conf/{}/forwarding", tunnel.name),
                    "1".to_owned(),
                );
            }
            for peer in self.peers(tunnel, subnet, leases.clone(), &mut skipped) {
                match self
                    .direct
                    .as_ref()
                    .filter(|uplink| uplink.is_neighbour(peer.public))
                {
                    Some(uplink) => {
                        let hop = host_gw::direct(uplink.link, &peer);
                        desired.routes.insert(as_network(peer.subnet), hop);
                    }
                    None => tunnel.reach(&peer, &mut desired),
                }
            }
        }
        (desired, skipped)
    }

    fn peers<'a>(
        &self,
        tunnel: &Tunnel,
        own: Option<Cidr>,
        leases: impl Iterator<Item = &'a PeerLease>,
        skipped: &mut Vec<Skipped>,
    ) -> Vec<Peer> {
        let mut candidates = Vec::new();
        for lease in leases {
            match tunnel.candidate(lease) {
                Ok(Some(peer)) => candidates.push((lease, peer)),
                Ok(None) => {}
                Err(reason) => skipped.push(Skipped {
                    key: lease.key,
                    subnet: tunnel.family.subnet_of(&lease.key.subnets()),
                    reason,
                }),
            }
        }
        let ours = Ours {
            network: tunnel.family.network,
            subnet: own,
            public: tunnel.family.public,
            mac: Some(ipam::Mac(tunnel.device.mac.0)),
        };
        let (peers, unusable) = peers::select(&ours, candidates);
        skipped.extend(unusable);
        peers
    }

    fn tunnels(&self) -> impl Iterator<Item = &Tunnel> {
        self.v4.iter().chain(&self.v6)
    }
}

impl Tunnel {
    fn new(
        name: String,
        network: Cidr,
        backend: &VxlanBackend,
        uplink: &Uplink,
        addresses: Option<(IpAddr, IpAddr)>,
        mac: Option<Mac>,
    ) -> Result<Self, VxlanError> {
        let (family, overhead, least) = if network.is_v4() {
            ("IPv4", IPV4_OVERHEAD, IPV4_LEAST_MTU)
        } else {
            ("IPv6", IPV6_OVERHEAD, IPV6_LEAST_MTU)
        };
        let (local, public) = addresses.ok_or_else(|| VxlanError::NoAddress {
            uplink: uplink.name.clone(),
            family,
        })?;
        let outer = backend.mtu.unwrap_or(uplink.mtu);
        let inner = outer.saturating_sub(overhead);
        if inner < least {
            return Err(VxlanError::MtuTooSmall {
                outer,
                inner,
                family,
                least,
                uplink: uplink.name.clone(),
            });
        }
        let vxlan = Vxlan {
            lower: Some(uplink.link),
            local: Some(local),
            port: backend.port,
            learning: backend.learning,
            gbp: backend.gbp,
            ..Vxlan::new(backend.vni.number())
        };
        let mac = mac.unwrap_or_else(|| derived_mac(public, backend.vni));
        Ok(Self {
            name,
            device: Device {
                vxlan,
                mtu: inner,
                mac,
                addresses: [].into(),
            },
            family: Family { network, public },
        })
    }

    /// What the lease says for this tunnel's family; nothing if the lease has no subnet of it.
    fn candidate(&self, lease: &PeerLease) -> Result<Option<Peer>, Unusable> {
        let LeaseBackend::Vxlan(data) = &lease.record.backend else {
            return Err(Unusable::ForeignBackend {
                theirs: lease.record.backend.name().to_owned(),
                ours: "vxlan",
            });
        };
        let Some((subnet, public)) = self.family.reach(lease)? else {
            return Ok(None);
        };
        let data = self.family.pick(data.v4, data.v6).ok_or(Unusable::Lacks {
            what: "a VTEP MAC",
            family: self.family.name(),
        })?;
        Ok(Some(Peer {
            subnet,
            public,
            mac: Some(data.mac),
        }))
    }

    fn reach(&self, peer: &Peer, desired: &mut Desired) {
        let Some(mac) = peer.mac.map(|mac| Mac(mac.0)) else {
            return;
        };
        let gateway = peer.subnet.network();
        desired.routes.insert(
            as_network(peer.subnet),
            Hop::Tunnel {
                device: self.name.clone(),
                gateway,
            },
        );
        desired.neighbours.insert((self.name.clone(), gateway), mac);
        desired.fdb.insert((self.name.clone(), mac), peer.public);
    }
}

#[cfg(test)]
mod tests;
