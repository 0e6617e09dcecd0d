//! What this node can tell of itself: the facts the daemon shares ([`board`]), the report made of them ([`report`]), whether the
//! node counts as well ([`verdict`]), and the commands that show it ([`command`]).
//!
//! Nothing here polls: a report is made when somebody asks.

pub mod board;
mod cni;
pub mod command;
mod compose;
pub(crate) mod down;
mod problems;
pub mod report;
pub mod screen;
pub mod text;
pub mod verdict;

pub use self::board::Board;
pub(crate) use self::compose::programmed;
pub use self::compose::{plan_of, report_of};
