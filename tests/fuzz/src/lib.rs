//! Fuzzing of everything that reads bytes of others: files, variables, stdin, answers of the kernel.
//!
//! A [`Target`] is a function that takes any bytes and panics if a promise is broken. A [`Campaign`] feeds it: first the
//! kept inputs of `corpus/`, then mutations of those, the same ones at each run. The folder `libfuzzer` feeds the same
//! functions by coverage. How to use both is told in `docs/testing.md`.

#![forbid(unsafe_code)]

mod campaign;
mod mutation;
mod random;
#[cfg(feature = "targets")]
mod targets;

pub use campaign::{Campaign, Settings};
#[cfg(feature = "targets")]
pub use targets::TARGETS;

/// Something that reads bytes of others.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder below `corpus/`.
    pub name: &'static str,
    /// Takes any bytes; panics if what reads them breaks a promise.
    pub run: fn(&[u8]),
    /// Texts that mean something to it, which bit flips alone would hardly ever make.
    pub dictionary: &'static [&'static str],
    /// How many inputs of a plain target take as long as one of this.
    pub cost: u32,
}
