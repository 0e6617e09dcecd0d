//! New pods while the kernel has much to do: it puts IPv6 addresses into use one after the other, with one worker for all
//! namespaces, and says that they are there long before.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netns_tests::{Endpoint, Pod, Traffic, eventually};

use crate::scene::{self, alone, bridge, host, routed};

const DEADLINE: Duration = Duration::from_secs(60);

/// How long the worker is to be busy: much longer than an ADD, so that the new pod's address comes last.
const BUSY: Duration = Duration::from_millis(600);

/// Addresses that keep the worker busy each time their link goes up.
struct Crowd {
    pod: Pod,
    size: usize,
}

impl Crowd {
    /// As many as it takes.
    fn gather(pod: Pod) -> Result<Self> {
        pod.sh(
            "ip link add h0 type veth peer name h1; ip link set h1 up; cd /proc/sys/net/ipv6/conf/h0; \
             echo 1 > keep_addr_on_down; echo 0 > dad_transmits; echo 0 > router_solicitation_delay",
        )?;
        let mut crowd = Self { pod, size: 0 };
        loop {
            crowd.grow()?;
            let start = Instant::now();
            crowd.rush()?;
            crowd.settle()?;
            if start.elapsed() >= BUSY {
                return Ok(crowd);
            }
        }
    }

    /// Doubles it.
    fn grow(&mut self) -> Result<()> {
        let first = self.size;
        self.size = (2 * first).max(2000);
        self.pod.sh(&format!(
            "n={first}; while [ $n -lt {} ]; do printf 'address add fd77::%x/64 dev h0\\n' $n; n=$((n + 1)); done | ip -batch -",
            self.size
        ))?;
        Ok(())
    }

    /// Gives the worker all of them at once.
    fn rush(&self) -> Result<()> {
        self.pod.sh("ip link set h0 down; ip link set h0 up")?;
        Ok(())
    }

    /// Waits until it is done.
    fn settle(&self) -> Result<()> {
        eventually("all addresses are in use", DEADLINE, || {
            let known = self.pod.exec(["cat", "/proc/net/if_inet6"])?;
            let waits = |line: &&str| {
                let flags = line.split_whitespace().nth(4).unwrap_or_default();
                // IFA_F_TENTATIVE
                u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 0x40 != 0)
            };
            let waiting = known.lines().filter(waits).count();
            ensure!(waiting == 0, "{waiting} of {} wait", self.size);
            Ok(())
        })
    }
}

fn v6_of(pod: &Pod) -> Result<IpAddr> {
    let addresses = pod.addresses();
    let v6 = addresses.into_iter().find(IpAddr::is_ipv6);
    v6.context("no IPv6")
}

pub(crate) fn a_pod_answers_its_first_packet_however_busy_the_kernel_is() -> Result<()> {
    let (_lab, host) = host()?;
    scene::give_subnet(&host, scene::DUAL_STACK_ENV)?;
    let attach = |name: &str, plugin| host.pod_spec(name).conflist(&alone(&plugin)).attach();
    let old = [attach("bridged", bridge())?, attach("routed", routed())?];
    let crowd = Crowd::gather(host.pod_spec("crowd").create()?)?;
    for (number, plugin) in [routed(), bridge(), routed(), routed()]
        .into_iter()
        .enumerate()
    {
        crowd.rush()?;
        let new = attach(&format!("new-{number}"), plugin)?;
        let v6 = v6_of(&new)?;
        // Whoever asks first finds out.
        match number {
            0 | 1 => old[0].ping(&v6)?,
            2 => new.ping(&v6)?,
            _ => old[1].ping(&v6)?,
        };
        new.delete()?;
        crowd.settle()?;
    }
    crowd.pod.delete()?;
    old.into_iter().try_for_each(Pod::delete)
}
