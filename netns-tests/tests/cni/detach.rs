//! Pods that go, and attachments that fail or were cut short: what is left.

use std::fs::File;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netns_tests::{Endpoint, Pod, Traffic, eventually};
use nix::fcntl::{Flock, FlockArg};
use serde_json::{Value, json};

use crate::scene::{
    self, Call, DUAL_STACK_ENV, SUBNET_ENV, alone, both, bridge, give_subnet, host, ip_json,
    routed, used,
};

fn leaves_nothing(plugin: &Value) -> Result<()> {
    let (_lab, host) = host()?;
    let conflist = &alone(plugin);
    let before = used(&host, conflist)?;
    let pods: Vec<_> = ["a", "b", "c"]
        .iter()
        .map(|name| host.pod_spec(name).conflist(conflist).attach())
        .collect::<Result<_>>()?;
    ensure!(host.snapshot()?.same_as(&before).is_err());
    for pod in &pods {
        pod.detach()?;
        pod.detach()?;
    }
    pods.into_iter().try_for_each(Pod::delete)?;
    scene::unchanged(&host, &before)
}

pub(crate) fn a_routed_pod_leaves_nothing() -> Result<()> {
    leaves_nothing(&routed())
}

pub(crate) fn a_bridged_pod_leaves_nothing() -> Result<()> {
    leaves_nothing(&bridge())
}

pub(crate) fn a_second_add_is_refused_and_harms_nothing() -> Result<()> {
    let (_lab, host) = host()?;
    for plugin in [routed(), bridge()] {
        let pod = host.pod_spec("web").create()?;
        let netns = pod.netns().display().to_string();
        let add = Call::new("ADD", &netns, &plugin);
        let result = add.run(&host)?.result()?;
        let before = host.snapshot()?;
        let message = add.run(&host)?.refusal(101)?;
        ensure!(
            message.contains("c1") && message.contains("10.244.1."),
            "{message}"
        );
        scene::unchanged(&host, &before)?;
        let address = result["ips"][0]["address"].as_str().context("no address")?;
        let address: std::net::IpAddr = address.split('/').next().unwrap_or_default().parse()?;
        host.ping(&address)?;
        // An interface of this name that is not ours.
        let message = add
            .clone()
            .with("CNI_CONTAINERID", "c2")
            .run(&host)?
            .refusal(102)?;
        ensure!(message.contains("eth0"), "{message}");
        scene::unchanged(&host, &before)?;
        Call::new("DEL", &netns, &plugin).run(&host)?.silent()?;
        pod.delete()?;
    }
    Ok(())
}

pub(crate) fn a_second_interface_is_another_attachment() -> Result<()> {
    second_interface(SUBNET_ENV)
}

pub(crate) fn a_second_interface_shares_the_gateways_of_both_families() -> Result<()> {
    second_interface(DUAL_STACK_ENV)
}

fn second_interface(subnets: &str) -> Result<()> {
    let (_lab, host) = host()?;
    give_subnet(&host, subnets)?;
    for plugin in [routed(), bridge()] {
        let pod = host.pod_spec("web").create()?;
        let netns = pod.netns().display().to_string();
        let add = Call::new("ADD", &netns, &plugin);
        let del = Call::new("DEL", &netns, &plugin);
        let one = add.run(&host)?.result()?;
        let two = add
            .clone()
            .with("CNI_IFNAME", "net1")
            .run(&host)?
            .result()?;
        ensure!(
            one["ips"][0]["address"] != two["ips"][0]["address"],
            "{two}"
        );
        del.run(&host)?.silent()?;
        let links = ip_json(&pod, &["link", "show"])?.to_string();
        ensure!(links.contains("net1") && !links.contains("eth0"), "{links}");
        del.with("CNI_IFNAME", "net1").run(&host)?.silent()?;
        pod.delete()?;
    }
    Ok(())
}

pub(crate) fn del_needs_no_netns() -> Result<()> {
    let (_lab, hosts) = both()?;
    for (host, plugin) in hosts {
        let conflist = alone(&plugin);
        let before = used(&host, &conflist)?;
        let mut pod = host.pod_spec("web").conflist(&conflist).attach()?;
        pod.lose_netns()?;
        pod.detach()?;
        scene::unchanged(&host, &before)?;
        pod.detach()?;
        scene::unchanged(&host, &before)?;
    }
    Ok(())
}

pub(crate) fn del_works_when_the_netns_is_dead() -> Result<()> {
    let (_lab, hosts) = both()?;
    for (host, plugin) in hosts {
        let before = used(&host, &alone(&plugin))?;
        let pod = host.pod_spec("web").create()?;
        let netns = pod.netns().display().to_string();
        Call::new("ADD", &netns, &plugin).run(&host)?.result()?;
        let del = Call::new("DEL", &netns, &plugin);
        // The mount is gone but the file is still there, as after a crash of the runtime.
        pod.delete()?;
        std::fs::write(host.path(&netns), "")?;
        del.run(&host)?.silent()?;
        std::fs::remove_file(host.path(&netns))?;
        eventually("the pod's link is gone", Duration::from_secs(5), || {
            scene::unchanged(&host, &before)
        })?;
        del.run(&host)?.silent()?;
        // A path that leads to the host itself must do no harm to it.
        del.with("CNI_NETNS", "/proc/self/ns/net")
            .with("CNI_IFNAME", "lo")
            .run(&host)?
            .silent()?;
        scene::unchanged(&host, &before)?;
    }
    Ok(())
}

pub(crate) fn del_works_with_another_config() -> Result<()> {
    let (_lab, host) = host()?;
    let plugin = routed();
    let before = used(&host, &alone(&plugin))?;
    let pod = host.pod_spec("web").create()?;
    let netns = pod.netns().display().to_string();
    Call::new("ADD", &netns, &plugin).run(&host)?.result()?;
    std::fs::remove_file(host.path("/run/flannel/subnet.env"))?;
    let broken = json!({"type": "flannel", "delegate": {"type": "macvlan", "vlan": "x"}, "ipam": 7, "subnetFile": []});
    Call::new("DEL", &netns, &broken).run(&host)?.silent()?;
    scene::give_subnet(&host, scene::SUBNET_ENV)?;
    pod.delete()?;
    scene::unchanged(&host, &before)
}

pub(crate) fn del_works_without_a_record() -> Result<()> {
    let (_lab, host) = host()?;
    let plugin = routed();
    let before = used(&host, &alone(&plugin))?;
    let pod = host.pod_spec("web").create()?;
    let netns = pod.netns().display().to_string();
    Call::new("ADD", &netns, &plugin).run(&host)?.result()?;
    std::fs::remove_file(host.path("/run/loden/ipam/cbr0/attachments/c1@eth0"))?;
    Call::new("DEL", &netns, &plugin).run(&host)?.silent()?;
    pod.delete()?;
    scene::unchanged(&host, &before)
}

pub(crate) fn del_before_add_is_fine() -> Result<()> {
    let (_lab, host) = host()?;
    let before = host.snapshot()?;
    for netns in ["", "/run/netns/none", "/proc/self/ns/net", "/etc/passwd"] {
        for version in ["0.3.1", "1.1.0"] {
            let mut plugin = bridge();
            plugin["cniVersion"] = json!(version);
            Call::new("DEL", netns, &plugin).run(&host)?.silent()?;
        }
    }
    scene::unchanged(&host, &before)
}

pub(crate) fn a_failed_add_leaves_nothing() -> Result<()> {
    let (_lab, hosts) = both()?;
    for (host, plugin) in hosts {
        let before = used(&host, &alone(&plugin))?;
        let pod = host.pod_spec("web").create()?;
        let netns = pod.netns().display().to_string();
        let add = Call::new("ADD", &netns, &plugin);
        pod.sh("ip link add eth0 type bridge")?;
        add.run(&host)?.refusal(102)?;
        pod.sh("ip link delete eth0")?;
        // Fails as late as can be: a route that the pod's kernel refuses.
        let mut refused = plugin.clone();
        refused["ipam"]["routes"] = json!([{"dst": "10.9.0.0/16", "gw": "224.0.0.1"}]);
        let message = Call::new("ADD", &netns, &refused)
            .run(&host)?
            .refusal(999)?;
        ensure!(message.contains("10.9.0.0/16"), "{message}");
        let links = ip_json(&pod, &["link", "show"])?.to_string();
        ensure!(!links.contains("eth0"), "{links}");
        // The next one works.
        add.run(&host)?.result()?;
        Call::new("DEL", &netns, &plugin).run(&host)?.silent()?;
        pod.delete()?;
        scene::unchanged(&host, &before)?;
    }
    Ok(())
}

pub(crate) fn an_add_cut_short_is_taken_over() -> Result<()> {
    let (_lab, hosts) = both()?;
    for (host, plugin) in hosts {
        let before = used(&host, &alone(&plugin))?;
        let pod = host.pod_spec("web").create()?;
        let netns = pod.netns().display().to_string();
        let add = Call::new("ADD", &netns, &plugin);
        // Killed between the reservation and the link: only the record is there.
        add.run(&host)?.result()?;
        pod.sh("ip link delete eth0")?;
        add.run(&host)?.result()?;
        // The container was started anew: same names, another namespace.
        let other = host.pod_spec("again").create()?;
        let other_netns = other.netns().display().to_string();
        Call::new("ADD", &other_netns, &plugin)
            .run(&host)?
            .result()?;
        let links = ip_json(&pod, &["link", "show"])?.to_string();
        ensure!(
            !links.contains("eth0"),
            "the old container kept its link: {links}"
        );
        // Only the link is there, the record is lost.
        std::fs::remove_file(host.path("/run/loden/ipam/cbr0/attachments/c1@eth0"))?;
        host.sh("grep -l c1 /var/lib/cni/networks/cbr0/10.* | xargs rm")?;
        Call::new("ADD", &other_netns, &plugin)
            .run(&host)?
            .result()?;
        Call::new("DEL", "", &plugin).run(&host)?.silent()?;
        pod.delete()?;
        other.delete()?;
        scene::unchanged(&host, &before)?;
    }
    Ok(())
}

pub(crate) fn a_foreign_link_of_our_name_is_left_alone() -> Result<()> {
    let (_lab, host) = host()?;
    let plugin = routed();
    let pod = host.pod_spec("web").create()?;
    let netns = pod.netns().display().to_string();
    let (add, del) = (
        Call::new("ADD", &netns, &plugin),
        Call::new("DEL", &netns, &plugin),
    );
    let name_of = |result: &Value| result["interfaces"][0]["name"].as_str().map(str::to_owned);
    let usual = name_of(&add.run(&host)?.result()?).context("no name")?;
    del.run(&host)?.silent()?;

    host.exec(["ip", "link", "add", &usual, "type", "bridge"])?;
    let before = host.snapshot()?;
    let name = name_of(&add.run(&host)?.result()?).context("no name")?;
    ensure!(name != usual, "{name}");
    add.run(&host)?.refusal(101)?;
    del.run(&host)?.silent()?;
    scene::unchanged(&host, &before)?;
    pod.delete()
}

pub(crate) fn no_call_waits_for_ever() -> Result<()> {
    let (_lab, host) = host()?;
    let plugin = routed();
    let before = used(&host, &alone(&plugin))?;
    let pod = host.pod_spec("web").create()?;
    let netns = pod.netns().display().to_string();
    let attached = host.pod_spec("other").create()?;
    let other = attached.netns().display().to_string();
    let call = |verb, netns: &str, id| Call::new(verb, netns, &plugin).with("CNI_CONTAINERID", id);
    call("ADD", &other, "c2").run(&host)?.result()?;

    let lock = File::open(host.path("/run/loden/ipam/cbr0/lock"))?;
    let lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    let ends = |call: Call, limit| -> Result<()> {
        let begin = Instant::now();
        let message = call.run(&host)?.refusal(11)?;
        let took = begin.elapsed();
        ensure!(took < Duration::from_secs(limit), "{took:?}: {message}");
        Ok(())
    };
    std::thread::scope(|scope| {
        let add = scope.spawn(|| ends(call("ADD", &netns, "c1"), 20));
        let del = scope.spawn(|| ends(call("DEL", &other, "c2"), 10));
        [add, del]
            .into_iter()
            .try_for_each(|call| call.join().map_err(|_| anyhow::anyhow!("panic"))?)
    })?;
    drop(lock);

    call("DEL", &other, "c2").run(&host)?.silent()?;
    pod.delete()?;
    attached.delete()?;
    scene::unchanged(&host, &before)
}
