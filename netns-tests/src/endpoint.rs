//! What hosts and pods have in common: a name, an address, and a network namespace to do things in.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};

use crate::command::{self, Finished};
use crate::namespaces::Namespaces;

/// A place that has an address.
pub trait Address {
    /// The IPv4 address, or the IPv6 one where there is no other.
    fn address(&self) -> IpAddr;
}

impl Address for IpAddr {
    fn address(&self) -> IpAddr {
        *self
    }
}

impl Address for Ipv4Addr {
    fn address(&self) -> IpAddr {
        (*self).into()
    }
}

impl Address for Ipv6Addr {
    fn address(&self) -> IpAddr {
        (*self).into()
    }
}

/// A host or a pod. What one can *send* from here is in [`Traffic`](crate::Traffic).
pub trait Endpoint: Address {
    /// What the test calls it.
    fn name(&self) -> &str;

    /// Where it stands.
    fn namespaces(&self) -> &Namespaces;

    /// Runs a program here; its standard output, or an error that shows what it said.
    fn exec<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<String>
    where
        Self: Sized,
    {
        self.attempt(arguments)?
            .success()
            .with_context(|| format!("on {}", self.name()))
    }

    /// Runs a program here that may fail.
    fn attempt<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Finished>
    where
        Self: Sized,
    {
        let command = command::command(arguments)?;
        command::finish(self.namespaces(), command, b"")
            .with_context(|| format!("on {}", self.name()))
    }

    /// Runs a line of shell here: `a.sh("ip link delete flannel.1")`.
    fn sh(&self, line: &str) -> Result<String>
    where
        Self: Sized,
    {
        self.exec(["sh", "-ec", line])
    }

    /// Runs `ip` once for several lines, as in `ip -batch`.
    fn ip_batch(&self, lines: &str) -> Result<String>
    where
        Self: Sized,
    {
        let command = command::command(["ip", "-batch", "-"])?;
        let finished = command::finish(self.namespaces(), command, lines.as_bytes())?;
        finished
            .success()
            .with_context(|| format!("on {}, given\n{lines}", self.name()))
    }

    /// Runs `work` on a thread that stands here.
    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.namespaces().run(work)
    }
}
