//! What is recorded of an attachment: one file each, which alone decides who holds an address.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::owner::Owner;
use super::range::{Range, Window};

/// An interface with the addresses it holds, and what is needed to find it again and take it down.
///
/// Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// Container and interface.
    pub owner: Owner,
    /// Name of the CNI network.
    pub network: String,
    /// One address of each range set, in their order.
    pub addresses: Vec<HeldAddress>,
    /// Everything that is not the pool's business.
    #[serde(default)]
    pub details: Details,
    /// The boot of the host in which this was made. No attachment outlives its boot.
    pub boot_id: String,
    /// When this was made, or last taken over.
    pub created: u64,
}

/// An address that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldAddress {
    /// The address.
    pub address: IpAddr,
    /// Prefix length of the subnet it is from.
    pub prefix: u8,
    /// The gateway of the range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// First and last address of the slots file it was taken from: where to look first when it is given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    slots: Option<(IpAddr, IpAddr)>,
}

/// What whoever attaches a pod wants to find again. The pool only keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    /// The pod's network namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<NetnsIdentity>,
    /// The host's end of the link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_ifname: Option<String>,
    /// How the pod is attached.
    pub kind: Kind,
    /// The pod, where the runtime tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,
    /// The plugin of others that has a part in this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub foreign: Option<ForeignPlugin>,
    /// A digest of the configuration, by which a changed one is noticed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_digest: Option<String>,
}

/// A plugin of others, and what it was told when the pod came: the same it has to be told when the pod goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignPlugin {
    /// Its name in the directories of `CNI_PATH`.
    pub name: String,
    /// Its config, as JSON.
    pub config: String,
}

/// A network namespace, known again even when its path is used for another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetnsIdentity {
    /// The path the runtime gave.
    pub path: String,
    /// Device number of the namespace file.
    pub dev: u64,
    /// Inode number of the namespace file.
    pub ino: u64,
}

/// How a pod is attached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Kind {
    /// On a bridge.
    Bridge {
        /// The bridge.
        name: String,
    },
    /// By a host route.
    #[default]
    Routed,
    /// By a plugin of others, who know all about it.
    Foreign,
    /// In a way that a later version made and this one does not know.
    #[serde(other)]
    Unknown,
}

/// A pod of Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

impl HeldAddress {
    /// An address taken from a range, or imported: held by a pod although the pool did not give it.
    #[must_use]
    pub fn new(range: &Range, address: IpAddr) -> Self {
        let window = range.window();
        let slots = window
            .index(address)
            .map(|_| (window.address(0), window.address(window.len() - 1)));
        Self {
            address,
            prefix: range.subnet().prefix(),
            gateway: range.gateway(),
            slots,
        }
    }

    /// The name of the slots file in which the address was taken.
    pub(super) fn window(&self) -> Option<Window> {
        let (start, end) = self.slots?;
        let (start, end) = (super::range::to_bits(start), super::range::to_bits(end));
        Window::new(self.address.is_ipv4(), start, end)
            .filter(|window| window.index(self.address).is_some())
    }
}
