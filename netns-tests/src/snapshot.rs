//! What a host's kernel and directories hold, read by tools that are none of ours, as lines that can be compared.
//!
//! Left out is what changes by itself: counters, timers, interface indices, learned neighbours and FDB entries, the
//! kernel's routes to own addresses, IPv6 link-local addresses with their routes.

mod files;
mod kernel;

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Result, bail};

use crate::endpoint::Endpoint;
use crate::host::Host;

/// Lines such as `link cni0 bridge up mtu 1450`, in order, without repetition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    lines: BTreeSet<String>,
}

/// What differs between two snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Lines that only the earlier one had.
    pub gone: Vec<String>,
    /// Lines that only the later one has.
    pub new: Vec<String>,
}

impl Snapshot {
    pub(crate) fn of_host(host: &Host) -> Result<Self> {
        let mut lines = kernel::lines(host)?;
        lines.extend(files::lines(host)?);
        Ok(Self { lines })
    }

    pub(crate) fn of_network(endpoint: &impl Endpoint) -> Result<Self> {
        Ok(Self {
            lines: kernel::lines(endpoint)?,
        })
    }

    /// The lines, in order.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    /// The lines that begin with `prefix`, such as `link` or `route dev flannel.1`.
    pub fn lines_of(&self, prefix: &str) -> Vec<&str> {
        self.lines()
            .filter(|line| line.starts_with(prefix))
            .collect()
    }

    /// Only what the kernel holds, without the files.
    #[must_use]
    pub fn kernel(mut self) -> Self {
        self.lines.retain(|line| !line.starts_with("file "));
        self
    }

    /// What changed since `before`.
    pub fn diff(&self, before: &Self) -> Difference {
        Difference {
            gone: before.lines.difference(&self.lines).cloned().collect(),
            new: self.lines.difference(&before.lines).cloned().collect(),
        }
    }

    /// An error that shows the difference, if there is one.
    pub fn same_as(&self, before: &Self) -> Result<()> {
        let difference = self.diff(before);
        if !difference.is_empty() {
            bail!("the host changed:\n{difference}");
        }
        Ok(())
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl Difference {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.new.is_empty()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.gone
            .iter()
            .try_for_each(|line| writeln!(f, "- {line}"))?;
        self.new.iter().try_for_each(|line| writeln!(f, "+ {line}"))
    }
}
