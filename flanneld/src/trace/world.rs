//! What is asked about a host while a packet is followed.

use std::net::IpAddr;

use hostnet::nft::{Hook, Packet};
use hostnet::{Link, LinkIndex, Mac, NoWay, Route};

use crate::status::report::Pod;

/// A host with pods. What cannot be looked at is an error sentence.
pub(super) trait World {
    /// The pods of this host.
    fn pods(&self) -> &[Pod];

    /// The node that holds the subnet of this address, in a few words, if that is known.
    fn node_of(&self, address: IpAddr) -> Option<String>;

    /// The pod networks, and whether this address lies in one of them.
    fn is_pods_address(&self, address: IpAddr) -> bool;

    /// Where the pod's own routes lead.
    fn way_in_pod(&mut self, pod: &Pod, to: IpAddr) -> Result<Inside, String>;

    /// The host's end of the pod's link.
    fn host_end(&mut self, pod: &Pod) -> Result<Option<Link>, String>;

    /// A link by its number.
    fn link(&mut self, index: LinkIndex) -> Result<Option<Link>, String>;

    /// Whether the host forwards packets of this family.
    fn forwards(&mut self, ipv4: bool) -> Result<bool, String>;

    /// Where a packet that comes in by a link is sent.
    fn way(
        &mut self,
        from: IpAddr,
        to: IpAddr,
        by: LinkIndex,
    ) -> Result<Result<Route, NoWay>, String>;

    /// Where a packet of the host itself is sent.
    fn way_out(&mut self, to: IpAddr) -> Result<Option<Route>, String>;

    /// The MAC that the neighbour table of a link has for an address.
    fn neighbour(&mut self, link: LinkIndex, of: IpAddr) -> Result<Option<Mac>, String>;

    /// The hosts that a tunnel's table has for a MAC.
    fn fdb(&mut self, link: LinkIndex, mac: Mac) -> Result<Vec<IpAddr>, String>;

    /// How many ways the route to an address has, of which the kernel chooses one for each connection.
    fn ways(&mut self, to: IpAddr) -> Result<usize, String>;

    /// Whether the address is a service's that kube-proxy keeps on a link of its own (IPVS).
    fn is_service(&mut self, address: IpAddr) -> Result<bool, String>;

    /// What rules of others do with a packet at a point of its way.
    fn others(&mut self, at: Hook, packet: &Packet) -> Result<Others, String>;

    /// What our firewall rules do with a forwarded packet.
    fn rules(&mut self, from: IpAddr, to: IpAddr) -> Rules;
}

/// What firewall rules do with a forwarded packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// Whether it is accepted for forwarding by a rule of ours, and what else is to be said of that.
    pub(super) accepted: Result<bool, String>,
    /// Whether its source becomes the host's.
    pub(super) masqueraded: Result<bool, String>,
}

/// What becomes of a packet in its pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inside {
    /// Where the pod's routes lead.
    pub(super) way: Result<Route, NoWay>,
    /// The name of the link by which it leaves.
    pub(super) by: String,
    /// The MTU of that link in bytes.
    pub(super) mtu: u32,
}

/// What firewall rules of others do with a packet, in words for each place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Others {
    /// Where it is dropped.
    pub(super) drops: Vec<Place>,
    /// Where it gets another address.
    pub(super) rewrites: Vec<Place>,
    /// Rules that cannot be followed at all.
    pub(super) unread: Vec<String>,
}

/// A place in the firewall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Which, as the beginning of a sentence.
    pub(super) name: String,
    /// Whether it is so for every packet with these addresses; else that goes by something that is not known.
    pub(super) certain: bool,
}
