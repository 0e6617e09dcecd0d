//! A conformance runner for CNI plugins: drives any plugin by the protocol and reports, for each version of the
//! specification, what holds and what does not. The program is `cni-conform`; `docs/conformance.md` is its manual.
//!
//! Every check runs on a host of its own (namespaces, empty state directories), so checks neither disturb each other nor
//! the machine. [`run`] has to be called inside the namespaces of [`isolation`](crate::isolation).

mod call;
mod catalogue;
mod checks;
mod kernel;
mod place;
mod report;
pub mod result;
mod runner;
mod scene;
mod spec;
mod subject;
mod table;

pub use catalogue::{Check, Severity};
pub use checks::{area, catalogue};
pub use report::{Count, Entry, Finding, Outcome, Report, Summary};
pub use runner::{Options, Progress, run};
pub use spec::{SpecVersion, Verb};
pub use subject::Kind;
pub use table::{Style, list, table};
