//! The CNI protocol, pure: environment and stdin become a request, results and errors become JSON.
//!
//! Nothing here touches the kernel, the disk or the clock. Every published spec version is understood
//! (0.1.0 to 1.1.0). What a request *does* lives in [`crate::verbs`].

pub mod args;
pub mod brief;
pub mod config;
pub mod error;
pub mod json;
pub mod result;
pub mod version;

pub use self::args::{Invocation, Request, Target, Verb};
pub use self::config::Config;
pub use self::error::Error;
pub use self::result::AddResult;
pub use self::version::SpecVersion;
