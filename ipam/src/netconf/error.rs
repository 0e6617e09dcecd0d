//! Why a network configuration cannot be used, and what to write instead.

use std::net::IpAddr;

use super::LONGEST;
use crate::cidr::{Cidr, CidrError};

/// Why a network configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetConfError {
    /// `Network` or `IPv6Network` is no subnet.
    #[error("{key} of the network configuration is wrong: {reason}")]
    BadNetwork {
        /// The key.
        key: &'static str,
        /// What is wrong with the value.
        reason: CidrError,
    },
    /// There is a backend object without a type.
    #[error(
        "the network configuration has a Backend without Type; add for example \"Type\": \"vxlan\" to it"
    )]
    BackendWithoutType,
    /// A first and a last subnet in the wrong order.
    #[error(
        "{min_key} {min} lies behind {max_key} {max}, which leaves no subnet; exchange or correct them"
    )]
    MinBehindMax {
        /// The key of the first subnet.
        min_key: &'static str,
        /// The first subnet.
        min: Cidr,
        /// The key of the last subnet.
        max_key: &'static str,
        /// The last subnet.
        max: Cidr,
    },
    /// A family is switched on without a network.
    #[error(
        "the network configuration has no {key}; add it, or switch that family off with {switch}: false"
    )]
    MissingNetwork {
        /// The key that is missing.
        key: &'static str,
        /// The key that switches the family.
        switch: &'static str,
    },
    /// A network in which no two subnets fit.
    #[error(
        "{key} {network} is too small to give every host a subnet; it must be /{longest} or larger"
    )]
    NetworkTooSmall {
        /// The key of the network.
        key: &'static str,
        /// The network.
        network: Cidr,
        /// The longest prefix that does.
        longest: u8,
    },
    /// Both families are switched off.
    #[error(
        "the network configuration switches both IPv4 and IPv6 off; set EnableIPv4 or EnableIPv6 to true"
    )]
    NoFamily,
    /// A first or last subnet that is none of the given length.
    #[error(
        "{key} {address} is no subnet of length {length}; the one it lies in begins at {subnet}"
    )]
    NotAligned {
        /// The key.
        key: &'static str,
        /// The address as given.
        address: IpAddr,
        /// The length of the subnets.
        length: u8,
        /// The network address it should be.
        subnet: IpAddr,
    },
    /// The text is not a JSON object.
    #[error("the network configuration is not a JSON object: {reason}")]
    NotJson {
        /// What the parser says.
        reason: String,
    },
    /// A first or last subnet outside the network.
    #[error(
        "{key} {address} lies outside the network {network}; choose one within it or leave the key out"
    )]
    OutsideNetwork {
        /// The key.
        key: &'static str,
        /// The address as given.
        address: IpAddr,
        /// The network.
        network: Cidr,
    },
    /// A subnet length that leaves no room for subnets, or none for pods.
    #[error(
        "{key} {length} does not fit network {network}; it must be from {shortest} to {longest}"
    )]
    SubnetLength {
        /// The key.
        key: &'static str,
        /// The length as given.
        length: u32,
        /// The network.
        network: Cidr,
        /// The shortest prefix that does: the network must hold more than two subnets.
        shortest: u8,
        /// The longest that does: a subnet needs an address for the tunnel and one for the bridge.
        longest: u8,
    },
    /// The text is longer than any network configuration.
    #[error(
        "the network configuration has {bytes} bytes, more than the {LONGEST} that are read; check what was stored"
    )]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A backend that nobody knows.
    #[error("backend \"{name}\" is unknown; use vxlan, host-gw or alloc")]
    UnknownBackend {
        /// Its name as given.
        name: String,
    },
    /// A backend of flannel that Loden does not do.
    #[error("backend \"{name}\" is not available in Loden; {instead}")]
    UnsupportedBackend {
        /// Its name.
        name: &'static str,
        /// What to use.
        instead: &'static str,
    },
    /// A value is not of the type or in the limits of its key.
    #[error("{key} of the network configuration must be {expected}, not {found}")]
    WrongType {
        /// The key.
        key: &'static str,
        /// What belongs there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
}
