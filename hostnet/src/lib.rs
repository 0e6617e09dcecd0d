//! The kernel boundary of Loden: network objects in, network objects out.
//!
//! Everything that speaks to the kernel lives here, and with it every line of `unsafe` in the workspace. What the
//! objects are wanted *for* (leases, pods, backends) is not known here.

pub mod nft;

mod attr;
mod error;
mod socket;

pub use error::{Error, KernelError};
