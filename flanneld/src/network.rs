//! Networks (flannel says backends): how leases become what this node's kernel should hold.
//!
//! Pure: no I/O, no clock. A new network is one file beside [`vxlan`].

pub mod peers;
pub mod vxlan;
