//! Lease stores: where leases come from and where ours is kept. Only the modules below know etcd or Kubernetes.
