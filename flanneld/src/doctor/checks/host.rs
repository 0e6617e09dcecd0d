//! The host below the overlay: kernel, uplink, other programs that manage links, forwarding.

use super::RESTART;
use crate::doctor::facts::{Facts, NotAsked};
use crate::doctor::finding::{Check, Finding, Fix, Remedy};

pub(super) fn kernel(facts: &Facts) -> Finding {
    let kernel = &facts.kernel;
    let vxlan = facts
        .report()
        .and_then(|report| report.network.backend.as_deref())
        .is_none_or(|backend| backend == "vxlan");
    if kernel.vxlan == Some(false) && vxlan && facts.tunnels.is_empty() {
        return Finding::fail(
            Check::Kernel,
            format!("Linux {} has no VXLAN devices", kernel.release),
            Remedy::say("install the kernel's module vxlan (package linux-modules-extra or kernel-modules-extra), then load it")
                .run("modprobe vxlan"),
        );
    }
    match &kernel.nf_tables {
        Some(reason) if !kernel.iptables => Finding::fail(
            Check::Kernel,
            format!("nf_tables cannot be used ({reason}), and there are no iptables programs"),
            Remedy::say("load nf_tables, or install iptables").run("modprobe nf_tables"),
        ),
        Some(reason) => Finding::ok(
            Check::Kernel,
            format!("Linux {}, rules by iptables", kernel.release),
        )
        .also([format!("nf_tables cannot be used: {reason}")]),
        None => Finding::ok(
            Check::Kernel,
            format!("Linux {}, VXLAN and nf_tables", kernel.release),
        ),
    }
}

pub(super) fn uplink(facts: &Facts) -> Finding {
    let told = facts
        .report()
        .and_then(|report| report.node.uplink.as_ref());
    if let Some((uplink, trouble)) = told.and_then(|told| Some((told, told.trouble.as_ref()?))) {
        return Finding::fail(
            Check::Uplink,
            trouble.clone(),
            Remedy::say(format!("bring {} back, with its address", uplink.name))
                .run(format!("ip link set dev {} up", uplink.name)),
        );
    }
    let Some(uplink) = facts.uplink() else {
        return Finding::fail(
            Check::Uplink,
            "there is neither a default route nor a device of ours to tell the uplink by",
            Remedy::say("give the host a default route, or start flanneld with --iface"),
        );
    };
    if !uplink.up || !uplink.running {
        let what = if uplink.up {
            "has no carrier"
        } else {
            "is down"
        };
        return Finding::fail(
            Check::Uplink,
            format!("{} {what}", uplink.name),
            Remedy::say("bring it up, and look at its cable or virtual switch")
                .run(format!("ip link set dev {} up", uplink.name)),
        );
    }
    let addresses = [true, false].map(|ipv4| facts.address_on(uplink.index, ipv4));
    let addresses: Vec<String> = addresses
        .into_iter()
        .flatten()
        .map(|held| held.to_string())
        .collect();
    if addresses.is_empty() {
        return Finding::fail(
            Check::Uplink,
            format!("{} has no address", uplink.name),
            Remedy::say("give it one, or name another interface with --iface"),
        );
    }
    let offload = match facts.offloads.get(&uplink.index) {
        Some(true) => ", checksums by the hardware",
        Some(false) => ", checksums by the kernel",
        None => "",
    };
    Finding::ok(
        Check::Uplink,
        format!(
            "{}, {}, MTU {}{offload}",
            uplink.name,
            addresses.join(" "),
            uplink.mtu
        ),
    )
}

pub(super) fn link_managers(facts: &Facts) -> Finding {
    let Some(first) = facts.managed.first() else {
        return Finding::ok(
            Check::LinkManagers,
            "no other program manages links of ours",
        );
    };
    let links: Vec<&str> = facts
        .managed
        .iter()
        .map(|managed| managed.link.as_str())
        .collect();
    let evidence = format!(
        "{} manages {}, and takes away what it did not put there",
        first.by,
        super::some_of(&links)
    );
    let remedy = Remedy::say(format!("tell {} to leave our links alone", first.by));
    let remedy = if first.by == "NetworkManager" {
        remedy
            .run("printf '[keyfile]\\nunmanaged-devices=interface-name:flannel*;interface-name:cni0;interface-name:veth*;interface-name:pod*\\n' > /etc/NetworkManager/conf.d/flannel.conf")
            .run("systemctl reload NetworkManager")
    } else {
        remedy
            .run("printf '[Match]\\nName=flannel* cni0 veth* pod*\\n\\n[Link]\\nUnmanaged=yes\\n' > /etc/systemd/network/05-flannel.network")
            .run("networkctl reload")
    };
    Finding::warn(Check::LinkManagers, evidence, remedy)
}

pub(super) fn sysctls(facts: &Facts) -> Finding {
    let says = |setting: &str| facts.sysctls.get(setting).map(String::as_str);
    let networks = facts.networks();
    let mut wanted = Vec::new();
    if networks.iter().any(ipnetwork::IpNetwork::is_ipv4) || networks.is_empty() {
        wanted.push("net/ipv4/ip_forward".to_owned());
        for tunnel in &facts.tunnels {
            if !tunnel.link.name.starts_with("flannel-v6.") {
                wanted.push(format!("net/ipv4/conf/{}/forwarding", tunnel.link.name));
            }
        }
    }
    if networks.iter().any(ipnetwork::IpNetwork::is_ipv6) {
        wanted.push("net/ipv6/conf/all/forwarding".to_owned());
    }
    let off: Vec<&String> = wanted
        .iter()
        .filter(|setting| says(setting) == Some("0"))
        .collect();
    if off.is_empty() {
        if wanted.iter().all(|setting| says(setting).is_none()) {
            return Finding::not_seen(Check::Sysctls, "/proc/sys cannot be read");
        }
        return Finding::ok(Check::Sysctls, "on");
    }
    let mut remedy = Remedy::say("let this host forward packets, now and after the next boot");
    for setting in &off {
        remedy = remedy.run(super::sysctl(setting, "1")).fix(Fix::Sysctl {
            setting: (*setting).clone(),
            value: "1",
        });
    }
    Finding::fail(
        Check::Sysctls,
        format!("this host does not forward: {} is 0", super::some_of(&off)),
        remedy,
    )
}

/// How the daemon's absence is put.
pub(super) fn daemon(facts: &Facts) -> Finding {
    match &facts.daemon {
        Err(NotAsked::Unknown(reason)) => Finding::not_seen(Check::Daemon, reason.clone()),
        Err(NotAsked::NotRunning) => Finding::warn(
            Check::Daemon,
            "flanneld does not run: what works goes on working, and nothing is repaired or follows the other nodes",
            Remedy::say("start it").run(RESTART),
        ),
        Ok(report) if !report.daemon.ready => Finding::fail(
            Check::Daemon,
            format!(
                "flanneld runs and is not ready: {}",
                report
                    .daemon
                    .reason
                    .as_deref()
                    .unwrap_or("it does not say why")
            ),
            Remedy::say("see what it waits for").run("journalctl -u flanneld -n 50"),
        ),
        Ok(report) => Finding::ok(
            Check::Daemon,
            format!(
                "flanneld {} runs and is ready",
                report
                    .daemon
                    .version
                    .as_deref()
                    .unwrap_or("of unknown version")
            ),
        ),
    }
}
