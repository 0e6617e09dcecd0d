//! Leases as they stand in etcd and in Kubernetes: the key that names a node's subnets, the record that tells how to reach
//! the node, and the annotations that hold the same on a Node.
//!
//! All forms are flannel's to the byte (`pkg/subnet/subnet.go`, `pkg/lease`, `pkg/subnet/kube`), since other hosts may run
//! it. Everything read here was written by another host, so it is bounded, typed and never trusted further than its type.

mod annotations;
mod key;
mod record;

pub use annotations::{
    AnnotationPrefix, NodeAnnotation, NodeAnnotations, NodeLease, NodeLeaseError, PrefixError,
    pod_subnets,
};
pub use key::{LeaseKey, LeaseKeyError};
pub use record::{LeaseBackend, LeaseRecord, LeaseRecordError, VxlanLease};
