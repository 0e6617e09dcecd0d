//! The node daemon of Loden, as a library so that its pure parts can be tested and measured from outside.
#![forbid(unsafe_code)]

pub mod app;
pub mod args;
pub mod cleanup;
pub mod desired;
pub mod doctor;
pub mod firewall;
pub mod http;
pub mod install;
pub mod iptables;
pub mod kernel;
pub mod leases;
pub mod logging;
pub mod metrics;
pub mod network;
pub mod notify;
pub mod pods;
pub mod probe;
pub mod reconcile;
pub mod status;
pub mod store;
pub mod trace;
pub mod uplink;
