//! The verbs by which a runtime looks after what is attached: CHECK, GC and STATUS.

use std::fs::File;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netns_tests::{Endpoint, Host, Pod};
use nix::fcntl::{Flock, FlockArg};
use serde_json::{Value, json};

use crate::scene::{self, Call, alone, both, bridge, host, routed, used};

/// A pod attached by hand, so that its result can be handed back.
struct Attached {
    pod: Pod,
    plugin: Value,
    result: Value,
    host_end: String,
}

impl Attached {
    fn new(host: &Host, plugin: &Value) -> Result<Self> {
        let pod = host.pod_spec("web").create()?;
        let netns = pod.netns().display().to_string();
        let result = Call::new("ADD", &netns, plugin).run(host)?.result()?;
        let entries = result["interfaces"].as_array().context("no interfaces")?;
        let host_end = entries[entries.len() - 2]["name"]
            .as_str()
            .context("no host end")?;
        Ok(Self {
            pod,
            plugin: plugin.clone(),
            host_end: host_end.to_owned(),
            result,
        })
    }

    fn call(&self, verb: &str) -> Call {
        let mut plugin = self.plugin.clone();
        plugin["prevResult"] = self.result.clone();
        Call::new(verb, &self.pod.netns().display().to_string(), &plugin)
    }

    fn check(&self) -> Result<scene::Answer> {
        self.call("CHECK").run(self.pod.host())
    }

    fn delete(self) -> Result<()> {
        self.call("DEL").run(self.pod.host())?.silent()?;
        self.pod.delete()
    }
}

pub(crate) fn check_finds_what_is_broken() -> Result<()> {
    let (_lab, hosts) = both()?;
    for (host, plugin) in hosts {
        let routed = plugin == routed();
        let in_pod = [
            ("ip link set dev eth0 down", "down"),
            ("ip link delete dev eth0", "host's end"),
            ("ip address flush dev eth0", "10.244.1."),
            ("ip route delete default", "0.0.0.0/0"),
            ("ip route flush dev eth0", "10.244."),
        ];
        let on_host = [
            ("ip link set dev HOST_END down", "down"),
            ("ip link delete dev HOST_END", "host's end"),
        ];
        let of_routed = [("ip route flush dev HOST_END", "no route")];
        let on_host = on_host.iter().chain(of_routed.iter().filter(|_| routed));
        let in_pod = in_pod.iter().map(|(line, word)| (true, *line, *word));
        for (inside, line, word) in in_pod.chain(on_host.map(|(line, word)| (false, *line, *word)))
        {
            let attached = Attached::new(&host, &plugin)?;
            attached.check()?.silent()?;
            let line = line.replace("HOST_END", &attached.host_end);
            if inside {
                attached.pod.sh(&line)?
            } else {
                host.sh(&line)?
            };
            let message = attached
                .check()?
                .refusal(104)
                .with_context(|| line.clone())?;
            ensure!(message.contains(word), "{line}: {message}");
            attached.delete()?;
        }
        // The container is gone.
        let mut attached = Attached::new(&host, &plugin)?;
        let check = attached.call("CHECK");
        attached.pod.lose_netns()?;
        check.run(&host)?.refusal(3)?;
        attached.delete()?;
    }
    Ok(())
}

pub(crate) fn check_lets_pass_what_others_change() -> Result<()> {
    let (_lab, hosts) = both()?;
    for (host, plugin) in hosts {
        let attached = Attached::new(&host, &plugin)?;
        for line in [
            // tuning
            "ip link set dev eth0 address 02:aa:bb:cc:dd:ee",
            "ip link set dev eth0 mtu 1300",
            // sbr
            "ip route add default via 10.244.1.1 dev eth0 table 100 onlink; ip route delete default",
            "ip address add 203.0.113.7/24 dev eth0",
        ] {
            attached.pod.sh(line)?;
            attached.check()?.silent().context(line)?;
        }
        // udev
        host.sh(&format!(
            "ip link set dev {} address 02:aa:bb:cc:dd:ef",
            attached.host_end
        ))?;
        attached.check()?.silent()?;
        attached.delete()?;
    }
    Ok(())
}

pub(crate) fn check_needs_the_result_of_the_add() -> Result<()> {
    let (_lab, host) = host()?;
    let attached = Attached::new(&host, &routed())?;
    let netns = attached.pod.netns().display().to_string();
    let message = Call::new("CHECK", &netns, &routed())
        .run(&host)?
        .refusal(7)?;
    ensure!(message.contains("prevResult"), "{message}");
    attached.delete()
}

fn gc(host: &Host, plugin: &Value, valid: Option<Value>, grace: Option<u32>) -> Result<()> {
    let mut config = plugin.clone();
    if let Some(valid) = valid {
        config["cni.dev/valid-attachments"] = valid;
    }
    if let Some(grace) = grace {
        config["gcGrace"] = json!(grace);
    }
    Call::new("GC", "", &config).run(host)?.silent()
}

pub(crate) fn gc_without_a_list_does_nothing() -> Result<()> {
    let (_lab, host) = host()?;
    let mut attached = Attached::new(&host, &routed())?;
    attached.pod.lose_netns()?;
    let before = host.snapshot()?;
    gc(&host, &routed(), None, Some(0))?;
    gc(&host, &routed(), Some(Value::Null), Some(0))?;
    scene::unchanged(&host, &before)?;
    // Another network's order is none of ours.
    let mut other = routed();
    other["cni.dev/valid-attachments"] = json!([]);
    let config = other
        .to_string()
        .replacen('{', r#"{"name":"other","cniVersion":"1.1.0","#, 1);
    Call::new("GC", "", &other)
        .stdin(&config)
        .run(&host)?
        .silent()?;
    ensure!(host.snapshot()?.diff(&before).gone.is_empty());
    attached.delete()
}

pub(crate) fn gc_frees_what_the_dead_left() -> Result<()> {
    let (_lab, hosts) = both()?;
    for (host, plugin) in hosts {
        let conflist = alone(&plugin);
        let before = used(&host, &conflist)?;
        let mut dead = host.pod_spec("dead").conflist(&conflist).attach()?;
        dead.lose_netns()?;
        let alive = host.pod_spec("alive").conflist(&conflist).attach()?;
        let valid = json!([{"containerID": alive.container_id(), "ifname": "eth0"}]);
        for _ in 0..2 {
            gc(&host, &plugin, Some(valid.clone()), None)?;
            let left = host.snapshot()?;
            ensure!(left.lines_of("link veth").len() == 1, "{left}");
            let records = left.lines_of("file /run/loden/ipam/cbr0/attachments/");
            let records = records.iter().filter(|line| line.contains("@eth0"));
            ensure!(records.count() == 1, "{left}");
        }
        alive.delete()?;
        dead.delete()?;
        scene::unchanged(&host, &before)?;
    }
    Ok(())
}

pub(crate) fn gc_spares_the_young() -> Result<()> {
    let (_lab, hosts) = both()?;
    for (host, plugin) in hosts {
        let conflist = alone(&plugin);
        let before = used(&host, &conflist)?;
        let pod = host.pod_spec("new").conflist(&conflist).attach()?;
        let attached = host.snapshot()?;
        gc(&host, &plugin, Some(json!([])), None)?;
        scene::unchanged(&host, &attached)?;
        gc(&host, &plugin, Some(json!([])), Some(0))?;
        scene::unchanged(&host, &before)
            .err()
            .map_or(Ok(()), |error| {
                // The name of the pod's namespace is the runtime's.
                let text = error.to_string();
                let only_netns = text
                    .lines()
                    .skip(1)
                    .all(|line| line.contains("/run/netns/"));
                if only_netns { Ok(()) } else { Err(error) }
            })?;
        pod.delete()?;
        scene::unchanged(&host, &before)?;
    }
    Ok(())
}

pub(crate) fn gc_finds_links_without_a_record() -> Result<()> {
    let (_lab, host) = host()?;
    let attached = Attached::new(&host, &bridge())?;
    let record = host.path("/run/loden/ipam/cbr0/attachments/c1@eth0");
    std::fs::remove_file(record)?;
    let valid = json!([{"containerID": "c1", "ifname": "eth0"}]);
    gc(&host, &bridge(), Some(valid), None)?;
    ensure!(!host.snapshot()?.lines_of("link veth").is_empty());
    gc(&host, &bridge(), Some(json!([])), None)?;
    ensure!(host.snapshot()?.lines_of("link veth").is_empty());
    attached.delete()
}

pub(crate) fn status_says_whether_pods_can_come() -> Result<()> {
    let (_lab, host) = host()?;
    let status = Call::new("STATUS", "", &routed());
    status.run(&host)?.silent()?;
    scene::give_subnet(
        &host,
        &scene::SUBNET_ENV.replace("10.244.1.1/24", "10.244.1.1/29"),
    )?;
    let attach = |name: &str| host.pod_spec(name).conflist(&alone(&routed())).attach();
    let mut pods = Vec::new();
    for number in 0..5 {
        status.run(&host)?.silent()?;
        pods.push(attach(&format!("p{number}"))?);
    }
    let message = status.run(&host)?.refusal(50)?;
    ensure!(message.contains("10.244.1."), "{message}");
    // What is given back can be given at once if there is nothing else.
    pods.pop().context("no pod")?.delete()?;
    status.run(&host)?.silent()?;

    // Others at work keep the pool locked; that is no reason to send pods elsewhere.
    let lock = File::open(host.path("/run/loden/ipam/cbr0/lock"))?;
    let lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    let begin = Instant::now();
    status.run(&host)?.silent()?;
    ensure!(
        begin.elapsed() < Duration::from_secs(1),
        "{:?}",
        begin.elapsed()
    );
    drop(lock);

    std::fs::remove_file(host.path("/run/flannel/subnet.env"))?;
    let message = status.run(&host)?.refusal(51)?;
    ensure!(message.contains("flanneld"), "{message}");
    pods.into_iter().try_for_each(Pod::delete)?;
    let message = status.run(&host)?.refusal(50)?;
    ensure!(message.contains("flanneld"), "{message}");
    Ok(())
}
