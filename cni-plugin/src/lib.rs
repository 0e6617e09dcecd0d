//! The CNI program `flannel` of Loden as a library.
//!
//! A call runs left to right: [`protocol`] turns environment and stdin into a request, [`flannel_conf`] finds out what
//! attachment is meant, [`verbs`] carries the request out with an [`attachment`] plan, and [`protocol`] turns the outcome
//! into JSON. Blocking and single-threaded: the process lives for a millisecond.

#![forbid(unsafe_code)]

pub mod flannel_conf;
pub mod protocol;
