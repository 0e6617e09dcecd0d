//! The forwarding database of a VXLAN device: behind which host an Ethernet address is.

use std::{fmt, net::IpAddr};

use netlink_packet_route::{
    AddressFamily,
    neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage},
};

use crate::{
    link::LinkIndex,
    mac::Mac,
    neighbour::{Entry, NeighbourState, destination},
};

/// An entry of a VXLAN device's own forwarding database (`bridge fdb … self`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FdbEntry {
    /// The VXLAN device.
    pub link: LinkIndex,
    /// The inner Ethernet address; all zero is the entry for all that are not in the table.
    pub mac: Mac,
    /// The host to send to.
    pub destination: IpAddr,
    /// Whether it was set by hand and stays; otherwise it was learned and ages.
    pub permanent: bool,
    /// Observed: whether it names a port, network identifier or link other than the device's. Not written.
    pub detour: bool,
}

impl FdbEntry {
    /// An entry set by hand.
    #[must_use]
    pub const fn permanent(link: LinkIndex, mac: Mac, destination: IpAddr) -> Self {
        Self {
            link,
            mac,
            destination,
            permanent: true,
            detour: false,
        }
    }

    /// None also for an entry that does not lead to a host: of a bridge, or over a nexthop group.
    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let entry = Entry::decode(payload)?;
        if !entry.flags.contains(NeighbourFlags::Own) {
            return None;
        }
        Some(Self {
            link: entry.link,
            mac: entry.mac?,
            destination: entry.destination?,
            permanent: NeighbourState::from_wire(entry.state) == NeighbourState::Permanent,
            detour: entry.detour,
        })
    }

    pub(crate) fn encode(&self) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = self.link.0;
        message.header.state = if self.permanent {
            NeighbourState::Permanent
        } else {
            NeighbourState::Reachable
        }
        .to_wire()
        .into();
        message.header.flags = NeighbourFlags::Own;
        let mac = NeighbourAttribute::LinkLayerAddress(self.mac.0.to_vec());
        message.attributes = vec![mac, destination(self.destination)];
        message
    }

    pub(crate) fn encode_delete(&self) -> NeighbourMessage {
        let mut message = self.encode();
        if self.detour {
            // Not all of the way is known, and one that is named in part is not found; without one the whole entry goes.
            message.attributes.truncate(1);
        }
        message
    }
}

impl fmt::Display for FdbEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} dev {} dst {} self",
            self.mac, self.link, self.destination
        )?;
        if self.permanent {
            f.write_str(" permanent")?;
        }
        if self.detour {
            f.write_str(" by another way")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
