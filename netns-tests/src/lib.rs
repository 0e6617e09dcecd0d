//! The lab: hosts made of network namespaces, for tests, the demo and benchmarks.
//!
//! [`harness`] runs each test of a test binary in fresh namespaces of its own; [`isolation`] is how a process gets there.
//! Nothing of Loden itself lives here, and what is checked is read back with tools independent of it.

#![forbid(unsafe_code)]

pub mod harness;
pub mod isolation;

pub use harness::skip;
