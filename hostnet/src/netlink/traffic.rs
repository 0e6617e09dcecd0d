//! What was sent to the kernel, counted: whoever says that little is asked of it can be held to that.

use std::ops::Sub;

use super::Netlink;

/// What a connection has sent since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Changes.
    pub changes: u64,
    /// Datagrams that carried them.
    pub batches: u64,
    /// Requests for whole tables.
    pub lists: u64,
    /// Requests for single objects.
    pub lookups: u64,
}

impl Netlink {
    /// What was sent so far.
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }
}

impl Sub for Traffic {
    type Output = Self;

    /// What came between two counts.
    fn sub(self, earlier: Self) -> Self {
        Self {
            changes: self.changes - earlier.changes,
            batches: self.batches - earlier.batches,
            lists: self.lists - earlier.lists,
            lookups: self.lookups - earlier.lookups,
        }
    }
}
