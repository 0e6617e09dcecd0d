//! The lab: hosts made of network namespaces, for tests, the demo and benchmarks.
//!
//! A scenario reads like its description:
//!
//! ```no_run
//! use netns_tests::{Endpoint, Lab, Traffic};
//!
//! fn pods_of_two_hosts_talk() -> anyhow::Result<()> {
//!     let mut lab = Lab::new()?;
//!     lab.start_etcd()?;
//!     lab.put_net_conf(r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}"#)?;
//!     let [a, b] = lab.hosts(["a", "b"])?;
//!     let _daemons = [a.flanneld(&["--ip-masq"])?, b.flanneld(&["--ip-masq"])?];
//!     let (web, client) = (a.pod("web")?, b.pod("client")?);
//!     client.ping(&web)?;
//!     client.tcp_echo(&web)?;
//!     Ok(())
//! }
//!
//! netns_tests::tests![pods_of_two_hosts_talk];
//! ```
//!
//! [`harness`] runs each test of a test binary in fresh namespaces of its own; [`isolation`] is how a process gets there.
//! Nothing of Loden itself lives here, and what is checked is read back with tools independent of it.

#![forbid(unsafe_code)]

pub mod clock;
mod cluster;
pub mod cni;
pub mod command;
pub mod conform;
pub mod daemon;
pub mod doctor;
mod endpoint;
pub mod etcd;
pub mod flannel;
pub mod harness;
mod host;
pub mod isolation;
mod lab;
mod namespaces;
mod net_conf;
mod pod;
pub mod programs;
pub mod screens;
mod snapshot;
pub mod traffic;
mod wait;

pub use cluster::{Cluster, Node, meet};
pub use daemon::Daemon;
pub use endpoint::{Address, Endpoint};
pub use etcd::{Etcd, Lease};
pub use harness::skip;
pub use host::Host;
pub use lab::{FLANNEL_CONFLIST, Lab, OUTSIDE, OUTSIDE_V6, ROUTED_CONFLIST};
pub use namespaces::Namespaces;
pub use net_conf::{Families, NetConf, POD_NETWORK, POD_NETWORK_V6};
pub use pod::{Pod, PodSpec};
pub use snapshot::{Difference, Snapshot};
pub use traffic::Traffic;
pub use wait::eventually;
