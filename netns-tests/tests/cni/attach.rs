//! Pods that come: what the kernel has then, and who reaches whom.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use netns_tests::{Address, Endpoint, Pod, Traffic};
use serde_json::json;

use crate::scene::{self, Call, alone, both, bridge, host, ip_json, routed};

/// Compares every interface and address of the result with the kernel.
fn matches_kernel(pod: &Pod) -> Result<()> {
    let attached = pod.attached()?;
    for interface in &attached.interfaces {
        let inside = !interface.sandbox.is_empty();
        ensure!(!inside || Path::new(&interface.sandbox) == pod.netns());
        let show = ["link", "show", "dev", interface.name.as_str()];
        let links = if inside {
            ip_json(pod, &show)?
        } else {
            ip_json(pod.host(), &show)?
        };
        ensure!(
            links[0]["address"] == json!(interface.mac),
            "{interface:?}: {links}"
        );
        ensure!(
            links[0]["mtu"] == json!(interface.mtu),
            "{interface:?}: {links}"
        );
        ensure!(
            links[0]["flags"]
                .as_array()
                .is_some_and(|flags| flags.contains(&json!("UP")))
        );
    }
    for ip in &attached.ips {
        let interface = attached
            .interfaces
            .get(ip.interface.context("no interface")?);
        let interface = interface.context("the index leads nowhere")?;
        ensure!(interface.name == "eth0" && !interface.sandbox.is_empty());
        let show = ["-4", "address", "show", "dev", "eth0"];
        let found = ip_json(pod, &show)?[0]["addr_info"][0].clone();
        let text = format!(
            "{}/{}",
            found["local"].as_str().unwrap_or_default(),
            found["prefixlen"]
        );
        ensure!(ip.address == text, "{ip:?}: {found}");
    }
    let routes = ip_json(pod, &["route", "show"])?;
    for route in &attached.routes {
        let dst = if route.dst == "0.0.0.0/0" {
            "default"
        } else {
            &route.dst
        };
        let listed = routes
            .as_array()
            .is_some_and(|routes| routes.iter().any(|known| known["dst"] == json!(dst)));
        ensure!(listed, "{route:?} is not in {routes}");
    }
    Ok(())
}

pub(crate) fn a_routed_pod_is_as_the_result_says() -> Result<()> {
    let (_lab, host) = host()?;
    let pod = host.pod_spec("web").conflist(&alone(&routed())).attach()?;
    matches_kernel(&pod)?;
    let attached = pod.attached()?;
    let names: Vec<_> = attached
        .interfaces
        .iter()
        .map(|link| link.name.as_str())
        .collect();
    ensure!(names.len() == 2 && names[1] == "eth0", "{names:?}");
    ensure!(attached.ips[0].address == "10.244.1.2/32");
    ensure!(attached.ips[0].gateway.as_deref() == Some("10.244.1.1"));

    let host_end = ip_json(&host, &["link", "show", "dev", names[0]])?[0].clone();
    let alias = format!("loden:cbr0/{}/eth0 default/web", pod.container_id());
    ensure!(host_end["ifalias"] == json!(alias), "{host_end}");
    ensure!(
        host_end["num_tx_queues"] == 1 && host_end["num_rx_queues"] == 1,
        "{host_end}"
    );
    let inside = ip_json(&pod, &["link", "show", "dev", "eth0"])?[0].clone();
    ensure!(
        inside["num_tx_queues"] == 1 && inside["num_rx_queues"] == 1,
        "{inside}"
    );
    let gateway = ip_json(&pod, &["neighbour", "show", "10.244.1.1"])?[0].clone();
    ensure!(
        gateway["lladdr"] == json!(attached.interfaces[0].mac),
        "{gateway}"
    );
    ensure!(gateway["state"] == json!(["PERMANENT"]), "{gateway}");
    ensure!(
        pod.sh("cat /proc/sys/net/ipv4/conf/eth0/arp_notify")?
            .trim()
            == "1"
    );
    let accept_ra = format!("cat /proc/sys/net/ipv6/conf/{}/accept_ra", names[0]);
    ensure!(host.sh(&accept_ra)?.trim() == "0");
    ensure!(host.sh("cat /proc/sys/net/ipv4/ip_forward")?.trim() == "1");
    pod.delete()
}

pub(crate) fn a_bridged_pod_is_as_the_result_says() -> Result<()> {
    let (_lab, host) = host()?;
    let pod = host.pod_spec("web").conflist(&alone(&bridge())).attach()?;
    matches_kernel(&pod)?;
    let attached = pod.attached()?;
    let names: Vec<_> = attached
        .interfaces
        .iter()
        .map(|link| link.name.as_str())
        .collect();
    ensure!(
        names.len() == 3 && names[0] == "cni0" && names[2] == "eth0",
        "{names:?}"
    );
    ensure!(attached.ips[0].address == "10.244.1.2/24");

    let port = ip_json(&host, &["link", "show", "dev", names[1]])?[0].clone();
    ensure!(port["master"] == "cni0", "{port}");
    ensure!(
        port["linkinfo"]["info_slave_data"]["hairpin"] == true,
        "{port}"
    );
    ensure!(
        port["linkinfo"]["info_slave_data"]["state"] == "forwarding",
        "{port}"
    );
    let addresses = ip_json(&host, &["-4", "address", "show", "dev", "cni0"])?;
    ensure!(
        addresses[0]["addr_info"][0]["local"] == "10.244.1.1",
        "{addresses}"
    );

    // The MAC of the bridge is that of no port, and stays when ports come and go.
    let mac = attached.interfaces[0].mac.clone();
    ensure!(mac == "0a:58:0a:f4:01:01", "{mac}");
    let other = host
        .pod_spec("other")
        .conflist(&alone(&bridge()))
        .attach()?;
    ensure!(other.attached()?.interfaces[0].mac == mac);
    pod.delete()?;
    ensure!(ip_json(&host, &["link", "show", "dev", "cni0"])?[0]["address"] == json!(mac));
    other.delete()
}

pub(crate) fn every_version_has_its_result() -> Result<()> {
    let (_lab, host) = host()?;
    let pod = host.pod_spec("web").create()?;
    let netns = pod.netns().display().to_string();
    for (name, plugin) in [("routed", routed()), ("bridge", bridge())] {
        for version in [
            "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
        ] {
            let mut plugin = plugin.clone();
            plugin["cniVersion"] = json!(version);
            let result = Call::new("ADD", &netns, &plugin).run(&host)?.result()?;
            let problem = || format!("{name} {version}: {result}");
            ensure!(result["cniVersion"] == version, problem());
            let old = version < "0.3.0";
            ensure!(result["ip4"]["ip"].is_string() == old, problem());
            ensure!(result["interfaces"].is_array() != old, problem());
            ensure!(result["dns"].is_object() == (version < "1.0.0"), problem());
            if !old {
                let tagged = result["ips"][0]["version"] == "4";
                ensure!(tagged == (version < "1.0.0"), problem());
                let mtu = result["interfaces"][0]["mtu"] == 1450;
                ensure!(mtu == (version == "1.1.0"), problem());
            }
            Call::new("DEL", &netns, &plugin).run(&host)?.silent()?;
        }
    }
    Ok(())
}

fn talk(from: &Pod, to: &Pod) -> Result<()> {
    from.ping(to)?;
    from.ping_unfragmented(to, 1450)?;
    let seen = from.tcp_echo(to)?;
    ensure!(
        seen.ip() == from.address(),
        "{} appears as {seen}",
        from.name()
    );
    from.udp_echo(to)?;
    Ok(())
}

pub(crate) fn pods_of_one_host_talk_whatever_their_kind() -> Result<()> {
    let (_lab, host) = host()?;
    // Strict reverse path filtering is what many distributions set.
    host.sh("for f in all default; do echo 1 > /proc/sys/net/ipv4/conf/$f/rp_filter; done")?;
    let (routed, bridge) = (alone(&routed()), alone(&bridge()));
    let attach = |name: &str, conflist: &str| host.pod_spec(name).conflist(conflist).attach();
    let pods = [
        attach("routed-1", &routed)?,
        attach("bridged-1", &bridge)?,
        attach("bridged-2", &bridge)?,
        attach("routed-2", &routed)?,
    ];
    for from in &pods {
        for to in &pods {
            if from.name() != to.name() {
                talk(from, to)?;
            }
        }
    }
    pods.into_iter().try_for_each(Pod::delete)
}

/// Whichever kind comes first, and after the ones that had the addresses before have gone.
pub(crate) fn pods_of_one_host_talk_by_ipv6_whatever_their_kind() -> Result<()> {
    let (_lab, host) = host()?;
    scene::give_subnet(&host, scene::DUAL_STACK_ENV)?;
    let (routed, bridge) = (alone(&routed()), alone(&bridge()));
    let attach = |name: &str, conflist: &str| host.pod_spec(name).conflist(conflist).attach();
    let proxies = || host.sh("ip -6 neigh show proxy");
    for turn in 0..2 {
        let pods = [
            attach("routed-1", &routed)?,
            attach("bridged-1", &bridge)?,
            attach("bridged-2", &bridge)?,
            attach("routed-2", &routed)?,
        ];
        let mut addresses = Vec::new();
        for pod in &pods {
            let v6 = pod.addresses().into_iter().find(IpAddr::is_ipv6);
            addresses.push(v6.context("no IPv6")?);
        }
        for (from, own) in pods.iter().zip(&addresses) {
            for (to, &address) in pods.iter().zip(&addresses) {
                if from.name() != to.name() {
                    from.ping(&address)?;
                    let seen = from.tcp_echo_at(to, address)?;
                    ensure!(seen.ip() == *own, "{own} appears as {seen}");
                }
            }
        }
        // The bridge was made between the two routed ones, in the first turn.
        let known = proxies()?;
        ensure!(known.lines().count() == 2, "in turn {turn}: {known}");
        pods.into_iter().try_for_each(Pod::delete)?;
        let left = proxies()?;
        ensure!(left.is_empty(), "in turn {turn}: {left}");
    }
    Ok(())
}

pub(crate) fn pods_and_their_host_talk() -> Result<()> {
    let (_lab, hosts) = both()?;
    for (host, plugin) in hosts {
        let pod = host.pod_spec("web").conflist(&alone(&plugin)).attach()?;
        // By the address every pod knows, and by the host's own one.
        let gateway: IpAddr = "10.244.1.1".parse()?;
        pod.ping(&gateway)?;
        pod.tcp_echo_at(&host, gateway)?;
        pod.ping(&host)?;
        pod.tcp_echo(&host)?;
        host.ping(&pod)?;
        let seen = host.tcp_echo(&pod)?;
        ensure!(seen.ip() == gateway, "the host appears as {seen}");
        pod.delete()?;
    }
    Ok(())
}

pub(crate) fn pods_have_both_families_at_once() -> Result<()> {
    let (_lab, hosts) = both()?;
    for (host, plugin) in hosts {
        scene::give_subnet(&host, scene::DUAL_STACK_ENV)?;
        let conflist = alone(&plugin);
        let attach = |name: &str| host.pod_spec(name).conflist(&conflist).attach();
        let (web, client) = (attach("web")?, attach("client")?);
        let v6_of = |pod: &Pod| {
            pod.addresses()
                .into_iter()
                .find(IpAddr::is_ipv6)
                .context("no IPv6")
        };
        let (v6, own) = (v6_of(&web)?, v6_of(&client)?);
        // At once: nobody waits for duplicate addresses to be detected.
        client.ping(&v6)?;
        host.ping(&v6)?;
        let seen = client.tcp_echo_at(&web, v6)?;
        ensure!(seen.ip() == own, "{own} appears as {seen}");
        let gateway: IpAddr = "fd00:0:0:1::1".parse()?;
        client.ping(&gateway)?;
        client.ping(&web)?;
        let addresses = ip_json(
            &web,
            &["-6", "address", "show", "dev", "eth0", "scope", "global"],
        )?;
        ensure!(addresses[0]["addr_info"][0]["nodad"] == true, "{addresses}");
        web.delete()?;
        client.delete()?;
    }
    Ok(())
}

/// Without `--ip-masq` the daemon leaves masquerading to us.
pub(crate) fn pods_are_masqueraded_when_the_daemon_does_not() -> Result<()> {
    let (lab, hosts) = both()?;
    for (host, plugin) in hosts {
        let env = scene::SUBNET_ENV.replace("IPMASQ=true", "IPMASQ=false");
        scene::give_subnet(&host, &env)?;
        let conflist = alone(&plugin);
        let pod = host.pod_spec("web").conflist(&conflist).attach()?;
        let seen = pod.tcp_echo_at(lab.world(), netns_tests::OUTSIDE.into())?;
        ensure!(seen.ip() == host.address(), "the world sees {seen}");
        let other = host.pod_spec("other").conflist(&conflist).attach()?;
        ensure!(pod.tcp_echo(&other)?.ip() == pod.address());
        let rules = host.snapshot()?;
        let ours = rules.lines_of("nft table ip loden-cni-cbr0");
        ensure!(!ours.is_empty(), "{rules}");
        pod.delete()?;
        other.delete()?;
        // One that says no gets none.
        host.exec(["nft", "delete", "table", "ip", "loden-cni-cbr0"])?;
        let mut refusing = plugin.clone();
        refusing["delegate"]["ipMasq"] = json!(false);
        host.pod_spec("plain")
            .conflist(&alone(&refusing))
            .attach()?
            .delete()?;
        ensure!(
            host.snapshot()?
                .lines_of("nft table ip loden-cni-cbr0")
                .is_empty()
        );
    }
    Ok(())
}

/// What becomes of links when the kernel was told to forward by several programs at once, ours not among them.
pub(crate) fn links_left_out_of_forwarding_are_switched() -> Result<()> {
    let (_lab, hosts) = both()?;
    for (host, plugin) in hosts {
        let conflist = alone(&plugin);
        host.exec([
            "sh",
            "-c",
            "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv4/conf/default/forwarding",
        ])?;
        let attach = |name| host.pod_spec(name).conflist(&conflist).attach();
        let (web, client) = (attach("web")?, attach("client")?);
        client.ping(&web)?;
        let towards = host.exec(["ip", "-o", "route", "get", &web.address().to_string()])?;
        let link = towards
            .split(" dev ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next())
            .with_context(|| towards.clone())?;
        let setting = format!("/proc/sys/net/ipv4/conf/{link}/forwarding");
        ensure!(host.exec(["cat", &setting])?.trim() == "1", "{setting}");
        web.delete()?;
        client.delete()?;
    }
    Ok(())
}

/// The first pods of a host all want to make the bridge, its address and the pool's directories.
pub(crate) fn first_pods_come_at_once() -> Result<()> {
    let (_lab, hosts) = both()?;
    for (host, plugin) in hosts {
        let conflist = alone(&plugin);
        let pods: Vec<_> = std::thread::scope(|scope| {
            let started: Vec<_> = (0..16)
                .map(|number| {
                    let (host, conflist) = (&host, &conflist);
                    scope.spawn(move || {
                        host.pod_spec(&format!("p{number}"))
                            .conflist(conflist)
                            .attach()
                    })
                })
                .collect();
            started
                .into_iter()
                .map(|thread| thread.join().map_err(|_| anyhow::anyhow!("panic"))?)
                .collect::<Result<_>>()
        })?;
        let mut addresses: Vec<_> = pods.iter().map(Address::address).collect();
        addresses.sort();
        addresses.dedup();
        ensure!(addresses.len() == 16, "{addresses:?}");
        // The first packet already: with the bridge and the switch for forwarding wanted by all at once.
        pods[0].ping(&pods[15])?;
        talk(&pods[0], &pods[15])?;
        pods.into_iter().try_for_each(Pod::delete)?;
        let left = host.snapshot()?;
        ensure!(left.lines_of("link veth").is_empty(), "{left}");
        ensure!(
            left.lines_of("file /run/loden/ipam/cbr0/attachments/")
                .len()
                <= 1,
            "{left}"
        );
    }
    Ok(())
}
