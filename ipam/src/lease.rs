//! Leases as they stand in etcd: the key that names a node's subnets, and the record that tells how to reach the node.
//!
//! Both forms are flannel's to the byte (`pkg/subnet/subnet.go`, `pkg/lease`), since other hosts may run it. Everything
//! read here was written by another host, so it is bounded, typed and never trusted further than its type.

mod key;
mod record;

pub use key::{LeaseKey, LeaseKeyError};
pub use record::{LeaseBackend, LeaseRecord, LeaseRecordError, VxlanLease};
