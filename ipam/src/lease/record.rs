//! What a lease says, and its form as a value in etcd: the node's public addresses and what its backend needs to know.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cidr::shortened;
use crate::family::PerFamily;
use crate::json::Members;
use crate::mac::{Mac, MacError};
use crate::netconf::Vni;

#[cfg(test)]
mod tests;

/// More than this is no lease of a node: flannel's own ones have some hundred bytes.
const LONGEST: usize = 64 * 1024;

/// How to reach a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRecord {
    /// The addresses under which the other hosts reach the node.
    pub public: PerFamily<Ipv4Addr, Ipv6Addr>,
    /// What the node's backend told about itself.
    pub backend: LeaseBackend,
}

/// What a backend tells the other hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseBackend {
    /// host-gw: the public address is all there is to know.
    HostGw,
    /// A backend that Loden does not do, known only by its name.
    Other {
        /// The name as given, cut when long.
        name: String,
    },
    /// A backend without a name: flannel's alloc, udp and tencent-vpc.
    Unnamed,
    /// vxlan.
    Vxlan(PerFamily<VxlanLease, VxlanLease>),
}

/// What a vxlan backend tells of its device of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VxlanLease {
    /// The network identifier; flannel before 0.14 left it out.
    pub vni: Option<Vni>,
    /// The MAC address of the device. Never a group address nor zero.
    pub mac: Mac,
}

/// Why a value is not the record of a lease.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseRecordError {
    /// No text of a MAC address.
    #[error("VtepMAC of the lease is wrong: {0}")]
    BadMac(#[from] MacError),
    /// A MAC address that cannot be that of a device.
    #[error(
        "VtepMAC {mac} of the lease is no address that a device can have; the host that wrote it must publish that of its own"
    )]
    NotAVtep {
        /// The address.
        mac: Mac,
    },
    /// The data of a vxlan backend lacks its MAC address.
    #[error(
        "the lease is one of backend vxlan but {key} has no VtepMAC; the host that wrote it must publish one"
    )]
    NoMac {
        /// The member of the lease.
        key: &'static str,
    },
    /// Not a JSON object.
    #[error("the lease is not a JSON object: {reason}")]
    NotJson {
        /// What the parser says.
        reason: String,
    },
    /// An address that no host can be reached under.
    #[error("{key} {address} of the lease is no address of a host")]
    NotAHost {
        /// The member.
        key: &'static str,
        /// The address as given.
        address: String,
    },
    /// Longer than any lease.
    #[error("the lease has {bytes} bytes, more than the {LONGEST} that are read")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A member is not of its type.
    #[error("{key} of the lease must be {expected}, not {found}")]
    WrongType {
        /// The member.
        key: &'static str,
        /// What belongs there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
}

const VXLAN: &str = "vxlan";
const HOST_GW: &str = "host-gw";

impl LeaseBackend {
    /// The name as it stands in the record; empty where the record has none.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::HostGw => HOST_GW,
            Self::Other { name } => name,
            Self::Unnamed => "",
            Self::Vxlan(_) => VXLAN,
        }
    }
}

impl LeaseRecord {
    /// Reads the value of a lease.
    ///
    /// Members that are not known are passed over, and so is the data of a backend that Loden does not do.
    ///
    /// # Errors
    ///
    /// Any [`LeaseRecordError`]. The lease is then to be skipped, while its subnet remains taken.
    pub fn parse(value: &[u8]) -> Result<Self, LeaseRecordError> {
        if value.len() > LONGEST {
            return Err(LeaseRecordError::TooLong { bytes: value.len() });
        }
        let members = Members::parse(value).map_err(|error| LeaseRecordError::NotJson {
            reason: shortened(&error.to_string()),
        })?;
        let v4 = member::<Ipv4Addr>(&members, "PublicIP", "an IPv4 address in quotes")?;
        let v6 = member::<Ipv6Addr>(&members, "PublicIPv6", "an IPv6 address in quotes, or null")?;
        // Zero addresses are how Go writes "none".
        let public = PerFamily {
            v4: v4.filter(|v4| !v4.is_unspecified()),
            v6: v6.filter(|v6| !v6.is_unspecified()),
        };
        if let Some(v4) = public
            .v4
            .filter(|v4| v4.is_multicast() || v4.is_broadcast())
        {
            return Err(LeaseRecordError::NotAHost {
                key: "PublicIP",
                address: v4.to_string(),
            });
        }
        if let Some(v6) = public.v6.filter(Ipv6Addr::is_multicast) {
            return Err(LeaseRecordError::NotAHost {
                key: "PublicIPv6",
                address: v6.to_string(),
            });
        }
        Ok(Self {
            public,
            backend: LeaseBackend::parse(&members)?,
        })
    }

    /// The value as flannel writes it.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.to_string()
    }
}

/// The value as flannel writes it: member order, spelling, and what is left out.
impl fmt::Display for LeaseRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (v4_data, v6_data) = match &self.backend {
            LeaseBackend::Vxlan(vxlan) => (vxlan.v4.map(Data::from), vxlan.v6.map(Data::from)),
            _ => (None, None),
        };
        let record = Record {
            public_ip: self.public.v4.unwrap_or(Ipv4Addr::UNSPECIFIED),
            public_ipv6: self.public.v6,
            backend_type: self.backend.name(),
            v4_data,
            v6_data,
        };
        f.write_str(&serde_json::to_string(&record).map_err(|_| fmt::Error)?)
    }
}

impl LeaseBackend {
    fn parse(members: &Members) -> Result<Self, LeaseRecordError> {
        let name = member::<String>(members, "BackendType", "the name of a backend in quotes")?;
        let name = name.unwrap_or_default();
        let data = if name == VXLAN {
            PerFamily {
                v4: VxlanLease::parse(members, "BackendData")?,
                v6: VxlanLease::parse(members, "BackendV6Data")?,
            }
        } else {
            PerFamily::default()
        };
        Ok(Self::of_name(&name, || data))
    }

    /// The backend of this name; `data` is asked for what it tells if it is vxlan.
    pub(super) fn of_name(
        name: &str,
        data: impl FnOnce() -> PerFamily<VxlanLease, VxlanLease>,
    ) -> Self {
        match name {
            "" => Self::Unnamed,
            HOST_GW => Self::HostGw,
            VXLAN => Self::Vxlan(data()),
            name => Self::Other {
                name: shortened(name),
            },
        }
    }
}

impl VxlanLease {
    fn parse(lease: &Members, key: &'static str) -> Result<Option<Self>, LeaseRecordError> {
        let Some(data) = lease.raw(key) else {
            return Ok(None);
        };
        Self::parse_data(data.get(), key).map(Some)
    }

    /// Reads what a vxlan backend tells, an object; `key` is what it stands under.
    pub(super) fn parse_data(data: &str, key: &'static str) -> Result<Self, LeaseRecordError> {
        let members = Members::parse(data.as_bytes()).map_err(|_| LeaseRecordError::WrongType {
            key,
            expected: "an object",
            found: shortened(data),
        })?;
        let text = member::<String>(&members, "VtepMAC", "a MAC address in quotes")?;
        let mac = text
            .ok_or(LeaseRecordError::NoMac { key })?
            .parse::<Mac>()?;
        if !mac.is_unicast() {
            return Err(LeaseRecordError::NotAVtep { mac });
        }
        // Nothing is done with the number of another host, so a strange one is no reason to lose the host.
        let vni = members
            .value::<u32>("VNI")
            .ok()
            .flatten()
            .and_then(Vni::new);
        Ok(Self { vni, mac })
    }

    /// The object as flannel writes it.
    pub(super) fn to_json(self) -> String {
        // A number and a text cannot fail to be written.
        serde_json::to_string(&Data::from(self)).unwrap_or_default()
    }
}

#[derive(Serialize)]
struct Record<'a> {
    #[serde(rename = "PublicIP")]
    public_ip: Ipv4Addr,
    #[serde(rename = "PublicIPv6")]
    public_ipv6: Option<Ipv6Addr>,
    #[serde(rename = "BackendType", skip_serializing_if = "str::is_empty")]
    backend_type: &'a str,
    #[serde(rename = "BackendData", skip_serializing_if = "Option::is_none")]
    v4_data: Option<Data>,
    #[serde(rename = "BackendV6Data", skip_serializing_if = "Option::is_none")]
    v6_data: Option<Data>,
}

/// The MAC address stands last and is the only text: flannel cuts it out of the end of the same data in Kubernetes.
#[derive(Serialize)]
struct Data {
    #[serde(rename = "VNI", skip_serializing_if = "Option::is_none")]
    vni: Option<u32>,
    #[serde(rename = "VtepMAC")]
    mac: String,
}

impl From<VxlanLease> for Data {
    fn from(lease: VxlanLease) -> Self {
        Self {
            vni: lease.vni.map(Vni::number),
            mac: lease.mac.to_string(),
        }
    }
}

fn member<T: DeserializeOwned>(
    members: &Members,
    key: &'static str,
    expected: &'static str,
) -> Result<Option<T>, LeaseRecordError> {
    members
        .value(key)
        .map_err(|found| LeaseRecordError::WrongType {
            key,
            expected,
            found,
        })
}
