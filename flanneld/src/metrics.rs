//! What `/metrics` says. docs/metrics.md tells users what each metric means.
//!
//! Values are read from where they are kept when somebody asks; only what cannot be read later is counted as it happens: by the kernel's
//! thread ([`kernel`]), by the store (its health) and by the [`probes`].

pub mod catalogue;
pub mod exposition;
pub mod histogram;
pub mod kernel;
mod page;
pub mod probes;
mod process;

pub use self::page::page;
