//! The node daemon of Loden, as a library so that its pure parts can be tested and measured from outside.

pub mod firewall;
pub mod store;
