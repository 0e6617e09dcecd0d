//! The kernel boundary of Loden: network objects in, network objects out.
//!
//! Everything that speaks to the kernel lives here, and with it every line of `unsafe` in the workspace. What the
//! objects are wanted *for* (leases, pods, backends) is not known here.
//!
//! [`Netlink`] tells what is there and makes [`Change`]s; [`Monitor`] tells when to look again.

pub mod conntrack;
pub mod ethtool;
pub mod memory;
pub mod netns;
pub mod nft;
pub mod pod_link;
pub mod probe;
pub mod sysctl;

mod address;
mod attr;
mod change;
mod error;
mod fdb;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod link;
mod mac;
mod monitor;
mod neighbour;
mod netlink;
mod route;
mod socket;

pub use address::{Address, AddressFamily, Scope};
pub use change::{Change, Refusals, Refused};
pub use error::{Error, KernelError};
pub use fdb::FdbEntry;
pub use link::{
    Link, LinkIndex, Vxlan,
    change::{LinkChange, LinkName, VxlanChange},
    new::{Bridge, NewLink, NewLinkKind, VethPeer},
};
pub use mac::{InvalidMac, Mac};
pub use monitor::{Group, Monitor, Notice, Wake};
pub use neighbour::{Neighbour, NeighbourState};
pub use netlink::{Netlink, Traffic};
pub use netns::{Netns, NetnsError, NetnsIdentity};
pub use route::{NoWay, Route, RouteKind, request::RouteFilter};
