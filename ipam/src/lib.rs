//! Addresses and their meaning: network configuration, subnets, leases in their wire forms, the pool of pod addresses, and the
//! ports of a host that lead to pods.
//!
//! Nothing here speaks to a network or to the kernel's network stack. Files are read and written in five places only:
//! [`SubnetEnv`], [`pool`], [`host_local`], [`host_ports`] and [`operations`].
#![forbid(unsafe_code)]

pub mod choose;
mod cidr;
mod family;
mod flock;
pub mod host_local;
pub mod host_ports;
mod json;
pub mod lease;
mod mac;
pub mod netconf;
pub mod operations;
pub mod pool;
pub mod subnet_env;

pub use cidr::{Cidr, CidrError, IpCidr, Ipv4Cidr, Ipv6Cidr};
pub use family::{PerFamily, Subnets};
pub use host_local::{HostLocal, HostLocalError};
pub use host_ports::{HostPorts, HostPortsError};
pub use lease::{
    AnnotationPrefix, LeaseBackend, LeaseKey, LeaseKeyError, LeaseRecord, LeaseRecordError,
    NodeAnnotation, NodeAnnotations, NodeLease, NodeLeaseError, PrefixError, VxlanLease,
    pod_subnets,
};
pub use mac::{Mac, MacError};
pub use netconf::{Backend, NetConf, NetConfError, SubnetPlan, SubnetRange, Vni, VxlanBackend};
pub use pool::{Attachment, Owner, Pool, PoolError};
pub use subnet_env::{HostNetwork, SubnetEnv, SubnetEnvError};
