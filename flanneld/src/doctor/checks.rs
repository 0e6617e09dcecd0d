//! The checks: pure functions of the facts, in the order of a packet's path.

mod clock;
mod cni;
mod device;
mod duplicates;
mod filter;
mod firewall;
mod host;
mod kubernetes;
mod lease;
mod reach;
mod routes;

use super::facts::Facts;
use super::finding::{Finding, relate};

/// What every check says, with the causes of each other told.
pub fn all(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![
        host::kernel(facts),
        host::uplink(facts),
        device::device(facts),
        device::mac(facts),
        host::link_managers(facts),
        clock::clock(facts),
        lease::store(facts),
        lease::lease(facts),
        duplicates::duplicates(facts),
    ];
    findings.extend(kubernetes::kubernetes(facts));
    findings.extend([
        routes::overlap(facts),
        host::sysctls(facts),
        filter::rp_filter(facts),
        firewall::port(facts),
        firewall::forward(facts),
        routes::peers(facts),
        reach::reach(facts),
        reach::mtu(facts),
        reach::checksum(facts),
        host::daemon(facts),
        cni::conflist(facts),
        cni::programs(facts),
        cni::pods(facts),
        cni::addresses(facts),
    ]);
    relate(&mut findings);
    findings
}

/// The first few of many, and how many more there are.
fn some_of<T: ToString>(all: &[T]) -> String {
    let shown: Vec<String> = all.iter().take(SHOWN).map(T::to_string).collect();
    match all.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// How many of a kind are named.
const SHOWN: usize = 3;

/// The command that sets a kernel setting, whose path has slashes; in the form with dots a link's name may have none.
fn sysctl(setting: &str, value: &str) -> String {
    let name = match setting.contains('.') {
        true => setting.to_owned(),
        false => setting.replace('/', "."),
    };
    format!("sysctl -w {name}={value}")
}

/// How the daemon is started, where it is a service of systemd's; in Kubernetes its pod is.
const RESTART: &str = "systemctl restart flanneld";

#[cfg(test)]
mod tests;
