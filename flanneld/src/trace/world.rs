//! What is asked about a host while a packet is followed.

use std::net::IpAddr;

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

    /// Where the pod's own routes lead, and the MTU of the link that they lead to.
    fn way_in_pod(&mut self, pod: &Pod, to: IpAddr) -> Result<(Result<Route, NoWay>, u32), String>;

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
    /// Chains of others that drop what they do not know.
    pub(super) dropping: Vec<String>,
}
