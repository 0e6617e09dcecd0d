//! The verbs of the CNI specification, one file each.

pub mod add;
pub mod del;
pub mod version;
