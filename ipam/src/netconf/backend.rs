//! The `Backend` object: how hosts reach each other.

use std::fmt;

use serde::de::DeserializeOwned;

use super::{NetConfError, member};
use crate::cidr::shortened;
use crate::json::Members;

/// How hosts reach each other's subnets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Each host only takes a subnet; something else carries the packets.
    Alloc,
    /// A route per host on a network that all hosts share.
    HostGw,
    /// Packets travel inside UDP.
    Vxlan(VxlanBackend),
}

/// What a vxlan backend can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VxlanBackend {
    /// The network identifier, 1 unless given.
    pub vni: Vni,
    /// UDP port of the outer packets; 0 leaves it to the kernel, which takes 8472.
    pub port: u16,
    /// MTU of the underlay in bytes, outer headers included; without it, that of the uplink.
    pub mtu: Option<u32>,
    /// Group based policy: the kernel carries the packet mark in the outer header.
    pub gbp: bool,
    /// Whether the device learns addresses from the packets it sees.
    pub learning: bool,
    /// Whether hosts of one link reach each other by plain routes.
    pub direct_routing: bool,
}

impl Default for VxlanBackend {
    fn default() -> Self {
        Self {
            vni: Vni::DEFAULT,
            port: 0,
            mtu: None,
            gbp: false,
            learning: false,
            direct_routing: false,
        }
    }
}

/// A VXLAN network identifier: 24 bits (RFC 7348, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vni(u32);

impl Vni {
    /// Flannel's default, 1.
    pub const DEFAULT: Self = Self(1);

    /// The greatest number that fits the header.
    pub const MAX: Self = Self(0xff_ffff);

    /// An identifier, unless the number is greater than 24 bits hold.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if number > Self::MAX.0 {
            None
        } else {
            Some(Self(number))
        }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The shortest and the longest MTU: what IPv4 asks of every link (RFC 791) behind the VXLAN headers, and the longest
/// packet that IP knows.
const MTU: std::ops::RangeInclusive<u32> = 68 + 50..=0xffff;

const UNSUPPORTED: [(&str, &str); 6] = [
    (
        "extension",
        "it runs commands from the configuration as root; use vxlan or host-gw",
    ),
    (
        "ipip",
        "use vxlan with \"DirectRouting\": true, or host-gw where all hosts share a network",
    ),
    ("ipsec", "use vxlan on an encrypted underlay"),
    (
        "tencent-vpc",
        "use vxlan, or host-gw where all hosts share a network",
    ),
    (
        "udp",
        "use vxlan, which carries the same packets without leaving the kernel",
    ),
    ("wireguard", "use vxlan on an encrypted underlay"),
];

impl Backend {
    /// The name in the configuration and in leases.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Alloc => "alloc",
            Self::HostGw => "host-gw",
            Self::Vxlan(_) => "vxlan",
        }
    }

    /// Reads the object out of the configuration; `None` if there is no such object.
    pub(super) fn parse(conf: &Members) -> Result<Option<Self>, NetConfError> {
        let Some(object) = conf.raw("Backend") else {
            return Ok(None);
        };
        let Ok(members) = Members::parse(object.get().as_bytes()) else {
            let (key, expected, found) = ("Backend", "an object", shortened(object.get()));
            return Err(NetConfError::WrongType {
                key,
                expected,
                found,
            });
        };
        let name = member::<String>(&members, "Type", "the name of a backend in quotes")?
            .unwrap_or_default();
        match name.to_lowercase().as_str() {
            "" => Err(NetConfError::BackendWithoutType),
            "alloc" => Ok(Some(Self::Alloc)),
            "host-gw" => Ok(Some(Self::HostGw)),
            "vxlan" => VxlanBackend::parse(&members).map(Self::Vxlan).map(Some),
            other => Err(refusal(other, &name)),
        }
    }
}

fn refusal(name: &str, given: &str) -> NetConfError {
    match UNSUPPORTED.iter().find(|(known, _)| *known == name) {
        Some(&(name, instead)) => NetConfError::UnsupportedBackend { name, instead },
        None => NetConfError::UnknownBackend {
            name: shortened(given),
        },
    }
}

impl VxlanBackend {
    fn parse(members: &Members) -> Result<Self, NetConfError> {
        let default = Self::default();
        let vni = in_range(
            members,
            "VNI",
            "a number from 0 to 16777215",
            |number: &u32| *number <= Vni::MAX.0,
        )?;
        let port = member(members, "Port", "a port, a number from 0 to 65535")?;
        let mtu = in_range(
            members,
            "MTU",
            "a number of bytes from 118 to 65535, or 0 for that of the uplink",
            |mtu| *mtu == 0 || MTU.contains(mtu),
        )?;
        Ok(Self {
            vni: vni.map_or(default.vni, Vni),
            port: port.unwrap_or(default.port),
            mtu: mtu.filter(|&mtu| mtu != 0),
            gbp: flag(members, "GBP")?,
            learning: flag(members, "Learning")?,
            direct_routing: flag(members, "DirectRouting")?,
        })
    }
}

fn flag(members: &Members, key: &'static str) -> Result<bool, NetConfError> {
    Ok(member(members, key, "true or false")?.unwrap_or(false))
}

fn in_range<T: DeserializeOwned + fmt::Display>(
    members: &Members,
    key: &'static str,
    expected: &'static str,
    allowed: impl Fn(&T) -> bool,
) -> Result<Option<T>, NetConfError> {
    match member::<T>(members, key, expected)? {
        Some(value) if !allowed(&value) => Err(NetConfError::WrongType {
            key,
            expected,
            found: value.to_string(),
        }),
        value => Ok(value),
    }
}
