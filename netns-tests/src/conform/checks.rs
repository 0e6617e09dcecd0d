//! The catalogue: every check there is, by area. What is said to be the reference library's or a runtime's way is named in
//! each check's source.

mod add;
mod answer;
mod chain;
mod check;
mod config;
mod del;
mod failure;
mod gc;
mod parallel;
mod pool;
mod protocol;
mod request;
mod result;
mod status;
mod version;

use crate::conform::catalogue::Check;

/// The areas in the order shown.
const AREAS: [(&str, &[Check]); 15] = [
    ("VERSION", version::CHECKS),
    ("Protocol", protocol::CHECKS),
    ("Answers", answer::CHECKS),
    ("Config", config::CHECKS),
    ("Result", result::CHECKS),
    ("ADD", add::CHECKS),
    ("Failed ADD", failure::CHECKS),
    ("DEL", del::CHECKS),
    ("CHECK", check::CHECKS),
    ("GC", gc::CHECKS),
    ("STATUS", status::CHECKS),
    ("Addresses", pool::CHECKS),
    ("Requested addresses", request::CHECKS),
    ("Many at once", parallel::CHECKS),
    ("Chains", chain::CHECKS),
];

/// Every check with its area.
pub fn catalogue() -> impl Iterator<Item = (&'static str, &'static Check)> {
    AREAS
        .into_iter()
        .flat_map(|(area, checks)| checks.iter().map(move |check| (area, check)))
}

/// The area of a check.
pub fn area(id: &str) -> Option<&'static str> {
    catalogue()
        .find(|(_, check)| check.id == id)
        .map(|(area, _)| area)
}
